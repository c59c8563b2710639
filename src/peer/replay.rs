//! A request body that can be sent again as long as nothing of it was read.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_web::web::Bytes;
use futures_util::stream::{Stream, StreamExt as _};

use crate::http1::{Body, ChunkStream, Chunks};

/// A body for several attempts.
#[derive(Debug)]
pub(super) enum ReplayBody {
    /// It was taken.
    Taken,
    None,
    Full(Bytes),
    Stream(Option<u64>, Rc<StreamSlot>),
}

/// Holds the stream between attempts.
#[derive(Default)]
pub(super) struct StreamSlot(Cell<Option<ChunkStream>>);

impl std::fmt::Debug for StreamSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StreamSlot")
    }
}

impl ReplayBody {
    pub(super) fn new(body: Body) -> Self {
        match body {
            Body::None | Body::Upgraded(_) => Self::None,
            Body::Full(bytes) => Self::Full(bytes),
            Body::Stream(Chunks { length, stream }) => {
                Self::Stream(length, Rc::new(StreamSlot(Cell::new(Some(stream)))))
            }
        }
    }

    /// The body for one attempt; `None` if an earlier one has read some of it, or still may.
    pub(super) fn for_attempt(&self) -> Option<Body> {
        match self {
            Self::Taken => None,
            Self::None => Some(Body::None),
            Self::Full(bytes) => Some(Body::Full(bytes.clone())),
            Self::Stream(length, slot) => {
                let attempt =
                    AttemptStream { stream: Some(slot.0.take()?), slot: Some(slot.clone()) };
                Some(Body::Stream(Chunks { length: *length, stream: attempt.boxed_local() }))
            }
        }
    }

    /// The body for the last attempt; `None` if an earlier one has read some of it, or still may.
    pub(super) fn take(&mut self) -> Option<Body> {
        match std::mem::replace(self, Self::Taken) {
            Self::Taken => None,
            Self::None => Some(Body::None),
            Self::Full(bytes) => Some(Body::Full(bytes)),
            Self::Stream(length, slot) => {
                Some(Body::Stream(Chunks { length, stream: slot.0.take()? }))
            }
        }
    }

    /// Whether there is a body for another attempt.
    pub(super) fn is_available(&self) -> bool {
        match self {
            Self::Taken => false,
            Self::None | Self::Full(_) => true,
            Self::Stream(_, slot) => {
                let stream = slot.0.take();
                let is_available = stream.is_some();
                slot.0.set(stream);
                is_available
            }
        }
    }
}

/// A stream that returns to its slot if it is dropped before anything was read.
struct AttemptStream {
    stream: Option<ChunkStream>,
    slot: Option<Rc<StreamSlot>>,
}

impl Stream for AttemptStream {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
        let next = ready!(stream.poll_next_unpin(cx));
        // Some of the stream was read.
        self.slot = None;
        Poll::Ready(next)
    }
}

impl Drop for AttemptStream {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            slot.0.set(self.stream.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    fn stream_body() -> ReplayBody {
        let chunks =
            ["a", "b"].map(|chunk| Ok::<_, io::Error>(Bytes::from_static(chunk.as_bytes())));
        ReplayBody::new(Body::stream(Some(2), stream::iter(chunks)))
    }

    #[tokio::test]
    async fn a_stream_comes_back_when_nothing_was_taken() {
        let mut body = stream_body();
        let attempt = body.for_attempt().unwrap();
        assert!(body.for_attempt().is_none(), "only one attempt has it");
        drop(attempt);
        assert_eq!(body.for_attempt().unwrap().length(), Some(2));
        assert_eq!(body.take().unwrap().read(10).await.unwrap(), "ab");
    }

    #[tokio::test]
    async fn a_stream_does_not_come_back_when_something_was_taken() {
        let mut body = stream_body();
        let Some(Body::Stream(mut attempt)) = body.for_attempt() else { panic!("a stream") };
        assert_eq!(attempt.stream.next().await.unwrap().unwrap(), "a");
        drop(attempt);
        assert!(body.for_attempt().is_none());
        assert!(body.take().is_none());
    }

    #[tokio::test]
    async fn content_that_is_here_can_be_lent_again_and_again() {
        let mut body = ReplayBody::new(Body::Full(Bytes::from_static(b"all")));
        for _ in 0..2 {
            assert_eq!(body.for_attempt().unwrap().read(10).await.unwrap(), "all");
        }
        assert_eq!(body.take().unwrap().read(10).await.unwrap(), "all");
    }
}
