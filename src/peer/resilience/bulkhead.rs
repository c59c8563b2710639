//! The bulkhead: the most requests to one callee at once, so that it cannot use up the resources for others.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::config::Resilience;

/// The places of one callee, and a short queue for them, first come, first served.
#[derive(Debug)]
pub(super) struct Bulkhead {
    /// The taken places, and those that were passed to a waiting request.
    taken: AtomicUsize,
    given_back: Semaphore,
    concurrency: usize,
    waiting: AtomicUsize,
    queue: usize,
    patience: Duration,
}

/// There was no free place in time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Bulkhead {
    pub(super) fn new(options: &Resilience) -> Self {
        Self {
            taken: AtomicUsize::new(0),
            given_back: Semaphore::new(0),
            concurrency: options.concurrency,
            waiting: AtomicUsize::new(0),
            queue: options.queue,
            patience: options.queue_timeout,
        }
    }

    /// Takes a place, which [`leave`](Self::leave) gives back, if one is free.
    pub(super) fn try_enter(&self) -> bool {
        self.take() || self.given_back.try_acquire().map(SemaphorePermit::forget).is_ok()
    }

    fn take(&self) -> bool {
        let free = |taken| (taken < self.concurrency).then_some(taken + 1);
        self.taken.fetch_update(SeqCst, SeqCst, free).is_ok()
    }

    /// Waits for a place.
    pub(super) async fn enter(&self) -> Result<(), Full> {
        let _waiting = Waiting::join(&self.waiting, self.queue)?;
        // A request may have left without seeing this one wait.
        if self.try_enter() {
            return Ok(());
        }
        match timeout(self.patience, self.given_back.acquire()).await {
            Ok(Ok(place)) => {
                place.forget();
                Ok(())
            }
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => Err(Full),
        }
    }

    /// Returns a place. It does not touch the semaphore, which has a lock, while no request waits.
    pub(super) fn leave(&self) {
        self.taken.fetch_sub(1, SeqCst);
        if self.waiting.load(SeqCst) > 0 && self.take() {
            self.given_back.add_permits(1);
        }
    }

    /// How many places are taken.
    pub(super) fn in_flight(&self) -> usize {
        self.taken.load(Relaxed).saturating_sub(self.given_back.available_permits())
    }

    /// How many requests wait for one.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }
}

/// A place in the queue.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn join(waiting: &'a AtomicUsize, queue: usize) -> Result<Self, Full> {
        let place = Self(waiting);
        if waiting.fetch_add(1, SeqCst) < queue { Ok(place) } else { Err(Full) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::task::yield_now;
    use tokio::time::Instant;

    use super::*;

    /// One place, two that wait, for 100 ms.
    fn bulkhead() -> Arc<Bulkhead> {
        let settings = crate::config::load(&crate::config::Sources::default()).unwrap().0;
        let options = Resilience { concurrency: 1, queue: 2, ..settings.gateway.resilience };
        Arc::new(Bulkhead::new(&options))
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_come_in_turn_and_one_too_many_does_not_wait() {
        let bulkhead = bulkhead();
        bulkhead.enter().await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let waiting = ["first", "second"].map(|name| {
            let (bulkhead, order) = (bulkhead.clone(), order.clone());
            tokio::spawn(async move {
                bulkhead.enter().await.unwrap();
                order.lock().unwrap().push(name);
                bulkhead.leave();
            })
        });
        yield_now().await;
        assert_eq!((bulkhead.in_flight(), bulkhead.waiting()), (1, 2));
        let before = Instant::now();
        assert_eq!(bulkhead.enter().await, Err(Full));
        assert_eq!(before.elapsed(), Duration::ZERO);
        bulkhead.leave();
        for task in waiting {
            task.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), ["first", "second"]);
        assert_eq!((bulkhead.in_flight(), bulkhead.waiting()), (0, 0));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_place_is_lost_or_given_twice() {
        let settings = crate::config::load(&crate::config::Sources::default()).unwrap().0;
        let options = Resilience { concurrency: 2, queue: 64, ..settings.gateway.resilience };
        let bulkhead = Arc::new(Bulkhead::new(&options));
        let inside = Arc::new(AtomicUsize::new(0));
        let callers = (0..16).map(|_| {
            let (bulkhead, inside) = (bulkhead.clone(), inside.clone());
            tokio::spawn(async move {
                for _ in 0..1_000 {
                    if !bulkhead.try_enter() && bulkhead.enter().await.is_err() {
                        continue;
                    }
                    assert!(inside.fetch_add(1, SeqCst) < 2);
                    yield_now().await;
                    inside.fetch_sub(1, SeqCst);
                    bulkhead.leave();
                }
            })
        });
        for caller in callers.collect::<Vec<_>>() {
            caller.await.unwrap();
        }
        assert_eq!((bulkhead.in_flight(), bulkhead.waiting()), (0, 0));
        assert!(bulkhead.try_enter() && bulkhead.try_enter() && !bulkhead.try_enter());
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_has_an_end() {
        let bulkhead = bulkhead();
        bulkhead.enter().await.unwrap();
        let before = Instant::now();
        assert_eq!(bulkhead.enter().await, Err(Full));
        assert_eq!(before.elapsed(), Duration::from_millis(100));
        assert_eq!((bulkhead.in_flight(), bulkhead.waiting()), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_gives_up_waiting_takes_no_place() {
        let bulkhead = bulkhead();
        bulkhead.enter().await.unwrap();
        let waiting = tokio::spawn({
            let bulkhead = bulkhead.clone();
            async move { bulkhead.enter().await }
        });
        yield_now().await;
        assert_eq!(bulkhead.waiting(), 1);
        waiting.abort();
        assert!(waiting.await.is_err());
        bulkhead.leave();
        assert_eq!((bulkhead.in_flight(), bulkhead.waiting()), (0, 0));
    }
}
