//! An answer that is kept, and what may be made of it.

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
use super::directives::Directives;
use super::freshness::{Freshness, has_validator, initial_age, varying};
use crate::peer::{Body, Headers, REQUEST_ID, Reply};

/// What caches say of an answer (RFC 9211).
pub(super) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// How clients reached the gateway. Upstreams may answer otherwise by it, as with a redirect to TLS, and say no
/// Vary.
const SCHEME: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// Headers that tell of content, which an answer without any has not.
const OF_CONTENT: [HeaderName; 5] =
    [CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE];

/// About how many bytes a header takes beside its name and its value: where both are, and how often they are used.
const LINE: usize = 112;

/// An answer to a GET.
#[derive(Debug)]
pub(super) struct Stored {
    status: StatusCode,
    headers: Headers,
    body: Option<Bytes>,
    /// The request headers that it depends on, and what they were.
    selecting: Box<[(HeaderName, Box<[HeaderValue]>)]>,
    freshness: Freshness,
    arrived: Instant,
    initial_age: Duration,
}

/// What an origin's 304 says of a stored answer.
#[derive(Debug)]
pub(super) enum Confirmed {
    /// It is good, and may be kept on.
    Kept(Stored),
    /// It is what this request asks for, and may not be kept: not of a request with a token, or with a cookie.
    Once(Reply),
}

/// Whether a stored answer serves a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// As it is.
    Good,
    /// While somebody asks for a new one.
    WhileRevalidated,
    /// Not without asking its origin.
    Unfit,
}

impl Stored {
    /// The answer of `status`, `headers` and `body` to a request with the headers `asked`, good for `freshness`,
    /// that came `delay` after it was asked for. It shares no memory with any of them: they may be parts of
    /// something larger.
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
        // With room for a date, and for nothing that is not used.
        let kept = |name: &HeaderName| ![AGE, REQUEST_ID].contains(name);
        let count = headers.iter().filter(|(name, _)| kept(name)).count();
        let dated = headers.contains_key(DATE);
        let mut own = Headers::with_capacity(count + usize::from(!dated));
        // The id is that of another request.
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

    /// Whether a 304 with `headers` is about this answer (RFC 9111, section 4.3.4).
    pub(super) fn is_confirmed_by(&self, headers: &Headers) -> bool {
        let tag = |headers: &Headers| headers.get(ETAG).map(|tag| strong(tag.as_bytes()).to_vec());
        match (tag(headers), headers.get(LAST_MODIFIED)) {
            (Some(other), _) => Some(other) == tag(&self.headers),
            (None, Some(date)) => Some(date) == self.headers.get(LAST_MODIFIED),
            (None, None) => true,
        }
    }

    /// This answer after its origin has said in a 304 with `headers`, `delay` after it was asked, that it is good
    /// (RFC 9111, section 4.3.4).
    pub(super) fn freshened(
        &self,
        asked: &Headers,
        headers: &Headers,
        delay: Duration,
    ) -> Confirmed {
        let mut merged = self.headers.clone();
        // They were of the time when it was made, or came.
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

    /// Whether it answers a request with the headers `asked`, as far as these select one.
    pub(super) fn matches(&self, asked: &Headers) -> bool {
        self.selecting.iter().all(|(name, values)| asked.get_all(name).eq(values.iter()))
    }

    /// The names of the request headers that it depends on.
    pub(super) fn selecting(&self) -> impl Iterator<Item = &HeaderName> {
        self.selecting.iter().map(|(name, _)| name)
    }

    /// Whether it replaces `other`: no request would be answered by both.
    pub(super) fn replaces(&self, other: &Stored) -> bool {
        self.selecting == other.selecting
    }

    pub(super) fn has_validator(&self) -> bool {
        has_validator(&self.headers)
    }

    /// Asks in the headers of a request whether this answer is still good.
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

    /// How far it is past its time; nothing where it is not.
    fn late(&self) -> Option<Duration> {
        self.age().checked_sub(self.freshness.lifetime)
    }

    /// Whether it serves a request that says `asked`.
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
        let taken = |limit: Duration| !self.freshness.strict && late <= limit;
        if asked.min_fresh.is_some() {
            Fit::Unfit
        } else if asked.max_stale.is_some_and(taken) {
            Fit::Good
        } else if late < self.freshness.while_revalidate {
            Fit::WhileRevalidated
        } else {
            Fit::Unfit
        }
    }

    /// Whether it may stand in for an answer that its origin failed to give.
    pub(super) fn stands_in(&self) -> bool {
        self.late().is_some_and(|late| late < self.freshness.if_error)
    }

    /// About how many bytes it takes.
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

    /// The answer to `client`, which did not have to be asked for.
    pub(super) fn hit(&self, client: &Client) -> Reply {
        let status = match self.late().map(|late| late.as_secs()) {
            None => HeaderValue::from_static("shop; hit"),
            Some(late) => HeaderValue::from_str(&format!("shop; hit; ttl=-{late}"))
                .unwrap_or(HeaderValue::from_static("shop; hit")),
        };
        let mut reply = self.reply(client, status);
        reply.headers.insert(AGE, HeaderValue::from(self.age().as_secs()));
        reply
    }

    /// The answer to `client`, with what happened to its request in `status`.
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

/// `reply`, or 304 where `client` has it already.
pub(super) fn settle(client: &Client, mut reply: Reply) -> Reply {
    if !client.knows(reply.status, &reply.headers) {
        return reply;
    }
    reply.headers.retain(|name| !OF_CONTENT.contains(name));
    Reply { status: StatusCode::NOT_MODIFIED, headers: reply.headers, body: Body::None }
}

fn copied(value: &HeaderValue) -> HeaderValue {
    // The bytes of a header value are those of one.
    HeaderValue::from_bytes(value.as_bytes()).unwrap_or(HeaderValue::from_static(""))
}
