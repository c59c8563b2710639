//! The word that the process is going to stop, as the connections of one thread hear it.

use std::cell::Cell;
use std::rc::Rc;

use actix_server::GracefulShutdownSignal;
use tokio::sync::Notify;

/// See the module.
#[derive(Debug, Default)]
pub struct Leaving {
    has_begun: Cell<bool>,
    bell: Notify,
}

impl Leaving {
    /// Follows `signal` from now on.
    pub fn follow(signal: GracefulShutdownSignal) -> Rc<Self> {
        let leaving = Rc::<Self>::default();
        let told = leaving.clone();
        actix_rt::spawn(async move {
            signal.notified().await;
            told.begin();
        });
        leaving
    }

    /// Says it.
    pub fn begin(&self) {
        self.has_begun.set(true);
        self.bell.notify_waiters();
    }

    /// Whether it has been said.
    pub fn has_begun(&self) -> bool {
        self.has_begun.get()
    }

    /// Is over when it is said, or has been.
    pub async fn begun(&self) {
        let bell = self.bell.notified();
        if !self.has_begun() {
            bell.await;
        }
    }
}
