//! What everybody can see at the broker.

use futures_util::{FutureExt as _, StreamExt as _};
use lapin::message::Delivery;
use lapin::options::{
    BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, QueueBindOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use serde_json::Value;

use crate::support::Server;

/// A client of the broker that gets every event.
pub(super) struct Exchange {
    channel: Channel,
    deliveries: Consumer,
    /// What has arrived so far.
    pub(super) seen: Vec<Delivery>,
    _connection: Connection,
}

impl Exchange {
    /// Listens from now on. The exchange must be there.
    pub(super) async fn listen(broker: &Server) -> Self {
        let properties = ConnectionProperties::default();
        let connection = Connection::connect(&broker.url(), properties).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
        let queue = channel.queue_declare("".into(), options, FieldTable::default()).await.unwrap();
        let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
        let name = queue.name().clone();
        let bound =
            channel.queue_bind(name.clone(), "shop.events".into(), "#".into(), options, arguments);
        bound.await.unwrap();
        let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let deliveries = channel.basic_consume(name, "".into(), options, FieldTable::default());
        let deliveries = deliveries.await.unwrap();
        Self { channel, deliveries, seen: Vec::new(), _connection: connection }
    }

    /// The kinds and numbers of the events of `order` so far, in the order of their arrival.
    pub(super) fn events_of(&mut self, order: &Value) -> Vec<(String, i64)> {
        while let Some(Some(delivery)) = self.deliveries.next().now_or_never() {
            self.seen.push(delivery.unwrap());
        }
        let events = self.seen.iter().map(|delivery| serde_json::from_slice(&delivery.data));
        let events =
            events.map(Result::<Value, _>::unwrap).filter(|event| event["subject"] == order["id"]);
        let named = |event: Value| {
            (event["type"].as_str().unwrap().to_owned(), event["sequence"].as_i64().unwrap())
        };
        events.map(named).collect()
    }

    /// Puts a message into a queue.
    pub(super) async fn put(&self, queue: &str, body: &str) {
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        let put = self.channel.basic_publish(
            "".into(),
            queue.into(),
            options,
            body.as_bytes(),
            properties,
        );
        put.await.unwrap();
    }

    /// Takes a message out of a queue, if there is one.
    pub(super) async fn take(&self, queue: &str) -> Option<Delivery> {
        let options = BasicGetOptions { no_ack: true };
        let got = self.channel.basic_get(queue.into(), options).await.unwrap();
        got.map(|message| message.delivery)
    }

    /// Consumes so many messages of a queue that has a single active consumer.
    pub(super) async fn consume(&self, queue: &str, count: u32) -> Vec<Delivery> {
        let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let consumer =
            self.channel.basic_consume(queue.into(), "".into(), options, FieldTable::default());
        let deliveries = consumer.await.unwrap().take(count as usize);
        deliveries.map(Result::unwrap).collect().await
    }

    /// How many messages wait in a queue.
    pub(super) async fn depth(&self, queue: &str) -> u32 {
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        let queue = self.channel.queue_declare(queue.into(), options, FieldTable::default());
        queue.await.unwrap().message_count()
    }

    /// Deletes a queue, as an operator may.
    pub(super) async fn delete(&self, queue: &str) {
        self.channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
    }
}
