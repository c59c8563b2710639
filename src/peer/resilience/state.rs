//! The state of one callee, shared by all threads.

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
use super::tally::{Counted, Tally};
use crate::config::Resilience;

/// How often refused requests are logged.
const REMINDER: Duration = Duration::from_secs(10);

/// The state of one callee, shared by all threads.
#[derive(Debug)]
pub struct State {
    pub(super) options: Resilience,
    pub(super) breaker: Breaker,
    pub(super) bulkhead: Bulkhead,
    pub(super) budget: Budget,
    pub(super) addresses: Addresses,
    pub(super) tally: Tally,
    names: Names,
    began: Instant,
    /// Requests that were refused since the last log line, and when the next one is due.
    shed: AtomicU64,
    reminder: AtomicU64,
}

/// The caller and the callee, for the log.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) caller: &'static str,
    pub(super) callee: Arc<str>,
}

/// The state of an upstream or another role, for `/readyz`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The caller.
    #[serde(skip)]
    pub caller: &'static str,
    /// Its name.
    pub name: String,
    /// The position of its breaker.
    pub breaker: Position,
    /// Requests under way, until the end of their responses.
    pub in_flight: usize,
    /// Requests that wait in the bulkhead's queue.
    pub waiting: usize,
    /// Ejected addresses; all are used if they are more than half.
    pub ejected: Vec<String>,
    /// The most requests under way.
    #[serde(skip)]
    pub concurrency: usize,
    /// What was counted since the process began.
    #[serde(skip)]
    pub counted: Counted,
}

impl State {
    /// The callee's name.
    pub(super) fn callee(&self) -> &Arc<str> {
        &self.names.callee
    }

    /// The initial state of `callee`, which `caller` calls at one or more `addresses`.
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
            tally: Tally::default(),
            options,
            names,
            began: Instant::now(),
            shed: AtomicU64::new(0),
            reminder: AtomicU64::new(0),
        }
    }

    /// The current state as a report.
    pub fn report(&self) -> Report {
        let now = self.millis(Instant::now());
        Report {
            caller: self.names.caller,
            name: self.names.callee.to_string(),
            breaker: self.breaker.position(now),
            in_flight: self.bulkhead.in_flight(),
            waiting: self.bulkhead.waiting(),
            ejected: self.addresses.ejected(now).map(str::to_owned).collect(),
            concurrency: self.options.concurrency,
            counted: self.tally.counted(self.addresses.ejections()),
        }
    }

    /// `now` in milliseconds since the owner began, never 0.
    pub(super) fn millis(&self, now: Instant) -> u64 {
        super::millis(now.saturating_duration_since(self.began)).saturating_add(1)
    }

    /// Counts a request that found the bulkhead full, and logs that now and then.
    fn full(&self, now: u64) -> PeerError {
        self.tally.refused_by_bulkhead();
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

/// A request's place in the bulkhead and at an address, until the end of its response.
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

    /// Waits a moment for a place.
    pub(super) async fn wait(state: &Arc<State>, now: u64) -> Result<Self, PeerError> {
        state.bulkhead.enter().await.map_err(|_full| state.full(now))?;
        Ok(Self { state: state.clone(), at: None })
    }

    /// Moves the request to the address `at`.
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
