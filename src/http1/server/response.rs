//! Writes responses.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody as _};
use actix_web::http::StatusCode;
use actix_web::http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderMap, TRANSFER_ENCODING};
use actix_web::web::{Bytes, BytesMut};

use super::connection::{self, ServerConnection};
use crate::http1::Interim;
use crate::http1::content::{Encoder, Framing};
use crate::http1::date;
use crate::http1::head::never_has_content;
use crate::http1::lines::{header, line, status_line};
use crate::http1::socket::Socket;

/// The size of a write while there is enough content, in bytes.
const BUFFER: usize = 32 * 1024;
/// The capacity for a head, in bytes.
const HEAD: usize = 1024;

thread_local! {
    /// The buffer of the last response, for the next one.
    static OUTPUT_BUFFER: Cell<BytesMut> = Cell::default();
}

/// What a response depends on in its request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client {
    /// Whether the client speaks HTTP/1.0, which has no chunked coding.
    pub(super) is_http10: bool,
    pub(super) is_head: bool,
}

impl Client {
    /// The framing of a response's content; `None` where the head states none.
    fn framing(self, status: StatusCode, size: BodySize) -> Option<Framing> {
        match size {
            _ if never_has_content(status) => None,
            BodySize::None if self.is_head => None,
            BodySize::None => Some(Framing::Length(0)),
            BodySize::Sized(length) => Some(Framing::Length(length)),
            BodySize::Stream if self.is_http10 => Some(Framing::Close),
            BodySize::Stream => Some(Framing::Chunks),
        }
    }
}

/// What of a response is sent.
pub(super) enum Sent {
    /// All of it; whether the connection persists.
    Whole(bool),
    /// Nothing yet of one whose content comes bit by bit, perhaps for hours: by then, what has made it is to be gone.
    Nothing(Streamed),
}

/// A response whose content comes bit by bit.
pub(super) struct Streamed {
    /// Its head.
    output: BytesMut,
    body: BoxBody,
    framing: Framing,
    keep_alive: bool,
}

impl Streamed {
    /// Sends it; returns whether the connection persists.
    ///
    /// # Errors
    /// Those of [`send`].
    pub(super) async fn send<S: Socket>(
        self,
        connection: &Rc<RefCell<ServerConnection<S>>>,
    ) -> io::Result<bool> {
        let Self { output, body, framing, keep_alive } = self;
        let sent = stream(connection, output, body, framing).await;
        if sent.is_err() && framing == Framing::Close {
            connection.borrow().reset_at_end();
        }
        sent.map(|()| keep_alive)
    }
}

/// Sends `response`, unless its content comes bit by bit. The connection persists only if `keep_alive`.
///
/// # Errors
/// When the client has disconnected, takes no byte for too long, or must not take what it has received for a complete
/// response.
pub(super) async fn send<S: Socket>(
    connection: &Rc<RefCell<ServerConnection<S>>>,
    response: HttpResponse,
    client: Client,
    keep_alive: bool,
) -> io::Result<Sent> {
    let (head, body) = response.into_parts();
    let framing = client.framing(head.status(), body.size());
    let content = framing.filter(|framing| !client.is_head && *framing != Framing::Length(0));
    let body = body.try_into_bytes();
    // A handler may send a response while it still reads the request's content.
    let reads_on = content.is_some() && body.is_err() && Rc::strong_count(connection) > 1;
    let is_read = match reads_on {
        true => {
            connection.borrow_mut().cancel_continue();
            false
        }
        false => connection.borrow_mut().discard_content(),
    };
    let keep_alive = keep_alive && is_read && (framing != Some(Framing::Close) || client.is_head);
    let mut output = OUTPUT_BUFFER.take();
    output.reserve(HEAD);
    write_head(&mut output, &head, framing, client, keep_alive);
    // Returns the head to actix's pool.
    drop(head);
    let mut rest = Bytes::new();
    if let Some(framing) = content {
        match body {
            Ok(bytes) if bytes.len() <= BUFFER => output.extend_from_slice(&bytes),
            Ok(bytes) => rest = bytes,
            Err(body) => return Ok(Sent::Nothing(Streamed { output, body, framing, keep_alive })),
        }
    }
    connection::write(connection, &output).await?;
    output.clear();
    OUTPUT_BUFFER.set(output);
    if !rest.is_empty() {
        connection::write(connection, rest).await?;
    }
    Ok(Sent::Whole(keep_alive))
}

/// Sends an interim response.
///
/// # Errors
/// Those of [`send`].
pub(super) async fn interim<S: Socket>(
    connection: &RefCell<ServerConnection<S>>,
    interim: Interim,
) -> io::Result<()> {
    let (status, mut output) = (interim.status, BytesMut::new());
    // RFC 8297; the `http` crate does not have it.
    let unknown = if status.as_u16() == 103 { "Early Hints" } else { "" };
    let reason = status.canonical_reason().unwrap_or(unknown);
    status_line(&mut output, status, reason);
    for (name, value) in &interim.headers {
        header(&mut output, name, value);
    }
    output.extend_from_slice(b"\r\n");
    connection::write(connection, output).await
}

fn write_head(
    output: &mut BytesMut,
    response: &HttpResponse<()>,
    framing: Option<Framing>,
    client: Client,
    keep_alive: bool,
) {
    let status = response.status();
    status_line(output, status, response.head().reason());
    if let Some(framing) = framing {
        framing.write(output);
    }
    match (keep_alive, client.is_http10) {
        (false, _) => line(output, &[b"connection: close"]),
        (true, true) => line(output, &[b"connection: keep-alive"]),
        (true, false) => {}
    }
    let headers: &HeaderMap = response.headers();
    let mut is_dated = false;
    for (name, value) in headers {
        if *name == CONNECTION || *name == TRANSFER_ENCODING {
            continue;
        }
        // Without a framing, Content-Length is that of the content that is not sent.
        if *name == CONTENT_LENGTH && (framing.is_some() || status == StatusCode::NO_CONTENT) {
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

/// Sends `output`, then `body` as it arrives.
async fn stream<S: Socket>(
    connection: &Rc<RefCell<ServerConnection<S>>>,
    mut output: BytesMut,
    mut body: BoxBody,
    framing: Framing,
) -> io::Result<()> {
    let mut encoder = Encoder::new(framing);
    let mut is_over = false;
    while !is_over {
        // Sends what there is at once, and a short body together with its head.
        let gathered = poll_fn(|cx| {
            while output.len() < BUFFER {
                match Pin::new(&mut body).poll_next(cx) {
                    Poll::Ready(Some(Ok(data))) => {
                        if output.capacity() == 0 {
                            output = OUTPUT_BUFFER.take();
                        }
                        encoder.put(&mut output, &data)?;
                    }
                    Poll::Ready(Some(Err(error))) => {
                        return Poll::Ready(Err(io::Error::other(error.to_string())));
                    }
                    Poll::Ready(None) => {
                        is_over = true;
                        return Poll::Ready(encoder.end(&mut output));
                    }
                    Poll::Pending if output.is_empty() => {
                        if output.capacity() > 0 {
                            // While nothing comes, others need the buffer.
                            OUTPUT_BUFFER.set(mem::take(&mut output));
                        }
                        return connection.borrow_mut().poll_disconnect(cx).map(Err);
                    }
                    Poll::Pending => break,
                }
            }
            Poll::Ready(Ok(()))
        });
        let gathered = gathered.await;
        // The client gets what came before an error.
        connection::write(connection, &output).await?;
        gathered?;
        output.clear();
    }
    Ok(())
}
