//! Heartbeats of the worker threads, to find stuck ones.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::tasks;

const INTERVAL: Duration = Duration::from_secs(1);
/// How long a thread may miss heartbeats while another has them.
const LIMIT: Duration = Duration::from_secs(10);

/// The heartbeats of a process's threads; cheap to clone.
#[derive(Clone, Debug)]
pub struct Heartbeats(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    began: Instant,
    heartbeats: Mutex<Vec<Weak<Heartbeat>>>,
}

#[derive(Debug)]
struct Heartbeat {
    thread: String,
    /// The last heartbeat, in milliseconds since the start.
    last: AtomicU64,
}

impl Default for Heartbeats {
    fn default() -> Self {
        Self(Arc::new(Inner { began: Instant::now(), heartbeats: Mutex::default() }))
    }
}

impl Heartbeats {
    /// Starts the heartbeat of this thread, a task on it.
    pub fn start(&self) {
        let heartbeat = self.add(thread::current().name().unwrap_or("-"));
        let all = self.clone();
        tasks::supervise("pulse", move || {
            let (heartbeat, all) = (heartbeat.clone(), all.clone());
            async move {
                loop {
                    heartbeat.last.store(all.now(), Relaxed);
                    sleep(INTERVAL).await;
                }
            }
        });
    }

    /// The names of stuck threads. If all threads are silent, the process itself was suspended, and none counts as stuck.
    pub fn stuck(&self) -> Vec<String> {
        let mut heartbeats = self.0.heartbeats.lock().unwrap_or_else(PoisonError::into_inner);
        // Drops the heartbeats of threads that have ended.
        heartbeats.retain(|heartbeat| heartbeat.strong_count() > 0);
        let live = heartbeats.iter().filter_map(Weak::upgrade).collect::<Vec<_>>();
        let last = |heartbeat: &Arc<Heartbeat>| heartbeat.last.load(Relaxed);
        let newest = live.iter().map(last).max().unwrap_or_default();
        let is_stuck = |one: &&Arc<Heartbeat>| u128::from(newest - last(one)) > LIMIT.as_millis();
        live.iter().filter(is_stuck).map(|one| one.thread.clone()).collect()
    }

    fn add(&self, thread: &str) -> Arc<Heartbeat> {
        let heartbeat =
            Arc::new(Heartbeat { thread: thread.to_owned(), last: AtomicU64::new(self.now()) });
        let mut heartbeats = self.0.heartbeats.lock().unwrap_or_else(PoisonError::into_inner);
        heartbeats.push(Arc::downgrade(&heartbeat));
        heartbeat
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_stuck_that_is_silent_while_another_is_not() {
        let heartbeats = Heartbeats::default();
        let [one, other] = ["one", "other"].map(|name| heartbeats.add(name));
        one.last.store(10_000, Relaxed);
        assert_eq!(heartbeats.stuck(), Vec::<String>::new());
        one.last.store(10_001, Relaxed);
        assert_eq!(heartbeats.stuck(), ["other"]);
        other.last.store(10_001, Relaxed);
        assert_eq!(heartbeats.stuck(), Vec::<String>::new());
        other.last.store(0, Relaxed);
        drop(other);
        assert_eq!(heartbeats.stuck(), Vec::<String>::new(), "its thread has ended");
    }
}
