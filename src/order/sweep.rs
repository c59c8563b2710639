//! The task that ends orders which were not paid in time, finishes steps that somebody has left, and forgets old keys.
//!
//! Any number of processes may run it: each step is stored as begun before it is done.

use std::time::{Duration, Instant};

use actix_web::http::header::HeaderMap;
use log::Level;
use tokio::time::sleep;

use super::{OrderState, Orders};
use crate::contract::now;
use crate::error::{Error, Kind};
use crate::peer::{Context, Peer};

/// How often it looks.
const INTERVAL: Duration = Duration::from_millis(500);
/// How many orders it ends before it looks for other work.
const BATCH: i64 = 100;
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
    let context = || Context::from_headers(&HeaderMap::new(), None, PATIENCE, Instant::now());
    let mut failed = Ok(());
    loop {
        let expired = state.orders.expired(now(), BATCH).await?;
        let mut done = 0;
        for id in &expired {
            let Some(record) = state.orders.find(*id).await? else { continue };
            match state.expire(record, &context()).await {
                Ok(_) => done += 1,
                // Somebody has paid it or called it off in the meantime.
                Err(error) if error.kind() == Kind::Conflict => {}
                Err(error) => failed = Err(error),
            }
        }
        if done < BATCH {
            break;
        }
    }
    while let Some(record) = state.orders.take_over(now() - state.rules.lease).await? {
        if let Err(error) = state.resume(record, &context()).await {
            failed = Err(error);
            break;
        }
    }
    while state.orders.sweep_keys(now() - state.rules.idempotency_ttl).await? {}
    failed
}
