//! What tests that kill and stop processes at random have in common.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use super::blocking;

/// A number that the environment sets for such a test.
pub(crate) fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// A thread in which processes and servers die and hang, one after the other.
pub(crate) struct Torment<V> {
    is_over: Arc<AtomicBool>,
    given_back: mpsc::Receiver<V>,
    alive: mpsc::Sender<()>,
}

impl<V: Send + 'static> Torment<V> {
    /// Lets `victims` suffer until the flag is set.
    pub(crate) fn start(
        victims: V,
        suffer: impl FnOnce(V, &AtomicBool) -> V + Send + 'static,
    ) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let (ends, (give, given_back)) = (is_over.clone(), mpsc::channel());
        let (alive, ended) = mpsc::channel::<()>();
        std::thread::spawn(move || {
            let _ = give.send(suffer(victims, &ends));
            // The servers that a thread has started end with it.
            let _ = ended.recv();
        });
        Self { is_over, given_back, alive }
    }

    /// Ends it. The servers of the victims, which are all well again, run until the first value is dropped.
    pub(crate) async fn end(self) -> (mpsc::Sender<()>, V) {
        self.is_over.store(true, Ordering::Relaxed);
        let victims = blocking(move || self.given_back.recv().unwrap()).await;
        (self.alive, victims)
    }
}
