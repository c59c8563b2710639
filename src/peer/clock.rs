//! Cheap deadlines that are rarely reached: one timer of the runtime serves many calls.
//!
//! After a call its timer stays armed for the next call on the thread. For that call it fires early, if at all, and is then
//! armed again. So timers are not armed and disarmed with each call.

use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

/// How many timers a thread keeps for further calls.
const SPARE: usize = 1024;

thread_local! {
    static TIMERS: RefCell<Vec<Pin<Box<Sleep>>>> = const { RefCell::new(Vec::new()) };
}

/// The deadline has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

/// Runs `future` until the `deadline`, and then drops it.
pub fn by<F: Future>(deadline: std::time::Instant, future: F) -> By<F> {
    By { future, timer: Timer { deadline: deadline.into(), sleep: None } }
}

pin_project! {
    /// See [`by`].
    #[derive(Debug)]
    pub struct By<F> {
        #[pin]
        future: F,
        timer: Timer,
    }
}

impl<F: Future> Future for By<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match this.future.poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => this.timer.poll(cx).map(|()| Err(Elapsed)),
        }
    }
}

#[derive(Debug)]
struct Timer {
    deadline: Instant,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = self.deadline;
        let sleep = self.sleep.get_or_insert_with(|| {
            let spare = TIMERS.with_borrow_mut(Vec::pop);
            let mut sleep = spare.unwrap_or_else(|| Box::pin(sleep_until(deadline)));
            if sleep.deadline() > deadline {
                sleep.as_mut().reset(deadline);
            }
            sleep
        });
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= deadline || Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let Some(sleep) = self.sleep.take() else { return };
        // Fails at the end of the thread, when the storage is gone.
        let _ = TIMERS.try_with(|timers| {
            let mut timers = timers.borrow_mut();
            if timers.len() < SPARE {
                timers.push(sleep);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::time::Duration;

    use tokio::time::sleep;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// After how many milliseconds a call ends that has so many.
    async fn ends(millis: u64) -> u128 {
        let start = Instant::now();
        let deadline = start + Duration::from_millis(millis);
        assert_eq!(by(deadline.into_std(), pending::<()>()).await, Err(Elapsed));
        start.elapsed().as_millis()
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_holds_whatever_the_timer_was_armed_for_before() {
        for millis in [5000, 200, 7000, 1, 300] {
            assert_eq!(ends(millis).await, millis.into());
            // Leaves a timer behind that is still armed.
            let later = (Instant::now() + 10 * SECOND).into_std();
            assert_eq!(by(later, sleep(SECOND / 10)).await, Ok(()));
            assert_eq!(ends(millis).await, millis.into());
        }
        assert!(TIMERS.with_borrow(Vec::len) <= 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_ends_before_is_not_cut_off() {
        let deadline = || (Instant::now() + SECOND).into_std();
        assert_eq!(by(deadline(), ready(1)).await, Ok(1));
        for _ in 0..20 {
            // Each of them uses a timer that rings while it is used.
            assert_eq!(by(deadline(), sleep(SECOND * 9 / 10)).await, Ok(()));
        }
        let both = tokio::join!(by(deadline(), sleep(SECOND / 2)), ends(700));
        assert_eq!(both, (Ok(()), 700));
    }
}
