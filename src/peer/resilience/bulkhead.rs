//! The bulkhead: how many requests one callee may hold up, so that the others keep their room.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::config::Resilience;

/// The places of one callee, and the short queue before them, first come, first served.
#[derive(Debug)]
pub(super) struct Bulkhead {
    places: Semaphore,
    concurrency: usize,
    waiting: AtomicUsize,
    queue: usize,
    patience: Duration,
}

/// There was no place, and none came free in time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Bulkhead {
    pub(super) fn new(options: &Resilience) -> Self {
        Self {
            places: Semaphore::new(options.concurrency),
            concurrency: options.concurrency,
            waiting: AtomicUsize::new(0),
            queue: options.queue,
            patience: options.queue_timeout,
        }
    }

    /// Takes a place, which [`leave`](Self::leave) gives back, if one is free.
    pub(super) fn try_enter(&self) -> bool {
        self.places.try_acquire().map(SemaphorePermit::forget).is_ok()
    }

    /// Waits for a place.
    pub(super) async fn enter(&self) -> Result<(), Full> {
        let _waiting = Waiting::join(&self.waiting, self.queue)?;
        match timeout(self.patience, self.places.acquire()).await {
            Ok(Ok(place)) => {
                place.forget();
                Ok(())
            }
            // Nobody closes the semaphore.
            Ok(Err(_)) | Err(_) => Err(Full),
        }
    }

    pub(super) fn leave(&self) {
        self.places.add_permits(1);
    }

    /// How many places are taken.
    pub(super) fn in_flight(&self) -> usize {
        self.concurrency.saturating_sub(self.places.available_permits())
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
        if waiting.fetch_add(1, Relaxed) < queue { Ok(place) } else { Err(Full) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
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
