//! The exchanges and queues: durable, and declared whenever a connection is new.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{Channel, ErrorKind, ExchangeKind};
use serde::{Deserialize, Serialize};

use super::super::Consumer;
use super::{Broker, Failure};

/// Where events are published, by their kinds.
pub(super) const EVENTS: &str = "shop.events";
/// Where consumers ask for events again.
pub(super) const REPLAYS: &str = "shop.replays";

/// The queue of a consumer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Subscription {
    /// Its name, as in `shop.user.recent_orders`.
    pub(super) queue: String,
    /// The kinds that it takes.
    pub(super) kinds: Vec<String>,
}

impl From<&Consumer> for Subscription {
    fn from(consumer: &Consumer) -> Self {
        Self { queue: queue_of(consumer.name), kinds: consumer.kinds().to_vec() }
    }
}

impl Subscription {
    /// The queue of what the consumer could not take.
    pub(super) fn dead_letters(&self) -> String {
        dead_letters_of(&self.queue)
    }

    /// Declares both queues. What the broker itself gives up goes to the dead letters, too.
    pub(super) async fn declare(&self, channel: &Channel) -> lapin::Result<()> {
        let dead = self.dead_letters();
        declare_queue(channel, &dead, FieldTable::default()).await?;
        let mut arguments = one_at_a_time();
        arguments.insert("x-dead-letter-exchange".into(), text(""));
        arguments.insert("x-dead-letter-routing-key".into(), text(&dead));
        declare_queue(channel, &self.queue, arguments).await?;
        for kind in &self.kinds {
            bind(channel, &self.queue, EVENTS, routing_key(kind)).await?;
        }
        Ok(())
    }
}

impl Broker {
    /// Declares the exchanges, and the queue of requests of each publisher, so that no request is lost.
    pub(super) async fn declare(&self, channel: &Channel) -> lapin::Result<()> {
        for (name, kind) in [(EVENTS, ExchangeKind::Topic), (REPLAYS, ExchangeKind::Fanout)] {
            let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
            channel.exchange_declare(name.into(), kind, options, FieldTable::default()).await?;
        }
        for publisher in &self.0.publishers {
            let queue = replay_queue(publisher);
            declare_queue(channel, &queue, one_at_a_time()).await?;
            bind(channel, &queue, REPLAYS, "").await?;
        }
        Ok(())
    }

    /// How many messages wait in a queue; `None` if there is no such queue.
    pub(super) async fn depth(&self, name: &str) -> Result<Option<u32>, Failure> {
        // The answer no closes the channel.
        let channel = self.channel().await?;
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        match channel.queue_declare(name.into(), options, FieldTable::default()).await {
            Ok(queue) => Ok(Some(queue.message_count())),
            Err(error) => match error.kind() {
                ErrorKind::ProtocolError(answer) if answer.get_id() == NOT_FOUND => Ok(None),
                _ => Err(error.into()),
            },
        }
    }
}

/// The answer that something is not there.
const NOT_FOUND: u16 = 404;

/// The queue of the consumer `name`.
pub(super) fn queue_of(name: &str) -> String {
    format!("shop.{name}")
}

/// The queue of dead letters beside `queue`.
pub(super) fn dead_letters_of(queue: &str) -> String {
    format!("{queue}.dead")
}

/// The queue of requests to `publisher`.
pub(super) fn replay_queue(publisher: &str) -> String {
    format!("{REPLAYS}.{publisher}")
}

/// The routing key of events of `kind`.
pub(super) fn routing_key(kind: &str) -> &str {
    kind.strip_prefix("shop.").unwrap_or(kind)
}

/// What makes a queue give its messages to one consumer at a time.
fn one_at_a_time() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    arguments
}

/// Declares a queue that is replicated, where there are several brokers.
async fn declare_queue(
    channel: &Channel,
    name: &str,
    mut arguments: FieldTable,
) -> lapin::Result<()> {
    arguments.insert("x-queue-type".into(), text("quorum"));
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(name.into(), options, arguments).await.map(drop)
}

async fn bind(channel: &Channel, queue: &str, exchange: &str, key: &str) -> lapin::Result<()> {
    let options = QueueBindOptions::default();
    let arguments = FieldTable::default();
    channel.queue_bind(queue.into(), exchange.into(), key.into(), options, arguments).await
}

pub(super) fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(text))
}
