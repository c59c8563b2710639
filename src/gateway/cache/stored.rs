//! A stored response, and how it is used.

use std::time::{Duration, SystemTime};

use actix_web::http::StatusCode;
use actix_web::http::header::{
    AGE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE,
    ETAG, HeaderName, HeaderValue, HttpDate, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
};
use actix_web::web::Bytes;
use futures_util::stream;
use tokio::time::Instant;

use super::client::{Client, strong};
use super::counters::Served;
use super::directives::Directives;
use super::freshness::{Freshness, has_validator, initial_age, varying};
use crate::peer::{Body, FORWARDED_PROTO, Headers, REQUEST_ID, Reply};

/// How caches report what they did (RFC 9211).
pub(super) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// The client's scheme. Every response varies by it: upstreams may redirect to TLS without a Vary.
const SCHEME: HeaderName = FORWARDED_PROTO;
/// Headers about content, which responses without content do not have.
const OF_CONTENT: [HeaderName; 5] =
    [CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE];

/// About how many bytes of memory a header takes beside the texts of its name and value.
const LINE: usize = 112;

/// A response to a GET.
#[derive(Debug)]
pub(super) struct Stored {
    status: StatusCode,
    headers: Headers,
    body: Option<Bytes>,
    /// The request headers that it varies by, and their values.
    selecting: Box<[(HeaderName, Box<[HeaderValue]>)]>,
    freshness: Freshness,
    arrived: Instant,
    initial_age: Duration,
}

/// What a 304 makes of a stored response.
#[derive(Debug)]
pub(super) enum Confirmed {
    /// It is fresh again, and may be stored.
    Kept(Stored),
    /// It answers this request, but may not be stored, because of a token or a cookie.
    Once(Reply),
}

/// Whether a stored response serves a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// It does.
    Good,
    /// It does while it is revalidated.
    WhileRevalidated,
    /// It must be revalidated first.
    Unfit,
}

impl Stored {
    /// The response with `status`, `headers` and `body` to a request with the headers `asked`, which arrived `delay` after
    /// the request. It copies everything, because the originals may be parts of larger buffers.
    pub(super) fn new(
        asked: &Headers,
        (status, headers, body): (StatusCode, &Headers, Option<&[u8]>),
        freshness: Freshness,
        delay: Duration,
    ) -> Self {
        let initial_age = initial_age(headers, delay);
        let mut names = varying(headers).unwrap_or_default();
        names.push(SCHEME);
        let selecting = names.into_iter().map(|name| {
            let values = asked.get_all(&name).map(copied).collect::<Box<[_]>>();
            (name, values)
        });
        // Exactly as many headers as needed.
        let kept = |name: &HeaderName| ![AGE, REQUEST_ID].contains(name);
        let count = headers.iter().filter(|(name, _)| kept(name)).count();
        let dated = headers.contains_key(DATE);
        let mut own = Headers::with_capacity(count + usize::from(!dated));
        // The request id belongs to another request.
        for (name, value) in headers.iter().filter(|(name, _)| kept(name)) {
            own.append(name.clone(), copied(value));
        }
        if !dated {
            let now = HttpDate::from(SystemTime::now()).to_string();
            let now = HeaderValue::from_str(&now).ok();
            now.into_iter().for_each(|now| own.append(DATE, now));
        }
        Self {
            status,
            headers: own,
            body: body.map(Bytes::copy_from_slice),
            selecting: selecting.collect(),
            freshness,
            arrived: Instant::now(),
            initial_age,
        }
    }

    /// Whether a 304 with `headers` is about this response (RFC 9111, section 4.3.4).
    pub(super) fn is_confirmed_by(&self, headers: &Headers) -> bool {
        let tag = |headers: &Headers| headers.get(ETAG).map(|tag| strong(tag.as_bytes()).to_vec());
        match (tag(headers), headers.get(LAST_MODIFIED)) {
            (Some(other), _) => Some(other) == tag(&self.headers),
            (None, Some(date)) => Some(date) == self.headers.get(LAST_MODIFIED),
            (None, None) => true,
        }
    }

    /// This response after a 304 with `headers`, which came `delay` after the request (RFC 9111, section 4.3.4).
    pub(super) fn freshened(
        &self,
        asked: &Headers,
        headers: &Headers,
        delay: Duration,
    ) -> Confirmed {
        let mut merged = self.headers.clone();
        // The date of the old response.
        merged.remove(DATE);
        let of_both = |name: &HeaderName| OF_CONTENT.contains(name) || *name == ETAG;
        merged.retain(|name| of_both(name) || !headers.contains_key(name));
        for (name, value) in headers.iter().filter(|(name, _)| !of_both(name)) {
            merged.append(name.clone(), value.clone());
        }
        match Freshness::from_response(asked, self.status, &merged) {
            Some(freshness) => {
                let answer = (self.status, &merged, self.body.as_deref());
                Confirmed::Kept(Self::new(asked, answer, freshness, delay))
            }
            None => {
                let body = self.body.clone().map_or(Body::None, Body::Full);
                Confirmed::Once(Reply { status: self.status, headers: merged, body })
            }
        }
    }

