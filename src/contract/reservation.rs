//! Pieces that the product role keeps for an order.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Money, Timestamp};

/// A request for a reservation: the pieces that it is to have, and for how long.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum NewReservation {
    /// Pieces of products: ids, and how many.
    Lines {
        /// One entry per product.
        lines: Vec<NewLine>,
        /// For how many seconds they are kept, 1 to 86,400.
        seconds: u64,
    },
    /// All pieces of another reservation.
    From {
        /// Its id.
        from: Uuid,
        /// For how many seconds they are kept from now on.
        seconds: u64,
    },
}

/// How many pieces of a product are to be kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewLine {
    /// The product.
    pub product_id: String,
    /// How many.
    pub quantity: i64,
}

/// A reservation of pieces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
