//! Tracks who is slow while a request's body is sent, so that a callee is not blamed for a slow client.

use std::cell::Cell;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::poll_fn;
use tokio::time::{Instant, sleep_until};

use super::super::{Body, Chunks};

/// Who the upload waits for.
#[derive(Clone, Copy, Debug)]
enum Turn {
    /// The client, for the next piece. The middleware limits that time.
    Client,
    /// The callee, since this time: to take the next piece, or to answer.
    Callee(Instant),
}

/// The progress of an upload, over all attempts.
#[derive(Debug)]
pub(super) struct Upload(Rc<Cell<Turn>>);

impl Upload {
    /// Watches `body`, if it is a stream.
    pub(super) fn watch(body: &mut Body) -> Option<Self> {
        let Body::Stream(Chunks { stream, .. }) = body else { return None };
        let mut taken = std::mem::replace(stream, futures_util::stream::empty().boxed_local());
        let turn = Rc::new(Cell::new(Turn::Callee(Instant::now())));
        let upload = Self(turn.clone());
        let watched = poll_fn(move |cx| {
            let polled = taken.poll_next_unpin(cx);
            turn.set(match polled {
                Poll::Pending => Turn::Client,
                Poll::Ready(_) => Turn::Callee(Instant::now()),
            });
            polled
        });
        *stream = watched.boxed_local();
        Some(upload)
    }

    /// Since when the upload has waited for the callee, in an attempt that `started` then; `None` while it does not.
    pub(super) fn since(&self, started: Instant) -> Option<Instant> {
        match self.0.get() {
            Turn::Client => None,
            Turn::Callee(since) => Some(since.max(started)),
        }
    }

    /// Returns when the upload has waited for the callee for `limit`, in an attempt that has just `started`, or at the `deadline`
    /// of all attempts, so that an abandoned request does not hold its place.
    pub(super) async fn overdue(&self, started: Instant, limit: Duration, deadline: Instant) {
        let mut until = started + limit;
        loop {
            sleep_until(until.min(deadline)).await;
            let now = Instant::now();
            until = self.since(started).unwrap_or(now) + limit;
            if until.min(deadline) <= now {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    /// After how many seconds an attempt is overdue, whose content comes in pieces after so many seconds each; with
    /// 60 s for all.
    async fn overdue(pieces: &[u64]) -> u64 {
        let start = Instant::now();
        let pieces = futures_util::stream::iter(pieces.to_vec()).then(async |seconds| {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Ok::<_, std::io::Error>(actix_web::web::Bytes::from_static(b"x"))
        });
        let mut body = Body::stream(None, pieces);
        let upload = Upload::watch(&mut body);
        let taken = async {
            // The end of a pending stream is never polled.
            let _ = tokio::time::timeout(Duration::from_secs(200), body.read(100)).await;
        };
        let over = async {
            upload.unwrap().overdue(start, LIMIT, start + Duration::from_secs(60)).await;
            start.elapsed().as_secs()
        };
        join(taken, over).await.1
    }

    #[tokio::test(start_paused = true)]
    async fn the_callees_time_begins_when_it_has_all() {
        assert_eq!(overdue(&[]).await, 5);
        assert_eq!(overdue(&[3]).await, 8);
        assert_eq!(overdue(&[7, 7, 7]).await, 26);
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_an_end_to_every_upload() {
        assert_eq!(overdue(&[150]).await, 60);
    }
}
