//! Replays: a consumer that finds its queue gone asks every publisher for the events of the last day.

use futures_util::StreamExt as _;
use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;

use super::super::Log;
use super::topology::{REPLAYS, Subscription, replay_queue};
use super::{Broker, Failure, confirmed, durable, json, publish};
use crate::contract::Event;

/// How many events are read at once.
const PAGE: i64 = 200;

impl Broker {
    /// Asks every publisher for the events of `subscription`. The request is made before the queue is, so that a crash in
    /// between repeats it.
    pub(super) async fn ask_for_replay(
        &self,
        channel: &Channel,
        subscription: &Subscription,
    ) -> Result<(), Failure> {
        log::info!(
            "the queue {} is new: asking for the events of the last day",
            subscription.queue
        );
        let request = json(subscription);
        let sent =
            publish(channel, (REPLAYS, ""), &request, durable(FieldTable::default())).await?;
        confirmed(sent).await.map(drop)
    }

    /// Answers requests for what is in `log`. Never returns.
    pub(in crate::events) async fn replay(self, log: Log) {
        log.prepared().await;
        self.repeat("event_replay", async || self.answer_requests(&log).await).await;
    }

    /// Answers until something fails.
    async fn answer_requests(&self, log: &Log) -> Result<(), Failure> {
        let channel = self.channel().await?;
        self.declare(&channel).await?;
        channel.basic_qos(1, BasicQosOptions::default()).await?;
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let queue = replay_queue(log.prefix).into();
        let mut requests = channel.basic_consume(queue, "".into(), options, arguments).await?;
        while let Some(request) = requests.next().await {
            let request = request?;
            match serde_json::from_slice::<Subscription>(&request.data) {
                Ok(subscription) => give_again(log, &channel, &subscription).await?,
                Err(error) => log::error!("no request for events: {error}"),
            }
            request.ack(BasicAckOptions::default()).await?;
        }
        Ok(())
    }
}

/// Gives all of `log` to one queue. It is bound first: what is published from then on arrives by itself, and what was
/// before has a place in the log.
async fn give_again(
    log: &Log,
    channel: &Channel,
    subscription: &Subscription,
) -> Result<(), Failure> {
    subscription.declare(channel).await?;
    let mut end = 0;
    loop {
        let page = log.after(end, PAGE).await?;
        let Some(&(last, _)) = page.last() else { return Ok(()) };
        end = last;
        let mut confirms = Vec::new();
        let wanted = |event: &&Event| subscription.kinds.contains(&event.kind);
        for event in page.iter().map(|(_, event)| event).filter(wanted) {
            let to = ("", &*subscription.queue);
            confirms
                .push(publish(channel, to, &json(event), durable(FieldTable::default())).await?);
        }
        for confirm in confirms {
            confirmed(confirm).await?;
        }
    }
}
