//! The content of an answer, behind which its connection goes back into the pool.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::http::StatusCode;
use actix_web::web::Bytes;
use futures_util::Stream;
use tokio::sync::OwnedSemaphorePermit as Permit;
use tokio::time::{Sleep, sleep};

use super::Error;
use super::connection::{BUFFER, Connection, RequestWriter};
use super::pool::Pool;
use crate::http1::chunks::Piece;
use crate::http1::content::{Decoder, Framing};
use crate::http1::head::ResponseHead;
use crate::http1::{Body, Reply};

/// Content up to this many bytes is read whole before the reply is handed on.
const MAX_BUFFERED: u64 = 64 * 1024;

/// A reply, as far as it has come.
pub(super) enum Received {
    /// Enough of it to be handed on.
    Complete(Reply),
    /// Without its content, which is short and worth waiting for.
    Incomplete(Reply, ResponseBody),
}

/// The reply that begins with `head`, to a HEAD if `is_head`, beside which what is in `sending` goes out; `permit` is
/// given back with the end of its content.
pub(super) fn receive(
    (head, sending): (ResponseHead, Option<RequestWriter>),
    is_head: bool,
    connection: Connection,
    pool: Pool,
    permit: Permit,
) -> Received {
    let ResponseHead { status, headers, declared, protocol, framing, keep_alive } = head;
    if let Some(protocol) = protocol {
        let upgraded = connection.upgraded(*protocol, pool.read_timeout()).keeping(permit);
        let body = Body::Upgraded(Box::new(upgraded));
        return Received::Complete(Reply { status, headers, body });
    }
    let length = match framing {
        Framing::Length(length) => Some(length),
        Framing::Chunks | Framing::Close => None,
    };
    let decoder = Decoder::new(framing);
    let still_sending = sending.is_some();
    let sending = sending.map(|sending| (Box::new(sending), 0));
    let connection = Some(connection);
    let mut rest = ResponseBody {
        timer: None,
        connection,
        sending,
        decoder,
        keep_alive,
        pool,
        _permit: permit,
    };
    let body = match length {
        Some(0) => {
            let body = match declared {
                // Of what is not sent (RFC 9110, section 8.6).
                _ if is_head || status == StatusCode::NOT_MODIFIED => {
                    Body::None.into_head(declared)
                }
                Some(_) => Body::Full(Bytes::new()),
                None => Body::None,
            };
            if still_sending {
                return Received::Incomplete(Reply { status, headers, body }, rest);
            }
            rest.finish();
            body
        }
        Some(length) if length <= MAX_BUFFERED && !still_sending => {
            match rest.take_buffered(length) {
                Some(content) => Body::Full(content),
                None => {
                    return Received::Incomplete(Reply { status, headers, body: Body::None }, rest);
                }
            }
        }
        _ => Body::stream(length, rest),
    };
    Received::Complete(Reply { status, headers, body })
}

/// What of an answer's content is still to come.
pub(super) struct ResponseBody {
    /// Rings when the peer has sent nothing for too long.
    timer: Option<Pin<Box<Sleep>>>,
    /// Nothing once it is over.
    connection: Option<Connection>,
    /// What of the request goes out beside it, and how much of that had left when the clock was last looked at.
    sending: Option<(Box<RequestWriter>, u64)>,
    decoder: Decoder,
    keep_alive: bool,
    pool: Pool,
    _permit: Permit,
}

impl ResponseBody {
    /// The connection is done with this answer.
    fn finish(&mut self) {
        if let Some(connection) =
            self.connection.take().filter(|connection| self.keep_alive && connection.sent)
        {
            self.pool.keep(connection);
        }
    }

    /// All of it, which is `length` bytes, if it has come.
    fn take_buffered(&mut self, length: u64) -> Option<Bytes> {
        let input = &mut self.connection.as_mut()?.input;
        let length = usize::try_from(length).ok().filter(|length| *length <= input.len())?;
        let bytes = input.split_to(length).freeze();
        self.finish();
        Some(bytes)
    }

    /// `reply` with this content, once it has come, which is short; or without any, once the request has left.
    ///
    /// # Errors
    /// When it breaks off.
    pub(super) async fn complete(mut self, reply: Reply) -> Result<Reply, Error> {
        if self.sending.is_some() {
            let sent = std::future::poll_fn(|cx| match self.poll_send(cx) {
                Poll::Pending => self.poll_timeout(cx).map(Err),
                sent => sent,
            });
            sent.await.map_err(Error::Content)?;
            self.finish();
            return Ok(reply);
        }
        while let (Some(connection), Decoder::Length(length)) =
            (&mut self.connection, &self.decoder)
        {
            let length = *length;
            // Not more than SMALL.
            let most = length as usize;
            let read = std::future::poll_fn(|cx| connection.poll_fill(cx, most)).await;
            if read.map_err(Error::broken)? == 0 {
                break;
            }
            if let Some(content) = self.take_buffered(length) {
                return Ok(Reply { body: Body::Full(content), ..reply });
            }
        }
        Err(Error::broken(io::Error::from(io::ErrorKind::UnexpectedEof)))
    }

    /// Sends more of the request; whether all of it has left, or nothing more can.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (Some((sending, before)), Some(connection)) = (&mut self.sending, &mut self.connection)
        else {
            return Poll::Ready(Ok(()));
        };
        let polled = connection.poll_send(sending, cx);
        if std::mem::replace(before, sending.written) != sending.written {
            // What takes is not silent.
            self.timer = None;
        }
        if polled.is_ready() {
            self.sending = None;
        }
        polled
    }

    /// Is ready once the peer has neither sent nor taken anything for too long.
    fn poll_timeout(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let read_timeout = self.pool.read_timeout();
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(read_timeout)));
        timer.as_mut().poll(cx).map(|()| io::ErrorKind::TimedOut.into())
    }

    /// The next piece of what has been received.
    fn received(&mut self) -> io::Result<Piece> {
        let Some(connection) = &mut self.connection else { return Ok(Piece::End) };
        self.decoder.take(&mut connection.input).map_err(io::Error::other)
    }
}

impl Stream for ResponseBody {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let sent = this.poll_send(cx);
        if let Poll::Ready(Err(error)) = sent {
            this.connection = None;
            return Poll::Ready(Some(Err(error)));
        }
        loop {
            match this.received()? {
                Piece::Data(data) => return Poll::Ready(Some(Ok(data))),
                // The answer is all here, and the peer still listens.
                Piece::End if sent.is_pending() => {
                    let error = ready!(this.poll_timeout(cx));
                    this.connection = None;
                    return Poll::Ready(Some(Err(error)));
                }
                Piece::End => {
                    this.finish();
                    return Poll::Ready(None);
                }
                Piece::Incomplete => {}
            }
            let Some(connection) = &mut this.connection else { return Poll::Ready(None) };
            let Poll::Ready(filled) = connection.poll_fill(cx, BUFFER) else {
                let error = ready!(this.poll_timeout(cx));
                this.connection = None;
                return Poll::Ready(Some(Err(error)));
            };
            this.timer = None;
            match (filled, &this.decoder) {
                (Ok(0), Decoder::Close) => this.connection = None,
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
