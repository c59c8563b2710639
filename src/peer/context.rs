//! The context of a request, which travels from role to role: its id, its trace, and the remaining time.

use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use actix_web::dev::Payload;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::{FromRequest, HttpMessage as _, HttpRequest};
use std::future::{Ready, ready};
use uuid::{Builder, Uuid};

use super::{Headers, number};
use crate::error::Error;
use crate::telemetry::{Recorder, TraceContext};

/// The id of a request in every role's log and in the response.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The remaining time of a request, in milliseconds.
pub const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout-ms");
/// The trace that a request is part of (W3C Trace Context).
pub const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
/// What vendors add to the trace, which is void without its parent.
const TRACE_STATE: HeaderName = HeaderName::from_static("tracestate");
/// What the caller has every callee know (W3C Baggage).
const BAGGAGE: HeaderName = HeaderName::from_static("baggage");

/// The id of a request: 1 to 128 letters, digits, `-`, `_` and `.`.
#[derive(Clone, Debug)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The client's id if it is valid, otherwise a new one.
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
        // It is not a secret, so it need not be hard to guess.
        let mut random = [0; 10];
        fastrand::fill(&mut random);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(since.as_millis()).unwrap_or_default();
        let id = Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
        let text = id.simple().encode_lower(&mut buffer);
        // Hexadecimal digits are a valid header value.
        Self(HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("-")))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        // Both constructors accept only ASCII.
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

/// What a role knows about a request, and passes on when it calls another role for it.
#[derive(Clone, Debug)]
pub struct Context {
    /// The request's id.
    pub request_id: RequestId,
    /// When the caller stops waiting.
    pub deadline: Instant,
    /// The caller's own limit, whether or not its deadline allows it.
    pub(super) limit: Duration,
    /// The client's address, by trusted proxies; `None` in tests.
    pub client: Option<IpAddr>,
    /// The span of this request in this role.
    pub trace: TraceContext,
    /// The span that the caller named as its parent.
    pub parent: Option<TraceContext>,
    /// What goes on to callees as it came: `tracestate` and `baggage`.
    carried: Option<Rc<[(HeaderName, HeaderValue)]>>,
    /// Where this process records what becomes of the request, if it does.
    pub recorder: Option<Recorder>,
    /// Whether the caller's own limit is shorter than the remaining time.
    pub hurried: bool,
    /// Whether the request came through a mailbox, from another role of this process.
    pub by_mailbox: bool,
    /// Whether the caller is cut off at the deadline anyway, so that calls need no timer.
    watched: bool,
}

impl Context {
    /// The context of a request that arrived `now` over a socket, with `headers` and from `client`, and may take at most
    /// `limit`.
    pub fn from_headers(
        headers: &HeaderMap,
        client: Option<IpAddr>,
        limit: Duration,
        now: Instant,
    ) -> Self {
        let left = number(headers.get(REQUEST_TIMEOUT));
        let left = left.map_or(limit, |millis| Duration::from_millis(millis).min(limit));
        let hurried = left < limit;
        let parent = headers.get(TRACE_PARENT);
        let parent = parent.and_then(|value| TraceContext::parse(value.as_bytes()));
        Self {
            request_id: RequestId::from_headers(headers),
            deadline: now + left,
            limit,
            client,
            trace: parent.map_or_else(TraceContext::new, TraceContext::child),
            carried: parent.and_then(|_| carried(headers)),
            parent,
            recorder: None,
            hurried,
            by_mailbox: false,
            watched: false,
        }
    }

    /// The same, as a part of a trace that is recorded where traces are. Anybody's trace id is continued; the caller's sampled
    /// flag counts if the caller `is_trusted`.
    pub fn traced(self, is_trusted: bool) -> Self {
        let flag = self.parent.filter(|_| is_trusted).map(TraceContext::is_sampled);
        let recorder = Recorder::begin(self.trace, flag);
        let is_sampled = recorder.as_ref().map_or(flag.unwrap_or_default(), Recorder::is_sampled);
        Self { trace: self.trace.with_sampled(is_sampled), recorder, ..self }
    }

    /// The same, for a call that is a part of the trace of its own.
    pub(super) fn at(&self, trace: TraceContext) -> Self {
        Self { trace, ..self.clone() }
    }

    /// The context for a callee in this process, with a `deadline`.
    pub(super) fn until(&self, deadline: Instant) -> Self {
        Self { deadline, ..self.clone() }
    }

    /// The callee's context from the caller's, for a request that arrived `now` and may take at most `limit`.
    pub fn received(self, limit: Duration, now: Instant) -> Self {
        let latest = now + limit;
        let hurried = self.deadline < latest;
        let (deadline, parent) = (self.deadline.min(latest), Some(self.trace));
        let trace = self.trace.child();
        Self { deadline, limit, hurried, by_mailbox: true, trace, parent, ..self }
    }

    /// The same, for a handler that the middleware cuts off at the deadline.
    pub fn watched(self) -> Self {
        Self { watched: true, ..self }
    }

    /// Whether the middleware ends calls at the deadline.
    pub(super) fn is_watched(&self) -> bool {
        self.watched
    }

    /// The same with a limit for calls.
    pub fn within(&self, limit: Duration) -> Self {
        let deadline = self.deadline.min(Instant::now() + limit);
        Self { deadline, limit: limit.min(self.limit), watched: false, ..self.clone() }
    }

    /// Adds the context to the `headers` for a callee that has the time `left`.
    pub(super) fn write(&self, headers: &mut Headers, left: Duration) {
        let left = left.as_millis();
        headers.insert(REQUEST_ID, self.request_id.header());
        // Far below 2^64 ms.
        headers.insert(REQUEST_TIMEOUT, HeaderValue::from(u64::try_from(left).unwrap_or(u64::MAX)));
        headers.insert(TRACE_PARENT, self.trace.header());
        if self.parent.is_none() {
            headers.remove(TRACE_STATE);
        }
        for (name, value) in self.carried.iter().flat_map(|carried| carried.iter()) {
            if !headers.contains_key(name) {
                headers.insert(name.clone(), value.clone());
            }
        }
    }
}

/// What `headers` say of a trace besides its parent.
fn carried(headers: &HeaderMap) -> Option<Rc<[(HeaderName, HeaderValue)]>> {
    let found = [TRACE_STATE, BAGGAGE].into_iter().filter_map(|name| {
        let value = headers.get(&name)?.clone();
        Some((name, value))
    });
    let found = found.collect::<Vec<_>>();
    (!found.is_empty()).then(|| found.into())
}

/// Handlers get the context that the middleware has made.
impl FromRequest for Context {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let context = request.extensions().get::<Context>().cloned();
        ready(context.ok_or_else(|| Error::internal("the middleware made no context")))
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
