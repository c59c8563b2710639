//! Tells the connections of one thread that the process shuts down.

use std::cell::Cell;

use tokio::sync::Notify;

/// Whether the shutdown has begun, and a signal for when it does.
#[derive(Debug, Default)]
pub struct Shutdown {
    has_begun: Cell<bool>,
    bell: Notify,
}

impl Shutdown {
    /// Begins the shutdown, and signals every connection.
    pub fn begin(&self) {
        self.has_begun.set(true);
        self.bell.notify_waiters();
    }

    /// Whether the shutdown has begun.
    pub fn has_begun(&self) -> bool {
        self.has_begun.get()
    }

    /// Waits until the shutdown begins; returns at once if it has.
    pub async fn begun(&self) {
        let bell = self.bell.notified();
        if !self.has_begun() {
            bell.await;
        }
    }
}
