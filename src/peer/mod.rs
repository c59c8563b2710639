//! How one role calls another: HTTP as values, over a socket or over a mailbox.
//!
//! A [`Peer`] is another role, or an upstream of the gateway, with all of its addresses and the resilience around them. An
//! [`Endpoint`] is one address: it sends a [`Request`] and returns a [`Reply`], with end-to-end headers. What could differ
//! between its variants is done once, in [`call`]: the request id, the trace, the deadline.

mod address;
mod call;
pub mod clock;
mod context;
pub mod forwarded;
pub mod local;
mod origin;
mod replay;
mod resilience;

use std::str::FromStr;
use std::time::Instant;

use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse};

pub use address::{FORWARDED_FOR, FORWARDED_PROTO, Trusted, network};
pub use context::{Context, REQUEST_ID, REQUEST_TIMEOUT, RequestId, TRACE_PARENT};
pub use origin::Origin;
pub use resilience::{Counted, Peer, Position, Report, State};

use crate::config::Transport;
use crate::error::{Error, Kind};
pub use crate::http1::{
    Body, Chunks, Headers, Interim, InterimSender, Reply, Request, Upgraded, client as http,
};
use crate::http1::{client, is_hop_by_hop, lines::words};
use call::{Attempt, Call};

/// What a role shows another one where there is no mTLS.
pub const INTERNAL_SECRET: HeaderName = HeaderName::from_static("x-internal-secret");

/// The prefix of paths for other roles.
pub const INTERNAL: &str = "/internal/";

impl Request {
    /// A request for another role from `request`, with `body` and the end-to-end headers that `may` be passed on.
    pub fn forward(request: &HttpRequest, body: Body, may: impl Fn(&HeaderName) -> bool) -> Self {
        let head = request.head();
        let mut headers = Headers::with_capacity(head.headers.len_keys() + Headers::SPARE);
        for (name, value) in &head.headers {
            // Connection stays until the headers that it names are removed.
            if !is_hop_by_hop(name) && *name != header::CONTENT_LENGTH && may(name) {
                headers.append(name.clone(), value.clone());
            }
        }
        remove_named(&mut headers);
        let (method, target) = (head.method.clone(), head.uri.clone());
        let interims = request.extensions().get::<InterimSender>().cloned();
        Self { method, target, headers, body, interims, upgrade: None }
    }
}

impl Reply {
    /// The reply as a handler's response.
    pub fn into_response(self) -> HttpResponse {
        let mut response = HttpResponse::new(self.status);
        let headers = response.headers_mut();
        for (name, value) in self.headers {
            headers.append(name, value);
        }
        match self.body {
            Body::Upgraded(upgraded) => {
                response.headers_mut().insert(header::UPGRADE, upgraded.protocol.clone());
                response.extensions_mut().insert(*upgraded);
                response
            }
            body => response.set_body(body.into_box_body()),
        }
    }

    /// The reply, if its status is below 400; otherwise the error in its problem.
    ///
    /// # Errors
    /// The peer's error, or [`Kind::BadGateway`] when its body broke off.
    pub async fn into_success(self) -> Result<Reply, Error> {
        if self.status.as_u16() < 400 {
            return Ok(self);
        }
        let wait = number(self.headers.get(header::RETRY_AFTER));
        let status = self.status;
        let body = self.body.read(PROBLEM_LIMIT).await.map_err(PeerError::broken)?;
        Err(Error::decode(status, &body, wait))
    }
}

/// The largest problem that is read, in bytes.
const PROBLEM_LIMIT: usize = 64 * 1024;

/// Why a call to another role gave no reply.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PeerError {
    /// The breaker is open; retry in this many seconds.
    #[error("the breaker is open")]
    BreakerOpen(u32),
    /// The bulkhead is full.
    #[error("the bulkhead is full")]
    BulkheadFull,
    /// The mailbox or the connection pool is full.
    #[error("too many calls are under way")]
    Busy,
    /// No connection could be opened.
    #[error("no connection: {0}")]
    Unreachable(String),
    /// The deadline has passed.
    #[error("no answer within the time that was left")]
    DeadlineExceeded,
    /// The connection or the reply's body broke off.
    #[error("broken off: {0}")]
    Broken(String),
    /// The request's body broke off, which is not the peer's failure.
    #[error("the request broke off: {0}")]
    Content(String),
}

impl PeerError {
    pub(crate) fn broken(cause: impl std::fmt::Display) -> Self {
        Self::Broken(cause.to_string())
    }

    /// What traces call it, one of few.
    fn name(&self) -> &'static str {
        match self {
            Self::BreakerOpen(_) => "breaker_open",
            Self::BulkheadFull => "bulkhead_full",
            Self::Busy => "busy",
            Self::Unreachable(_) => "unreachable",
            Self::DeadlineExceeded => "timeout",
            Self::Broken(_) => "broken",
            // The caller's failure.
            Self::Content(_) => "499",
        }
    }

    /// The breaker is open for `millis` more.
    fn breaker_open(millis: u64) -> Self {
        let seconds = u32::try_from(millis.div_ceil(1_000)).unwrap_or(u32::MAX);
        Self::BreakerOpen(seconds.max(1))
    }
}

