//! What travels with a request from role to role: its id, its trace, and the time it has left.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use actix_web::dev::Payload;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::{FromRequest, HttpMessage as _, HttpRequest};
use std::future::{Ready, ready};
use uuid::{Builder, Uuid};

use super::{Headers, number};
use crate::error::Error;

/// Names a request in every role's log and in the answer.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The milliseconds that a request has left.
pub const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout-ms");
/// The trace that a request is part of (W3C Trace Context).
pub const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");

/// The name of a request: 1 to 128 letters, digits, `-`, `_` and `.`.
#[derive(Clone, Debug)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The client's id where it is sane, else a new one.
    fn from_headers(headers: &HeaderMap) -> Self {
        let sane = |value: &&HeaderValue| {
            let bytes = value.as_bytes();
            let letter = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
            (1..=128).contains(&bytes.len()) && bytes.iter().all(letter)
        };
        headers.get(REQUEST_ID).filter(sane).cloned().map_or_else(Self::new, Self)
    }

    fn new() -> Self {
        let mut buffer = Uuid::encode_buffer();
        // A name and no secret: whoever guesses it has nothing.
        let mut random = [0; 10];
        fastrand::fill(&mut random);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(since.as_millis()).unwrap_or_default();
        let id = Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
        let text = id.simple().encode_lower(&mut buffer);
        // Hexadecimal digits are a header value.
        Self(HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("-")))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        // Both constructors let nothing but ASCII in.
        self.0.to_str().unwrap_or_default()
    }

    /// The id as a header's value.
    pub fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a role knows of the request it answers, and passes on when it asks another role for it.
#[derive(Clone, Debug)]
pub struct Context {
    /// Names the request.
    pub request_id: RequestId,
    /// When the caller stops waiting.
    pub deadline: Instant,
    /// The most time that whoever asks gives by itself, whether its own caller has as much left or not.
    pub(super) limit: Duration,
    /// Where the client is, as far as those are believed who say so; nothing where only a test knows.
    pub client: Option<IpAddr>,
    trace_parent: Option<HeaderValue>,
    /// Whether whoever asks gives less time than there was.
    pub hurried: bool,
    /// Whether whoever asks is cut off at the deadline anyway, so that a call need not look at the clock.
    watched: bool,
}

impl Context {
    /// The context of a request that came `now` over a socket, with `headers` and from `client`, and has at most `limit`
    /// left.
    pub fn from_headers(
        headers: &HeaderMap,
        client: Option<IpAddr>,
        limit: Duration,
        now: Instant,
    ) -> Self {
        let left = number(headers.get(REQUEST_TIMEOUT));
        let left = left.map_or(limit, |millis| Duration::from_millis(millis).min(limit));
        let hurried = left < limit;
        Self {
            request_id: RequestId::from_headers(headers),
            deadline: now + left,
            limit,
            client,
            trace_parent: headers.get(TRACE_PARENT).cloned(),
            hurried,
            watched: false,
        }
    }

    /// The same, for a callee in this process that is given until `deadline`.
    pub(super) fn until(&self, deadline: Instant) -> Self {
        Self { deadline, ..self.clone() }
    }

    /// The caller's context as the callee's, which received the request `now` and gives it at most `limit`.
    pub fn received(self, limit: Duration, now: Instant) -> Self {
        let latest = now + limit;
        Self { deadline: self.deadline.min(latest), limit, hurried: self.deadline < latest, ..self }
    }

    /// The same, for a handler that the middleware cuts off at the deadline.
    pub fn watched(self) -> Self {
        Self { watched: true, ..self }
    }

    /// Whether somebody above sees to it that a call ends at the deadline.
    pub(super) fn is_watched(&self) -> bool {
        self.watched
    }

    /// The same with at most `limit` left.
    pub fn within(&self, limit: Duration) -> Self {
        let deadline = self.deadline.min(Instant::now() + limit);
        Self { deadline, limit: limit.min(self.limit), watched: false, ..self.clone() }
    }

    /// Says in `headers` what the callee has to know who has so much time `left`.
    pub(super) fn write(&self, headers: &mut Headers, left: Duration) {
        let left = left.as_millis();
        headers.insert(REQUEST_ID, self.request_id.header());
        // A deadline is seconds away; more than 2^64 ms is not.
        headers.insert(REQUEST_TIMEOUT, HeaderValue::from(u64::try_from(left).unwrap_or(u64::MAX)));
        if let Some(trace) = &self.trace_parent {
            headers.insert(TRACE_PARENT, trace.clone());
        }
    }
}

/// A handler takes the context that the edge has made.
impl FromRequest for Context {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let context = request.extensions().get::<Context>().cloned();
        ready(context.ok_or_else(|| Error::internal("the edge made no context")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &HeaderName, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name.clone(), HeaderValue::from_str(value).unwrap());
        headers
    }

    #[test]
    fn a_sane_request_id_is_taken_and_another_replaced() {
        let id = |value| RequestId::from_headers(&headers(&REQUEST_ID, value)).to_string();
        assert_eq!(id("order-7_a.B"), "order-7_a.B");
        for bad in ["", "two words", "a\tb", "\"", &"x".repeat(129)] {
            assert_eq!(id(bad).len(), 32, "{bad:?}");
        }
        assert_ne!(RequestId::new().as_str(), RequestId::new().as_str());
    }

    #[test]
    fn a_caller_can_shorten_the_deadline_but_not_stretch_it() {
        let limit = Duration::from_secs(10);
        let left = |value| {
            Context::from_headers(&headers(&REQUEST_TIMEOUT, value), None, limit, Instant::now())
                .deadline
                .duration_since(Instant::now())
        };
        assert!(left("50") <= Duration::from_millis(50));
        assert!(left("99999999") <= limit);
        assert!(left("soon") > Duration::from_secs(9));
    }
}
