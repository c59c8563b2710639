//! An answer in HTTP/1.1, to whoever asked.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody as _};
use actix_web::http::StatusCode;
use actix_web::http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderMap, TRANSFER_ENCODING};
use actix_web::web::{Bytes, BytesMut};

use super::connection::{self as wire, Wire};
use crate::http1::date;
use crate::http1::lines::{header, line};
use crate::http1::socket::Socket;
use crate::http1::{Interim, chunks};

/// What is sent at once, in bytes, if there is as much.
const BUFFER: usize = 32 * 1024;
/// Room for a head.
const HEAD: usize = 1024;

thread_local! {
    /// What the last answer was put together in, for the next one.
    static OUTPUT: Cell<BytesMut> = Cell::default();
}

/// What of a client decides how it is answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client {
    /// Whether it speaks HTTP/1.0, in which there are no chunks.
    pub(super) is_old: bool,
    pub(super) asks_for_head: bool,
}

/// How the end of the content is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frame {
    /// There is no content.
    Empty,
    /// By its length.
    Length(u64),
    Chunks,
    /// By the end of the connection.
    Close,
}

impl Frame {
    fn of(status: StatusCode, size: BodySize, client: Client) -> Self {
        let without = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED];
        match size {
            _ if status.is_informational() || without.contains(&status) => Self::Empty,
            BodySize::None if client.asks_for_head => Self::Empty,
            BodySize::None => Self::Length(0),
            BodySize::Sized(length) => Self::Length(length),
            BodySize::Stream if client.is_old => Self::Close,
            BodySize::Stream => Self::Chunks,
        }
    }
}

/// Sends `response`; whether another request may come behind it, as far as `keeps` says so.
///
/// # Errors
/// When the client is gone, takes nothing for too long, or got what it must not take for the whole answer.
pub(super) async fn send<S: Socket>(
    wire: &Rc<RefCell<Wire<S>>>,
    response: HttpResponse,
    client: Client,
    keeps: bool,
) -> io::Result<bool> {
    let (head, body) = response.into_parts();
    let frame = Frame::of(head.status(), body.size(), client);
    let has_content = !client.asks_for_head && frame != Frame::Empty && frame != Frame::Length(0);
    let body = body.try_into_bytes();
    // Some answer while they still read: an upload goes on beside its answer.
    let reads_on = has_content && body.is_err() && Rc::strong_count(wire) > 1;
    let is_read = match reads_on {
        true => {
            wire.borrow_mut().stop_asking();
            false
        }
        false => wire.borrow_mut().settle(),
    };
    let keeps = keeps && is_read && (frame != Frame::Close || client.asks_for_head);
    let mut output = OUTPUT.take();
    output.reserve(HEAD + length(frame).min(BUFFER));
    write_head(&mut output, &head, frame, client, keeps);
    // The head's memory is used again.
    drop(head);
    let mut rest = Bytes::new();
    if has_content {
        match body {
            Ok(bytes) if bytes.len() <= BUFFER => put(&mut output, bytes, frame),
            Ok(bytes) => rest = bytes,
            Err(body) => {
                // Boxed, so that an answer that is all here does not take its room.
                let sent = Box::pin(stream(wire, output, body, frame)).await;
                if sent.is_err() && frame == Frame::Close {
                    wire.borrow().reset_at_end();
                }
                return sent.map(|()| keeps);
            }
        }
    }
    wire::write(wire, &output).await?;
    output.clear();
    OUTPUT.set(output);
    if !rest.is_empty() {
        wire::write(wire, rest).await?;
    }
    Ok(keeps)
}

/// Sends an interim answer, behind which another comes.
///
/// # Errors
/// Those of [`send`].
pub(super) async fn interim<S: Socket>(
    wire: &RefCell<Wire<S>>,
    interim: Interim,
) -> io::Result<()> {
    let (status, mut output) = (interim.status, BytesMut::new());
    // RFC 8297, which is younger than the list.
    let unknown = if status.as_u16() == 103 { "Early Hints" } else { "" };
    let reason = status.canonical_reason().unwrap_or(unknown);
    line(&mut output, &[b"HTTP/1.1 ", status.as_str().as_bytes(), b" ", reason.as_bytes()]);
    for (name, value) in &interim.headers {
        header(&mut output, name, value);
    }
    output.extend_from_slice(b"\r\n");
    wire::write(wire, output).await
}

