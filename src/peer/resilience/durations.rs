//! How long attempts at one callee took, as their caller saw it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::metrics::DURATIONS;

/// How many buckets there are: one for each bound of [`DURATIONS`], and one for what is longer.
const BUCKETS: usize = DURATIONS.len() + 1;

/// Attempts by their duration.
#[derive(Debug, Default)]
pub(super) struct Durations([AtomicU64; BUCKETS]);

impl Durations {
    /// Counts an attempt.
    pub(super) fn count(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let at = DURATIONS.partition_point(|bound| *bound < seconds);
        self.0[at].fetch_add(1, Relaxed);
    }

    /// How many took up to each bound of [`DURATIONS`] and longer than the one before; those that were longer are last.
    pub(super) fn counted(&self) -> [u64; BUCKETS] {
        self.0.each_ref().map(|bucket| bucket.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_the_bucket_whose_bound_it_does_not_exceed() {
        let durations = Durations::default();
        for micros in [0, 100, 101, 10_000_000, 10_000_001, 60_000_000] {
            durations.count(Duration::from_micros(micros));
        }
        let counted = durations.counted();
        assert_eq!((counted[0], counted[1], counted[16], counted[17]), (2, 1, 1, 2));
    }
}
