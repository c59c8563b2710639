//! One connection to a server: sends a request while its response may already arrive.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use actix_web::http::header::HeaderValue;
use actix_web::web::{Buf as _, Bytes, BytesMut};
use futures_util::Stream as _;
use futures_util::task::noop_waker_ref;
use tokio::io::AsyncWrite as _;
use tokio_util::io::poll_read_buf;

use super::Error;
use super::connect::Stream;
use super::outgoing::Outgoing;
use crate::http1::content::Encoder;
use crate::http1::head::ResponseHead;
use crate::http1::{Body, Chunks, Interim, InterimSender, Upgraded};

/// The size of a write or read, and of a read while a head is expected, in bytes.
pub(super) const BUFFER: usize = 32 * 1024;
const HEAD: usize = 8 * 1024;
/// The most interim responses to one request.
const MAX_INTERIM: usize = 8;

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    pub(super) input: BytesMut,
    /// Whether the last request was sent completely.
    pub(super) sent: bool,
    pub(super) opened: Instant,
}

impl Connection {
    /// A connection over `stream`, which has just been opened.
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, input: BytesMut::new(), sent: true, opened: Instant::now() }
    }

    /// Whether another request may be sent: the last one is complete, and the server has neither sent more than its
    /// response nor closed.
    pub(super) fn is_usable(&mut self) -> bool {
        let mut cx = Context::from_waker(noop_waker_ref());
        self.sent && self.input.is_empty() && self.poll_fill(&mut cx, HEAD).is_pending()
    }

    /// Sends `outgoing` and waits for the head of its response. If a success arrives before everything is sent, the rest is
    /// returned, to be sent while the response's content is read; after any other early response the rest is dropped, and
    /// the connection cannot be used again.
    ///
    /// # Errors
    /// See [`Error`].
    pub(super) async fn exchange(
        &mut self,
        outgoing: Outgoing,
        is_head: bool,
        interims: Option<&InterimSender>,
    ) -> Result<(ResponseHead, Option<RequestWriter>), Error> {
        self.sent = false;
        let may_upgrade = outgoing.may_upgrade;
        let mut sending = RequestWriter::new(outgoing);
        let mut interim = 0;
        let head = poll_fn(|cx| {
            // A server that reads no more may still have responded.
            let sent = sending.poll(&mut self.stream, cx);
            self.sent = matches!(sent, Poll::Ready(Ok(())));
            loop {
                if !self.input.is_empty() {
                    match ResponseHead::take(&mut self.input, is_head).map_err(Error::broken)? {
                        Some(head) if !head.status.is_informational() => {
                            return Poll::Ready(Ok(head));
                        }
                        Some(head) if may_upgrade && head.protocol.is_some() => {
                            return Poll::Ready(Ok(head));
                        }
                        Some(head) if head.status.as_u16() == 101 || interim == MAX_INTERIM => {
                            return Poll::Ready(Err(Error::broken("unexpected interim response")));
                        }
                        Some(ResponseHead { status, headers, .. }) => {
                            interim += 1;
                            // This client never expects 100.
                            if let Some(interims) = interims.filter(|_| status.as_u16() > 101) {
                                interims.send(Interim { status, headers });
                            }
                            continue;
                        }
                        None => {}
                    }
                }
                let is_silent = self.input.is_empty() && interim == 0;
                match self.poll_fill(cx, HEAD) {
                    Poll::Ready(Ok(0)) => {
                        let end = io::ErrorKind::UnexpectedEof.into();
                        return Poll::Ready(Err(read_failure(is_silent, sent, end)));
                    }
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(error)) => {
                        return Poll::Ready(Err(read_failure(is_silent, sent, error)));
                    }
                    Poll::Pending => match sent {
                        Poll::Ready(Err(failure @ (Error::Broken(_) | Error::Content(_)))) => {
                            return Poll::Ready(Err(failure));
                        }
                        _ => return Poll::Pending,
                    },
                }
            }
        })
        .await?;
        let still_sending = !self.sent && !sending.refused && head.status.is_success();
        Ok((head, still_sending.then_some(sending)))
    }

    /// The connection after the switch to `protocol`; both sides may be silent for `read_timeout`.
    pub(super) fn upgraded(self, protocol: HeaderValue, read_timeout: Duration) -> Upgraded {
        Upgraded::new(protocol, self.stream, self.input.freeze(), read_timeout)
    }

    /// Sends more of a request whose response has begun; is ready when it is sent or the server takes no more of it.
    ///
    /// # Errors
    /// When the request's content fails.
    pub(super) fn poll_send(
        &mut self,
        sending: &mut RequestWriter,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        match ready!(sending.poll(&mut self.stream, cx)) {
            Ok(()) => self.sent = true,
            Err(Error::Closed(_)) => {}
            Err(Error::Content(error)) => return Poll::Ready(Err(error)),
            Err(error) => return Poll::Ready(Err(io::Error::other(error))),
        }
        Poll::Ready(Ok(()))
    }

    /// Reads about `most` more bytes; 0 at the end.
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        self.input.reserve(most);
        poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.input)
    }
}

