//! The values of requests about products. A value of one of these types is valid.

use std::borrow::Cow;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bson::oid::ObjectId;
use serde::Deserialize;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use crate::contract::{Money, Product, Version, now};
use crate::error::Error;
use crate::middleware::{Fields, Limit, LineError, Query, line, line_schema};

/// What a product is called: 1 to 200 characters on one line, without white space around them.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Name(String);

impl ToSchema for Name {
    fn name() -> Cow<'static, str> {
        "ProductName".into()
    }
}

impl PartialSchema for Name {
    fn schema() -> RefOr<Schema> {
        let words = "What the product is called: 1 to 200 characters on one line";
        line_schema(words, 200, "Docker Super Computer").into()
    }
}

impl TryFrom<String> for Name {
    type Error = LineError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        line(&text, 200).map(|name| Self(name.to_owned()))
    }
}

/// A request to add or replace a product.
#[derive(Debug, ToSchema)]
pub(super) struct NewProduct {
    name: Name,
    price: Money,
}

impl NewProduct {
    /// Reads the request.
    ///
    /// # Errors
    /// 422 with one entry per field that is missing or invalid.
    pub(super) fn read(mut fields: Fields) -> Result<Self, Error> {
        let name = fields.required("name");
        let price = fields.required("price");
        fields.finish(name.zip(price).map(|(name, price)| Self { name, price }))
    }

    /// The product's name.
    pub(super) fn name(&self) -> &str {
        &self.name.0
    }

    /// The price.
    pub(super) fn price(&self) -> Money {
        self.price
    }

    /// A new product with these values.
    pub(super) fn into_product(self) -> Product {
        let (id, created_at) = (ObjectId::new(), now());
        Product { id, name: self.name.0, price: self.price, created_at, version: Version::first() }
    }
}

/// The last product of a page; the next page begins after it. Opaque to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// When the product was added, in microseconds since 1970.
    pub(super) created_at: i64,
    /// Orders products of the same microsecond.
    pub(super) id: ObjectId,
}

impl Cursor {
    fn after(product: &Product) -> Self {
        Self { created_at: product.created_at.timestamp_micros(), id: product.id }
    }

    /// The cursor as links have it.
    pub fn encode(self) -> String {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&self.created_at.to_be_bytes());
        bytes[8..].copy_from_slice(&self.id.bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }
}

impl FromStr for Cursor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok();
        let bytes = bytes.and_then(|bytes| <[u8; 20]>::try_from(bytes).ok());
        let bytes = bytes.ok_or("must come from the Link header of a page before")?;
        let (time, id) = bytes.split_at(8);
        // Eight and twelve bytes, so these conversions cannot fail.
        let time = time.try_into().map(i64::from_be_bytes).unwrap_or_default();
        let id = id.try_into().map(ObjectId::from_bytes).unwrap_or_default();
        Ok(Self { created_at: time, id })
    }
}

/// The parameters of [`PageRequest`].
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes the parameters for the OpenAPI document")]
pub(super) struct PageQuery {
    /// How many a page has.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<u8>,
    /// From the `Link` header of the page before.
    #[param(pattern = "^[A-Za-z0-9_-]{26}[AEIMQUYcgkosw048]$")]
    cursor: Option<String>,
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

/// A requested page of the catalogue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct PageRequest {
    limit: Limit,
    /// Where the page begins; without one, at the newest product.
    pub(super) cursor: Option<Cursor>,
}

impl PageRequest {
    /// Reads the parameters `limit` and `cursor`.
    ///
    /// # Errors
    /// 422 with one entry per invalid parameter.
    pub(super) fn read(mut query: Query) -> Result<Self, Error> {
        let limit = query.optional("limit").unwrap_or_default();
        let cursor = query.optional("cursor");
        query.finish(Self { limit, cursor })
    }

    /// One more than the page's size, which tells whether another page follows.
    pub(super) fn limit_and_one(self) -> i64 {
        self.limit.get() as i64 + 1
    }

    /// The path and query of this page.
    pub(super) fn target(self) -> String {
        let limit = self.limit.get();
        match self.cursor {
            Some(cursor) => format!("/products?limit={limit}&cursor={}", cursor.encode()),
            None => format!("/products?limit={limit}"),
        }
    }

    /// Cuts `products` to the page; also returns the target of the next page if there is one.
    pub(super) fn cut(self, mut products: Vec<Product>) -> (Vec<Product>, Option<String>) {
        let limit = self.limit.get();
        let more = products.len() > limit;
        products.truncate(limit);
        let last = products.last().filter(|_| more).map(Cursor::after);
        (products, last.map(|cursor| Self { cursor: Some(cursor), ..self }.target()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::middleware::allows;
    use proptest::prelude::*;

    #[test]
    fn the_document_says_the_same_of_names() {
        let (fits, too_long) = ("ö".repeat(200), "ö".repeat(201));
        let spaced = format!(" {fits}");
        for text in ["", " ", "Lamp", " Lamp\n", "a\u{7f}b", &fits, &too_long, &spaced] {
            let taken = Name::try_from(text.to_owned()).is_ok();
            assert_eq!(allows::<Name>(text), taken, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_cursor_survives_the_link(created_at: i64, id: [u8; 12]) {
            let cursor = Cursor { created_at, id: ObjectId::from_bytes(id) };
            prop_assert_eq!(cursor.encode().parse(), Ok(cursor));
        }

        #[test]
        fn what_is_no_cursor_is_refused(text in ".{0,26}") {
            prop_assert!(text.parse::<Cursor>().is_err());
        }
    }
}
