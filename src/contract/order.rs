//! The order role's values.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder};
use utoipa::openapi::{RefOr, Schema, Type};
use uuid::Uuid;

use super::{Money, Timestamp, get};
use crate::error::Error;
use crate::peer::{Context, Peer};

/// An order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// Its id.
    pub id: Uuid,
    /// Who placed it.
    pub user_id: Uuid,
    /// How far it is.
    pub status: OrderStatus,
    /// What was ordered, one entry per product.
    pub items: Vec<OrderLine>,
    /// What all of it costs.
    pub total: Money,
    /// The currency of its amounts, by ISO 4217.
    #[schema(pattern = "^[A-Z]{3}$", example = "EUR")]
    pub currency: String,
    /// Where it goes, as it was given.
    #[schema(schema_with = details, required = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ship_to: Option<Value>,
    /// How to reach the customer, as it was given.
    #[schema(schema_with = details, required = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contact: Option<Value>,
    /// When it was placed.
    #[schema(value_type = String, format = DateTime)]
    #[serde(serialize_with = "super::in_microseconds")]
    pub created_at: Timestamp,
    /// Until when it can be paid.
    #[schema(value_type = String, format = DateTime)]
    #[serde(serialize_with = "super::in_microseconds")]
    pub expires_at: Timestamp,
    /// When it was paid.
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "maybe_in_microseconds")]
    pub paid_at: Option<Timestamp>,
}

/// A text, or texts by name.
fn details() -> RefOr<Schema> {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let texts = ObjectBuilder::new().additional_properties(Some(text()));
    OneOfBuilder::new().item(text()).item(texts).into()
}

/// The pieces of one product in an order, as the catalogue had it when the order was placed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrderLine {
    /// The product's id.
    #[schema(pattern = "^[0-9a-f]{24}$", example = "6b03d45b14e1855e68069e13")]
    pub product_id: String,
    /// Its name.
    pub name: String,
    /// The price of a piece.
    pub unit_price: Money,
    /// How many pieces.
    #[schema(minimum = 1, maximum = 999)]
    pub quantity: i64,
    /// The price of them all.
    pub line_total: Money,
}

/// How far an order is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OrderStatus {
    /// It can be paid, and its pieces are kept.
    Placed,
    /// It is paid.
    Paid,
    /// It was sent to the customer.
    Fulfilled,
    /// The customer or an admin has called it off before it was paid.
    Cancelled,
    /// It was not paid in time.
    Expired,
    /// The customer has the money back.
    Refunded,
}

/// The states and their names.
const STATUSES: [(OrderStatus, &str); 6] = [
    (OrderStatus::Placed, "placed"),
    (OrderStatus::Paid, "paid"),
    (OrderStatus::Fulfilled, "fulfilled"),
    (OrderStatus::Cancelled, "cancelled"),
    (OrderStatus::Expired, "expired"),
    (OrderStatus::Refunded, "refunded"),
];

impl OrderStatus {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        STATUSES.iter().map(|(status, _)| *status)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        STATUSES.iter().find(|(status, _)| *status == self).map_or("", |(_, name)| name)
    }
}

impl fmt::Display for OrderStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for OrderStatus {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = STATUSES.iter().find(|(_, name)| *name == text);
        found
            .map(|(status, _)| *status)
            .ok_or("must be placed, paid, fulfilled, cancelled, expired or refunded")
    }
}

fn maybe_in_microseconds<S: serde::Serializer>(
    time: &Option<Timestamp>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => super::in_microseconds(time, serializer),
        None => serializer.serialize_none(),
    }
}

/// How many orders [`OrderClient::of_user`] reads at once, and how many bytes they have at most: 100 lines each.
pub const ORDERS_AT_ONCE: usize = 100;
const ORDERS_LIMIT: usize = 16 * 1024 * 1024;

/// A client of the order role.
#[derive(Clone, Debug)]
pub struct OrderClient {
    peer: Peer,
}

impl OrderClient {
    /// A client that calls `peer`.
    pub fn new(peer: Peer) -> Self {
        Self { peer }
    }

    /// All orders of `user`, the newest first, each as the order role writes it.
    ///
    /// # Errors
    /// The order role's error, or why it gave no answer.
    pub async fn of_user(
        &self,
        user: Uuid,
        context: &Context,
    ) -> Result<Vec<Box<RawValue>>, Error> {
        #[derive(Deserialize)]
        struct Known {
            id: Uuid,
        }
        let path = format!("/internal/users/{user}/orders");
        let (mut orders, mut target) = (Vec::<Box<RawValue>>::new(), path.clone());
        loop {
            let page: Vec<_> = get(&self.peer, &target, ORDERS_LIMIT, context).await?;
            let is_last = page.len() < ORDERS_AT_ONCE;
            orders.extend(page);
            match orders.last() {
                Some(last) if !is_last => {
                    let Known { id } = serde_json::from_str(last.get()).map_err(Error::internal)?;
                    target = format!("{path}?before={id}");
                }
                _ => return Ok(orders),
            }
        }
    }
}
