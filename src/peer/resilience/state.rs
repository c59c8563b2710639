//! What all threads know of one callee.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::super::PeerError;
use super::addresses::Addresses;
use super::breaker::{Breaker, Position};
use super::budget::Budget;
use super::bulkhead::Bulkhead;
use crate::config::Resilience;

/// How often it is said that requests are turned away.
const REMINDER: Duration = Duration::from_secs(10);

/// What all threads know of one callee.
#[derive(Debug)]
pub struct State {
    pub(super) options: Resilience,
    pub(super) breaker: Breaker,
    pub(super) bulkhead: Bulkhead,
    pub(super) budget: Budget,
    pub(super) addresses: Addresses,
    names: Names,
    began: Instant,
    /// Requests that found the bulkhead full since it was last said, and when that may be said again.
    shed: AtomicU64,
    reminder: AtomicU64,
}

/// Who calls whom, for the log.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) caller: &'static str,
    pub(super) callee: Arc<str>,
}

/// How an upstream or another role is, for `/readyz`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Who calls it.
    #[serde(skip)]
    pub caller: &'static str,
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
    /// Of what is called `callee` in logs and reports, is asked by `caller`, and has these `addresses`, at least one,
    /// about which nothing bad is known yet.
    pub fn new(
        caller: &'static str,
        callee: &str,
        addresses: Vec<String>,
        options: Resilience,
    ) -> Self {
        let names = Names { caller, callee: callee.into() };
        Self {
            breaker: Breaker::new(names.clone(), &options),
            bulkhead: Bulkhead::new(&options),
            budget: Budget::new(options.retry_budget),
            addresses: Addresses::new(names.clone(), addresses, &options),
            options,
            names,
            began: Instant::now(),
            shed: AtomicU64::new(0),
            reminder: AtomicU64::new(0),
        }
    }

    /// How the callee is now.
    pub fn report(&self) -> Report {
        let now = self.millis(Instant::now());
        Report {
            caller: self.names.caller,
            name: self.names.callee.to_string(),
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

    /// A request finds the bulkhead full. Says so in the log now and then.
    fn full(&self, now: u64) -> PeerError {
        self.shed.fetch_add(1, Relaxed);
        let due = self.reminder.load(Relaxed);
        let next = now + super::millis(REMINDER);
        if due <= now && self.reminder.compare_exchange(due, next, Relaxed, Relaxed).is_ok() {
            let count = self.shed.swap(0, Relaxed);
            log::warn!(
                role = self.names.caller, upstream = &*self.names.callee, count;
                "{} has too much to do: {count} requests were turned away, {} are under way",
                self.names.callee, self.bulkhead.in_flight()
            );
        }
        PeerError::BulkheadFull
    }
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
    pub(super) async fn wait(state: &Arc<State>, now: u64) -> Result<Self, PeerError> {
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
