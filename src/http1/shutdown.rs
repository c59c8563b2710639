//! The shutdown of a process, as the connections of one thread hear of it.

use std::cell::Cell;

use tokio::sync::Notify;

/// See the module.
#[derive(Debug, Default)]
pub struct Shutdown {
    has_begun: Cell<bool>,
    bell: Notify,
}

impl Shutdown {
    /// Tells every connection.
    pub fn begin(&self) {
        self.has_begun.set(true);
        self.bell.notify_waiters();
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        self.has_begun.get()
    }

    /// Is over when it begins, or has begun.
    pub async fn begun(&self) {
        let bell = self.bell.notified();
        if !self.has_begun() {
            bell.await;
        }
    }
}
