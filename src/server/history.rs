//! How ready the process was over the last hour.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::State;

/// For how long a sample stands.
const INTERVAL: Duration = Duration::from_secs(10);
/// For how many seconds a sample is believed: a process that hung, or slept, knows nothing of that time.
const KNOWN: u64 = 15;
/// How many are kept: an hour.
const MOST: usize = 360;

/// A time during which nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Span {
    /// Its beginning, in seconds since 1970.
    pub from: u64,
    /// The beginning of what came next, or when the process was last looked at.
    pub until: u64,
    /// The state: the worst of each ten seconds.
    pub status: State,
    /// Every dependency that was missing.
    pub missing: Vec<&'static str>,
}

/// Samples of an hour, one for ten seconds; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct History(Arc<Mutex<Samples>>);

#[derive(Debug, Default)]
struct Samples {
    /// When the newest one began.
    begun: Option<Instant>,
    last: VecDeque<Sample>,
}

#[derive(Clone, Debug)]
struct Sample {
    at: u64,
    status: State,
    missing: Vec<&'static str>,
}

impl History {
    /// Takes note of how the process is now. What it was before in the same ten seconds is not forgotten if that was worse.
    pub(super) fn note(&self, status: State, missing: &[&'static str]) {
        self.lock().note(Instant::now(), seconds(), status, missing);
    }

    /// What there was, the oldest first.
    pub(super) fn spans(&self) -> Vec<Span> {
        self.lock().spans(seconds())
    }

    fn lock(&self) -> MutexGuard<'_, Samples> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Samples {
    fn note(&mut self, now: Instant, at: u64, status: State, missing: &[&'static str]) {
        let is_new = self.begun.is_none_or(|begun| now.duration_since(begun) >= INTERVAL);
        match self.last.back_mut().filter(|_| !is_new) {
            Some(sample) => {
                sample.status = worst(sample.status, status);
                let more = missing.iter().filter(|name| !sample.missing.contains(name));
                let more = more.copied().collect::<Vec<_>>();
                sample.missing.extend(more);
            }
            None => {
                self.begun = Some(now);
                self.last.push_back(Sample { at, status, missing: missing.to_vec() });
                if self.last.len() > MOST {
                    self.last.pop_front();
                }
            }
        }
    }

    fn spans(&self, now: u64) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        let mut known_until = 0;
        for Sample { at, status, missing } in &self.last {
            if let Some(before) = spans.last_mut() {
                // Longer ago than that, nobody knows.
                before.until = (*at).min(known_until);
                if before.until == *at && before.status == *status && before.missing == *missing {
                    known_until = at + KNOWN;
                    continue;
                }
            }
            known_until = at + KNOWN;
            let missing = missing.clone();
            spans.push(Span { from: *at, until: *at, status: *status, missing });
        }
        if let Some(last) = spans.last_mut() {
            last.until = now.min(known_until).max(last.from);
        }
        spans
    }
}

fn worst(one: State, other: State) -> State {
    let rank = |state| match state {
        State::Ready => 0,
        State::Degraded => 1,
        State::Starting => 2,
        State::Draining => 3,
    };
    if rank(one) >= rank(other) { one } else { other }
}

/// Seconds since 1970.
fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The samples after `states`, each noted a number of seconds after the first.
    fn samples(states: &[(u64, State, &[&'static str])]) -> Samples {
        let (mut samples, start) = (Samples::default(), Instant::now());
        for (after, state, missing) in states {
            samples.note(start + Duration::from_secs(*after), 1_000 + after, *state, missing);
        }
        samples
    }

    #[test]
    fn what_lasts_is_one_span() {
        let noted = (0..100).map(|n| (2 * n, State::Ready, &[][..])).collect::<Vec<_>>();
        let spans = samples(&noted).spans(1_200);
        assert_eq!(
            spans,
            [Span { from: 1_000, until: 1_200, status: State::Ready, missing: vec![] }]
        );
    }

    #[test]
    fn a_short_failure_is_not_lost_between_two_samples() {
        let spans = samples(&[
            (0, State::Ready, &[]),
            (10, State::Ready, &[]),
            (12, State::Degraded, &["user.database"]),
            (14, State::Degraded, &["user.database", "peers.order"]),
            (16, State::Ready, &[]),
            (20, State::Ready, &[]),
        ])
        .spans(1_025);
        let told =
            spans.iter().map(|span| (span.from, span.until, span.status, span.missing.len()));
        assert_eq!(
            told.collect::<Vec<_>>(),
            [
                (1_000, 1_010, State::Ready, 0),
                (1_010, 1_020, State::Degraded, 2),
                (1_020, 1_025, State::Ready, 0)
            ]
        );
    }

    #[test]
    fn nothing_is_told_of_a_time_in_which_the_process_hung() {
        let spans = samples(&[(0, State::Ready, &[]), (600, State::Ready, &[])]).spans(2_000);
        let told = spans.iter().map(|span| (span.from, span.until)).collect::<Vec<_>>();
        assert_eq!(told, [(1_000, 1_015), (1_600, 1_615)]);
    }

    #[test]
    fn an_hour_is_kept_and_no_more() {
        let noted = (0..1_000).map(|n| (10 * n, State::Ready, &[][..])).collect::<Vec<_>>();
        let samples = samples(&noted);
        assert_eq!(samples.last.len(), MOST);
        assert_eq!(samples.spans(11_000)[0].from, 1_000 + 10 * 640);
    }
}
