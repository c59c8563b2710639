//! Reading and writing a connection, with timeouts that cut off a slow client.
//!
//! Each connection has one timer, checked when it fires and not with every request. An idle connection has no read
//! buffer: reads go through one buffer per thread.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::error::PayloadError;
use actix_web::web::{Buf as _, Bytes, BytesMut};
use tokio::io::ReadBuf;
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};

use super::Options;
use crate::http1::DISCONNECT;
use crate::http1::chunks::Piece;
use crate::http1::content::{Decoder, Framing};
use crate::http1::head::{self, HeadError, RequestHead};
use crate::http1::shutdown::Shutdown;
use crate::http1::socket::Socket;

/// The size of a read, in bytes.
const BUFFER: usize = 16 * 1024;
/// How long a client that has closed its sending side is served, unless its response flows.
const HALF_CLOSED: Duration = Duration::from_millis(300);
/// The most empty lines before a request line.
const MAX_EMPTY_LINES: u32 = 64;
/// A decoder whose content is all read.
const COMPLETE: Decoder = Decoder::Length(0);
/// The interim response that asks a client for its content.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// The length of [`CONTINUE`].
const CONTINUE_LENGTH: u8 = CONTINUE.len() as u8;

thread_local! {
    static READ_BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into());
}

/// A connection to a client.
pub(super) struct ServerConnection<S> {
    pub(super) stream: S,
    /// What has been received and is not parsed yet.
    pub(super) input: BytesMut,
    /// How many bytes of the input are known to have no complete head.
    scanned: usize,
    /// How many empty lines came before the head.
    empty_lines: u32,
    /// Decodes the content of the current request; `None` after an error.
    incoming: Option<Decoder>,
    /// Whether the client waits for [`CONTINUE`] before it sends content, and how many bytes of that are not written yet.
    expects_continue: bool,
    continue_left: u8,
    /// Changes with each request and at its end, so that reading the content of an earlier one fails.
    epoch: u32,
    options: Rc<Options>,
    /// Whether the system enforces the write timeout.
    limits_writes: bool,
    /// Fires when a client that has closed its sending side counts as disconnected.
    half_closed: Option<Pin<Box<Sleep>>>,
    timer: Pin<Box<Sleep>>,
    /// Whether the timer wakes the task of this connection.
    timer_is_armed: bool,
    /// The epoch when the timer was last checked, and when a check first saw it.
    idle_epoch: u32,
    idle_since: Instant,
    /// When the head that is incomplete began.
    head_begun: Option<Instant>,
}

impl<S: Socket> ServerConnection<S> {
    /// A connection that has just been accepted.
    pub(super) fn new(stream: S, options: Rc<Options>) -> Self {
        let now = Instant::now();
        Self {
            limits_writes: stream.limit_writes(options.write_timeout),
            half_closed: None,
            stream,
            input: BytesMut::new(),
            scanned: 0,
            empty_lines: 0,
            incoming: Some(COMPLETE),
            expects_continue: false,
            continue_left: 0,
            epoch: 0,
            timer: Box::pin(sleep_until(now + options.head_timeout)),
            options,
            timer_is_armed: false,
            idle_epoch: 0,
            idle_since: now,
            head_begun: Some(now),
        }
    }

    /// Whether no further request has begun.
    pub(super) fn is_idle(&self) -> bool {
        self.input.is_empty()
    }