impl From<&Transport> for client::Options {
    fn from(transport: &Transport) -> Self {
        let &Transport { pool_size, pool_idle, connect_timeout, read_timeout, .. } = transport;
        Self { pool_size, pool_idle, connect_timeout, read_timeout }
    }
}

impl From<client::Error> for PeerError {
    fn from(error: client::Error) -> Self {
        use client::Error::{Broken, Busy, Closed, Content, Unreachable};
        match error {
            Busy => Self::Busy,
            Unreachable(cause) => Self::Unreachable(cause),
            Closed(error) => Self::broken(error),
            Broken(cause) => Self::Broken(cause),
            Content(error) => Self::Content(error.to_string()),
        }
    }
}

impl From<PeerError> for Error {
    fn from(error: PeerError) -> Self {
        const AWAY: &str = "a part of the shop is not available, try again";
        match error {
            // Logged once for all of these calls.
            PeerError::BreakerOpen(seconds) => {
                Error::unavailable(AWAY, error).retry_after(seconds).logged()
            }
            PeerError::BulkheadFull => Error::unavailable(AWAY, error).logged(),
            PeerError::Busy | PeerError::Unreachable(_) => Error::unavailable(AWAY, error),
            PeerError::DeadlineExceeded => {
                Error::new(Kind::DeadlineExceeded, "no answer in time").caused_by(error)
            }
            PeerError::Broken(_) => {
                Error::new(Kind::BadGateway, "a part of the shop broke off its answer")
                    .caused_by(error)
            }
            PeerError::Content(_) => {
                Error::new(Kind::Malformed, "the request's content broke off").caused_by(error)
            }
        }
    }
}

/// One address of another role or of an upstream. Each worker thread has its own, because neither variant is Send.
#[derive(Clone, Debug)]
pub enum Endpoint {
    /// In another process.
    Http {
        /// Its address.
        peer: http::Peer,
        /// What it admits this process by to its routes for roles.
        secret: Option<HeaderValue>,
    },
    /// On this thread.
    Local(local::Peer),
}

impl Endpoint {
    /// The address of `peer`, in another process.
    pub fn http(peer: http::Peer) -> Self {
        Self::Http { peer, secret: None }
    }

    /// Sends `request` once on behalf of `context`, without a breaker, and waits for the head of the reply. Its body is a
    /// stream.
    ///
    /// # Errors
    /// When there is no reply within the time that `context` has left; see [`PeerError`].
    pub async fn send(&self, mut request: Request, context: &Context) -> Result<Reply, PeerError> {
        remove_of_connection(&mut request.headers);
        let now = Instant::now();
        let attempt = Attempt { callee: None, resend: 0, now, limit: None, kept: false };
        Call::new(request).send(self, context, attempt).await
    }
}

/// The number in a header's `value`, if it is one.
pub fn number<T: FromStr>(value: Option<&HeaderValue>) -> Option<T> {
    value?.to_str().ok()?.parse().ok()
}

/// Removes hop-by-hop headers, and Content-Length, which it returns: the body knows the length from here on.
fn remove_of_connection(headers: &mut Headers) -> Option<u64> {
    let length = number(headers.get(header::CONTENT_LENGTH));
    remove_named(headers);
    headers.retain(|name| *name != header::CONTENT_LENGTH && !is_hop_by_hop(name));
    length
}

/// Removes Connection and the headers that it names.
fn remove_named(headers: &mut Headers) {
    let connection = headers.get_all(header::CONNECTION);
    let named = connection.flat_map(|line| words(line.as_bytes()));
    let mut named = named.filter_map(|name| HeaderName::from_bytes(name).ok()).collect::<Vec<_>>();
    if headers.contains_key(header::CONNECTION) {
        // Host is never hop-by-hop.
        named.retain(|name| name != header::HOST);
        headers.retain(|name| *name != header::CONNECTION && !named.contains(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;

    #[test]
    fn headers_of_the_connection_go_and_so_do_those_it_names() {
        let mut headers = Headers::new();
        for (name, value) in [
            ("connection", "keep-alive"),
            ("connection", "close, X-Private, Host"),
            ("host", "shop.example"),
            ("x-private", "1"),
            ("expect", "100-continue"),
            ("transfer-encoding", "chunked"),
            ("keep-alive", "timeout=5"),
            ("accept", "*/*"),
        ] {
            headers.append(name.parse().unwrap(), HeaderValue::from_static(value));
        }
        remove_of_connection(&mut headers);
        let left = headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>();
        assert_eq!(left, ["host", "accept"]);
    }
}
