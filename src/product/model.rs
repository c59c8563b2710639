//! The values of requests about products. A value of one of these types is valid.

use bson::oid::ObjectId;
use serde::Deserialize;
use serde_json::Map;
use utoipa::{IntoParams, ToSchema};

use super::values::{
    Attributes, AttributesPatch, Category, Description, Images, Name, Sku, Tags, ValueError,
};
use crate::config::Currency;
use crate::contract::{Money, Product, Stock, Version, now};
use crate::error::{Error, FieldError};
use crate::middleware::Fields;

/// A request to add or replace a product.
#[derive(Debug, ToSchema)]
pub(super) struct NewProduct {
    name: Name,
    price: Money,
    #[schema(required = false, value_type = Description)]
    description: Option<Description>,
    #[schema(required = false, value_type = Category)]
    category: Option<Category>,
    #[schema(required = false)]
    tags: Tags,
    #[schema(required = false, value_type = Sku)]
    sku: Option<Sku>,
    #[schema(required = false)]
    images: Images,
    #[schema(required = false)]
    attributes: Attributes,
    /// The pieces that there are; without it, they are not counted, and the product is always in stock.
    #[schema(required = false, value_type = i64, minimum = 0, maximum = 1000000000)]
    stock: Option<Pieces>,
}

impl NewProduct {
    /// Reads the request, whose price is in `currency`.
    ///
    /// # Errors
    /// 422 with one entry per field that is missing or invalid.
    pub(super) fn read(mut fields: Fields, currency: Currency) -> Result<Self, Error> {
        let name = fields.required("name");
        let price = fields.required("price");
        check_price(&mut fields, price, currency);
        let description = fields.optional("description");
        let category = fields.optional("category");
        let tags = fields.optional("tags").unwrap_or_default();
        let sku = fields.optional("sku");
        let images = fields.optional("images").unwrap_or_default();
        let attributes = fields.optional("attributes").unwrap_or_default();
        let stock = fields.optional("stock");
        let new = name.zip(price).map(|(name, price)| Self {
            name,
            price,
            description,
            category,
            tags,
            sku,
            images,
            attributes,
            stock,
        });
        fields.finish(new)
    }

    /// Whether it says how many pieces there are.
    pub(super) fn has_stock(&self) -> bool {
        self.stock.is_some()
    }

    /// A new product with these values.
    pub(super) fn into_product(self) -> Product {
        let (id, now) = (ObjectId::new(), now());
        Product {
            id,
            name: self.name.0,
            price: self.price,
            description: self.description.map(|text| text.0),
            category: self.category.map(|line| line.0),
            tags: self.tags.0,
            sku: self.sku.map(|line| line.0),
            images: self.images.0,
            attributes: self.attributes.0,
            stock: Stock { on_hand: self.stock.map(|pieces| pieces.0), reserved: 0 },
            created_at: now,
            updated_at: now,
            popularity: 0,
            version: Version::first(),
        }
    }
}

/// Refuses a `price` with fractions that `currency` does not have.
fn check_price(fields: &mut Fields, price: Option<Money>, currency: Currency) {
    if price.is_some_and(|price| !currency.has(price.minor())) {
        fields.refuse("price", format!("must have no decimals: it is in {currency}"));
    }
}

/// A request to change the stock of a product: either what is on hand from now on, or by how much it changes.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes the fields for the OpenAPI document")]
pub(super) struct StockPatch {
    /// The pieces that there are; null if they are not counted any more.
    #[schema(required = false, nullable, value_type = i64, minimum = 0, maximum = 1000000000)]
    on_hand: Option<Option<Pieces>>,
    /// How many come in, or go if it is less than 0.
    #[schema(required = false, value_type = i64, minimum = -1000000000, maximum = 1000000000)]
    change: Option<i64>,
}

/// A change of the stock of a product.
#[derive(Clone, Copy, Debug)]
pub(super) enum StockChange {
    /// This many pieces are on hand; `None` stops counting them.
    Set(Option<i64>),
    /// This many come in, or go.
    By(i64),
}

/// Why a stock cannot change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum StockRefusal {
    /// There is nothing to add to.
    #[error("the pieces of this product are not counted; set onHand first")]
    NotCounted,
    /// It would be less than is reserved.
    #[error("{0} pieces are reserved")]
    Reserved(i64),
    /// It would be less than none.
    #[error("there are only {0} pieces on hand")]
    Few(i64),
    /// It would be more than can be counted.
    #[error("there would be more than {MOST_PIECES} pieces")]
    Many,
}

impl StockChange {
    /// `stock` after the change.
    ///
    /// # Errors
    /// Why it cannot change so.
    pub(super) fn apply(self, stock: Stock) -> Result<Stock, StockRefusal> {
        let on_hand = match (self, stock.on_hand) {
            (Self::Set(on_hand), _) => on_hand,
            (Self::By(_), None) => return Err(StockRefusal::NotCounted),
            (Self::By(change), Some(on_hand)) => Some(on_hand + change),
        };
        match on_hand {
            Some(after) if after < 0 => Err(StockRefusal::Few(stock.on_hand.unwrap_or_default())),
            Some(after) if after < stock.reserved => Err(StockRefusal::Reserved(stock.reserved)),
            Some(after) if after > MOST_PIECES => Err(StockRefusal::Many),
            on_hand => Ok(Stock { on_hand, ..stock }),
        }
    }
}

