//! The task that ends orders which were not paid in time, finishes steps that somebody has left, and forgets what is
//! old.
//!
//! Any number of processes may run it: each step is stored as begun before it is done.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use log::Level;
use tokio::time::sleep;

use super::{OrderState, Orders};
use crate::contract::now;
use crate::error::{Error, Kind};
use crate::peer::{Context, Peer};
use crate::telemetry::Work;

/// How often it looks.
const INTERVAL: Duration = Duration::from_millis(500);
/// How many orders it ends before it looks for other work.
const BATCH: usize = 200;
/// How many orders it ends at once.
const AT_ONCE: usize = 32;
/// How often it sweeps deliveries before it looks for other work.
const SWEEPS: usize = 10;
/// How long a step may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ends, finishes and forgets, again and again.
pub(super) async fn sweep(role: Orders, products: Peer) {
    while !role.state.is_prepared() {
        sleep(INTERVAL).await;
    }
    let state = role.state_with(products);
    loop {
        // Other systems that are away are in the log once, by readiness.
        if let Err(error) = round(&state).await {
            let is_expected = error.is_logged() || error.kind() == Kind::Unavailable;
            let level = if is_expected { Level::Debug } else { Level::Warn };
            log::log!(level, role = "order"; "orders were not all swept: {}", error.chain());
        }
        sleep(INTERVAL).await;
    }
}

async fn round(state: &OrderState) -> Result<(), Error> {
    let mut failed = Ok(());
    loop {
        let expired = state.orders.expired(now(), BATCH).await?;
        let is_full = expired.len() == BATCH;
        let expire = async |id| {
            traced("expire order", async {
                state.expire(id, &Context::in_background(PATIENCE)).await
            })
            .await
        };
        let mut expiring = stream::iter(expired).map(expire).buffer_unordered(AT_ONCE);
        while let Some(done) = expiring.next().await {
            failed = failed.and(done);
        }
        if !is_full || failed.is_err() {
            break;
        }
    }
    while let Some(record) = state.orders.take_over(now() - state.rules.lease).await? {
        if let Err(error) = traced("settle order", async {
            state.resume(record, &Context::in_background(PATIENCE)).await
        })
        .await
        {
            failed = Err(error);
            break;
        }
    }
    while state.orders.sweep_keys(now() - state.rules.idempotency_ttl).await? {}
    for _ in 0..SWEEPS {
        if !state.orders.sweep_deliveries(now() - state.rules.deliveries_retention).await? {
            break;
        }
    }
    failed
}

/// Does `work` in a trace of its own.
async fn traced(
    name: &'static str,
    work: impl Future<Output = Result<(), Error>>,
) -> Result<(), Error> {
    let mut task = Work::task("order", name);
    let done = task.run(work).await;
    match &done {
        Ok(()) => task.succeed(),
        Err(_) => task.fail("failed", true),
    }
    done
}