/// The error when the connection cannot be read, by how far the request was sent.
fn read_failure(is_silent: bool, sent: Poll<Result<(), Error>>, error: io::Error) -> Error {
    match sent {
        Poll::Ready(Err(failure)) => failure,
        _ if is_silent => Error::Closed(error),
        _ => Error::broken(error),
    }
}

/// Sends the rest of a request.
pub(super) struct RequestWriter {
    /// The number of bytes written.
    pub(super) written: u64,
    output: BytesMut,
    /// Content that is sent after `output`, without a copy to it.
    uncopied: Bytes,
    body: Option<Chunks>,
    encoder: Encoder,
    /// Whether the server takes no more bytes.
    refused: bool,
}

impl RequestWriter {
    fn new(outgoing: Outgoing) -> Self {
        let Outgoing { head, body, framing, .. } = outgoing;
        let encoder = Encoder::new(framing);
        let (mut output, mut uncopied, mut chunks) = (head, Bytes::new(), None);
        match body {
            Body::None | Body::Upgraded(_) => {}
            // One packet together with the head, if it fits.
            Body::Full(bytes) if bytes.len() < BUFFER => output.extend_from_slice(&bytes),
            Body::Full(bytes) => uncopied = bytes,
            Body::Stream(stream) => chunks = Some(stream),
        }
        Self { written: 0, output, uncopied, body: chunks, encoder, refused: false }
    }

    /// Sends what there is; is ready when all is sent or nothing more can be. After [`Error::Closed`] there may still be a
    /// response.
    fn poll(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            if self.refused {
                return Poll::Ready(Err(Error::Closed(io::ErrorKind::BrokenPipe.into())));
            }
            // Sends what there is at once, and a short body together with its head.
            while self.uncopied.is_empty() && self.output.len() < BUFFER {
                let Some(body) = &mut self.body else { break };
                match Pin::new(&mut body.stream).poll_next(cx) {
                    Poll::Ready(Some(Ok(chunk))) => self.put(chunk)?,
                    Poll::Ready(Some(Err(error))) => {
                        return Poll::Ready(Err(Error::Content(error)));
                    }
                    Poll::Ready(None) => self.end()?,
                    Poll::Pending => break,
                }
            }
            let next = if self.output.is_empty() { &self.uncopied[..] } else { &self.output[..] };
            if next.is_empty() {
                // TLS may have buffered some of it.
                if ready!(Pin::new(&mut *stream).poll_flush(cx)).is_err() {
                    self.refused = true;
                    continue;
                }
                return if self.body.is_none() { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
            match ready!(Pin::new(&mut *stream).poll_write(cx, next)) {
                Ok(0) | Err(_) => self.refused = true,
                Ok(length) => {
                    self.written += length as u64;
                    if self.output.is_empty() {
                        self.uncopied.advance(length);
                    } else {
                        self.output.advance(length);
                    }
                }
            }
        }
    }

    fn end(&mut self) -> Result<(), Error> {
        self.body = None;
        self.encoder.end(&mut self.output).map_err(Error::Content)
    }

    fn put(&mut self, chunk: Bytes) -> Result<(), Error> {
        if chunk.len() >= BUFFER
            && let Some(uncopied) = self.encoder.plain(&chunk).map_err(Error::Content)?
        {
            self.uncopied = uncopied;
            return Ok(());
        }
        self.encoder.put(&mut self.output, &chunk).map_err(Error::Content)
    }
}
