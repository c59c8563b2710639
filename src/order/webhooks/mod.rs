//! The shop's webhooks: admins name URLs, to which the shop sends events, signed as Standard Webhooks says
//! (<https://www.standardwebhooks.com>).
//!
//! A consumer of events stores a delivery for each webhook that wants one; [`deliver`] sends what is due. An event arrives at
//! least once, and those about one subject in order: a later one waits for the one before.

mod address;
mod deliver;
pub(super) mod handlers;
mod model;
mod receiver;
mod schedule;
mod secret;

use uuid::Uuid;

use crate::contract::{OrderStatus, Timestamp, USER_ERASED, order_kind};

pub(super) use deliver::deliver;
pub(super) use receiver::{Attempt, Receivers};
pub(super) use secret::Secret;

/// Who is told of events.
#[derive(Clone, Debug)]
pub(super) struct Webhook {
    pub(super) id: Uuid,
    pub(super) url: String,
    /// The types of events that it wants; all of them without.
    pub(super) events: Option<Vec<String>>,
    pub(super) description: Option<String>,
    pub(super) secret: Secret,
    /// The secret before, and until when it signs, too.
    pub(super) old_secret: Option<(Secret, Timestamp)>,
    pub(super) enabled: bool,
    pub(super) created_at: Timestamp,
}

impl Webhook {
    /// Whether it wants events of this type.
    pub(super) fn wants(&self, kind: &str) -> bool {
        self.events.as_ref().is_none_or(|kinds| kinds.iter().any(|wanted| wanted == kind))
    }
}

/// The types of events that a webhook may want.
pub(super) fn kinds() -> Vec<String> {
    OrderStatus::all().map(order_kind).chain([USER_ERASED.to_owned()]).collect()
}