    /// Whether it matches a request with the headers `asked`.
    pub(super) fn matches(&self, asked: &Headers) -> bool {
        self.selecting.iter().all(|(name, values)| asked.get_all(name).eq(values.iter()))
    }

    /// The names of the request headers that it varies by.
    pub(super) fn selecting(&self) -> impl Iterator<Item = &HeaderName> {
        self.selecting.iter().map(|(name, _)| name)
    }

    /// Whether it replaces `other`: both match the same requests.
    pub(super) fn replaces(&self, other: &Stored) -> bool {
        self.selecting == other.selecting
    }

    pub(super) fn has_validator(&self) -> bool {
        has_validator(&self.headers)
    }

    /// Adds conditions to the headers of a request that revalidates this response.
    pub(super) fn write_conditions(&self, headers: &mut Headers) {
        for (validator, condition) in [(ETAG, IF_NONE_MATCH), (LAST_MODIFIED, IF_MODIFIED_SINCE)] {
            if let Some(value) = self.headers.get(validator) {
                headers.insert(condition, value.clone());
            }
        }
    }

    fn age(&self) -> Duration {
        self.initial_age + self.arrived.elapsed()
    }

    /// How long it has been stale; `None` while it is fresh.
    fn late(&self) -> Option<Duration> {
        self.age().checked_sub(self.freshness.lifetime)
    }

    /// Whether it serves a request with the directives `asked`.
    pub(super) fn fit(&self, asked: &Directives) -> Fit {
        let age = self.age();
        if asked.no_cache || asked.max_age.is_some_and(|max_age| age > max_age) {
            return Fit::Unfit;
        }
        let Some(late) = self.late() else {
            let left = self.freshness.lifetime.saturating_sub(age);
            let enough = asked.min_fresh.is_none_or(|min_fresh| left >= min_fresh);
            return if enough { Fit::Good } else { Fit::Unfit };
        };
        let accepted = |limit: Duration| !self.freshness.strict && late <= limit;
        if asked.min_fresh.is_some() {
            Fit::Unfit
        } else if asked.max_stale.is_some_and(accepted) {
            Fit::Good
        } else if late < self.freshness.while_revalidate {
            Fit::WhileRevalidated
        } else {
            Fit::Unfit
        }
    }

    /// Whether it may be served because its origin failed.
    pub(super) fn serves_on_error(&self) -> bool {
        self.late().is_some_and(|late| late < self.freshness.if_error)
    }

    /// About how many bytes of memory it takes.
    pub(super) fn weight(&self) -> usize {
        let line = |name: &HeaderName, value: &HeaderValue| {
            LINE + name.as_str().len() + value.len().next_multiple_of(16)
        };
        let selecting = self.selecting.iter().map(|(name, values)| {
            LINE + name.as_str().len()
                + values.iter().map(|value| LINE + value.len()).sum::<usize>()
        });
        let headers = self.headers.iter().map(|(name, value)| line(name, value));
        let length = self.body.as_ref().map_or(0, Bytes::len);
        512 + length + headers.sum::<usize>() + selecting.sum::<usize>()
    }

    /// The reply to `client` on a cache hit.
    pub(super) fn hit(&self, client: &Client) -> Reply {
        let late = self.late();
        if late.is_none() {
            Served::Hit.count()
        } else {
            Served::Stale.count()
        }
        let status = match late.map(|late| late.as_secs()) {
            None => HeaderValue::from_static("shop; hit"),
            Some(late) => HeaderValue::from_str(&format!("shop; hit; ttl=-{late}"))
                .unwrap_or(HeaderValue::from_static("shop; hit")),
        };
        let mut reply = self.reply(client, status);
        reply.headers.insert(AGE, HeaderValue::from(self.age().as_secs()));
        reply
    }

    /// The reply to `client`, with `status` in Cache-Status.
    pub(super) fn reply(&self, client: &Client, status: HeaderValue) -> Reply {
        let mut headers = self.headers.clone();
        headers.append(CACHE_STATUS, status);
        if self.initial_age.as_secs() > 0 {
            headers.insert(AGE, HeaderValue::from(self.age().as_secs()));
        }
        let body = match &self.body {
            Some(bytes) if client.is_head => {
                let nothing = stream::empty::<std::io::Result<Bytes>>();
                Body::stream(Some(bytes.len() as u64), nothing)
            }
            Some(bytes) => Body::Full(bytes.clone()),
            None => Body::None,
        };
        settle(client, Reply { status: self.status, headers, body })
    }
}

/// `reply`, or 304 if `client` has it already.
pub(super) fn settle(client: &Client, mut reply: Reply) -> Reply {
    if !client.knows(reply.status, &reply.headers) {
        return reply;
    }
    reply.headers.retain(|name| !OF_CONTENT.contains(name));
    Reply { status: StatusCode::NOT_MODIFIED, headers: reply.headers, body: Body::None }
}

fn copied(value: &HeaderValue) -> HeaderValue {
    // The bytes of a header value are always valid.
    HeaderValue::from_bytes(value.as_bytes()).unwrap_or(HeaderValue::from_static(""))
}