    /// Whether there has been no request yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.epoch == 0
    }

    /// Waits for the next head; `None` when the client closes or is idle for too long.
    ///
    /// # Errors
    /// When the head is malformed or too slow; the connection ends after the refusal.
    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<RequestHead>, HeadError>> {
        loop {
            if let Some(head) = self.take_head()? {
                return Poll::Ready(Ok(Some(head)));
            }
            match self.poll_fill(cx) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(_) => return Poll::Ready(Ok(None)),
                Poll::Pending if self.is_timed_out(cx) => {
                    // Without a request there is no response.
                    let is_idle = self.is_idle();
                    return Poll::Ready(if is_idle { Ok(None) } else { Err(HeadError::Slow) });
                }
                Poll::Pending => {
                    if self.is_idle() {
                        // Frees what may be a large buffer.
                        self.input = BytesMut::new();
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// Takes the next head, if it is complete.
    fn take_head(&mut self) -> Result<Option<RequestHead>, HeadError> {
        self.skip_empty_lines()?;
        let length = self.input.len();
        if length == self.scanned {
            return Ok(None);
        }
        // A head that arrives in small parts is not parsed from its start with each part.
        let from = self.scanned.saturating_sub(3);
        let may_end = length >= 2 * self.scanned || head::may_end(&self.input[from..]);
        if may_end && let Some(head) = RequestHead::take(&mut self.input)? {
            (self.scanned, self.head_begun, self.empty_lines) = (0, None, 0);
            return Ok(Some(head));
        }
        if head::has_bare_line_feed(&self.input, self.scanned) {
            return Err(head::BARE_LINE_FEED);
        }
        // Half of an empty line stays unscanned: `skip_empty_lines` drops and counts it once it is complete.
        if self.input[..] != b"\r"[..] {
            self.scanned = length;
        }
        self.head_begun.get_or_insert_with(Instant::now);
        Ok(None)
    }

    /// Drops empty lines before a head, which some clients send after content (RFC 9112, section 2.2).
    fn skip_empty_lines(&mut self) -> Result<(), HeadError> {
        while self.scanned == 0 && self.input.starts_with(b"\r\n") {
            self.input.advance(2);
            self.empty_lines += 1;
            if self.empty_lines > MAX_EMPTY_LINES {
                return Err(HeadError::Malformed("too many empty lines before a request"));
            }
        }
        Ok(())
    }

    /// Returns once the client has disconnected, while a response is pending. A client that has closed both directions
    /// looks like one that has closed its sending side only, and that one gets a response that comes soon. Pipelined
    /// requests are buffered up to `BUFFER` bytes. While content is still to come, reading that shows the disconnect.
    pub(super) fn poll_disconnect(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if !self.incoming.as_ref().is_some_and(Decoder::is_over) {
            return Poll::Pending;
        }
        while self.half_closed.is_none() && self.input.len() < BUFFER {
            match self.poll_fill(cx) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0)) => self.half_closed = Some(Box::pin(sleep(HALF_CLOSED))),
                Poll::Ready(Err(error)) => return Poll::Ready(error),
                Poll::Pending => break,
            }
        }
        let Some(half_closed) = &mut self.half_closed else { return Poll::Pending };
        half_closed.as_mut().poll(cx).map(|()| io::ErrorKind::ConnectionAborted.into())
    }

    /// Whether the client has timed out; if not, arms the timer to wake the task when it may have.
    fn is_timed_out(&mut self, cx: &mut Context<'_>) -> bool {
        if self.timer_is_armed && !self.timer.is_elapsed() {
            return false;
        }
        loop {
            let now = Instant::now();
            if self.idle_epoch != self.epoch {
                (self.idle_epoch, self.idle_since) = (self.epoch, now);
            }
            let deadline = match self.head_begun {
                Some(head_begun) => head_begun + self.options.head_timeout,
                None => self.idle_since + self.options.keep_alive,
            };
            if deadline <= now {
                return true;
            }
            // Early enough for a head that begins meanwhile.
            self.timer.as_mut().reset(deadline.min(now + self.options.head_timeout));
            self.timer_is_armed = true;
            // A task that has used up its cooperative budget would not be registered with the timer.
            if pin!(unconstrained(self.timer.as_mut())).poll(cx).is_pending() {
                return false;
            }
        }
    }

    /// Begins a request without content.
    pub(super) fn next_request(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
        self.incoming = Some(COMPLETE);
    }

    /// Begins a request with content; returns its epoch.
    pub(super) fn next_content(&mut self, framing: Framing, expects_continue: bool) -> u32 {
        self.next_request();
        self.incoming = Some(Decoder::new(framing));
        (self.expects_continue, self.continue_left) =
            (expects_continue, if expects_continue { CONTINUE_LENGTH } else { 0 });
        self.epoch
    }

    /// The next piece of the content of the request of `epoch`.
    pub(super) fn poll_content(
        &mut self,
        epoch: u32,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, PayloadError>>> {
        if epoch != self.epoch {
            // A handler that reads on after its response.
            return Poll::Ready(Some(Err(PayloadError::Incomplete(None))));
        }
        loop {
            match self.take_content() {
                Ok(Piece::Data(data)) => return Poll::Ready(Some(Ok(data))),
                Ok(Piece::End) => return Poll::Ready(None),
                Ok(Piece::Incomplete) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
            let filled = match self.poll_send_continue(cx) {
                Poll::Ready(Ok(())) => ready!(self.poll_fill(cx)),
                Poll::Ready(Err(error)) => Err(error),
                Poll::Pending => return Poll::Pending,
            };
            let end = match filled {
                Ok(1..) => continue,
                Ok(0) => PayloadError::Incomplete(None),
                Err(error) => PayloadError::Io(error),
            };
            self.incoming = None;
            return Poll::Ready(Some(Err(end)));
        }
    }

    /// Takes the next piece of content that has been received.
    fn take_content(&mut self) -> Result<Piece, PayloadError> {
        let Some(incoming) = &mut self.incoming else {
            return Err(PayloadError::Incomplete(None));
        };
        incoming.take(&mut self.input).map_err(|_| {
            self.incoming = None;
            PayloadError::EncodingCorrupted
        })
    }

    /// Sends [`CONTINUE`], if the client waits for it (RFC 9110, section 10.1.1).
    fn poll_send_continue(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.input.is_empty() && self.continue_left == CONTINUE_LENGTH {
            // The client did not wait.
            self.expects_continue = false;
        }
        if !self.expects_continue {
            return Poll::Ready(Ok(()));
        }
        while self.continue_left > 0 {
            ready!(self.poll_write_continue(cx))?;
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Writes some of [`CONTINUE`].
    fn poll_write_continue(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let begin = usize::from(CONTINUE_LENGTH - self.continue_left);
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &CONTINUE[begin..]))?;
        // `poll_write` takes no more than it is given, which is what is left.
        self.continue_left -= written as u8;
        let error = || Err(io::ErrorKind::WriteZero.into());
        Poll::Ready(if written == 0 { error() } else { Ok(()) })
    }

    /// Before a response is sent: sends no [`CONTINUE`] that has not begun.
    pub(super) fn cancel_continue(&mut self) {
        self.expects_continue = false;
        if self.continue_left == CONTINUE_LENGTH {
            self.continue_left = 0;
        }
    }

    /// Before a response is sent: drops content that was received and not read; returns whether all content has been
    /// received. A handler that reads on gets an error.
    pub(super) fn discard_content(&mut self) -> bool {
        self.cancel_continue();
        while let Ok(Piece::Data(_)) = self.take_content() {}
        self.epoch = self.epoch.wrapping_add(1);
        self.incoming.as_ref().is_some_and(Decoder::is_over)
    }

    /// Shows the client that the response is incomplete.
    pub(super) fn reset_at_end(&self) {
        self.stream.reset_at_end();
    }

    /// Reads more input; 0 bytes at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        READ_BUFFER.with_borrow_mut(|buffer| {
            let mut read = ReadBuf::new(buffer);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
            self.input.extend_from_slice(read.filled());
            Poll::Ready(Ok(read.filled().len()))
        })
    }
}