impl StockPatch {
    /// Reads the request.
    ///
    /// # Errors
    /// 422 when it has an invalid field, or not one of the two.
    pub(super) fn read(mut fields: Fields) -> Result<StockChange, Error> {
        let on_hand = fields.nullable::<Pieces>("onHand");
        let change = fields.optional::<Difference>("change");
        let given = fields.finish(Some((on_hand, change)))?;
        match given {
            (Some(on_hand), None) => Ok(StockChange::Set(on_hand.map(|pieces| pieces.0))),
            (None, Some(change)) => Ok(StockChange::By(change.0)),
            _ => {
                Err(Error::invalid(vec![FieldError::new("change", "give either onHand or change")]))
            }
        }
    }
}

/// The most pieces of a product.
pub(super) const MOST_PIECES: i64 = 1_000_000_000;

/// A number of pieces that come or go: up to 1,000,000,000.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "i64")]
struct Difference(i64);

impl TryFrom<i64> for Difference {
    type Error = &'static str;

    fn try_from(number: i64) -> Result<Self, Self::Error> {
        match number {
            -1_000_000_000..=MOST_PIECES => Ok(Self(number)),
            _ => Err("must be a whole number from -1000000000 to 1000000000"),
        }
    }
}

/// A number of pieces: 0 to 1,000,000,000.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "i64")]
pub(super) struct Pieces(i64);

impl TryFrom<i64> for Pieces {
    type Error = &'static str;

    fn try_from(number: i64) -> Result<Self, Self::Error> {
        match number {
            0..=MOST_PIECES => Ok(Self(number)),
            _ => Err("must be a whole number from 0 to 1000000000"),
        }
    }
}

/// A request to change a product, as a JSON merge patch (RFC 7396): fields that are absent stay as they are, and null
/// removes one.
#[derive(Debug, ToSchema)]
pub(super) struct ProductPatch {
    #[schema(required = false, value_type = Name)]
    name: Option<Name>,
    #[schema(required = false, value_type = Money)]
    price: Option<Money>,
    #[schema(required = false, nullable)]
    description: Option<Option<Description>>,
    #[schema(required = false, nullable)]
    category: Option<Option<Category>>,
    #[schema(required = false, nullable)]
    tags: Option<Option<Tags>>,
    #[schema(required = false, nullable)]
    sku: Option<Option<Sku>>,
    #[schema(required = false, nullable)]
    images: Option<Option<Images>>,
    /// Merged into the product's attributes.
    #[schema(required = false, nullable, value_type = Object)]
    attributes: Option<Option<AttributesPatch>>,
}

impl ProductPatch {
    /// Reads the request, whose price is in `currency`.
    ///
    /// # Errors
    /// 422 with one entry per invalid field.
    pub(super) fn read(mut fields: Fields, currency: Currency) -> Result<Self, Error> {
        let patch = Self {
            name: fields.optional("name"),
            price: fields.optional("price"),
            description: fields.nullable("description"),
            category: fields.nullable("category"),
            tags: fields.nullable("tags"),
            sku: fields.nullable("sku"),
            images: fields.nullable("images"),
            attributes: fields.nullable("attributes"),
        };
        check_price(&mut fields, patch.price, currency);
        fields.finish(Some(patch))
    }

    /// `product` with the changes.
    ///
    /// # Errors
    /// 422 when the merged attributes are refused.
    pub(super) fn apply(&self, mut product: Product) -> Result<Product, Error> {
        if let Some(name) = &self.name {
            product.name.clone_from(&name.0);
        }
        product.price = self.price.unwrap_or(product.price);
        if let Some(description) = &self.description {
            product.description = description.as_ref().map(|text| text.0.clone());
        }
        if let Some(category) = &self.category {
            product.category = category.as_ref().map(|line| line.0.clone());
        }
        if let Some(tags) = &self.tags {
            product.tags = tags.clone().unwrap_or_default().0;
        }
        if let Some(sku) = &self.sku {
            product.sku = sku.as_ref().map(|line| line.0.clone());
        }
        if let Some(images) = &self.images {
            product.images = images.clone().unwrap_or_default().0;
        }
        match &self.attributes {
            None => {}
            Some(None) => product.attributes = Map::new(),
            Some(Some(patch)) => {
                let merged = Attributes::merged(product.attributes, patch.clone());
                let refused = |error: ValueError| {
                    Error::invalid(vec![FieldError::new("attributes", error.to_string())])
                };
                product.attributes = merged.map_err(refused)?.0;
            }
        }
        product.updated_at = now();
        Ok(product)
    }
}

/// The path parameter of a product.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "describes the parameters for the OpenAPI document")]
pub(super) struct ProductPath {
    /// The product's id.
    #[param(pattern = "^[0-9A-Fa-f]{24}$", example = "6b03d45b14e1855e68069e13")]
    id: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use utoipa::PartialSchema;

    fn nullable<T: PartialSchema>() -> Vec<String> {
        let schema = serde_json::to_value(T::schema()).unwrap();
        let properties = schema["properties"].as_object().unwrap();
        let may_be_null = |value: &serde_json::Value| value.to_string().contains("\"null\"");
        let names = properties.iter().filter(|(_, value)| may_be_null(value));
        names.map(|(name, _)| name.clone()).collect()
    }

    #[test]
    fn the_document_says_null_where_null_is_taken_and_nowhere_else() {
        assert_eq!(nullable::<NewProduct>(), [""; 0]);
        let patch = ["description", "category", "tags", "sku", "images", "attributes"];
        assert_eq!(nullable::<ProductPatch>(), patch);
        assert_eq!(nullable::<StockPatch>(), ["onHand"]);
    }
}
