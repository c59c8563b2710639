//! Events: what has happened in one role, for others and for the world.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
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
    /// The span in which it has happened, where traces are recorded (CloudEvents, distributed tracing extension).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// What the subject is like since then.
    pub data: Value,
}

/// The kind of the event that a user is erased.
pub const USER_ERASED: &str = "shop.user.erased";
/// The kind of the event that tries a webhook.
pub const WEBHOOK_TEST: &str = "shop.webhook.test";

impl Event {
    /// Event number `sequence` of `order`: that it is in its state now.
    ///
    /// # Errors
    /// Never: an order is JSON.
    pub fn of_order(order: &Order, sequence: i64) -> Result<Self, Error> {
        // Where it goes and who gets it is nobody's business.
        let order = Order { ship_to: None, contact: None, ..order.clone() };
        let data = serde_json::to_value(&order).map_err(Error::internal)?;
        Ok(Self::new("order", order_kind(order.status), order.id, sequence, data))
    }

    /// The last event of `user`, whose account is erased.
    pub fn user_erased(user: Uuid) -> Self {
        Self::new("user", USER_ERASED.to_owned(), user, 1, json!({ "userId": user }))
    }

    /// An event that only tries whether `webhook` gets events.
    pub fn of_test(webhook: Uuid) -> Self {
        Self::new("order", WEBHOOK_TEST.to_owned(), webhook, 1, json!({ "webhookId": webhook }))
    }

    fn new(source: &str, kind: String, subject: Uuid, sequence: i64, data: Value) -> Self {
        Self {
            specversion: "1.0".into(),
            id: Uuid::now_v7(),
            source: source.to_owned(),
            kind,
            subject: subject.to_string(),
            sequence,
            time: now(),
            datacontenttype: "application/json".into(),
            traceparent: None,
            data,
        }
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
