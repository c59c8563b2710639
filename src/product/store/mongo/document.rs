//! Products as documents.

use bson::oid::ObjectId;
use bson::{Document, doc};
use serde::{Deserialize, Serialize};

use super::super::super::values::Sku;
use super::super::super::words::{sort_key, words};
use super::super::{Replacement, decode_price, decode_time};
use super::stock::follow;
use crate::contract::{Product, Stock, Version};
use crate::storage::StoreError;

/// A product as it is stored; the units are those of the SQLite table.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Row {
    #[serde(rename = "_id")]
    id: ObjectId,
    name: String,
    price: i64,
    created_at: i64,
    version: i64,
    /// Old documents have neither this nor what follows.
    #[serde(default)]
    revision: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    category: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sku: Option<String>,
    /// The SKU, folded; absent from what was removed, so that another may have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    sku_key: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    images: Vec<String>,
    /// JSON, because BSON has other numbers and no names with dots.
    #[serde(skip_serializing_if = "Option::is_none")]
    attributes: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_hand: Option<i64>,
    #[serde(default)]
    reserved: i64,
    /// A random number of the last change of its stock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stock_change: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<i64>,
    #[serde(default)]
    popularity: i64,
}

/// The fields of a document that may be absent, and that a replacement sets.
pub(super) const OPTIONAL: [&str; 7] =
    ["description", "category", "tags", "sku", "sku_key", "images", "attributes"];

fn row(product: &Product) -> Result<Row, StoreError> {
    let attributes = match &product.attributes {
        attributes if attributes.is_empty() => None,
        attributes => Some(serde_json::to_string(attributes).map_err(StoreError::corrupt)?),
    };
    Ok(Row {
        id: product.id,
        name: product.name.clone(),
        price: product.price.minor(),
        created_at: product.created_at.timestamp_micros(),
        version: product.version.count,
        revision: product.version.revision,
        description: product.description.clone(),
        category: product.category.clone(),
        tags: product.tags.clone(),
        sku: product.sku.clone(),
        sku_key: product.sku.as_deref().map(Sku::key),
        images: product.images.clone(),
        attributes,
        on_hand: product.stock.on_hand,
        reserved: product.stock.reserved,
        stock_change: None,
        updated_at: Some(product.updated_at.timestamp_micros()),
        popularity: product.popularity,
    })
}

/// What is stored of `product`: the row, and what it is found by.
pub(super) fn document(product: &Product) -> Result<Document, StoreError> {
    let document = bson::serialize_to_document(&row(product)?);
    let mut document = document.map_err(StoreError::corrupt)?;
    document.extend(found_by(product));
    document.extend(follow(product.stock));
    Ok(document)
}

/// The update that puts `new` in the place of a product with `stock`; `None` leaves its pieces as they are.
pub(super) fn replacing(new: &Replacement, stock: Option<Stock>) -> Result<Document, StoreError> {
    let mut values = document(&new.product)?;
    for name in ["_id", "created_at", "version", "reserved", "popularity", "on_hand"] {
        values.remove(name);
    }
    for name in follow(Stock::default()).keys() {
        values.remove(name);
    }
    if let Some(stock) = stock {
        let stock = Stock { on_hand: new.product.stock.on_hand, ..stock };
        values.extend(follow(stock));
        values.insert("on_hand", stock.on_hand);
    }
    values.insert("revision", Version::draw());
    let absent = OPTIONAL.into_iter().filter(|name| !values.contains_key(name));
    let absent = absent.map(|name| (name.to_owned(), "".into())).collect::<Document>();
    let mut change = doc! { "$set": values, "$inc": { "version": 1_i64 } };
    if !absent.is_empty() {
        change.insert("$unset", absent);
    }
    Ok(change)
}

/// The fields that a search looks at.
pub(super) fn found_by(product: &Product) -> Document {
    let name = words(&product.name);
    let more = product.tags.iter().chain(&product.category).chain(&product.description);
    let mut all = more.flat_map(|text| words(text)).chain(name.iter().cloned()).collect::<Vec<_>>();
    all.sort_unstable();
    all.dedup();
    doc! { "name_key": sort_key(&product.name), "name_words": name, "words": all }
}

pub(super) fn product(row: Row) -> Result<Product, StoreError> {
    let attributes = row.attributes.as_deref().map(serde_json::from_str).transpose();
    Ok(Product {
        id: row.id,
        name: row.name,
        price: decode_price(row.price)?,
        description: row.description,
        category: row.category,
        tags: row.tags,
        sku: row.sku,
        images: row.images,
        attributes: attributes.map_err(StoreError::corrupt)?.unwrap_or_default(),
        stock: Stock { on_hand: row.on_hand, reserved: row.reserved },
        created_at: decode_time(row.created_at)?,
        updated_at: decode_time(row.updated_at.unwrap_or(row.created_at))?,
        popularity: row.popularity,
        version: Version { count: row.version, revision: row.revision },
    })
}
