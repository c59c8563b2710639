//! Asks the origin for missing and stale responses, and stores those that may be stored.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::http::StatusCode;
use actix_web::web::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, timeout_at};

use super::client::{Client, remove_conditions};
use super::counters::Served;
use super::freshness::Freshness;
use super::stored::{Confirmed, Stored, settle};
use super::{Cache, labelled, status};
use crate::error::{Error, Kind};
use crate::peer::{Body, Context, Headers, PeerError, Reply, Request};
use crate::single_flight::Leader;
use crate::tasks;
use crate::telemetry::inherit;

/// The outcome of a flight.
#[derive(Clone, Debug)]
pub(super) enum FillOutcome {
    /// A response for every follower that it matches.
    Stored(Arc<Stored>),
    /// A response for the leader only.
    Uncacheable,
    /// No response.
    Failed(Arc<Error>),
}

/// A request that the cache cannot answer by itself.
pub(super) struct Miss {
    key: String,
    client: Client,
    /// A response that is stale, or not fresh enough for the client.
    stale: Option<Arc<Stored>>,
    /// The flight that it leads, if others may wait for the response.
    leader: Option<Leader<Vec<u8>, FillOutcome>>,
}

/// A request that was sent, as far as it matters for storing the response.
struct SentRequest {
    headers: Headers,
    at: Instant,
    writes: u64,
}

impl Miss {
    /// A miss without followers.
    pub(super) fn new(key: String, client: Client, stale: Option<Arc<Stored>>) -> Self {
        Self { key, client, stale, leader: None }
    }

    /// The same miss as the leader of a flight.
    pub(super) fn leading(self, leader: Leader<Vec<u8>, FillOutcome>) -> Self {
        Self { leader: Some(leader), ..self }
    }

    /// Why the request is sent on (RFC 9211, section 2.2).
    fn why(&self) -> &'static str {
        match &self.stale {
            _ if self.client.wants_new() => "request",
            Some(_) => "stale",
            None => "miss",
        }
    }

    fn finish(&mut self, outcome: FillOutcome) {
        if let Some(leader) = self.leader.take() {
            leader.finish(outcome);
        }
    }

    /// Shares an error of the upstream with the followers. They do not get an error of this client alone, such as its
    /// deadline: one of them asks again.
    fn fail(&mut self, error: Error) -> Error {
        match error.kind() {
            Kind::Unavailable | Kind::BadGateway | Kind::Internal if self.leader.is_some() => {
                let error = Arc::new(error);
                self.finish(FillOutcome::Failed(error.clone()));
                Error::shared(&error)
            }
            _ => error,
        }
    }
}

