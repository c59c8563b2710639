//! Interim answers (RFC 9110, section 15.2) on their way from an upstream to the client that waits: a proxy passes on
//! those that it has not asked for itself.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use actix_web::http::StatusCode;

use super::Headers;

/// An interim answer, whose headers are end to end.
#[derive(Debug)]
pub struct Interim {
    /// A status from 102 on; 100 is between two neighbours, and 101 is not one of these.
    pub status: StatusCode,
    /// Its headers.
    pub headers: Headers,
}

/// The interim answers for the client of one connection.
#[derive(Debug, Default)]
pub struct Interims(Rc<Queue>);

#[derive(Default)]
struct Queue {
    /// Is another with each request.
    epoch: Cell<u32>,
    waiting: RefCell<VecDeque<Interim>>,
    waker: RefCell<Option<Waker>>,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("epoch", &self.epoch.get()).finish_non_exhaustive()
    }
}

impl Interims {
    /// Takes the interim answers to the next request, once those to the one before are [closed](Self::close).
    pub fn next_request(&self) -> InterimSender {
        InterimSender { queue: self.0.clone(), epoch: self.0.epoch.get() }
    }

    /// Takes no more for this request.
    pub fn close(&self) {
        self.0.epoch.set(self.0.epoch.get().wrapping_add(1));
        self.0.waiting.borrow_mut().clear();
    }

    /// The next interim answer to this request.
    pub fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Interim> {
        if let Some(interim) = self.0.waiting.borrow_mut().pop_front() {
            return Poll::Ready(interim);
        }
        let mut waker = self.0.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// Where the interim answers to one request go; cheap to clone.
#[derive(Clone, Debug)]
pub struct InterimSender {
    queue: Rc<Queue>,
    epoch: u32,
}

impl InterimSender {
    /// Sends `interim` to the client, if it still waits for this answer.
    pub fn send(&self, interim: Interim) {
        if self.epoch == self.queue.epoch.get() {
            self.queue.waiting.borrow_mut().push_back(interim);
            if let Some(waker) = self.queue.waker.borrow_mut().take() {
                waker.wake();
            }
        }
    }
}
