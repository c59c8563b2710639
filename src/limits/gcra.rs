//! The generic cell rate algorithm in its form of virtual scheduling (ITU-T I.371, annex A), on whole
//! microseconds.
//!
//! All that is remembered of a client is its *theoretical arrival time*: when its next request would come if
//! it had spread all its requests evenly. A request may come before that by as much as the burst allows.

use crate::config::Limit;

/// The parameters of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quota {
    /// The size of a burst; at least 1.
    number: u32,
    /// The time between two requests at the steady rate; at least 1 µs.
    interval: u64,
}

/// The decision on a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) allowed: bool,
    /// How many further requests are allowed at once.
    pub(super) remaining: u32,
    /// The time in µs over which to spread them at the steady rate. If none remain, the time until the next one.
    pub(super) reset: u64,
}

impl Quota {
    /// The quota of `limit`. The interval is rounded down, so that the rate is at least the limit's.
    pub(super) fn from_limit(limit: &Limit) -> Self {
        let period = u64::try_from(limit.period.as_micros()).unwrap_or(u64::MAX);
        let number = limit.number.max(1);
        Self { number, interval: (period / u64::from(number)).max(1) }
    }

    /// The time between two requests at the steady rate, in µs.
    pub(super) fn interval(self) -> u64 {
        self.interval
    }

    /// How far ahead of the clock the arrival time may be, in µs: by a whole burst.
    pub(super) fn window(self) -> u64 {
        self.interval * u64::from(self.number)
    }
}

impl Decision {
    /// [`Decision::reset`] in seconds, rounded up, so that waiting that long is enough.
    pub(super) fn seconds(self) -> u32 {
        u32::try_from(self.reset.div_ceil(1_000_000)).unwrap_or(u32::MAX)
    }
}

/// Decides on a request at `now` from a client whose arrival time is `tat` (0 for a new client). Returns the arrival time
/// after it. Both are in µs of one clock.
///
/// A clock that was set back blocks a client at most for the time of a burst.
pub(super) fn decide(tat: u64, now: u64, quota: Quota) -> (u64, Decision) {
    let latest = now + quota.window();
    let tat = tat.clamp(now, latest);
    let next = tat + quota.interval;
    let Some(left) = latest.checked_sub(next) else {
        return (tat, Decision { allowed: false, remaining: 0, reset: next - latest });
    };
    let remaining = left / quota.interval;
    let reset = match remaining {
        0 => quota.interval - left,
        some => some * quota.interval,
    };
    // At most Quota::number, which is a u32.
    let remaining = u32::try_from(remaining).unwrap_or(u32::MAX);
    (next, Decision { allowed: true, remaining, reset })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::config::Scope;

    fn quota(number: u32, seconds: u64) -> Quota {
        Quota::from_limit(&Limit {
            number,
            period: Duration::from_secs(seconds),
            scope: Scope::Route,
        })
    }

    fn any_quota() -> impl Strategy<Value = Quota> {
        (1..2_000_u32, 1..100_000_u64).prop_map(|(number, seconds)| quota(number, seconds))
    }

    /// Times between requests, in µs: many at once, and a few far apart.
    fn gaps() -> impl Strategy<Value = Vec<u64>> {
        let gap = prop_oneof![3 => Just(0), 2 => 0..1_000_u64, 1 => 0..10_000_000_u64];
        prop::collection::vec(gap, 1..300)
    }

    #[test]
    fn a_burst_is_let_through_and_then_one_request_each_interval() {
        let quota = quota(3, 30);
        let (mut tat, start) = (0, 1_000_000_000);
        for (remaining, reset) in [(2, 20_000_000), (1, 10_000_000), (0, 10_000_000)] {
            let (next, decision) = decide(tat, start, quota);
            assert_eq!(decision, Decision { allowed: true, remaining, reset });
            tat = next;
        }
        let refused = Decision { allowed: false, remaining: 0, reset: 6_000_000 };
        assert_eq!(decide(tat, start + 4_000_000, quota), (tat, refused));
        assert!(!decide(tat, start + 9_999_999, quota).1.allowed);
        let (tat, decision) = decide(tat, start + 10_000_000, quota);
        assert_eq!(decision, Decision { allowed: true, remaining: 0, reset: 10_000_000 });
        assert!(!decide(tat, start + 10_000_000, quota).1.allowed);
    }

    #[test]
    fn seconds_are_rounded_up() {
        let seconds = |reset| Decision { allowed: false, remaining: 0, reset }.seconds();
        assert_eq!([1, 999_999, 1_000_000, 1_000_001].map(seconds), [1, 1, 1, 2]);
    }

    #[test]
    fn a_clock_that_was_set_back_keeps_nobody_out_for_longer_than_a_burst_takes() {
        let quota = quota(5, 10);
        let (tat, refused) = decide(u64::MAX, 1_000_000, quota);
        assert_eq!((refused.allowed, refused.seconds()), (false, 2));
        assert!(decide(tat, 1_000_000 + quota.window(), quota).1.allowed);
    }

    proptest! {
        #[test]
        fn never_more_pass_than_a_burst_and_what_the_time_allows(quota in any_quota(), gaps in gaps()) {
            let (mut tat, mut now, mut passed) = (0, 1, Vec::new());
            for gap in gaps {
                now += gap;
                let (next, decision) = decide(tat, now, quota);
                tat = next;
                if decision.allowed {
                    passed.push(now);
                }
                for (index, since) in passed.iter().enumerate() {
                    let count = (passed.len() - index) as u64;
                    prop_assert!(count <= u64::from(quota.number) + (now - since) / quota.interval);
                }
            }
        }

        #[test]
        fn the_steady_rate_passes(quota in any_quota(), extra in 0..1_000_u64) {
            let (mut tat, mut now) = (0, 1);
            for _ in 0..500 {
                let (next, decision) = decide(tat, now, quota);
                prop_assert!(decision.allowed);
                (tat, now) = (next, now + quota.interval + extra);
            }
        }

        #[test]
        fn the_rate_is_that_of_the_limit(number in 1..2_000_u32, seconds in 1..100_000_u64) {
            let (quota, number, period) = (quota(number, seconds), u64::from(number), seconds * 1_000_000);
            prop_assert!(quota.window() <= period && period - quota.window() < number);
        }

        #[test]
        fn as_many_pass_as_are_said_to_remain_and_then_none(quota in any_quota(), gaps in gaps()) {
            let (mut tat, mut now) = (0, 1);
            for gap in gaps {
                now += gap;
                let (next, decision) = decide(tat, now, quota);
                tat = next;
                let mut after = tat;
                for _ in 0..decision.remaining {
                    let (next, decision) = decide(after, now, quota);
                    prop_assert!(decision.allowed);
                    after = next;
                }
                prop_assert!(!decide(after, now, quota).1.allowed);
            }
        }

        #[test]
        fn whoever_waits_as_told_passes(quota in any_quota(), gaps in gaps()) {
            let (mut tat, mut now) = (0, 1);
            for gap in gaps {
                now += gap;
                let (next, decision) = decide(tat, now, quota);
                tat = next;
                if decision.remaining == 0 {
                    prop_assert!(decide(tat, now + decision.reset, quota).1.allowed);
                    prop_assert!(!decide(tat, now + decision.reset - 1, quota).1.allowed);
                }
            }
        }
    }
}
