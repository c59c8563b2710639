//! The content of an answer, behind which its connection goes back into the pool.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::web::Bytes;
use futures_util::Stream;
use tokio::sync::OwnedSemaphorePermit as Permit;
use tokio::time::{Sleep, sleep};

use super::super::chunks::{Decoder, Piece, up_to};
use super::super::{Body, PeerError, Reply};
use super::connection::{BUFFER, Connection};
use super::head::{Content, Head};
use super::pool::Pool;

/// Content up to this many bytes is read whole before the reply is handed on.
const SMALL: u64 = 64 * 1024;

/// A reply, as far as it has come.
pub(super) enum Received {
    /// Enough of it to be handed on.
    All(Reply),
    /// Without its content, which is short and worth waiting for.
    Some(Reply, Rest),
}

/// The reply that begins with `head`, to a HEAD if `is_head`; `permit` is given back with the end of its content.
pub(super) fn receive(
    head: Head,
    is_head: bool,
    connection: Connection,
    pool: Pool,
    permit: Permit,
) -> Received {
    let Head { status, headers, declared, content, keeps } = head;
    let (end, length) = match content {
        Content::Length(length) => (End::After(length), Some(length)),
        Content::Chunks => (End::Chunk(Decoder::default()), None),
        Content::Rest => (End::Close, None),
    };
    let mut rest =
        Rest { clock: None, connection: Some(connection), end, keeps, pool, _permit: permit };
    let body = match length {
        Some(0) => {
            rest.finish();
            match declared {
                _ if is_head => Body::None.into_head(declared),
                Some(_) => Body::Full(Bytes::new()),
                None => Body::None,
            }
        }
        Some(length) if length <= SMALL => match rest.whole(length) {
            Some(content) => Body::Full(content),
            None => return Received::Some(Reply { status, headers, body: Body::None }, rest),
        },
        _ => Body::stream(length, rest),
    };
    Received::All(Reply { status, headers, body })
}

/// Where content ends, from here on.
enum End {
    After(u64),
    Chunk(Decoder),
    Close,
}

/// What of an answer's content is still to come.
pub(super) struct Rest {
    /// Rings when the peer has sent nothing for too long.
    clock: Option<Pin<Box<Sleep>>>,
    /// Nothing once it is over.
    connection: Option<Connection>,
    end: End,
    keeps: bool,
    pool: Pool,
    _permit: Permit,
}

impl Rest {
    /// The connection is done with this answer.
    fn finish(&mut self) {
        if let Some(connection) =
            self.connection.take().filter(|connection| self.keeps && connection.sent)
        {
            self.pool.keep(connection);
        }
    }

    /// All of it, which is `length` bytes, if it has come.
    fn whole(&mut self, length: u64) -> Option<Bytes> {
        let input = &mut self.connection.as_mut()?.input;
        let length = usize::try_from(length).ok().filter(|length| *length <= input.len())?;
        let bytes = input.split_to(length).freeze();
        self.finish();
        Some(bytes)
    }

    /// `reply` with this content, once it has come, which is short.
    ///
    /// # Errors
    /// When it breaks off.
    pub(super) async fn follow(mut self, reply: Reply) -> Result<Reply, PeerError> {
        while let (Some(connection), End::After(length)) = (&mut self.connection, &self.end) {
            let length = *length;
            // Not more than SMALL.
            let most = length as usize;
            let read = std::future::poll_fn(|cx| connection.poll_fill(cx, most)).await;
            if read.map_err(PeerError::broken)? == 0 {
                break;
            }
            if let Some(content) = self.whole(length) {
                return Ok(Reply { body: Body::Full(content), ..reply });
            }
        }
        Err(PeerError::broken(io::Error::from(io::ErrorKind::UnexpectedEof)))
    }

    /// The next piece of what has been received; more is read if it is none.
    fn received(&mut self) -> io::Result<Piece> {
        let Some(connection) = &mut self.connection else { return Ok(Piece::End) };
        let input = &mut connection.input;
        match &mut self.end {
            End::After(0) => Ok(Piece::End),
            End::Chunk(decoder) => decoder.take(input).map_err(io::Error::other),
            _ if input.is_empty() => Ok(Piece::Wanting),
            End::After(left) => Ok(Piece::Data(up_to(left, input))),
            End::Close => Ok(Piece::Data(input.split().freeze())),
        }
    }
}

impl Stream for Rest {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            match this.received()? {
                Piece::Data(data) => return Poll::Ready(Some(Ok(data))),
                Piece::End => {
                    this.finish();
                    return Poll::Ready(None);
                }
                Piece::Wanting => {}
            }
            let Some(connection) = &mut this.connection else { return Poll::Ready(None) };
            let Poll::Ready(filled) = connection.poll_fill(cx, BUFFER) else {
                let patience = this.pool.patience();
                let clock = this.clock.get_or_insert_with(|| Box::pin(sleep(patience)));
                ready!(clock.as_mut().poll(cx));
                this.connection = None;
                return Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())));
            };
            this.clock = None;
            match (filled, &this.end) {
                (Ok(0), End::Close) => this.connection = None,
                (Ok(0), _) => {
                    this.connection = None;
                    return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
                }
                (Ok(_), _) => {}
                (Err(error), _) => {
                    this.connection = None;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}
