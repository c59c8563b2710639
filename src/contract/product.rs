//! What the product role says, and how another role asks it.

use bson::oid::ObjectId;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{Money, Timestamp, get};
use crate::error::Error;
use crate::peer::{Context, Peer};

/// A product of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Product {
    /// 24 hexadecimal digits.
    #[schema(value_type = String, pattern = "^[0-9a-f]{24}$", example = "6b03d45b14e1855e68069e13")]
    #[serde(serialize_with = "in_hex")]
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
    /// How often it was written, and what the last write drew.
    #[serde(skip)]
    pub version: Version,
}

/// The state of a product: no two writes ever make the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// How often the product was written. A count alone comes again when a product is removed and added again, or is
    /// restored from a backup.
    pub count: i64,
    /// What the last write drew at random; 0 for rows that were last written before there was one.
    pub revision: i64,
}

impl Version {
    /// That of a product that is written for the first time.
    pub fn first() -> Self {
        Self { count: 1, revision: Self::draw() }
    }

    /// The revision of another write.
    pub fn draw() -> i64 {
        // The six bits of a UUID that are not random are in other places of its halves.
        let (upper, lower) = uuid::Uuid::new_v4().as_u64_pair();
        ((upper ^ lower) >> 1).cast_signed().max(1)
    }
}

fn in_hex<S: Serializer>(id: &ObjectId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&id.to_hex())
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

    /// The newest products, at most `limit` (1 to 100), each as the product role writes it.
    ///
    /// # Errors
    /// The product role's own error, or why it gave no answer.
    pub async fn newest(&self, limit: u8, context: &Context) -> Result<Vec<Box<RawValue>>, Error> {
        get(&self.peer, &format!("/products?limit={limit}"), PAGE_LIMIT, context).await
    }
}
