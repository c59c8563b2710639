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

/// The reply that begins with `head`, to a HEAD if `is_head`; `permit` is given back with the end of its content.
///
/// # Errors
/// When it is short and breaks off.
pub(super) async fn receive(
    head: Head,
    is_head: bool,
    connection: Connection,
    pool: Pool,
    permit: Permit,
) -> Result<Reply, PeerError> {
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
        Some(length) if length <= SMALL => Body::Full(rest.whole(length).await?),
        _ => Body::stream(length, rest),
    };
    Ok(Reply { status, headers, body })
}

/// Where content ends, from here on.
enum End {
    After(u64),
    Chunk(Decoder),
    Close,
}

/// What of an answer's content is still to come.
struct Rest {
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

    /// All of it, which is `length` bytes.
    async fn whole(mut self, length: u64) -> Result<Bytes, PeerError> {
        // Not more than SMALL.
        let length = length as usize;
        while let Some(connection) = &mut self.connection {
            if connection.input.len() >= length {
                let bytes = connection.input.split_to(length).freeze();
                self.finish();
                return Ok(bytes);
            }
            let read = std::future::poll_fn(|cx| connection.poll_fill(cx, length)).await;
            if read.map_err(PeerError::broken)? == 0 {
                break;
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
