//! What has become of the requests to one callee since the process began, for `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::durations::Durations;
use super::retry::Verdict;

/// The counters of one callee.
#[derive(Debug, Default)]
pub(super) struct Tally {
    attempts: [AtomicU64; Verdict::ALL.len()],
    retries: AtomicU64,
    breaker: AtomicU64,
    bulkhead: AtomicU64,
    durations: Durations,
}

/// What was counted.
#[derive(Clone, Debug)]
pub struct Counted {
    /// Attempts that have ended, by their outcome.
    pub attempts: [(&'static str, u64); Verdict::ALL.len()],
    /// Attempts after the first one of a request.
    pub retries: u64,
    /// Requests that an open breaker refused.
    pub breaker: u64,
    /// Requests that found the bulkhead full.
    pub bulkhead: u64,
    /// How often an address was left out.
    pub ejections: u64,
    /// How many attempts took up to each bound of [`crate::metrics::DURATIONS`] and longer than the one before; the last are
    /// those that were longer.
    pub durations: [u64; crate::metrics::DURATIONS.len() + 1],
}

impl Tally {
    /// Counts an attempt with `verdict` after `duration`.
    pub(super) fn attempt(&self, verdict: Verdict, duration: Duration) {
        self.attempts[verdict as usize].fetch_add(1, Relaxed);
        self.durations.count(duration);
    }

    /// Counts a retry.
    pub(super) fn retry(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    /// Counts a request that the breaker refused.
    pub(super) fn refused_by_breaker(&self) {
        self.breaker.fetch_add(1, Relaxed);
    }

    /// Counts a request that found the bulkhead full.
    pub(super) fn refused_by_bulkhead(&self) {
        self.bulkhead.fetch_add(1, Relaxed);
    }

    /// All of it, with the `ejections` that were counted elsewhere.
    pub(super) fn counted(&self, ejections: u64) -> Counted {
        let of = |counter: &AtomicU64| counter.load(Relaxed);
        Counted {
            attempts: Verdict::ALL
                .map(|verdict| (verdict.name(), of(&self.attempts[verdict as usize]))),
            retries: of(&self.retries),
            breaker: of(&self.breaker),
            bulkhead: of(&self.bulkhead),
            ejections,
            durations: self.durations.counted(),
        }
    }
}
