//! Watches the body of a request as it arrives: whether it is complete and in time.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::HttpMessage as _;
use actix_web::dev::{Payload, ServiceRequest};
use actix_web::error::PayloadError;
use actix_web::http::StatusCode;
use actix_web::web::Bytes;
use futures_util::Stream;
use tokio::time::{Instant, Sleep, sleep};

use crate::error::{Error, Kind};

/// The state of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The handler does not read.
    Open,
    /// The handler waits for the client.
    Waiting,
    /// The body is complete.
    Whole,
    /// The client took too long for the next piece.
    Late,
    /// The client aborted it, or its framing is invalid.
    Broken,
}

/// The state of a request's body; cheap to clone.
#[derive(Clone)]
pub(super) struct Upload(Rc<Cell<State>>);

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").field("state", &self.0.get()).finish_non_exhaustive()
    }
}

impl Upload {
    /// Wraps the body of `request`, if any. Each piece must arrive within `limit` once the handler waits for it.
    pub(super) fn watch(request: &mut ServiceRequest, limit: Duration) -> Option<Self> {
        let payload = request.take_payload();
        if matches!(payload, Payload::None) {
            return None;
        }
        let upload = Self(Rc::new(Cell::new(State::Open)));
        let pieces = Pieces { payload, upload: upload.clone(), limit, timer: None, armed: false };
        request.set_payload(Payload::Stream { payload: Box::pin(pieces) });
        Some(upload)
    }

    /// The client's error, if it explains that a handler answered with `status`.
    pub(super) fn fault(&self, status: StatusCode) -> Option<Error> {
        match self.0.get() {
            State::Late if status.as_u16() >= 400 => Some(too_late()),
            State::Broken if status.is_server_error() => {
                Some(Error::new(Kind::Malformed, "the body is incomplete"))
            }
            _ => None,
        }
    }

    /// The client's error, if it explains that the deadline passed.
    pub(super) fn fault_at_deadline(&self) -> Option<Error> {
        matches!(self.0.get(), State::Waiting | State::Late).then(too_late)
    }
}

fn too_late() -> Error {
    Error::new(Kind::RequestTimeout, "the body did not arrive in time")
}

fn late() -> PayloadError {
    PayloadError::Io(io::ErrorKind::TimedOut.into())
}

/// The body as a handler reads it.
struct Pieces {
    payload: Payload,
    upload: Upload,
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    armed: bool,
}

impl Stream for Pieces {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.upload.0.get() == State::Late {
            return Poll::Ready(Some(Err(late())));
        }
        let polled = Pin::new(&mut self.payload).poll_next(cx);
        self.upload.0.set(match &polled {
            Poll::Pending => State::Waiting,
            Poll::Ready(None) => State::Whole,
            Poll::Ready(Some(Ok(_))) => State::Open,
            Poll::Ready(Some(Err(_))) => State::Broken,
        });
        if polled.is_ready() {
            self.armed = false;
            return polled;
        }
        let (limit, armed) = (self.limit, std::mem::replace(&mut self.armed, true));
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        if !armed {
            timer.as_mut().reset(Instant::now() + limit);
        }
        match timer.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                self.upload.0.set(State::Late);
                Poll::Ready(Some(Err(late())))
            }
        }
    }
}
