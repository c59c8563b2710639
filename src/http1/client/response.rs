//! Reads the content of a response, after which its connection returns to the pool.

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

/// Content of up to this number of bytes is read completely before the reply is returned.
const SHORT: u64 = 64 * 1024;

/// A reply as far as it has been received.
pub(super) enum Received {
    /// A reply that can be returned.
    Complete(Reply),
    /// A reply whose content is short enough to wait for, or whose request is still being sent.
    Incomplete(Reply, ResponseBody),
}

/// The reply of `head`, to HEAD if `is_head`, while `sending` still sends the request. `permit` is released at the end of
/// the content.
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
                // The length of the content that is not sent (RFC 9110, section 8.6).
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
        Some(length) if length <= SHORT && !still_sending => match rest.take_buffered(length) {
            Some(content) => Body::Full(content),
            None => return Received::Incomplete(Reply { status, headers, body: Body::None }, rest),
        },
        _ => Body::stream(length, rest),
    };
    Received::Complete(Reply { status, headers, body })
}

/// The content of a response that is still to come.
pub(super) struct ResponseBody {
    /// Fires when the server has been silent for too long.
    timer: Option<Pin<Box<Sleep>>>,
    /// `None` once the response is complete or has failed.
    connection: Option<Connection>,
    /// The rest of the request, and how many bytes of it were written when the timer was last checked.
    sending: Option<(Box<RequestWriter>, u64)>,
    decoder: Decoder,
    keep_alive: bool,
    pool: Pool,
    _permit: Permit,
}

impl ResponseBody {
    /// Returns the connection to the pool, if it may be used again.
    fn finish(&mut self) {
        if let Some(connection) =
            self.connection.take().filter(|connection| self.keep_alive && connection.sent)
        {
            self.pool.keep(connection);
        }
    }

    /// All `length` bytes of content, if they have been received.
    fn take_buffered(&mut self, length: u64) -> Option<Bytes> {
        let input = &mut self.connection.as_mut()?.input;
        let length = usize::try_from(length).ok().filter(|length| *length <= input.len())?;
        let bytes = input.split_to(length).freeze();
        self.finish();
        Some(bytes)
    }

    /// Waits for the short content and returns `reply` with it; or, if the request is still being sent, waits for its end
    /// and returns `reply` as it is.
    ///
    /// # Errors
    /// When either fails or times out.
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
            // At most SHORT.
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

    /// Sends more of the request; is ready when it is sent or the server takes no more of it.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (Some((sending, before)), Some(connection)) = (&mut self.sending, &mut self.connection)
        else {
            return Poll::Ready(Ok(()));
        };
        let polled = connection.poll_send(sending, cx);
        if std::mem::replace(before, sending.written) != sending.written {
            // A server that takes bytes is not silent.
            self.timer = None;
        }
        if polled.is_ready() {
            self.sending = None;
        }
        polled
    }

    /// Is ready when the server has neither sent nor taken bytes for the read timeout.
    fn poll_timeout(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let read_timeout = self.pool.read_timeout();
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(read_timeout)));
        timer.as_mut().poll(cx).map(|()| io::ErrorKind::TimedOut.into())
    }

    /// Takes the next piece of content that has been received.
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
                // The response is complete, and the server still takes the request.
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
