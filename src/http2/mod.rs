//! The server side of HTTP/2 (RFC 9113), on an open connection. The application gets each request as in HTTP/1.1; only its
//! version differs.
//!
//! actix's own lets a client open any number of streams with heads of 16 MiB, waits without limit for a client that takes
//! no response, and does not announce a shutdown.
//! h2 has no timeout for the head of a request and no limit for empty frames; [`frames`] has. h2 cannot send interim
//! responses (RFC 9110, section 15.2), so those of services reach clients of HTTP/1.1 only.

mod frames;
mod response;

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_http::{Payload, Request};
use actix_service::Service;
use actix_web::body::BoxBody;
use actix_web::dev::ServiceResponse;
use actix_web::error::PayloadError;
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::http::{ConnectionType, Method, Uri};
use actix_web::web::Bytes;
use actix_web::{HttpMessage as _, HttpResponse};
use futures_util::stream::{self, FuturesUnordered, Stream, StreamExt as _};
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::request::Parts;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep, timeout};

use crate::http1::lines::{digits, is_same_host};
use crate::http1::server::Options;
use crate::http1::{AbortOnDisconnect, DISCONNECT};
use frames::{Frames, Inspected};

/// The most concurrent requests of one connection.
const MAX_STREAMS: u32 = 128;
/// The largest header list of a request, in bytes as section 6.5.2 counts them; a larger one is answered 431.
const MAX_HEADER_LIST: u32 = 64 * 1024;
/// The flow-control windows, in bytes: of a request, and of a connection.
const WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Serves the requests on `io` with `app` until the connection ends. Once `shutdown` is ready, and after a response with
/// `Connection: close`, it sends GOAWAY.
pub async fn serve<IO, A>(
    io: IO,
    peer: SocketAddr,
    app: &A,
    options: &Options,
    shutdown: impl Future<Output = ()>,
) where
    IO: AsyncRead + AsyncWrite + Unpin,
    A: Service<Request, Response = ServiceResponse<BoxBody>, Error = actix_web::Error>,
{
    let (io, frames) = Inspected::new(io);
    let opening = Builder::new()
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST)
        .initial_window_size(WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .handshake::<_, Bytes>(io);
    let Ok(Ok(mut connection)) = timeout(options.head_timeout, opening).await else { return };
    let mut exchanges = FuturesUnordered::new();
    let mut shutdown = pin!(shutdown);
    let mut idle = pin!(sleep(options.keep_alive));
    let mut head = pin!(sleep(Duration::ZERO));
    let mut is_draining = false;
    loop {
        let goes_away = tokio::select! {
            biased;
            Some(connection_type) = exchanges.next() => {
                let rest = if is_draining { DISCONNECT } else { options.keep_alive };
                idle.as_mut().reset(Instant::now() + rest);
                connection_type == ConnectionType::Close
            }
            accepted = connection.accept() => match accepted {
                // Handlers may run on after a reset, up to MAX_STREAMS of them. A refused request may be retried.
                Some(Ok((_, mut respond))) if exchanges.len() >= 2 * MAX_STREAMS as usize => {
                    respond.send_reset(Reason::REFUSED_STREAM);
                    false
                }
                Some(Ok((request, mut respond))) if !is_well_formed(&request) => {
                    respond.send_reset(Reason::PROTOCOL_ERROR);
                    false
                }
                Some(Ok((request, respond))) => {
                    exchanges.push(exchange(app, request, respond, peer, options.write_timeout));
                    false
                }
                Some(Err(_)) | None => break,
            },
            // After `accept`, which has read what there is.
            () = poll_fn(|cx| poll_abuse(&frames, head.as_mut(), options.head_timeout, cx)) => {
                abort(&mut connection).await;
                break;
            }
            () = &mut shutdown, if !is_draining => true,
            () = &mut idle, if exchanges.is_empty() => {
                if is_draining {
                    break;
                }
                true
            }
        };
        if goes_away && !is_draining {
            is_draining = true;
            connection.graceful_shutdown();
            idle.as_mut().reset(Instant::now() + DISCONNECT);
        }
    }
    // Requests end with the connection; those that may write run on.
    drop(connection);
    while exchanges.next().await.is_some() {}
}

/// Is ready once the client floods the connection or is too slow with the head of a request.
fn poll_abuse(
    frames: &RefCell<Frames>,
    timer: Pin<&mut Sleep>,
    limit: Duration,
    cx: &mut Context<'_>,
) -> Poll<()> {
    let frames = frames.borrow();
    if frames.flooded() { Poll::Ready(()) } else { frames.poll_timeout(timer, limit, cx) }
}

/// Ends the `connection` of an abusive client with ENHANCE_YOUR_CALM.
async fn abort<IO: AsyncRead + AsyncWrite + Unpin>(connection: &mut Connection<IO, Bytes>) {
    connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
    let _ = timeout(DISCONNECT, poll_fn(|cx| connection.poll_closed(cx))).await;
}

