//! Interim responses (RFC 9110, section 15.2) on their way from an upstream to the client: a proxy forwards those that it
//! has not asked for itself.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use actix_web::http::StatusCode;

use super::Headers;

/// An interim response.
#[derive(Debug)]
pub struct Interim {
    /// The status, from 102 on: 100 is hop-by-hop, and 101 switches protocols.
    pub status: StatusCode,
    /// The end-to-end headers.
    pub headers: Headers,
}

/// The interim responses for the client of one connection.
#[derive(Debug, Default)]
pub struct Interims(Rc<Queue>);

#[derive(Default)]
struct Queue {
    /// Changes with each request, so that late responses to an earlier one are dropped.
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
    /// The sender for the next request; those of the previous one are [closed](Self::close) by then.
    pub fn next_request(&self) -> InterimSender {
        InterimSender { queue: self.0.clone(), epoch: self.0.epoch.get() }
    }

    /// Drops what is queued for this request and what comes later.
    pub fn close(&self) {
        self.0.epoch.set(self.0.epoch.get().wrapping_add(1));
        self.0.waiting.borrow_mut().clear();
    }

    /// The next interim response to this request.
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

/// Sends the interim responses to one request; cheap to clone.
#[derive(Clone, Debug)]
pub struct InterimSender {
    queue: Rc<Queue>,
    epoch: u32,
}

impl InterimSender {
    /// Sends `interim` to the client, if it still waits for the response.
    pub fn send(&self, interim: Interim) {
        if self.epoch == self.queue.epoch.get() {
            self.queue.waiting.borrow_mut().push_back(interim);
            if let Some(waker) = self.queue.waker.borrow_mut().take() {
                waker.wake();
            }
        }
    }
}
