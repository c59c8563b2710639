//! The gateway's shared cache (RFC 9111), in this process.
//!
//! It stores responses to GET whose origin says how long they are fresh; it has no heuristic freshness. A stale response
//! is revalidated with its ETag or date (section 4.3), or served stale where its origin allows that (RFC 5861). A write
//! invalidates the responses of its URI (section 4.4) unless it was refused, and a read that began before the write does
//! not store its response. `Cache-Status` says what happened to a request (RFC 9211).
//!
//! Of all clients that miss the same response, one asks the origin, and the others wait a moment for its response. If it
//! turns out to be uncacheable, they ask by themselves, as do all further clients for some seconds (hit-for-miss).
//!
//! The rules are implemented here, because the crate `http-cache-semantics` 3.0.0 has faults: it knows directives in lower
//! case only, so that it stores `NO-STORE` and `Private`; it stores `public` responses with Set-Cookie, and responses that
//! vary by `accept, *`; it reads only the first line of Age or Expires, and takes an unreadable one for new; it drops
//! headers that a 304 adds. It has no stale-while-revalidate, and a hit would copy both heads into its maps.

mod client;
mod counters;
mod directives;
mod fill;
mod freshness;
mod stored;
#[cfg(test)]
mod tests;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

use actix_web::http::header::{AUTHORIZATION, CONTENT_LOCATION, HOST, HeaderValue, LOCATION};
use actix_web::http::{Method, Uri};
use moka::sync::Cache as Moka;
use tokio::time::{Instant, timeout_at};

use crate::error::{Error, Kind};
use crate::peer::{Context, Headers, Reply, Request};
use crate::single_flight::{Flight, SingleFlight};
use crate::telemetry::{Part, Wait};
use client::Client;
use counters::Served;
pub(super) use counters::collector;
use fill::{FillOutcome, Miss};
use stored::{CACHE_STATUS, Fit, Stored};

/// How long a follower waits for its leader.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it is remembered that the responses of a URI are uncacheable.
const HIT_FOR_MISS: Duration = Duration::from_secs(10);
/// The most variants per URI; the oldest is dropped first.
const VARIANTS: usize = 16;
/// From this size on, storing a response evicts others at once: some dozens would exceed the bound by much.
const LARGE: usize = 16 << 10;
/// The number of write counters, which URIs share.
const STRIPES: usize = 256;

/// The responses of one URI, the newest first.
type Variants = Arc<[Arc<Stored>]>;

/// The cache of a process; cheap to clone, and shared by its threads.
#[derive(Clone, Debug)]
pub(super) struct Cache(Arc<CacheInner>);

#[derive(Debug)]
struct CacheInner {
    /// Made when it is first used, as `hit_for_miss` is: most processes have no cached route.
    entries: OnceLock<Moka<String, Variants>>,
    /// How much memory `entries` may take, in bytes.
    size: u64,
    /// The requests under way, by [`Cache::flight_key`].
    flights: SingleFlight<Vec<u8>, FillOutcome>,
    hit_for_miss: LazyLock<Moka<u64, ()>>,
    writes: [AtomicU64; STRIPES],
    hasher: RandomState,
    entry_limit: usize,
    /// The cache of the next route table.
    successor: OnceLock<Cache>,
}

impl CacheInner {
    fn entries(&self) -> &Moka<String, Variants> {
        let weigh = |key: &String, variants: &Variants| {
            let weights = variants.iter().map(|stored| stored.weight()).sum::<usize>();
            u32::try_from(128 + key.len() + weights).unwrap_or(u32::MAX)
        };
        self.entries.get_or_init(|| Moka::builder().max_capacity(self.size).weigher(weigh).build())
    }
}

impl Cache {
    /// An empty cache of about `size` bytes of memory, for responses with up to `entry_limit` bytes of content.
    pub(super) fn new(size: u64, entry_limit: usize) -> Self {
        let hit_for_miss =
            || Moka::builder().max_capacity(10_000).time_to_live(HIT_FOR_MISS).build();
        Self(Arc::new(CacheInner {
            entries: OnceLock::new(),
            size,
            flights: SingleFlight::default(),
            hit_for_miss: LazyLock::new(hit_for_miss),
            writes: [const { AtomicU64::new(0) }; STRIPES],
            hasher: RandomState::new(),
            entry_limit,
            successor: OnceLock::new(),
        }))
    }

    /// From now on, writes that go through this cache invalidate `successor` too.
    pub(super) fn hand_over(&self, successor: &Self) {
        // A route table has one successor.
        let _ = self.0.successor.set(successor.clone());
    }

