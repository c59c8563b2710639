//! The circuit breaker: it stops calls to a callee that fails most of them, or many in a row.
//!
//! Closed, it counts. Open, it lets nothing through. Half-open, it lets a few trials through (M. Nygard, "Release It!"). The
//! crate recloser does not fit: it counts the last calls, however old, and allows any number of trials at once.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::state::Names;
use super::window::Window;
use crate::config::Resilience;

/// The position of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Position {
    /// Requests pass.
    Closed,
    /// Some trials pass.
    HalfOpen,
    /// Requests get 503.
    Open,
}

/// The breaker of one callee. Times are milliseconds since the owner began.
#[derive(Debug)]
pub(super) struct Breaker {
    names: Names,
    failures: u64,
    volume: u64,
    /// This many consecutive failures open it too; 0 means never.
    consecutive: u32,
    pause: u64,
    trials: u32,
    /// The requests; failures are marked.
    recent: Window,
    /// The number of consecutive failures.
    in_a_row: AtomicU32,
    /// Whether the phase is closed, to check without the lock.
    closed: AtomicBool,
    phase: Mutex<Phase>,
}

#[derive(Debug)]
enum Phase {
    Closed,
    Open {
        until: u64,
    },
    /// `round` identifies late trials of an earlier phase.
    HalfOpen {
        round: u64,
        given: u32,
        passed: u32,
        /// When trials were last given out of turn, or it began.
        since: u64,
    },
}

impl Breaker {
    pub(super) fn new(names: Names, options: &Resilience) -> Self {
        Self {
            names,
            failures: options.breaker_failures.into(),
            volume: options.breaker_volume.into(),
            consecutive: options.breaker_consecutive,
            pause: super::millis(options.breaker_pause),
            trials: options.breaker_trials,
            recent: Window::new(options.breaker_window),
            in_a_row: AtomicU32::new(0),
            closed: AtomicBool::new(true),
            phase: Mutex::new(Phase::Closed),
        }
    }

    /// Whether a request may pass; if not, in how many milliseconds it is worth asking again.
    pub(super) fn ask(&self, now: u64) -> Result<Permit<'_>, u64> {
        if self.closed.load(Relaxed) {
            return Ok(Permit::new(self, None));
        }
        let mut phase = self.phase();
        match &mut *phase {
            Phase::Closed => Ok(Permit::new(self, None)),
            Phase::Open { until } if now < *until => Err(*until - now),
            Phase::Open { .. } => {
                *phase = Phase::HalfOpen { round: now, given: 1, passed: 0, since: now };
                log::debug!(
                    role = self.names.caller, upstream = &*self.names.callee;
                    "trying {} again", self.names.callee
                );
                Ok(Permit::new(self, Some(now)))
            }
            Phase::HalfOpen { round, given, .. } if *given < self.trials => {
                *given += 1;
                Ok(Permit::new(self, Some(*round)))
            }
            // Trials without an outcome for that long do not block others; their outcomes still count.
            Phase::HalfOpen { round, given, passed, since } if now >= *since + self.pause => {
                (*since, *given) = (now, *passed + 1);
                Ok(Permit::new(self, Some(*round)))
            }
            Phase::HalfOpen { .. } => Err(0),
        }
    }

    /// Its position at `now`.
    pub(super) fn position(&self, now: u64) -> Position {
        match *self.phase() {
            Phase::Closed => Position::Closed,
            Phase::Open { until } if now < until => Position::Open,
            Phase::Open { .. } | Phase::HalfOpen { .. } => Position::HalfOpen,
        }
    }

    /// Counts the outcome of a request that passed while closed.
    fn count(&self, now: u64, failed: bool) {
        // Requests from before the breaker opened do not count any more.
        if !self.closed.load(Relaxed) {
            return;
        }
        self.recent.add(now, 1, failed.into());
        if !failed {
            // Writes only a change: a write makes all threads wait.
            if self.in_a_row.load(Relaxed) > 0 {
                self.in_a_row.store(0, Relaxed);
            }
            return;
        }
        let in_a_row = self.in_a_row.fetch_add(1, Relaxed).saturating_add(1);
        let Some((marked, all)) = self.too_many(now, in_a_row) else { return };
        let mut phase = self.phase();
        if matches!(*phase, Phase::Closed) {
            self.open(&mut phase, now);
            log::warn!(
                role = self.names.caller, upstream = &*self.names.callee;
                "the breaker of {} is open: {marked} of the last {all} requests failed",
                self.names.callee
            );
        }
    }

    /// The failures and the requests, if they are reason to open.
    fn too_many(&self, now: u64, in_a_row: u32) -> Option<(u64, u64)> {
        let recent = self.recent.sum(now);
        let most = recent.all >= self.volume && recent.marked * 100 >= recent.all * self.failures;
        if self.failures > 0 && most {
            return Some((recent.marked, recent.all));
        }
        let all = self.consecutive > 0 && in_a_row >= self.consecutive;
        all.then(|| (in_a_row.into(), in_a_row.into()))
    }

    /// Counts the outcome of a trial of `round`; an abandoned one has none.
    fn judge(&self, trial: u64, noted: Option<(u64, bool)>) {
        let mut phase = self.phase();
        let Phase::HalfOpen { round, given, passed, .. } = &mut *phase else { return };
        if *round != trial {
            return;
        }
        match noted {
            None => *given = given.saturating_sub(1),
            Some((at, true)) => self.open(&mut phase, at),
            Some((_, false)) => {
                *passed += 1;
                if *passed >= self.trials {
                    self.close(&mut phase);
                }
            }
        }
    }

    fn open(&self, phase: &mut Phase, now: u64) {
        *phase = Phase::Open { until: now + self.pause };
        self.closed.store(false, Relaxed);
    }

    fn close(&self, phase: &mut Phase) {
        *phase = Phase::Closed;
        self.recent.clear();
        self.in_a_row.store(0, Relaxed);
        self.closed.store(true, Relaxed);
        log::info!(
            role = self.names.caller, upstream = &*self.names.callee;
            "{} is back: its breaker is closed", self.names.callee
        );
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The permission to send one request. When it is dropped, the last [noted](Self::note) outcome counts, if any.
#[derive(Debug)]
pub(super) struct Permit<'a> {
    breaker: &'a Breaker,
    trial: Option<u64>,
    noted: Option<(u64, bool)>,
}

