//! Whose turn it is while a request's content goes out: no upstream is to blame for a client that is slow.

use std::cell::Cell;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::poll_fn;
use tokio::time::{Instant, sleep_until};

use crate::transport::{Body, Chunks};

/// Who is waited for.
#[derive(Clone, Copy, Debug)]
enum Turn {
    /// The client, for the next piece. The edge has a clock for that.
    Client,
    /// The upstream, since then: for taking the next piece, or for its answer.
    Upstream(Instant),
}

/// What is known of content on its way, from attempt to attempt.
#[derive(Debug)]
pub(super) struct Upload(Rc<Cell<Turn>>);

impl Upload {
    /// Looks on as `body` is taken, if it is not all here.
    pub(super) fn watch(body: Body) -> (Body, Option<Self>) {
        let Body::Stream(Chunks { length, mut stream }) = body else { return (body, None) };
        let turn = Rc::new(Cell::new(Turn::Upstream(Instant::now())));
        let upload = Self(turn.clone());
        let watched = poll_fn(move |cx| {
            let polled = stream.poll_next_unpin(cx);
            turn.set(match polled {
                Poll::Pending => Turn::Client,
                Poll::Ready(_) => Turn::Upstream(Instant::now()),
            });
            polled
        });
        (Body::Stream(Chunks { length, stream: watched.boxed_local() }), Some(upload))
    }

    /// Returns once it has been the upstream's turn for `limit`, in an attempt that has just `started`.
    pub(super) async fn overdue(&self, started: Instant, limit: Duration) {
        let mut until = started + limit;
        loop {
            sleep_until(until).await;
            let now = Instant::now();
            let due = match self.0.get() {
                Turn::Client => now + limit,
                Turn::Upstream(since) => since.max(started) + limit,
            };
            if due <= now {
                return;
            }
            until = due;
        }
    }
}
