//! Tells the connections of one thread that the process shuts down.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;

use slab::Slab;
use tokio::sync::Notify;

/// Whether the shutdown has begun, and a signal for when it does.
#[derive(Debug, Default)]
pub struct Shutdown {
    has_begun: Cell<bool>,
    bell: Notify,
    /// The tasks of connections that have been idle. The future of [`Shutdown::begun`] would take more memory for each.
    idle: RefCell<Slab<Waker>>,
}

impl Shutdown {
    /// Begins the shutdown, and signals every connection.
    pub fn begin(&self) {
        self.has_begun.set(true);
        self.bell.notify_waiters();
        for (_, waker) in self.idle.take() {
            waker.wake();
        }
    }

    /// Has the shutdown, which has not begun yet, wake the task of `waker`, until what this returns is dropped.
    pub fn register(self: &Rc<Self>, waker: &Waker) -> Registration {
        debug_assert!(!self.has_begun());
        let key = self.idle.borrow_mut().insert(waker.clone());
        Registration { shutdown: self.clone(), key }
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

/// The registration of a task that the shutdown wakes.
#[derive(Debug)]
pub struct Registration {
    shutdown: Rc<Shutdown>,
    key: usize,
}

impl Drop for Registration {
    fn drop(&mut self) {
        // Not there once the shutdown has begun.
        let _waker = self.shutdown.idle.borrow_mut().try_remove(self.key);
    }
}
