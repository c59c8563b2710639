//! The publisher of a log: gives it to the broker, in order.

use lapin::Channel;
use lapin::types::FieldTable;
use uuid::Uuid;

use super::super::lease::BROKER;
use super::super::{Log, counters};
use super::topology::{EVENTS, routing_key};
use super::{Broker, Failure, INTERVAL, SYSTEM, confirmed, durable, json, publish, sleep};
use crate::contract::Event;
use crate::telemetry::{Messages, Work};

/// How many events are published before the first must be confirmed.
const BATCH: i64 = 500;

impl Broker {
    /// Publishes what is in `log`. Never returns.
    pub(in crate::events) async fn publish(self, log: Log) {
        log.prepared().await;
        let holder = Uuid::now_v7().to_string();
        self.repeat("event_publisher", async || self.publish_all(&log, &holder).await).await;
    }

    /// Publishes until something fails.
    async fn publish_all(&self, log: &Log, holder: &str) -> Result<(), Failure> {
        let channel = self.channel().await?;
        self.declare(&channel).await?;
        let mut is_missed = false;
        loop {
            let news = log.news();
            if log.after(log.cursor(BROKER).await?, 1).await?.is_empty() {
                news.await;
                continue;
            }
            if !log.lease(holder).await? {
                sleep(INTERVAL).await;
                continue;
            }
            // Another one may have published meanwhile.
            let batch = log.after(log.cursor(BROKER).await?, BATCH).await?;
            let Some((end, _)) = batch.last() else { continue };
            if !publish_batch(log.prefix, &channel, &batch).await? && !is_missed {
                is_missed = true;
                // Who makes its queue later asks for them.
                log::warn!("no queue takes some events of {}: have all roles run?", log.prefix);
            }
            if !log.note(holder, *end).await? {
                return Err(Failure::Overtaken);
            }
            counters::published(log.prefix, "broker", batch.len() as u64);
        }
    }
}

/// Publishes `batch`, and waits until the broker has it; whether a queue has taken each event.
async fn publish_batch(
    role: &'static str,
    channel: &Channel,
    batch: &[(i64, Event)],
) -> Result<bool, Failure> {
    let events = batch.iter().map(|(_, event)| event);
    let parents = events.map(|event| event.traceparent.as_deref());
    let _work = Work::begin(role, parents, || Messages {
        operation: "send",
        system: SYSTEM,
        destination: EVENTS.into(),
        count: batch.len(),
    });
    let mut confirms = Vec::with_capacity(batch.len());
    for (_, event) in batch {
        let to = (EVENTS, routing_key(&event.kind));
        confirms.push(publish(channel, to, &json(event), durable(FieldTable::default())).await?);
    }
    let mut are_taken = true;
    for confirm in confirms {
        are_taken &= confirmed(confirm).await?;
    }
    Ok(are_taken)
}