    /// Answers `request` from the cache, or by `fetch`, which sends a request to the origin, possibly with other conditions.
    /// All requests of a cached route come through here, writes too. With stale-while-revalidate, `fetch` continues in the
    /// background until the deadline of `context`.
    ///
    /// # Errors
    /// The error of `fetch`, or 504 for `only-if-cached` on a miss.
    pub(super) async fn through<F>(
        &self,
        request: Request,
        context: &Context,
        fetch: F,
    ) -> Result<Reply, Error>
    where
        F: AsyncFn(Request) -> Result<Reply, Error> + 'static,
    {
        if request.method != Method::GET && request.method != Method::HEAD {
            return self.write(request, fetch).await;
        }
        let client = Client::from_request(&request);
        if client.bypasses(&request) {
            let why = if client.directives.no_store { "request" } else { "bypass" };
            return fetch(request).await.map(|reply| labelled(reply, why));
        }
        self.read(client, request, context, fetch).await
    }

    async fn read<F>(
        &self,
        client: Client,
        request: Request,
        context: &Context,
        fetch: F,
    ) -> Result<Reply, Error>
    where
        F: AsyncFn(Request) -> Result<Reply, Error> + 'static,
    {
        let key = key(&request);
        let limit = (Instant::now() + PATIENCE).min(context.deadline.into());
        loop {
            let (stale, flight_key) = match self.lookup(&key, &client, &request.headers) {
                Lookup::Fresh(stored) => return Ok(stored.hit(&client)),
                Lookup::StaleWhileRevalidate(stored, flight_key) => {
                    let reply = stored.hit(&client);
                    if let Flight::Leader(leader) = self.0.flights.join(flight_key) {
                        let miss = Miss::new(key, client, Some(stored)).leading(leader);
                        self.refresh(miss, request, context, fetch);
                    }
                    return Ok(reply);
                }
                Lookup::OnlyIfCached => {
                    let detail = "no response is stored, and the request is only-if-cached";
                    return Err(Error::new(Kind::DeadlineExceeded, detail));
                }
                Lookup::Uncollapsed(stale) => {
                    return self.fill(Miss::new(key, client, stale), request, fetch).await;
                }
                Lookup::Missing(stale, flight_key) => (stale, flight_key),
            };
            let follower = match self.0.flights.join(flight_key) {
                Flight::Follower(follower) => follower,
                Flight::Leader(leader) => {
                    if let Lookup::Fresh(stored) = self.lookup(&key, &client, &request.headers) {
                        // Another client was faster.
                        leader.finish(FillOutcome::Stored(stored.clone()));
                        return Ok(stored.hit(&client));
                    }
                    let miss = Miss::new(key, client, stale).leading(leader);
                    return self.fill(miss, request, fetch).await;
                }
            };
            let waited = {
                // The upstream is asked for this request, too.
                let _wait = Wait::begin(Part::Peers);
                timeout_at(limit, follower.wait()).await
            };
            match waited {
                Ok(Some(FillOutcome::Stored(stored))) if stored.matches(&request.headers) => {
                    let status = HeaderValue::from_static("shop; fwd=miss; collapsed");
                    Served::Collapsed.count();
                    return Ok(stored.reply(&client, status));
                }
                Ok(Some(FillOutcome::Failed(error))) => return Err(Error::shared(&error)),
                Ok(Some(FillOutcome::Uncacheable)) | Err(_) => {
                    return self.fill(Miss::new(key, client, None), request, fetch).await;
                }
                // Another variant, or the leader left.
                Ok(Some(FillOutcome::Stored(_)) | None) => {}
            }
        }
    }

    fn lookup(&self, key: &str, client: &Client, asked: &Headers) -> Lookup {
        let variants = self.0.entries().get(key).unwrap_or_default();
        let found = variants.iter().find(|stored| stored.matches(asked)).cloned();
        let fit = found.as_ref().map_or(Fit::Unfit, |stored| stored.fit(&client.directives));
        match (fit, found) {
            (Fit::Good, Some(stored)) => Lookup::Fresh(stored),
            (Fit::WhileRevalidated, Some(stored)) if !client.is_head => {
                Lookup::StaleWhileRevalidate(stored, self.flight_key(key, asked, &variants))
            }
            _ if client.directives.only_if_cached => Lookup::OnlyIfCached,
            (_, found) if client.is_head || client.wants_new() => Lookup::Uncollapsed(found),
            (_, None) if self.0.hit_for_miss.contains_key(&self.hit_for_miss_key(key, asked)) => {
                Lookup::Uncollapsed(None)
            }
            (_, found) => Lookup::Missing(found, self.flight_key(key, asked, &variants)),
        }
    }

    /// Passes a write on, and invalidates the responses of its URI.
    async fn write(
        &self,
        request: Request,
        fetch: impl AsyncFn(Request) -> Result<Reply, Error>,
    ) -> Result<Reply, Error> {
        if request.method.is_safe() {
            return fetch(request).await;
        }
        let host = host(&request);
        let is_delete = request.method == Method::DELETE;
        // Armed until it is known that nothing was written; also if this future is dropped.
        let mut guard = InvalidateOnDrop { cache: self, key: key(&request), armed: true };
        let outcome = fetch(request).await;
        match &outcome {
            Ok(reply) if reply.status.as_u16() < 400 => {
                for name in [LOCATION, CONTENT_LOCATION] {
                    let named = reply.headers.get(name).and_then(|named| named.to_str().ok());
                    let uri = named.and_then(|named| named.parse::<Uri>().ok());
                    let ours = uri.filter(|uri| {
                        uri.authority().is_none_or(|named| named.as_str().as_bytes() == host)
                    });
                    ours.iter().for_each(|uri| self.invalidate(&key_of(&host, uri)));
                }
            }
            // Refused. But after a DELETE, 404 and 410 say that stored responses are outdated.
            Ok(reply) if reply.status.is_client_error() => {
                guard.armed = is_delete && [404, 410].contains(&reply.status.as_u16());
            }
            // The write may have been done before an error, or its response was lost.
            Ok(_) | Err(_) => {}
        }
        outcome
    }

