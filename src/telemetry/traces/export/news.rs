//! Tells the log that spans are lost: at once, and then once a minute.

use std::time::{Duration, Instant};

use super::failure::Failure;

/// How often it says so.
const INTERVAL: Duration = Duration::from_secs(60);

/// What was lost since the log was told.
#[derive(Debug, Default)]
pub(super) struct News {
    told: Option<Instant>,
    lost: u64,
    /// The spans that had found no room when the log was told.
    full: u64,
    is_failing: bool,
}

/// What the log is told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// So many spans are lost, and why.
    Lost(u64, Failure),
    /// So many found no room.
    Full(u64),
    /// The collector takes spans again.
    Well,
}

impl News {
    /// Takes note of what became of a batch at `now`: so many of its spans were lost, and why. `full` have found no room so
    /// far.
    pub(super) fn note(
        &mut self,
        lost: Option<(u64, Failure)>,
        full: u64,
        now: Instant,
    ) -> Option<Line> {
        let was_failing = std::mem::replace(&mut self.is_failing, lost.is_some());
        self.lost += lost.map_or(0, |(spans, _)| spans);
        let is_due = self.told.is_none_or(|told| now.duration_since(told) >= INTERVAL);
        let line = match lost {
            None if was_failing => return Some(Line::Well),
            Some((_, why)) if is_due => Line::Lost(std::mem::take(&mut self.lost), why),
            None if is_due && full > self.full => Line::Full(full - self.full),
            _ => return None,
        };
        (self.told, self.full) = (Some(now), full);
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_that_fails_is_told_of_now_and_then_and_when_it_is_well() {
        let (mut news, start) = (News::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let lost = |spans| Some((spans, Failure::Unreachable));
        assert_eq!(news.note(None, 0, at(0)), None);
        assert_eq!(news.note(lost(3), 0, at(1)), Some(Line::Lost(3, Failure::Unreachable)));
        assert_eq!(news.note(lost(5), 0, at(2)), None);
        assert_eq!(news.note(lost(7), 9, at(62)), Some(Line::Lost(12, Failure::Unreachable)));
        assert_eq!(news.note(None, 9, at(63)), Some(Line::Well));
        assert_eq!(news.note(None, 9, at(200)), None);
        assert_eq!(news.note(None, 10, at(201)), Some(Line::Full(1)));
        assert_eq!(news.note(None, 20, at(202)), None);
    }
}
