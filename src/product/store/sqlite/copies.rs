//! Products as another store has them, ids and versions included.

use std::collections::HashMap;

use bson::oid::ObjectId;
use diesel::prelude::*;
use diesel::sqlite::SqliteConnection;

use super::super::super::values::Sku;
use super::super::{refusal, refuse_taken};
use super::listing::Additions;
use super::{insert, insert_with, listing, products, row};
use crate::contract::Product;
use crate::storage::StoreError;
use crate::storage::copy::Written;

/// Adds the `products` whose ids are new.
pub(super) fn add(
    file: &mut SqliteConnection,
    products: Vec<Product>,
) -> Result<Written<Product>, StoreError> {
    let (mut written, mut additions) = (Written::all(0), Additions::default());
    for product in products {
        if state(file, product.id)?.is_some() {
            continue;
        }
        match insert_with(file, &product, &mut additions) {
            Ok(()) => written.count += 1,
            Err(StoreError::Duplicate) => written.refused.push(refusal(product)),
            Err(error) => return Err(error),
        }
    }
    additions.finish(file)?;
    Ok(written)
}

/// Adds or replaces `products`, but for those that were removed.
pub(super) fn put(
    file: &mut SqliteConnection,
    products: Vec<Product>,
) -> Result<Written<Product>, StoreError> {
    let (mut states, mut holders, mut kept) = (HashMap::new(), HashMap::new(), Vec::new());
    for product in products {
        let state = state(file, product.id)?;
        if matches!(state, Some(State::Removed)) {
            continue;
        }
        states.extend(state.map(|state| (product.id, state)));
        holders.extend(holder(file, &product)?);
        kept.push(product);
    }
    let (kept, refused) = refuse_taken(kept, &holders);
    for product in &kept {
        // So that SKUs can be exchanged.
        let no_sku = products::sku_key.eq(None::<String>);
        diesel::update(products::table.find(product.id.to_hex())).set(no_sku).execute(file)?;
    }
    for product in &kept {
        match states.get(&product.id) {
            Some(State::Live(place)) => replace(file, *place, product)?,
            _ => insert(file, product)?,
        }
    }
    Ok(Written { count: kept.len() as u64, refused })
}

/// What the file has at an id.
enum State {
    /// A product, at a place in the listing.
    Live(Option<i64>),
    Removed,
}

fn state(file: &mut SqliteConnection, id: ObjectId) -> Result<Option<State>, StoreError> {
    let found = products::table.find(id.to_hex()).select((products::deleted_at, products::seq));
    let found = found.first::<(Option<i64>, Option<i64>)>(file).optional()?;
    Ok(found.map(|(deleted_at, place)| match deleted_at {
        None => State::Live(place),
        Some(_) => State::Removed,
    }))
}

/// The folded SKU of `product`, and the id of the product that has it.
fn holder(
    file: &mut SqliteConnection,
    product: &Product,
) -> Result<Option<(String, ObjectId)>, StoreError> {
    let Some(key) = product.sku.as_deref().map(Sku::key) else { return Ok(None) };
    let found = products::table.filter(products::sku_key.eq(&key));
    let found = found.filter(products::deleted_at.is_null()).select(products::id);
    let Some(id) = found.first::<String>(file).optional()? else { return Ok(None) };
    Ok(Some((key, ObjectId::parse_str(id).map_err(StoreError::corrupt)?)))
}

/// Replaces all of a product, which is listed at `place`.
fn replace(
    file: &mut SqliteConnection,
    place: Option<i64>,
    product: &Product,
) -> Result<(), StoreError> {
    let id = product.id.to_hex();
    if let Some(place) = place {
        listing::remove(file, place)?;
        diesel::update(products::table.find(&id))
            .set(products::seq.eq(None::<i64>))
            .execute(file)?;
    }
    let place = listing::place(file, product.created_at.timestamp_micros(), product.id)?;
    diesel::update(products::table.find(&id)).set(row(product, Some(place))?).execute(file)?;
    Ok(listing::add(file, place, product)?)
}