/// Whether `request` passes what h2 does not check: all Content-Length lines are valid, equal, and 0 if no content follows
/// (RFC 9113, section 8.1.1; h2 counts the bytes of content), no value begins or ends with blanks (8.2.1), and no Host
/// differs from the authority (8.3.1).
fn is_well_formed(request: &http::Request<RecvStream>) -> bool {
    let mut lengths = request.headers().get_all(header::CONTENT_LENGTH).iter();
    let length = lengths.next();
    let is_length = match length.map(|length| digits(length.as_bytes())) {
        None | Some(Some(0)) => true,
        Some(Some(_)) => !request.body().is_end_stream(),
        Some(None) => false,
    };
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let is_trimmed = |value: &http::HeaderValue| {
        !is_blank(value.as_bytes().first()) && !is_blank(value.as_bytes().last())
    };
    let (scheme, authority) = (request.uri().scheme_str(), request.uri().authority());
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let is_host = authority.is_none_or(|authority| {
        let authority = authority.as_str().as_bytes();
        hosts.all(|host| is_same_host(scheme, host.as_bytes(), authority))
    });
    is_length
        && is_host
        && lengths.all(|other| Some(other) == length)
        && request.headers().values().all(is_trimmed)
}

/// Answers one request, unless the client resets it. Returns what the response says about the connection.
async fn exchange<A>(
    app: &A,
    request: http::Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    peer: SocketAddr,
    write_timeout: Duration,
) -> ConnectionType
where
    A: Service<Request, Response = ServiceResponse<BoxBody>, Error = actix_web::Error>,
{
    let is_head = request.method() == Method::HEAD;
    let (parts, content) = request.into_parts();
    let content = Rc::new(RefCell::new(content));
    let is_safe = parts.method.is_safe();
    let (request, abort) = (to_http1(parts, &content, peer), AbortOnDisconnect::default());
    if !is_safe {
        request.extensions_mut().insert(abort.clone());
    }
    let mut answer = pin!(app.call(request));
    let answer = tokio::select! {
        answer = &mut answer => answer,
        _ = poll_fn(|cx| respond.poll_reset(cx)) => {
            // A handler that may write runs on, with its metrics and log lines, unless it allows the abort.
            if !is_safe && !abort.is_allowed() {
                let _ = answer.await;
            }
            return ConnectionType::KeepAlive;
        }
    };
    let response: HttpResponse = match answer {
        Ok(response) => response.into_parts().1,
        Err(error) => error.error_response(),
    };
    let connection_type = response.head().connection_type();
    response::send(response, respond, is_head, write_timeout).await;
    // Some clients miss a response that is followed by a reset of their upload, so that is drained for a while, unless
    // the handler still reads it.
    if let Some(rest) = Rc::into_inner(content) {
        let mut rest = chunks(Rc::new(rest));
        let _ = timeout(DISCONNECT, async { while let Some(Ok(_)) = rest.next().await {} }).await;
    }
    connection_type
}

/// The content of a request. Reading it widens the client's flow-control window.
type Content = Rc<RefCell<RecvStream>>;

/// The request as it would be in HTTP/1.1.
fn to_http1(parts: Parts, content: &Content, peer: SocketAddr) -> Request {
    let is_empty = content.borrow().is_end_stream();
    let payload = match is_empty {
        true => Payload::None,
        false => Payload::Stream { payload: chunks(content.clone()).boxed_local() },
    };
    let mut message = Request::with_payload(payload);
    let head = message.head_mut();
    head.method = parts.method;
    head.version = parts.version;
    head.peer_addr = Some(peer);
    head.headers = parts.headers.into();
    let authority =
        parts.uri.authority().map(|authority| HeaderValue::from_str(authority.as_str()));
    if let Some(Ok(host)) = authority {
        head.headers.insert(header::HOST, host);
    }
    head.uri = match parts.uri.path_and_query() {
        Some(target) => Uri::from(target.clone()),
        None => parts.uri,
    };
    join_cookies(&mut head.headers);
    if !is_empty && !head.headers.contains_key(header::CONTENT_LENGTH) {
        head.headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    message
}

/// Joins cookies that a client sends in several lines, which HTTP/1.1 does not allow (section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let cookies = headers.get_all(header::COOKIE).map(HeaderValue::as_bytes).collect::<Vec<_>>();
    if cookies.len() > 1
        && let Ok(whole) = HeaderValue::from_bytes(&cookies.join(&b"; "[..]))
    {
        headers.insert(header::COOKIE, whole);
    }
}

/// The chunks of `content`.
fn chunks(content: Content) -> impl Stream<Item = Result<Bytes, PayloadError>> {
    stream::poll_fn(move |cx| {
        let mut content = content.borrow_mut();
        let chunk = std::task::ready!(content.poll_data(cx));
        let taken = chunk.map(|chunk| {
            let chunk = chunk?;
            content.flow_control().release_capacity(chunk.len())?;
            Ok(chunk)
        });
        Poll::Ready(taken.map(|taken| taken.map_err(PayloadError::Http2Payload)))
    })
}