    fn stripe(&self, key: &str) -> &AtomicU64 {
        // The remainder is below 256.
        &self.0.writes[self.0.hasher.hash_one(key) as usize % STRIPES]
    }

    /// Drops the responses of `key`, and those that are on their way.
    fn invalidate(&self, key: &str) {
        self.stripe(key).fetch_add(1, Ordering::AcqRel);
        if let Some(entries) = self.0.entries.get() {
            entries.invalidate(key);
        }
        if let Some(successor) = self.0.successor.get() {
            successor.invalidate(key);
        }
    }

    /// Stores a response that was requested when the write counter of `key` was `writes`. Returns whether it did.
    fn insert(&self, key: &str, writes: u64, stored: &Arc<Stored>) -> bool {
        let stripe = self.stripe(key);
        if stripe.load(Ordering::Acquire) != writes {
            return false;
        }
        self.0.entries().entry_by_ref(key).and_upsert_with(|before| {
            let before = before.map(|entry| entry.into_value()).unwrap_or_default();
            let others = before.iter().filter(|other| !stored.replaces(other));
            std::iter::once(stored).chain(others).take(VARIANTS).cloned().collect::<Variants>()
        });
        if stored.weight() > LARGE {
            // Evicts at once instead of some responses later.
            self.0.entries().run_pending_tasks();
        }
        // A write in between may have invalidated before the response was stored.
        let current = stripe.load(Ordering::Acquire) == writes;
        if !current {
            self.0.entries().invalidate(key);
        }
        current
    }

    /// The key of the flight for a request: the same for requests to one URI, after the same writes, with the same values
    /// of the headers that its responses are known to vary by.
    fn flight_key(&self, key: &str, asked: &Headers, variants: &[Arc<Stored>]) -> Vec<u8> {
        let mut flight_key = key.as_bytes().to_vec();
        flight_key.extend(self.stripe(key).load(Ordering::Acquire).to_be_bytes());
        flight_key.push(asked.contains_key(AUTHORIZATION).into());
        for name in variants.first().iter().flat_map(|stored| stored.selecting()) {
            for value in asked.get_all(name) {
                flight_key.extend(value.as_bytes());
                flight_key.push(b'\n');
            }
            flight_key.push(b'\r');
        }
        flight_key
    }

    /// The requests for `key` whose responses are probably uncacheable if one was.
    fn hit_for_miss_key(&self, key: &str, asked: &Headers) -> u64 {
        self.0.hasher.hash_one((key, asked.contains_key(AUTHORIZATION)))
    }
}

/// Invalidates a key on drop, if it is armed.
struct InvalidateOnDrop<'a> {
    cache: &'a Cache,
    key: String,
    armed: bool,
}

impl Drop for InvalidateOnDrop<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.cache.invalidate(&self.key);
        }
    }
}

/// The result of a cache lookup.
enum Lookup {
    /// A response to serve.
    Fresh(Arc<Stored>),
    /// A stale response to serve while the flight with this key revalidates it.
    StaleWhileRevalidate(Arc<Stored>, Vec<u8>),
    /// Nothing, and the client does not want the origin's response.
    OnlyIfCached,
    /// A stale response, if any; the client asks the origin by itself.
    Uncollapsed(Option<Arc<Stored>>),
    /// A stale response, if any; the client joins the flight with this key.
    Missing(Option<Arc<Stored>>, Vec<u8>),
}

/// The cache key of `request`: its URI.
fn key(request: &Request) -> String {
    key_of(&host(request), &request.target)
}

fn key_of(host: &[u8], uri: &Uri) -> String {
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    format!("{} {target}", host.escape_ascii())
}

/// The authority that `request` names.
fn host(request: &Request) -> Vec<u8> {
    match request.target.authority() {
        Some(authority) => authority.as_str().into(),
        None => request.headers.get(HOST).map(|host| host.as_bytes().to_vec()).unwrap_or_default(),
    }
}

/// `reply`, which was not stored, with `why` the origin was asked in Cache-Status.
fn labelled(mut reply: Reply, why: &str) -> Reply {
    Served::forwarded(why).count();
    reply.headers.append(CACHE_STATUS, status(&format!("fwd={why}")));
    reply
}

/// A value of Cache-Status.
fn status(what: &str) -> HeaderValue {
    // ASCII text is a valid header value.
    HeaderValue::from_str(&format!("shop; {what}")).unwrap_or(HeaderValue::from_static("shop"))
}
