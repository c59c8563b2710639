//! What the product role says, and how another role asks it.

use bson::oid::ObjectId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Money, Timestamp, get};
use crate::error::Error;
use crate::transport::{Context, Peer};

/// A product of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Product {
    /// 24 hexadecimal digits.
    #[schema(value_type = String, pattern = "^[0-9a-f]{24}$", example = "6b03d45b14e1855e68069e13")]
    #[serde(with = "hex")]
    pub id: ObjectId,
    /// What it is called.
    #[schema(example = "Docker Super Computer")]
    pub name: String,
    /// What it costs.
    pub price: Money,
    /// When it was added.
    #[schema(value_type = String, format = DateTime)]
    #[serde(serialize_with = "super::in_microseconds")]
    pub created_at: Timestamp,
    /// How often it was written. Outside it is the product's ETag.
    #[serde(skip)]
    pub version: i64,
}

mod hex {
    use super::{Deserialize, ObjectId};
    use serde::{Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(
        id: &ObjectId,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&id.to_hex())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<ObjectId, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        ObjectId::parse_str(text).map_err(de::Error::custom)
    }
}

/// The bytes of a page of products that are read.
const PAGE_LIMIT: usize = 1024 * 1024;

/// Asks the product role.
#[derive(Clone, Debug)]
pub struct ProductClient {
    peer: Peer,
}

impl ProductClient {
    /// Asks through `peer`.
    pub fn new(peer: Peer) -> Self {
        Self { peer }
    }

    /// The newest products, at most `limit` (1 to 100).
    ///
    /// # Errors
    /// The product role's own error, or why it gave no answer.
    pub async fn newest(&self, limit: u8, context: &Context) -> Result<Vec<Product>, Error> {
        get(&self.peer, &format!("/products?limit={limit}"), PAGE_LIMIT, context).await
    }
}
