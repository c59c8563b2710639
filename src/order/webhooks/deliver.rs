//! The task that sends what is due. Any number of processes may run it: a delivery is claimed before it is sent, and what a
//! process leaves is due again soon.

use std::collections::HashSet;
use std::time::Duration;

use chrono::TimeDelta;
use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use serde::Deserialize;
use tokio::time::sleep;
use uuid::Uuid;

use super::{Attempt, Receivers, Webhook, schedule};
use crate::auth::Audit;
use crate::contract::now;
use crate::order::Orders;
use crate::order::store::{Delivery, Store};
use crate::storage::StoreError;
use crate::telemetry::{Messages, Work};

/// How often it looks for what is due.
const INTERVAL: Duration = Duration::from_millis(500);
/// How many events one webhook is sent at once, each about another subject.
const AT_ONCE: usize = 8;
/// How much longer than an attempt a claim holds.
const MARGIN: Duration = Duration::from_secs(5);

/// Sends, again and again. Each webhook has a lane of its own, so that none waits for another.
pub(in crate::order) async fn deliver(role: Orders) {
    while !role.state.is_prepared() {
        sleep(INTERVAL).await;
    }
    let timeout = role.options.webhooks_timeout;
    let lease = TimeDelta::from_std(timeout + MARGIN).unwrap_or(TimeDelta::MAX);
    let sender =
        Sender { orders: role.store(), receivers: Receivers::new(&role.options), timeout, lease };
    let (mut lanes, mut running) = (FuturesUnordered::new(), HashSet::new());
    loop {
        match sender.orders.webhooks().await {
            Ok(webhooks) => {
                for webhook in webhooks {
                    if running.insert(webhook.id) {
                        lanes.push(sender.drive(webhook));
                    }
                }
            }
            Err(error) => log(&error),
        }
        let pause = sleep(INTERVAL);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                Some(id) = lanes.next() => drop(running.remove(&id)),
                () = &mut pause => break,
            }
        }
    }
}

/// Readiness logs that a store is away.
fn log(error: &StoreError) {
    log::log!(error.level(), role = "order"; "webhooks wait: {error}");
}

/// The span in which `event` has happened, if it was recorded.
fn traceparent(event: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Traced {
        traceparent: Option<String>,
    }
    serde_json::from_str::<Traced>(event).ok()?.traceparent
}

struct Sender {
    orders: Store,
    receivers: Receivers,
    timeout: Duration,
    lease: TimeDelta,
}

impl Sender {
    /// Sends a webhook what is due, until there is nothing more; what a disabled one was to be sent has failed. Returns the
    /// webhook's id.
    async fn drive(&self, webhook: Webhook) -> Uuid {
        let id = webhook.id;
        loop {
            let some = match webhook.enabled {
                true => self.batch(id).await,
                false => self.orders.fail_deliveries(id).await,
            };
            match some {
                Ok(true) => {}
                Ok(false) => return id,
                Err(error) => {
                    log(&error);
                    return id;
                }
            }
        }
    }

    /// Sends the webhook `id` some of what is due; returns whether there was anything.
    async fn batch(&self, id: Uuid) -> Result<bool, StoreError> {
        let due = self.orders.claim_deliveries(id, AT_ONCE, now() + self.lease).await?;
        if due.is_empty() {
            return Ok(false);
        }
        // As it is now: its secret may have changed.
        let Some(webhook) = self.orders.webhook(id).await?.filter(|webhook| webhook.enabled) else {
            return Ok(false);
        };
        let sent = join_all(due.iter().map(|delivery| self.send(&webhook, delivery))).await;
        sent.into_iter().collect::<Result<(), _>>()?;
        Ok(true)
    }

    async fn send(&self, webhook: &Webhook, delivery: &Delivery) -> Result<(), StoreError> {
        let message = (delivery.event_id.as_str(), delivery.event.as_str());
        let turn = usize::try_from(delivery.attempts).unwrap_or_default();
        let parent = traceparent(&delivery.event);
        let mut work = Work::begin("order", [parent.as_deref()].into_iter(), || Messages {
            operation: "send",
            system: "webhook",
            destination: delivery.kind.clone().into(),
            count: 1,
        });
        let header = work.header();
        let sending = self.receivers.send(webhook, message, header, turn, self.timeout);
        let attempt = work.run(sending).await;
        if !attempt.is_success() {
            work.fail("not_delivered");
        }
        work.run(self.note(webhook, delivery, &attempt)).await
    }

    /// Stores how an attempt has ended.
    async fn note(
        &self,
        webhook: &Webhook,
        delivery: &Delivery,
        attempt: &Attempt,
    ) -> Result<(), StoreError> {
        if attempt.is_success() {
            if webhook.failing_since.is_some() {
                self.orders.set_failing(webhook.id, None).await?;
            }
            return self.orders.note_delivered(delivery, attempt).await;
        }
        let since = webhook.failing_since;
        // So many events may wait that none is tried as often as the schedule says.
        let is_lost = since.is_some_and(|since| now() - since > schedule::all());
        match schedule::pause(delivery.attempts).filter(|_| !attempt.is_gone() && !is_lost) {
            Some(pause) => {
                if since.is_none() {
                    self.orders.set_failing(webhook.id, Some(now())).await?;
                }
                self.orders.note_failed(delivery, attempt, now() + pause).await
            }
            None => {
                if self.orders.give_up(delivery, attempt).await? {
                    let why = attempt.error.as_deref().unwrap_or_default();
                    let detail =
                        format!("webhook {}: {why}, {} attempts", webhook.id, delivery.attempts);
                    Audit::for_command().note("webhook_disabled", None, &detail);
                }
                Ok(())
            }
        }
    }
}