impl<'a> Permit<'a> {
    fn new(breaker: &'a Breaker, trial: Option<u64>) -> Self {
        Self { breaker, trial, noted: None }
    }

    /// Notes the outcome of an attempt that ended at `now`; that of a retry replaces it.
    pub(super) fn note(&mut self, now: u64, failed: bool) {
        self.noted = Some((now, failed));
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        match (self.trial, self.noted) {
            (Some(trial), noted) => self.breaker.judge(trial, noted),
            (None, Some((at, failed))) => self.breaker.count(at, failed),
            (None, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 50 % of at least 20 within 10 s; 5 s of pause; 3 trials.
    fn breaker() -> Breaker {
        with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Resilience)) -> Breaker {
        let settings = crate::config::load(&crate::config::Sources::default()).unwrap().0;
        let mut options = settings.gateway.resilience;
        change(&mut options);
        Breaker::new(Names { caller: "test", callee: "test".into() }, &options)
    }

    fn succeed(breaker: &Breaker, now: u64) {
        breaker.ask(now).unwrap().note(now, false);
    }

    fn fail(breaker: &Breaker, now: u64) {
        breaker.ask(now).unwrap().note(now, true);
    }

    fn opened(at: u64) -> Breaker {
        let breaker = breaker();
        (0..20).for_each(|_| fail(&breaker, at));
        assert_eq!(breaker.position(at), Position::Open);
        breaker
    }

    #[test]
    fn opens_at_the_rate_when_there_are_enough_requests() {
        let breaker = breaker();
        (0..11).for_each(|_| succeed(&breaker, 0));
        (0..10).for_each(|_| fail(&breaker, 0));
        assert_eq!(breaker.position(0), Position::Closed, "10 of 21");
        fail(&breaker, 1);
        assert_eq!(breaker.position(1), Position::Open, "11 of 22");
        assert_eq!(breaker.ask(1_001).unwrap_err(), 4_000, "until the pause is over");
    }

    #[test]
    fn stays_closed_below_the_volume() {
        let breaker = breaker();
        (0..19).for_each(|_| fail(&breaker, 0));
        assert_eq!(breaker.position(0), Position::Closed);
        // Ten seconds later these are forgotten.
        fail(&breaker, 10_000);
        assert_eq!(breaker.position(10_000), Position::Closed);
    }

    #[test]
    fn opens_after_enough_failures_in_a_row() {
        for failures in [0, 50] {
            let breaker = with(|options| {
                (options.breaker_consecutive, options.breaker_failures) = (10, failures);
            });
            (0..100).for_each(|_| succeed(&breaker, 0));
            (0..9).for_each(|_| fail(&breaker, 0));
            succeed(&breaker, 0);
            (0..9).for_each(|_| fail(&breaker, 100_000));
            assert_eq!(breaker.position(100_000), Position::Closed, "nine, twice");
            fail(&breaker, 200_000);
            assert_eq!(breaker.position(200_000), Position::Open, "however long that took");
            (0..3).for_each(|_| succeed(&breaker, 300_000));
            (0..9).for_each(|_| fail(&breaker, 300_000));
            assert_eq!(breaker.position(300_000), Position::Closed, "it counts anew");
        }
    }

    #[test]
    fn half_open_lets_as_many_trials_through_as_it_says_and_closes_when_all_succeed() {
        let breaker = opened(0);
        assert_eq!(breaker.position(5_000), Position::HalfOpen);
        let trials = [0; 3].map(|_| breaker.ask(5_000).unwrap());
        assert_eq!(breaker.ask(5_000).unwrap_err(), 0, "a fourth");
        let mut trials = trials.into_iter();
        trials.by_ref().take(2).for_each(|mut trial| trial.note(5_100, false));
        assert_eq!(breaker.position(5_100), Position::HalfOpen);
        assert!(breaker.ask(5_100).is_err(), "trials are not given again");
        trials.for_each(|mut trial| trial.note(5_100, false));
        assert_eq!(breaker.position(5_100), Position::Closed);
        // Earlier failures are forgotten.
        (0..19).for_each(|_| fail(&breaker, 5_200));
        assert_eq!(breaker.position(5_200), Position::Closed);
    }

    #[test]
    fn a_trial_that_fails_opens_it_again() {
        let breaker = opened(0);
        let mut late = breaker.ask(5_000).unwrap();
        fail(&breaker, 5_100);
        assert_eq!(breaker.position(5_100), Position::Open);
        assert_eq!(breaker.ask(5_100).unwrap_err(), 5_000);
        let trials = [0; 2].map(|_| breaker.ask(10_100).unwrap());
        // A trial of an earlier phase does not count.
        late.note(10_100, false);
        drop(late);
        trials.into_iter().for_each(|mut trial| trial.note(10_100, false));
        assert_eq!(breaker.position(10_100), Position::HalfOpen);
    }

    #[test]
    fn a_trial_that_is_given_up_is_given_to_another() {
        let breaker = opened(0);
        for _ in 0..10 {
            let trials = [0; 3].map(|_| breaker.ask(5_000).unwrap());
            assert!(breaker.ask(5_000).is_err());
            drop(trials);
        }
        (0..3).for_each(|_| succeed(&breaker, 5_000));
        assert_eq!(breaker.position(5_000), Position::Closed);
    }

    #[test]
    fn trials_that_never_end_keep_nobody_out() {
        let breaker = opened(0);
        let mut trials = [0; 3].map(|_| breaker.ask(5_000).unwrap()).into_iter();
        trials.by_ref().take(1).for_each(|mut trial| trial.note(5_100, false));
        assert!(breaker.ask(9_999).is_err());
        (0..2).for_each(|_| succeed(&breaker, 10_000));
        assert_eq!(breaker.position(10_000), Position::Closed, "with the one of before");
        drop(trials);
        assert_eq!(breaker.position(10_000), Position::Closed);
    }

    #[test]
    fn a_trial_that_takes_longer_than_the_pause_counts_all_the_same() {
        for (failed, position) in [(true, Position::Open), (false, Position::Closed)] {
            let breaker = opened(0);
            let trials = [0; 3].map(|_| breaker.ask(5_000).unwrap());
            let given_out_of_turn = breaker.ask(10_500).unwrap();
            trials.into_iter().for_each(|mut trial| trial.note(11_000, failed));
            assert_eq!(breaker.position(11_000), position);
            drop(given_out_of_turn);
            assert_eq!(breaker.position(11_000), position);
        }
    }

    #[test]
    fn what_began_before_it_opened_does_not_count_later() {
        let breaker = breaker();
        let early = [0; 30].map(|_| breaker.ask(0).unwrap());
        (0..20).for_each(|_| fail(&breaker, 0));
        early.into_iter().for_each(|mut permit| permit.note(1, false));
        assert_eq!(breaker.position(1), Position::Open);
    }

    #[test]
    fn an_attempt_that_failed_is_made_up_for_by_one_that_did_not() {
        let breaker = breaker();
        for _ in 0..100 {
            let mut permit = breaker.ask(0).unwrap();
            permit.note(0, true);
            permit.note(0, false);
        }
        assert_eq!(breaker.position(0), Position::Closed);
    }
}