/// Writes all of `bytes`.
///
/// # Errors
/// Those of the connection, and `TimedOut` when the client takes no byte for too long.
pub(super) async fn write<S: Socket>(
    connection: &RefCell<ServerConnection<S>>,
    bytes: impl AsRef<[u8]>,
) -> io::Result<()> {
    let mut rest = bytes.as_ref();
    let mut stall_timer = None;
    poll_fn(|cx| {
        let connection = &mut *connection.borrow_mut();
        loop {
            let polled = match rest.is_empty() {
                // The rest of an interim response comes before the response.
                _ if connection.continue_left > 0 => match connection.poll_write_continue(cx) {
                    Poll::Ready(Ok(())) => continue,
                    polled => polled.map_ok(|()| 0),
                },
                // TLS may have buffered some of it.
                true => Pin::new(&mut connection.stream).poll_flush(cx).map_ok(|()| 0),
                false => Pin::new(&mut connection.stream).poll_write(cx, rest),
            };
            match polled {
                Poll::Ready(Ok(0)) if rest.is_empty() => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => (rest, stall_timer) = (&rest[written..], None),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if connection.limits_writes => return Poll::Pending,
                Poll::Pending => {
                    let until =
                        || Box::pin(sleep_until(Instant::now() + connection.options.write_timeout));
                    let timer = stall_timer.get_or_insert_with(until);
                    ready!(timer.as_mut().poll(cx));
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
            }
        }
    })
    .await
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// After a response, which the client should receive even if it is still sending.
    Response,
    /// Because the client sent no further request.
    Idle,
}

/// Closes the connection. What the client still sends is read for a while, or a reset could make its system drop the
/// response (RFC 9112, section 9.6).
pub(super) async fn close<S: Socket>(
    connection: &RefCell<ServerConnection<S>>,
    end: End,
    shutdown: &Shutdown,
) {
    let write_timeout = connection.borrow().options.write_timeout;
    let shut = poll_fn(|cx| {
        let connection = &mut *connection.borrow_mut();
        connection.incoming = None;
        Pin::new(&mut connection.stream).poll_shutdown(cx)
    });
    let shut = timeout(DISCONNECT, shut).await;
    if end == End::Idle || !matches!(shut, Ok(Ok(()))) {
        return;
    }
    let more = || {
        poll_fn(|cx| {
            let connection = &mut *connection.borrow_mut();
            connection.input.clear();
            connection.poll_fill(cx)
        })
    };
    let rest = async { while let Ok(Ok(1..)) = timeout(DISCONNECT, more()).await {} };
    let _ = timeout(if shutdown.has_begun() { DISCONNECT } else { write_timeout }, rest).await;
}
