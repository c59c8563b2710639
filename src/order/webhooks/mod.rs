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

use chrono::TimeDelta;
use uuid::Uuid;

use crate::contract::{Event, OrderStatus, Timestamp, USER_ERASED, order_kind};

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
    /// The first failure since it has last taken an event.
    pub(super) failing_since: Option<Timestamp>,
}

impl Webhook {
    /// Whether it is sent `event`: one that it wants and that is not from before it was there. The clocks of processes may
    /// differ by a minute.
    pub(super) fn is_sent(&self, event: &Event) -> bool {
        self.wants(&event.kind) && event.time + TimeDelta::minutes(1) >= self.created_at
    }

    /// Whether it wants events of this type.
    fn wants(&self, kind: &str) -> bool {
        self.events.as_ref().is_none_or(|kinds| kinds.iter().any(|wanted| wanted == kind))
    }
}

/// The types of events that a webhook may want.
pub(super) fn kinds() -> Vec<String> {
    OrderStatus::all().map(order_kind).chain([USER_ERASED.to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::now;

    #[test]
    fn what_happened_before_a_webhook_was_there_is_not_sent() {
        let mut webhook = Webhook {
            id: Uuid::nil(),
            url: String::new(),
            events: Some(vec![USER_ERASED.to_owned()]),
            description: None,
            secret: String::new().into(),
            old_secret: None,
            enabled: true,
            created_at: now(),
            failing_since: None,
        };
        let event = Event::user_erased(Uuid::nil());
        assert!(webhook.is_sent(&event));
        webhook.created_at = event.time + TimeDelta::minutes(2);
        assert!(!webhook.is_sent(&event));
        webhook.created_at = event.time;
        webhook.events = Some(vec![order_kind(OrderStatus::Paid)]);
        assert!(!webhook.is_sent(&event));
    }
}
