//! Content that is lent to an attempt, and comes back when nothing of it was taken.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_web::web::Bytes;
use futures_util::stream::{Stream, StreamExt as _};

use crate::http1::{Body, ChunkStream, Chunks};

/// What stays here of content that is lent.
#[derive(Debug)]
pub(super) enum Loan {
    /// It was given away.
    Gone,
    None,
    Full(Bytes),
    Stream(Option<u64>, Home),
}

/// Where a stream is while nobody has it.
type Home = Rc<Place>;

#[derive(Default)]
pub(super) struct Place(Cell<Option<ChunkStream>>);

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Place")
    }
}

impl Loan {
    pub(super) fn new(body: Body) -> Self {
        match body {
            Body::None | Body::Upgraded(_) => Self::None,
            Body::Full(bytes) => Self::Full(bytes),
            Body::Stream(Chunks { length, stream }) => {
                Self::Stream(length, Rc::new(Place(Cell::new(Some(stream)))))
            }
        }
    }

    /// The content for one attempt; nothing where an earlier one has taken of it, or still may.
    pub(super) fn lend(&self) -> Option<Body> {
        match self {
            Self::Gone => None,
            Self::None => Some(Body::None),
            Self::Full(bytes) => Some(Body::Full(bytes.clone())),
            Self::Stream(length, home) => {
                let lent = Lent { stream: Some(home.0.take()?), home: Some(home.clone()) };
                Some(Body::Stream(Chunks { length: *length, stream: lent.boxed_local() }))
            }
        }
    }

    /// The content itself, for good; nothing where an attempt has taken of it, or still may.
    pub(super) fn give(&mut self) -> Option<Body> {
        match std::mem::replace(self, Self::Gone) {
            Self::Gone => None,
            Self::None => Some(Body::None),
            Self::Full(bytes) => Some(Body::Full(bytes)),
            Self::Stream(length, home) => {
                Some(Body::Stream(Chunks { length, stream: home.0.take()? }))
            }
        }
    }

    /// Whether it can be lent, or given away.
    pub(super) fn is_here(&self) -> bool {
        match self {
            Self::Gone => false,
            Self::None | Self::Full(_) => true,
            Self::Stream(_, home) => {
                let stream = home.0.take();
                let is_here = stream.is_some();
                home.0.set(stream);
                is_here
            }
        }
    }
}

/// A stream that goes home when it is dropped before anything was taken.
struct Lent {
    stream: Option<ChunkStream>,
    home: Option<Home>,
}

impl Stream for Lent {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
        let next = ready!(stream.poll_next_unpin(cx));
        // From here on the stream is not what it was.
        self.home = None;
        Poll::Ready(next)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            home.0.set(self.stream.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    fn loan() -> Loan {
        let chunks =
            ["a", "b"].map(|chunk| Ok::<_, io::Error>(Bytes::from_static(chunk.as_bytes())));
        Loan::new(Body::stream(Some(2), stream::iter(chunks)))
    }

    #[tokio::test]
    async fn a_stream_comes_back_when_nothing_was_taken() {
        let mut loan = loan();
        let lent = loan.lend().unwrap();
        assert!(loan.lend().is_none(), "only one attempt has it");
        drop(lent);
        assert_eq!(loan.lend().unwrap().length(), Some(2));
        assert_eq!(loan.give().unwrap().read(10).await.unwrap(), "ab");
    }

    #[tokio::test]
    async fn a_stream_does_not_come_back_when_something_was_taken() {
        let mut loan = loan();
        let Some(Body::Stream(mut lent)) = loan.lend() else { panic!("a stream") };
        assert_eq!(lent.stream.next().await.unwrap().unwrap(), "a");
        drop(lent);
        assert!(loan.lend().is_none());
        assert!(loan.give().is_none());
    }

    #[tokio::test]
    async fn content_that_is_here_can_be_lent_again_and_again() {
        let mut loan = Loan::new(Body::Full(Bytes::from_static(b"all")));
        for _ in 0..2 {
            assert_eq!(loan.lend().unwrap().read(10).await.unwrap(), "all");
        }
        assert_eq!(loan.give().unwrap().read(10).await.unwrap(), "all");
    }
}
