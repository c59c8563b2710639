//! Dead letters: what a consumer of events could not take.

use ring::digest::{SHA256, digest};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::{Builder, Uuid};

use super::{Event, Timestamp};

/// A message that a consumer could not take.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    /// The consumer and the event. The same event of one consumer has the same one, however often it is a dead letter.
    #[schema(
        pattern = "^[a-z_.]+:[0-9a-f-]{36}$",
        example = "user.recent_orders:01a22491-bad4-74f3-84b8-1bf3ec50ec0c"
    )]
    pub id: String,
    /// Who could not take it.
    #[schema(example = "user.recent_orders")]
    pub consumer: String,
    /// What has happened, unless the message is no event.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "shop.order.paid")]
    pub kind: Option<String>,
    /// What it has happened to, unless the message is no event.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub subject: Option<String>,
    /// When the consumer gave it up last.
    #[schema(value_type = String, format = DateTime)]
    #[serde(serialize_with = "super::in_microseconds")]
    pub created_at: Timestamp,
    /// How often the consumer gave it up.
    #[schema(minimum = 1)]
    pub attempts: i64,
    /// Why.
    pub reason: String,
    /// Whether its consumer is to take it again, and has not yet.
    pub redriven: bool,
    /// The message: a CloudEvent, other JSON, or text.
    pub message: Value,
}

impl DeadLetter {
    /// What `consumer` was given as `message`, and gave up because of `reason`, `attempts` times, the last time at `created_at`.
    pub fn new(
        consumer: &str,
        message: &[u8],
        reason: String,
        (attempts, created_at): (i64, Timestamp),
    ) -> Self {
        let event = serde_json::from_slice::<Event>(message).ok();
        let text = || Value::String(String::from_utf8_lossy(message).into_owned());
        let id = event.as_ref().map_or_else(|| id_of(message), |event| event.id);
        Self {
            id: Self::id(consumer, id),
            consumer: consumer.to_owned(),
            kind: event.as_ref().map(|event| event.kind.clone()),
            subject: event.map(|event| event.subject),
            created_at,
            attempts,
            reason,
            redriven: false,
            message: serde_json::from_slice(message).unwrap_or_else(|_| text()),
        }
    }

    /// The id of the event `event` as a dead letter of `consumer`.
    pub fn id(consumer: &str, event: Uuid) -> String {
        format!("{consumer}:{event}")
    }
}

/// The id of a message that is no event, a UUID of version 8.
fn id_of(message: &[u8]) -> Uuid {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest(&SHA256, message).as_ref()[..16]);
    Builder::from_custom_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::now;

    #[test]
    fn a_message_that_is_no_event_has_an_id_of_its_own() {
        let letter = |consumer: &str, text: &str| {
            DeadLetter::new(consumer, text.as_bytes(), "why".into(), (1, now()))
        };
        let one = letter("user.recent_orders", "no event");
        assert_eq!(one.id, letter("user.recent_orders", "no event").id);
        assert_ne!(one.id, letter("user.recent_orders", "another").id);
        assert_ne!(one.id, letter("product.popularity", "no event").id);
        assert_eq!((one.kind, one.message), (None, Value::String("no event".into())));
    }

    #[test]
    fn an_event_is_known_by_its_id() {
        let event = Event::user_erased(Uuid::now_v7());
        let text = serde_json::to_vec(&event).unwrap();
        let letter = DeadLetter::new("order.erased_users", &text, "why".into(), (2, now()));
        assert_eq!(letter.id, DeadLetter::id("order.erased_users", event.id));
        assert_eq!(letter.subject, Some(event.subject));
    }
}
