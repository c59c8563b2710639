//! Heartbeats of the worker threads, to find stuck ones.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::tasks;

const EVERY: Duration = Duration::from_secs(1);
/// How long a thread may miss heartbeats while another does not.
const LIMIT: Duration = Duration::from_secs(10);

/// The heartbeats of a process's threads; cheap to clone.
#[derive(Clone, Debug)]
pub struct Pulses(Arc<All>);

#[derive(Debug)]
struct All {
    began: Instant,
    pulses: Mutex<Vec<Weak<Pulse>>>,
}

#[derive(Debug)]
struct Pulse {
    thread: String,
    /// The last heartbeat, in milliseconds since the start.
    last: AtomicU64,
}

impl Default for Pulses {
    fn default() -> Self {
        Self(Arc::new(All { began: Instant::now(), pulses: Mutex::default() }))
    }
}

impl Pulses {
    /// Feels the pulse of this thread for as long as its tasks run.
    pub fn follow(&self) {
        let pulse = self.add(thread::current().name().unwrap_or("-"));
        let all = self.clone();
        tasks::supervise("pulse", move || {
            let (pulse, all) = (pulse.clone(), all.clone());
            async move {
                loop {
                    pulse.last.store(all.now(), Relaxed);
                    sleep(EVERY).await;
                }
            }
        });
    }

    /// The names of stuck threads. If all threads are silent, the process itself was suspended, and none counts as stuck.
    pub fn stuck(&self) -> Vec<String> {
        let mut pulses = self.0.pulses.lock().unwrap_or_else(PoisonError::into_inner);
        // Drops the heartbeats of threads that have ended.
        pulses.retain(|pulse| pulse.strong_count() > 0);
        let pulses = pulses.iter().filter_map(Weak::upgrade).collect::<Vec<_>>();
        let last = |pulse: &Arc<Pulse>| pulse.last.load(Relaxed);
        let newest = pulses.iter().map(last).max().unwrap_or_default();
        let is_stuck = |pulse: &&Arc<Pulse>| u128::from(newest - last(pulse)) > LIMIT.as_millis();
        pulses.iter().filter(is_stuck).map(|pulse| pulse.thread.clone()).collect()
    }

    fn add(&self, thread: &str) -> Arc<Pulse> {
        let pulse = Arc::new(Pulse { thread: thread.to_owned(), last: AtomicU64::new(self.now()) });
        let mut pulses = self.0.pulses.lock().unwrap_or_else(PoisonError::into_inner);
        pulses.push(Arc::downgrade(&pulse));
        pulse
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
        let pulses = Pulses::default();
        let [one, other] = ["one", "other"].map(|name| pulses.add(name));
        one.last.store(10_000, Relaxed);
        assert_eq!(pulses.stuck(), Vec::<String>::new());
        one.last.store(10_001, Relaxed);
        assert_eq!(pulses.stuck(), ["other"]);
        other.last.store(10_001, Relaxed);
        assert_eq!(pulses.stuck(), Vec::<String>::new());
        other.last.store(0, Relaxed);
        drop(other);
        assert_eq!(pulses.stuck(), Vec::<String>::new(), "its thread has ended");
    }
}
