//! Pieces that the product role keeps for an order.

use serde::Serialize;
use uuid::Uuid;

use super::{Money, Timestamp};

/// A reservation of pieces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reservation {
    /// Its id, which the caller chooses.
    pub id: Uuid,
    /// `held` or `committed`.
    pub state: String,
    /// When it lapses, unless it is committed.
    #[serde(serialize_with = "super::in_microseconds")]
    pub expires_at: Timestamp,
    /// Its pieces, in the order of the request.
    pub lines: Vec<ReservedLine>,
}

/// The pieces of one product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReservedLine {
    /// The product.
    pub product_id: String,
    /// How many.
    pub quantity: i64,
    /// What the product was called when they were reserved.
    pub name: String,
    /// What a piece cost then.
    pub price: Money,
}
