//! Consumers of queues.

use std::rc::Rc;

use futures_util::{FutureExt as _, StreamExt as _};
use lapin::Channel;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};

use super::super::dead_letters::reason;
use super::super::{Consumer, Refusal, counters};
use super::dead_letters::{ATTEMPTS, REASON, number};
use super::topology::{Subscription, text};
use super::{
    Broker, FIRST_PAUSE, Failure, LONGEST_PAUSE, PATIENCE, SYSTEM, confirmed, durable, publish,
    sleep, timeout,
};
use crate::contract::Event;

/// How many events a consumer is given before it has acknowledged the first.
const PREFETCH: u16 = 200;

impl Broker {
    /// Gives `consumer` what is in its queue. Never returns.
    pub(in crate::events) async fn consume(self, consumer: Rc<Consumer>) {
        self.repeat(consumer.name, async || self.consume_all(&consumer).await).await;
    }

    /// Consumes until something fails, or the queue is deleted.
    async fn consume_all(&self, consumer: &Consumer) -> Result<(), Failure> {
        let subscription = Subscription::from(consumer);
        let subscribing = timeout(PATIENCE, self.subscribe(&subscription)).await;
        let (channel, mut deliveries) = subscribing.map_err(|_| {
            // As one that has lost its leader, which only an operator can mend.
            let queue = &subscription.queue;
            log::warn!(
                "the queue {queue} does not answer, its events wait; if it never does, delete it"
            );
            Failure::Silent
        })??;
        while let Some(first) = deliveries.next().await {
            let mut batch = vec![first?];
            while batch.len() < usize::from(PREFETCH)
                && let Some(Some(next)) = deliveries.next().now_or_never()
            {
                batch.push(next?);
            }
            let session = Session { consumer, subscription: &subscription, channel: &channel };
            session.take(&batch).await?;
            if let Some(last) = batch.last() {
                last.ack(BasicAckOptions { multiple: true }).await?;
            }
        }
        Ok(())
    }

    /// Declares the queue of `subscription` and begins to consume it.
    async fn subscribe(
        &self,
        subscription: &Subscription,
    ) -> Result<(Channel, lapin::Consumer), Failure> {
        let channel = self.channel().await?;
        self.declare(&channel).await?;
        if self.depth(&subscription.queue).await?.is_none() {
            self.ask_for_replay(&channel, subscription).await?;
        }
        subscription.declare(&channel).await?;
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let queue = subscription.queue.as_str().into();
        let deliveries = channel.basic_consume(queue, "".into(), options, arguments).await?;
        Ok((channel, deliveries))
    }
}

struct Session<'a> {
    consumer: &'a Consumer,
    subscription: &'a Subscription,
    channel: &'a Channel,
}

impl Session<'_> {
    /// Gives all of `batch` to the consumer, and buries what it cannot take.
    async fn take(&self, batch: &[Delivery]) -> Result<(), Failure> {
        let parse = |delivery: &Delivery| serde_json::from_slice::<Event>(&delivery.data);
        if let Ok(events) = batch.iter().map(parse).collect::<Result<Vec<_>, _>>()
            && self.give(events).await.is_ok()
        {
            return Ok(());
        }
        for delivery in batch {
            let taken = match parse(delivery) {
                Ok(event) => self.give(vec![event]).await,
                Err(error) => Err(error.to_string()),
            };
            if let Err(why) = taken {
                self.bury(delivery, &why).await?;
            }
        }
        Ok(())
    }

    /// Gives events until the consumer takes them; why it never will.
    async fn give(&self, events: Vec<Event>) -> Result<(), String> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.consumer.give(events.clone(), SYSTEM).await {
                Ok(()) => return Ok(()),
                Err(Refusal::Invalid(why)) => return Err(why),
                // Readiness logs that a store is away. The broker keeps what is not acknowledged.
                Err(Refusal::Store(error)) => {
                    log::debug!(consumer = self.consumer.name; "events wait: {error}");
                }
            }
            sleep(pause).await;
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }

    /// Puts a message among the dead letters, with the reason.
    async fn bury(&self, delivery: &Delivery, why: &str) -> Result<(), Failure> {
        log::error!(consumer = self.consumer.name; "a message is a dead letter: {why}");
        let mut headers = FieldTable::default();
        let attempts = number(delivery, ATTEMPTS).unwrap_or(0) + 1;
        headers.insert(ATTEMPTS.into(), AMQPValue::LongLongInt(attempts));
        headers.insert(REASON.into(), text(&reason(why)));
        headers.insert("x-consumer".into(), text(self.consumer.name));
        let dead = self.subscription.dead_letters();
        let sent = publish(self.channel, ("", &dead), &delivery.data, durable(headers)).await?;
        if !confirmed(sent).await? {
            return Err(Failure::Refused);
        }
        counters::dead(self.consumer.name);
        Ok(())
    }
}
