//! The content of a message: in memory, as a stream, or none.

use std::fmt;
use std::io;
use std::task::{Poll, ready};

use actix_http::Payload;
use actix_web::body::{self, BodySize, BodyStream, BoxBody, MessageBody, SizedStream};
use actix_web::error::PayloadError;
use actix_web::web::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use futures_util::stream::{self, LocalBoxStream, Stream};

use super::Upgraded;
use super::content::Framing;

/// The content of a request or a response.
#[derive(Debug)]
pub enum Body {
    /// No content, and no statement of its length.
    None,
    /// All content, in memory.
    Full(Bytes),
    /// A stream, whose next chunk is polled once the last one is taken.
    Stream(Chunks),
    /// No content: the connection switches to another protocol.
    Upgraded(Box<Upgraded>),
}

/// Streamed content.
pub struct Chunks {
    /// The length in bytes, if known.
    pub length: Option<u64>,
    /// The chunks.
    pub stream: LocalBoxStream<'static, io::Result<Bytes>>,
}

/// The chunks of a body.
pub type ChunkStream = LocalBoxStream<'static, io::Result<Bytes>>;

impl fmt::Debug for Chunks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunks").field("length", &self.length).finish_non_exhaustive()
    }
}

impl Body {
    /// Streamed content of `length` bytes, if that is known.
    pub fn stream<E: fmt::Display>(
        length: Option<u64>,
        chunks: impl Stream<Item = Result<Bytes, E>> + 'static,
    ) -> Self {
        let stream = chunks.map(|chunk| chunk.map_err(|error| io::Error::other(error.to_string())));
        Self::Stream(Chunks { length, stream: stream.boxed_local() })
    }

    /// The content of an actix response.
    pub fn from_response(body: BoxBody) -> Self {
        let length = match body.size() {
            BodySize::None => return Self::None,
            BodySize::Sized(length) => Some(length),
            BodySize::Stream => None,
        };
        match body.try_into_bytes() {
            Ok(bytes) => Self::Full(bytes),
            Err(mut body) => {
                let chunks = stream::poll_fn(move |cx| std::pin::Pin::new(&mut body).poll_next(cx));
                Self::stream(length, chunks)
            }
        }
    }

    /// The same content, which holds `guard` until it ends or is dropped. Content in memory drops the guard at once.
    pub fn keeping<T: 'static>(self, guard: T) -> Self {
        let (length, mut stream) = match self {
            Self::Stream(Chunks { length, stream }) => (length, stream),
            Self::Upgraded(upgraded) => {
                return Self::Upgraded(Box::new(upgraded.keeping(guard)));
            }
            in_memory => return in_memory,
        };
        let mut guard = Some(guard);
        let stream = stream::poll_fn(move |cx| {
            let next = ready!(stream.poll_next_unpin(cx));
            if !matches!(next, Some(Ok(_))) {
                drop(guard.take());
            }
            Poll::Ready(next)
        });
        Self::Stream(Chunks { length, stream: stream.boxed_local() })
    }

    /// The length in bytes, if known.
    pub fn length(&self) -> Option<u64> {
        match self {
            Self::None | Self::Upgraded(_) => None,
            Self::Full(bytes) => Some(bytes.len() as u64),
            Self::Stream(chunks) => chunks.length,
        }
    }

    /// The framing of the content; `None` without content.
    pub(super) fn framing(&self) -> Option<Framing> {
        match (self, self.length()) {
            (Self::None | Self::Upgraded(_), _) => None,
            (_, Some(length)) => Some(Framing::Length(length)),
            (_, None) => Some(Framing::Chunks),
        }
    }

    /// Reads all content into memory.
    ///
    /// # Errors
    /// When the stream fails, or the content is longer than `limit` bytes.
    pub async fn read(self, limit: usize) -> io::Result<Bytes> {
        let mut stream = match self {
            Self::None | Self::Upgraded(_) => return Ok(Bytes::new()),
            Self::Full(bytes) if bytes.len() <= limit => return Ok(bytes),
            Self::Full(_) => return Err(io::Error::other("content too long")),
            Self::Stream(chunks) => chunks.stream,
        };
        let mut whole = BytesMut::new();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk?;
            if whole.len() + chunk.len() > limit {
                return Err(io::Error::other("content too long"));
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.freeze())
    }

    /// The content as the body of an actix response.
    pub(crate) fn into_box_body(self) -> BoxBody {
        match self {
            Self::None | Self::Upgraded(_) => BoxBody::new(body::None::new()),
            Self::Full(bytes) => BoxBody::new(bytes),
            Self::Stream(Chunks { length: Some(length), stream }) => {
                BoxBody::new(SizedStream::new(length, stream))
            }
            Self::Stream(Chunks { length: None, stream }) => BoxBody::new(BodyStream::new(stream)),
        }
    }

    /// The content as the payload of an actix request.
    pub fn into_payload(self) -> Payload {
        match self {
            Self::None | Self::Upgraded(_) => Payload::None,
            Self::Full(bytes) => bytes.into(),
            Self::Stream(Chunks { stream, .. }) => {
                let payload = stream.map(|chunk| chunk.map_err(PayloadError::Io));
                Payload::Stream { payload: Box::pin(payload) }
            }
        }
    }

    /// The empty content of a response to HEAD. It states the length that a response to GET would have: `declared`, or
    /// else the length of this content.
    pub fn into_head(self, declared: Option<u64>) -> Self {
        match declared.or(self.length()) {
            Some(length) => Self::stream(Some(length), stream::empty::<io::Result<Bytes>>()),
            None => Self::None,
        }
    }
}
