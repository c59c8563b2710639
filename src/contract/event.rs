//! Events: what has happened in one role, for others and for the world.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{Order, OrderStatus, Timestamp, now};
use crate::error::Error;

/// A CloudEvent of version 1.0 in its structured form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    specversion: String,
    /// Its id; the same event has the same one, however often it arrives.
    pub id: Uuid,
    /// The role that it is from.
    pub source: String,
    /// What has happened, as in `shop.order.paid`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The id of what it has happened to.
    pub subject: String,
    /// Counts the events of the subject, from 1 on.
    pub sequence: i64,
    /// When it has happened.
    #[serde(serialize_with = "super::in_microseconds")]
    pub time: Timestamp,
    datacontenttype: String,
    /// What the subject is like since then.
    pub data: Value,
}

impl Event {
    /// Event number `sequence` of `order`: that it is in its state now.
    ///
    /// # Errors
    /// Never: an order is JSON.
    pub fn of_order(order: &Order, sequence: i64) -> Result<Self, Error> {
        // Where it goes and who gets it is nobody's business.
        let order = Order { ship_to: None, contact: None, ..order.clone() };
        Ok(Self {
            specversion: "1.0".into(),
            id: Uuid::now_v7(),
            source: "order".into(),
            kind: order_kind(order.status),
            subject: order.id.to_string(),
            sequence,
            time: now(),
            datacontenttype: "application/json".into(),
            data: serde_json::to_value(order).map_err(Error::internal)?,
        })
    }

    /// The order that it is about.
    ///
    /// # Errors
    /// When it is about something else.
    pub fn order(&self) -> Result<OrderData, serde_json::Error> {
        OrderData::deserialize(&self.data)
    }
}

/// The kind of the event that an order is in `status`.
pub fn order_kind(status: OrderStatus) -> String {
    format!("shop.order.{status}")
}

/// An order as its events have it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderData {
    /// Its id.
    pub id: Uuid,
    /// Who placed it.
    pub user_id: Uuid,
    /// How far it is.
    pub status: OrderStatus,
    /// What was ordered.
    pub items: Vec<super::OrderLine>,
    /// What all of it costs.
    pub total: super::Money,
    /// The currency of its amounts.
    pub currency: String,
    /// When it was placed.
    pub created_at: Timestamp,
}
