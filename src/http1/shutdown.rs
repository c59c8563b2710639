//! The shutdown of a process, as the connections of one thread hear of it.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::Notify;

/// See the module.
#[derive(Debug, Default)]
pub struct Shutdown {
    has_begun: Cell<bool>,
    bell: Notify,
}

impl Shutdown {
    /// Begins when `signal` is over.
    pub fn on(signal: impl Future<Output = ()> + 'static) -> Rc<Self> {
        let shutdown = Rc::<Self>::default();
        let told = shutdown.clone();
        actix_rt::spawn(async move {
            signal.await;
            told.begin();
        });
        shutdown
    }

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
