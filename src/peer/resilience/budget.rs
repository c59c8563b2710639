//! The retry budget: a share of the requests, so that a callee that fails everything does not get a multiple of its load
//! (Google, "Site Reliability Engineering", chapter 21).

use std::time::Duration;

use super::window::Window;

/// The window in which requests count.
const PERIOD: Duration = Duration::from_secs(10);
/// Further retries in that window, so that a quiet callee may be retried: three per second.
const FLOOR: u64 = 30;

/// The retries of one callee.
#[derive(Debug)]
pub(super) struct Budget {
    percent: u64,
    /// The requests; retries are marked.
    recent: Window,
}

impl Budget {
    /// A budget of `percent` of the requests.
    pub(super) fn new(percent: u32) -> Self {
        Self { percent: percent.into(), recent: Window::new(PERIOD) }
    }

    /// Counts a request.
    pub(super) fn deposit(&self, now: u64) {
        self.recent.add(now, 1, 0);
    }

    /// Takes a retry from the budget, if there is one.
    pub(super) fn withdraw(&self, now: u64) -> bool {
        let recent = self.recent.sum(now);
        // Several threads may take the last one at once, which exceeds the budget slightly.
        let granted = self.percent > 0 && recent.marked < recent.all * self.percent / 100 + FLOOR;
        if granted {
            self.recent.add(now, 0, 1);
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(budget: &Budget, now: u64) -> usize {
        (0..10_000).take_while(|_| budget.withdraw(now)).count()
    }

    #[test]
    fn retries_are_a_share_of_the_requests_and_some_besides() {
        let budget = Budget::new(20);
        assert_eq!(granted(&budget, 0), 30, "quiet times may retry");
        (0..1_000).for_each(|_| budget.deposit(0));
        assert_eq!(granted(&budget, 0), 200);
        assert_eq!(granted(&budget, 9_999), 0);
        assert_eq!(granted(&budget, 10_000), 30, "a new time");
    }

    #[test]
    fn a_share_of_nothing_is_no_retries() {
        let budget = Budget::new(0);
        budget.deposit(0);
        assert!(!budget.withdraw(0));
    }
}
