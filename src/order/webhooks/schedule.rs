//! When a delivery that has failed is tried again: soon at first, for more than a day in all.

use chrono::TimeDelta;

/// The pauses after the first attempt, the second, and so on, in seconds.
const PAUSES: [i64; 10] = [5, 30, 120, 600, 1800, 3600, 7200, 14_400, 28_800, 36_000];

/// The pause after attempt number `attempt`, up to a fifth longer at random, so that what failed together is not tried
/// together; `None` after the last one.
pub(super) fn pause(attempt: i64) -> Option<TimeDelta> {
    let index = usize::try_from(attempt - 1).ok()?;
    let pause = PAUSES.get(index)? * 1000;
    Some(TimeDelta::milliseconds(pause + fastrand::i64(0..=pause / 5)))
}

/// For how long one is tried in all, at most.
pub(super) fn all() -> TimeDelta {
    TimeDelta::seconds(PAUSES.iter().sum::<i64>() * 6 / 5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_go_on_for_more_than_a_day_and_then_end() {
        let pauses = (1..).map_while(pause).collect::<Vec<_>>();
        assert_eq!(pauses.len(), 10);
        assert!(pauses.is_sorted(), "{pauses:?}");
        assert!((5000..=6000).contains(&pauses[0].num_milliseconds()), "{pauses:?}");
        let all = pauses.iter().sum::<TimeDelta>();
        assert!((24..48).contains(&all.num_hours()), "{all}");
        assert!(all <= super::all(), "{all}");
        assert_eq!((pause(0), pause(11)), (None, None));
    }
}