impl Cache {
    /// Fills the entry of `miss` in the background.
    pub(super) fn refresh<F>(&self, miss: Miss, request: Request, context: &Context, fetch: F)
    where
        F: AsyncFn(Request) -> Result<Reply, Error> + 'static,
    {
        let (cache, deadline) = (self.clone(), context.deadline);
        tasks::spawn(
            "gateway_cache_refresh",
            inherit(async move {
                match timeout_at(deadline.into(), cache.fill(miss, request, fetch)).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => {
                        log::debug!(role = "gateway"; "a response stays stale: {}", error.chain())
                    }
                    Err(_) => {
                        log::debug!(role = "gateway"; "a response stays stale: no new one in time")
                    }
                }
            }),
        );
    }

    /// Asks the origin by `fetch`, and stores the response if it may.
    pub(super) async fn fill<F>(
        &self,
        mut miss: Miss,
        mut request: Request,
        fetch: F,
    ) -> Result<Reply, Error>
    where
        F: AsyncFn(Request) -> Result<Reply, Error>,
    {
        if miss.client.is_head {
            return fetch(request).await.map(|reply| labelled(reply, miss.why()));
        }
        let mut known = miss.stale.clone().filter(|stale| stale.has_validator());
        if known.is_some() || miss.leader.is_some() {
            remove_conditions(&mut request.headers);
        }
        let mut plain = None;
        if let Some(known) = &known {
            plain = Some(Request { headers: request.headers.clone(), ..repeat(&request) });
            known.write_conditions(&mut request.headers);
        }
        let mut asked = self.asked(&miss.key, &request);
        let mut outcome = fetch(request).await;
        if let (Some(kept), Some(plain), Ok(reply)) = (&known, plain, &outcome)
            && reply.status == StatusCode::NOT_MODIFIED
            && !kept.is_confirmed_by(&reply.headers)
        {
            // The 304 is about another version than the stored one: ask again without conditions.
            self.0.entries().invalidate(&miss.key);
            known = None;
            asked = self.asked(&miss.key, &plain);
            outcome = fetch(plain).await.and_then(whole);
        }
        let failed = match &outcome {
            _ if miss.client.wants_new() => false,
            Ok(reply) => reply.status.is_server_error(),
            Err(_) => true,
        };
        match (outcome, &miss.stale) {
            (_, Some(stale)) if failed && stale.serves_on_error() => {
                let stale = stale.clone();
                miss.finish(FillOutcome::Stored(stale.clone()));
                Ok(stale.hit(&miss.client))
            }
            (Err(error), _) => Err(miss.fail(error)),
            (Ok(reply), _) if reply.status == StatusCode::NOT_MODIFIED && known.is_some() => {
                Ok(self.freshen(miss, &asked, &reply.headers))
            }
            (Ok(reply), _) => self.take(miss, &asked, reply).await,
        }
    }

    /// What to remember of `request` for `key`, which is sent now.
    fn asked(&self, key: &str, request: &Request) -> SentRequest {
        let writes = self.stripe(key).load(Ordering::Acquire);
        SentRequest { headers: request.headers.clone(), at: Instant::now(), writes }
    }

    /// Makes the stale response fresh again after a 304 with `headers`.
    fn freshen(&self, mut miss: Miss, asked: &SentRequest, headers: &Headers) -> Reply {
        let Some(stale) = &miss.stale else { unreachable!("a condition was sent") };
        let fresh = match stale.freshened(&asked.headers, headers, asked.at.elapsed()) {
            Confirmed::Kept(fresh) => Arc::new(fresh),
            Confirmed::Once(reply) => return self.pass(miss, asked, reply),
        };
        let stored = if self.insert(&miss.key, asked.writes, &fresh) { "; stored" } else { "" };
        miss.finish(FillOutcome::Stored(fresh.clone()));
        Served::forwarded(miss.why()).count();
        let what = format!("fwd={}; fwd-status=304{stored}", miss.why());
        fresh.reply(&miss.client, status(&what))
    }

    /// Stores `reply` and gives it to all followers, or gives it to the client only.
    async fn take(
        &self,
        mut miss: Miss,
        asked: &SentRequest,
        reply: Reply,
    ) -> Result<Reply, Error> {
        let Reply { status: code, headers, body } = reply;
        let delay = asked.at.elapsed();
        let limit = self.0.entry_limit;
        let short = body.length().is_none_or(|length| length <= limit as u64);
        let freshness = Freshness::from_response(&asked.headers, code, &headers).filter(|_| short);
        let Some(freshness) = freshness else {
            return Ok(self.pass(miss, asked, Reply { status: code, headers, body }));
        };
        let content = match gather(body, limit).await {
            Ok(Gathered::All(content)) => content,
            Ok(Gathered::TooMuch(body)) => {
                return Ok(self.pass(miss, asked, Reply { status: code, headers, body }));
            }
            Err(error) => return Err(miss.fail(PeerError::Broken(error.to_string()).into())),
        };
        let answer = (code, &headers, content.as_deref());
        let stored = Arc::new(Stored::new(&asked.headers, answer, freshness, delay));
        let kept = if self.insert(&miss.key, asked.writes, &stored) { "; stored" } else { "" };
        miss.finish(FillOutcome::Stored(stored.clone()));
        Served::forwarded(miss.why()).count();
        Ok(stored.reply(&miss.client, status(&format!("fwd={}{kept}", miss.why()))))
    }

    /// Gives `reply` to the client only; followers ask by themselves.
    fn pass(&self, mut miss: Miss, asked: &SentRequest, reply: Reply) -> Reply {
        miss.finish(FillOutcome::Uncacheable);
        // A server error, or a 304 for the client's own condition, tells nothing about the resource.
        if !reply.status.is_server_error() && reply.status != StatusCode::NOT_MODIFIED {
            self.0.hit_for_miss.insert(self.hit_for_miss_key(&miss.key, &asked.headers), ());
            if miss.stale.is_some() {
                self.0.entries().invalidate(&miss.key);
            }
        }
        settle(&miss.client, labelled(reply, miss.why()))
    }
}

/// The same request without headers; a GET here has no content.
fn repeat(request: &Request) -> Request {
    let again = Request::new(request.method.clone(), request.target.clone());
    Request { interims: request.interims.clone(), ..again }
}

/// `reply` to a request without conditions, which must not be a 304.
fn whole(reply: Reply) -> Result<Reply, Error> {
    if reply.status != StatusCode::NOT_MODIFIED {
        return Ok(reply);
    }
    let detail = "a part of the shop gave an invalid response, try again";
    let cause = "it sent 304 to an unconditional request";
    Err(Error::new(Kind::BadGateway, detail).caused_by(cause))
}

enum Gathered {
    /// The whole content, if any.
    All(Option<Bytes>),
    /// All of the content as a stream, because it is longer than the limit.
    TooMuch(Body),
}

/// Reads `body` to its end, or until it exceeds `limit` bytes.
async fn gather(body: Body, limit: usize) -> io::Result<Gathered> {
    let length = body.length();
    let mut rest = match body {
        Body::None => return Ok(Gathered::All(None)),
        Body::Full(bytes) if bytes.len() <= limit => return Ok(Gathered::All(Some(bytes))),
        body => body.into_box_body(),
    };
    let mut start = BytesMut::new();
    while let Some(chunk) = next(&mut rest).await {
        start.extend_from_slice(&chunk?);
        if start.len() > limit {
            let chunks = stream::unfold(rest, async |mut rest| {
                next(&mut rest).await.map(|chunk| (chunk, rest))
            });
            let start = stream::iter([Ok(start.freeze())]);
            return Ok(Gathered::TooMuch(Body::stream(length, start.chain(chunks))));
        }
    }
    if length.is_some_and(|length| length != start.len() as u64) {
        return Err(io::Error::other("the content ended early"));
    }
    Ok(Gathered::All(Some(start.freeze())))
}

async fn next(body: &mut BoxBody) -> Option<io::Result<Bytes>> {
    let chunk = std::future::poll_fn(|cx| Pin::new(&mut *body).poll_next(cx)).await;
    chunk.map(|chunk| chunk.map_err(|error| io::Error::other(error.to_string())))
}
