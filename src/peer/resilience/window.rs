//! Counts within a sliding window, in a ring of buckets that threads share without a lock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The number of buckets of a window.
const BUCKETS: u64 = 10;

/// A bucket is one word: its turn in 24 bits, and two saturating counts of 20 bits.
const COUNT_BITS: u32 = 20;
const COUNT: u64 = (1 << COUNT_BITS) - 1;
const TURN: u64 = (1 << 24) - 1;

/// The number of events, and of marked events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) all: u64,
    pub(super) marked: u64,
}

/// The counts within the window. Times are milliseconds since the owner began.
#[derive(Debug)]
pub(super) struct Window {
    width: u64,
    buckets: [AtomicU64; BUCKETS as usize],
}

impl Window {
    /// A window over the last `length`.
    pub(super) fn new(length: Duration) -> Self {
        let width = u64::try_from(length.as_millis()).unwrap_or(u64::MAX) / BUCKETS;
        Self { width: width.max(1), buckets: Default::default() }
    }

    /// Adds `all` and `marked`, each 0 or 1, at `now`.
    pub(super) fn add(&self, now: u64, all: u64, marked: u64) {
        let turn = now / self.width;
        let bucket = &self.buckets[(turn % BUCKETS) as usize];
        let turn = turn & TURN;
        // Its bucket has been reused already.
        let _ = bucket.fetch_update(Relaxed, Relaxed, |word| {
            let (then, before) = unpack(word);
            let before = match turn.wrapping_sub(then) & TURN {
                0 => before,
                age if age <= TURN / 2 => Counts::default(),
                _ => return None,
            };
            let now = Counts { all: before.all + all, marked: before.marked + marked };
            Some(pack(turn, now))
        });
    }

    /// The sums at `now`.
    pub(super) fn sum(&self, now: u64) -> Counts {
        let turn = now / self.width;
        let mut sum = Counts::default();
        for bucket in &self.buckets {
            let (then, counts) = unpack(bucket.load(Relaxed));
            if turn.wrapping_sub(then) & TURN < BUCKETS {
                sum = Counts { all: sum.all + counts.all, marked: sum.marked + counts.marked };
            }
        }
        sum
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        for bucket in &self.buckets {
            bucket.store(0, Relaxed);
        }
    }
}

fn pack(turn: u64, counts: Counts) -> u64 {
    let (all, marked) = (counts.all.min(COUNT), counts.marked.min(COUNT));
    turn << (2 * COUNT_BITS) | all << COUNT_BITS | marked
}

fn unpack(word: u64) -> (u64, Counts) {
    let counts = Counts { all: word >> COUNT_BITS & COUNT, marked: word & COUNT };
    (word >> (2 * COUNT_BITS), counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(all: u64, marked: u64) -> Counts {
        Counts { all, marked }
    }

    #[test]
    fn what_is_older_than_the_window_is_forgotten_bucket_by_bucket() {
        let window = Window::new(Duration::from_secs(10));
        window.add(500, 1, 1);
        window.add(1_500, 1, 0);
        assert_eq!(window.sum(1_500), counts(2, 1));
        assert_eq!(window.sum(9_999), counts(2, 1));
        assert_eq!(window.sum(10_000), counts(1, 0));
        assert_eq!(window.sum(11_000), counts(0, 0));
        window.add(21_500, 1, 1);
        assert_eq!(window.sum(21_500), counts(1, 1));
        window.add(1_600, 1, 1);
        assert_eq!(window.sum(21_500), counts(1, 1), "told too late");
        window.clear();
        assert_eq!(window.sum(21_500), counts(0, 0));
    }

    #[test]
    fn a_full_bucket_stops_counting() {
        let window = Window::new(Duration::from_secs(10));
        window.buckets[0].store(pack(0, counts(COUNT, COUNT)), Relaxed);
        window.add(1, 1, 1);
        assert_eq!(window.sum(1), counts(COUNT, COUNT));
    }

    #[test]
    fn no_count_is_lost_between_threads() {
        let window = Window::new(Duration::from_secs(10));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|n| window.add(n / 10, 1, n % 2)));
            }
        });
        assert_eq!(window.sum(1_000), counts(40_000, 20_000));
    }
}
