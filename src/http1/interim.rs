//! Interim responses (RFC 9110, section 15.2) on their way from an upstream to the client: a proxy forwards those that it
//! has not asked for itself.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
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

/// The interim responses to one request.
#[derive(Debug, Default)]
pub struct Interims(Rc<Queue>);

#[derive(Debug, Default)]
struct Queue {
    waiting: RefCell<VecDeque<Interim>>,
    waker: RefCell<Option<Waker>>,
}

impl Interims {
    /// Their sender.
    pub fn sender(&self) -> InterimSender {
        InterimSender(Rc::downgrade(&self.0))
    }

    /// The next interim response.
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

/// Sends the interim responses to one request; cheap to clone. Once there is a response, it sends nothing.
#[derive(Clone, Debug)]
pub struct InterimSender(Weak<Queue>);

impl InterimSender {
    /// Sends `interim` to the client, if it still waits for the response.
    pub fn send(&self, interim: Interim) {
        let Some(queue) = self.0.upgrade() else { return };
        queue.waiting.borrow_mut().push_back(interim);
        if let Some(waker) = queue.waker.take() {
            waker.wake();
        }
    }
}
