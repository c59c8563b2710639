//! Writes a response to its stream.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody as _};
use actix_web::http::header::{
    CONNECTION, CONTENT_LENGTH, DATE, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE,
};
use actix_web::http::{StatusCode, Version};
use actix_web::web::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use tokio::time::timeout;

use crate::http1::date;

/// Connection-specific headers, which HTTP/2 forbids (RFC 9113, section 8.2.2).
const CONNECTION_HEADERS: [HeaderName; 5] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Why a response is not sent completely: the stream has ended, or is to be reset.
enum SendError {
    Closed,
    Reset(Reason),
}

impl From<h2::Error> for SendError {
    fn from(_: h2::Error) -> Self {
        Self::Closed
    }
}

/// Sends `response`; resets the stream when the client takes no byte for `write_timeout`.
pub(super) async fn send(
    response: HttpResponse,
    mut respond: SendResponse<Bytes>,
    is_head: bool,
    write_timeout: Duration,
) {
    let (head, body) = response.into_parts();
    let size = body.size();
    let has_no_content =
        [StatusCode::NOT_MODIFIED, StatusCode::NO_CONTENT].contains(&head.status());
    let ends_here = is_head || has_no_content || size.is_eof();
    let Ok(mut stream) = respond.send_response(to_http2(&head, size), ends_here) else { return };
    if ends_here {
        return;
    }
    if let Err(SendError::Reset(reason)) = content(body, size, &mut stream, write_timeout).await {
        stream.send_reset(reason);
    }
}

fn to_http2(response: &HttpResponse<()>, size: BodySize) -> http::Response<()> {
    let mut head = http::Response::new(());
    *head.status_mut() = response.status();
    *head.version_mut() = Version::HTTP_2;
    let headers = head.headers_mut();
    let kept = |name: &HeaderName| !CONNECTION_HEADERS.contains(name);
    for (name, value) in response.headers().iter().filter(|(name, _)| kept(name)) {
        headers.append(name, value.clone());
    }
    match size {
        // A stated length is that of the content that is not sent (RFC 9110, section 8.6).
        _ if response.status() == StatusCode::NOT_MODIFIED => {}
        BodySize::Sized(length) if response.status() != StatusCode::NO_CONTENT => {
            _ = headers.insert(CONTENT_LENGTH, HeaderValue::from(length))
        }
        BodySize::None | BodySize::Sized(_) => _ = headers.remove(CONTENT_LENGTH),
        BodySize::Stream => {}
    }
    if !headers.contains_key(DATE)
        && let Ok(now) = date::with_now(HeaderValue::from_bytes)
    {
        headers.insert(DATE, now);
    }
    head
}

async fn content(
    mut body: BoxBody,
    size: BodySize,
    stream: &mut SendStream<Bytes>,
    write_timeout: Duration,
) -> Result<(), SendError> {
    let mut left = match size {
        BodySize::Sized(length) => Some(length),
        _ => None,
    };
    loop {
        let next = tokio::select! {
            next = next(&mut body) => next,
            _ = poll_fn(|cx| stream.poll_reset(cx)) => return Err(SendError::Closed),
        };
        let Some(chunk) = next else { break };
        // A reset shows the client that the content is incomplete.
        let mut chunk = chunk.map_err(|_| SendError::Reset(Reason::INTERNAL_ERROR))?;
        while !chunk.is_empty() {
            let capacity = capacity(stream, chunk.len(), write_timeout).await?;
            let part = chunk.split_to(capacity.min(chunk.len()));
            left = left.map(|left| left.saturating_sub(part.len() as u64));
            // A body may still be reading an upload after its last byte.
            let is_end = left == Some(0) && has_ended(&mut body).await;
            stream.send_data(part, is_end)?;
            if is_end {
                return Ok(());
            }
        }
    }
    match left {
        // Fewer bytes than declared.
        Some(1..) => Err(SendError::Reset(Reason::INTERNAL_ERROR)),
        _ => Ok(stream.send_data(Bytes::new(), true)?),
    }
}

/// Whether `body`, of which every byte has been read, has ended.
async fn has_ended(body: &mut BoxBody) -> bool {
    let end = poll_fn(|cx| Poll::Ready(Pin::new(&mut *body).poll_next(cx)));
    matches!(end.await, Poll::Ready(None))
}

async fn next(body: &mut BoxBody) -> Option<Result<Bytes, Box<dyn std::error::Error>>> {
    poll_fn(|cx| Pin::new(&mut *body).poll_next(cx)).await
}

/// Waits until the client's window allows some of `wanted` bytes; returns how many.
async fn capacity(
    stream: &mut SendStream<Bytes>,
    wanted: usize,
    write_timeout: Duration,
) -> Result<usize, SendError> {
    stream.reserve_capacity(wanted);
    let waiting = timeout(write_timeout, poll_fn(|cx| stream.poll_capacity(cx)));
    match waiting.await {
        Ok(Some(capacity)) => Ok(capacity?),
        Ok(None) => Err(SendError::Closed),
        Err(_elapsed) => Err(SendError::Reset(Reason::CANCEL)),
    }
}
