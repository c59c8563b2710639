//! What all threads know of one upstream.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::addresses::Addresses;
use super::breaker::{Breaker, Position};
use super::budget::Budget;
use super::bulkhead::Bulkhead;
use crate::config::Resilience;
use crate::error::{Error, Kind};

/// How often it is said that requests are turned away.
const REMINDER: Duration = Duration::from_secs(10);

/// What all threads know of one upstream.
#[derive(Debug)]
pub struct State {
    pub(super) options: Resilience,
    pub(super) breaker: Breaker,
    pub(super) bulkhead: Bulkhead,
    pub(super) budget: Budget,
    pub(super) addresses: Addresses,
    upstream: Arc<str>,
    began: Instant,
    /// Requests that found the bulkhead full since it was last said, and when that may be said again.
    shed: AtomicU64,
    reminder: AtomicU64,
}

/// How an upstream is, for `/readyz`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Its name.
    pub name: String,
    /// What its breaker does.
    pub breaker: Position,
    /// Requests under way, up to the end of their answers.
    pub in_flight: usize,
    /// Requests that wait for one of those to end.
    pub waiting: usize,
    /// Addresses that fail and are left out; all are used when that is more than half of them.
    pub ejected: Vec<String>,
}

impl State {
    /// Of an upstream that is called `name` in logs and reports and has these `addresses`, at least one, about
    /// which nothing bad is known yet.
    pub fn new(name: &str, addresses: Vec<String>, options: Resilience) -> Self {
        let upstream: Arc<str> = name.into();
        Self {
            breaker: Breaker::new(upstream.clone(), &options),
            bulkhead: Bulkhead::new(&options),
            budget: Budget::new(options.retry_budget),
            addresses: Addresses::new(upstream.clone(), addresses, &options),
            options,
            upstream,
            began: Instant::now(),
            shed: AtomicU64::new(0),
            reminder: AtomicU64::new(0),
        }
    }

    /// How the upstream is now.
    pub fn report(&self) -> Report {
        let now = self.millis(Instant::now());
        Report {
            name: self.upstream.to_string(),
            breaker: self.breaker.position(now),
            in_flight: self.bulkhead.in_flight(),
            waiting: self.bulkhead.waiting(),
            ejected: self.addresses.ejected(now).map(str::to_owned).collect(),
        }
    }

    /// `now` as the parts count it, which is never 0.
    pub(super) fn millis(&self, now: Instant) -> u64 {
        super::millis(now.saturating_duration_since(self.began)).saturating_add(1)
    }

    /// The answer to a request that its breaker stops, for `wait` more milliseconds.
    pub(super) fn broken(wait: u64) -> Error {
        let seconds = u32::try_from(wait.div_ceil(1_000)).unwrap_or(u32::MAX);
        turned_away(seconds.max(1))
    }

    /// The answer to a request that finds the bulkhead full. Says so in the log now and then.
    pub(super) fn full(&self, now: u64) -> Error {
        self.shed.fetch_add(1, Relaxed);
        let due = self.reminder.load(Relaxed);
        let next = now + super::millis(REMINDER);
        if due <= now && self.reminder.compare_exchange(due, next, Relaxed, Relaxed).is_ok() {
            let count = self.shed.swap(0, Relaxed);
            log::warn!(
                role = "gateway", upstream = &*self.upstream, count;
                "{} has too much to do: {count} requests were turned away, {} are under way",
                self.upstream, self.bulkhead.in_flight()
            );
        }
        turned_away(1)
    }
}

fn turned_away(seconds: u32) -> Error {
    let detail = "a part of the shop is not available, try again";
    Error::new(Kind::Unavailable, detail).retry_after(seconds).logged()
}

/// A request's place in the bulkhead and at an address, up to the end of its answer.
#[derive(Debug)]
pub(super) struct Slot {
    state: Arc<State>,
    at: Option<usize>,
}

impl Slot {
    /// Takes a place, if one is free.
    pub(super) fn take(state: &Arc<State>) -> Option<Self> {
        state.bulkhead.try_enter().then(|| Self { state: state.clone(), at: None })
    }

    /// Takes a place after a short wait.
    pub(super) async fn wait(state: &Arc<State>, now: u64) -> Result<Self, Error> {
        state.bulkhead.enter().await.map_err(|_full| state.full(now))?;
        Ok(Self { state: state.clone(), at: None })
    }

    /// The request goes to the address `at` now, and to no other.
    pub(super) fn go_to(&mut self, at: usize) {
        if let Some(before) = self.at.replace(at) {
            self.state.addresses.end(before);
        }
        self.state.addresses.begin(at);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(at) = self.at {
            self.state.addresses.end(at);
        }
        self.state.bulkhead.leave();
    }
}