/// Of content whose length is known.
fn length(frame: Frame) -> usize {
    match frame {
        Frame::Length(length) => usize::try_from(length).unwrap_or(usize::MAX),
        _ => 0,
    }
}

fn write_head(
    output: &mut BytesMut,
    response: &HttpResponse<()>,
    frame: Frame,
    client: Client,
    keeps: bool,
) {
    let (status, reason) = (response.status(), response.head().reason());
    line(output, &[b"HTTP/1.1 ", status.as_str().as_bytes(), b" ", reason.as_bytes()]);
    match frame {
        Frame::Length(length) => {
            let mut digits = itoa::Buffer::new();
            line(output, &[b"content-length: ", digits.format(length).as_bytes()]);
        }
        Frame::Chunks => line(output, &[b"transfer-encoding: chunked"]),
        Frame::Empty | Frame::Close => {}
    }
    match (keeps, client.is_old) {
        (false, _) => line(output, &[b"connection: close"]),
        (true, true) => line(output, &[b"connection: keep-alive"]),
        (true, false) => {}
    }
    let headers: &HeaderMap = response.headers();
    let mut is_dated = false;
    for (name, value) in headers {
        // A length that nothing follows is that of what is not sent.
        if *name == CONNECTION || *name == TRANSFER_ENCODING {
            continue;
        }
        if *name == CONTENT_LENGTH && (frame != Frame::Empty || status == StatusCode::NO_CONTENT) {
            continue;
        }
        is_dated |= *name == DATE;
        header(output, name, value);
    }
    if !is_dated {
        date::with_now(|now| line(output, &[b"date: ", now]));
    }
    output.extend_from_slice(b"\r\n");
}

/// Adds `data` in its frame.
fn put(output: &mut BytesMut, data: Bytes, frame: Frame) {
    match frame {
        Frame::Chunks if data.is_empty() => {}
        Frame::Chunks => chunks::put(output, &data),
        _ => output.extend_from_slice(&data),
    }
}

/// Sends what is in `output`, and `body` as it comes.
async fn stream<S: Socket>(
    wire: &Rc<RefCell<Wire<S>>>,
    mut output: BytesMut,
    mut body: BoxBody,
    frame: Frame,
) -> io::Result<()> {
    let mut left = match frame {
        Frame::Length(length) => Some(length),
        _ => None,
    };
    let mut is_over = false;
    while !is_over {
        // What is there goes out at once, and a short body with its head.
        let gathered = poll_fn(|cx| {
            while output.len() < BUFFER {
                match Pin::new(&mut body).poll_next(cx) {
                    Poll::Ready(Some(Ok(data))) => {
                        if let Some(left) = &mut left {
                            let rest = left.checked_sub(data.len() as u64);
                            *left =
                                rest.ok_or_else(|| broken("the body is longer than it says"))?;
                        }
                        put(&mut output, data, frame);
                    }
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(broken(error))),
                    Poll::Ready(None) => {
                        is_over = true;
                        break;
                    }
                    Poll::Pending if output.is_empty() => {
                        return wire.borrow_mut().poll_gone(cx).map(Err);
                    }
                    Poll::Pending => break,
                }
            }
            Poll::Ready(Ok(()))
        });
        let gathered = gathered.await;
        if is_over && frame == Frame::Chunks {
            output.extend_from_slice(chunks::LAST);
        }
        // What has come before it broke off is the client's.
        wire::write(wire, &output).await?;
        gathered?;
        output.clear();
    }
    match left {
        Some(1..) => Err(broken("the body is shorter than it says")),
        _ => Ok(()),
    }
}

fn broken(cause: impl Into<Box<dyn std::error::Error>>) -> io::Error {
    io::Error::other(cause.into().to_string())
}
