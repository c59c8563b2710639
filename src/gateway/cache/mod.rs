//! A cache for everybody who asks the gateway (RFC 9111, a shared cache), in this process.
//!
//! It keeps answers to GET whose origin says how long they are good, and guesses nothing for those that do not.
//! Past its time an answer is asked for again with its ETag or its date (section 4.3), or served stale where its
//! origin allows that (RFC 5861). A write removes what is kept of its URI (section 4.4) unless it was refused, and no
//! read that began before puts it back. What happened to a request stands in `Cache-Status` (RFC 9211).
//!
//! However many ask for what is missing, one of them asks the origin, and the others wait for its answer for a
//! moment. When it turns out to be for that one alone, they go by themselves, and so do all who come in the next
//! seconds.
//!
//! The rules are written here. The crate `http-cache-semantics` 3.0.0 answers worse: it knows directives in lower case
//! only, so that `NO-STORE` and `Private` are kept; it keeps `public` answers with Set-Cookie, and those that vary by
//! `accept, *`; of several lines of Age or Expires it reads the first, and takes one that is unreadable for new; it
//! drops what a 304 adds. It has no stale-while-revalidate, and a hit would copy both heads into its maps.

mod client;
mod directives;
mod fill;
mod freshness;
mod stored;
#[cfg(test)]
mod tests;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix_web::http::header::{AUTHORIZATION, CONTENT_LOCATION, HOST, HeaderValue, LOCATION};
use actix_web::http::{Method, Uri};
use moka::sync::Cache as Moka;
use tokio::time::{Instant, timeout_at};

use crate::error::{Error, Kind};
use crate::peer::{Context, Headers, Reply, Request};
use crate::single_flight::{Flight, SingleFlight};
use client::Client;
use fill::{FillOutcome, Miss};
use stored::{CACHE_STATUS, Fit, Stored};

/// The longest that one waits for what another asks.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it is remembered that the answers of a place are for one alone.
const HIT_FOR_MISS: Duration = Duration::from_secs(10);
/// Answers to one URI that differ by request headers; the oldest goes first.
const VARIANTS: usize = 16;
/// Answers of so many bytes are not left lying about: some dozens would exceed a bound by much.
const LARGE: usize = 16 << 10;
/// Counters of writes; URIs share them.
const STRIPES: usize = 256;

/// Answers to one URI, the newest first.
type Variants = Arc<[Arc<Stored>]>;

/// The cache of a process; cheap to clone, and shared by its threads.
#[derive(Clone, Debug)]
pub(super) struct Cache(Arc<CacheInner>);

#[derive(Debug)]
struct CacheInner {
    entries: Moka<String, Variants>,
    /// Those under way, by where they meet; see [`Cache::place`].
    flights: SingleFlight<Vec<u8>, FillOutcome>,
    hit_for_miss: Moka<u64, ()>,
    writes: [AtomicU64; STRIPES],
    hasher: RandomState,
    entry_limit: usize,
    /// That of the plan behind this one's.
    successor: OnceLock<Cache>,
}

impl Cache {
    /// An empty cache that takes about `size` bytes of memory, for answers of up to `entry_limit` bytes of content.
    pub(super) fn new(size: u64, entry_limit: usize) -> Self {
        let weigh = |key: &String, variants: &Variants| {
            let weights = variants.iter().map(|stored| stored.weight()).sum::<usize>();
            u32::try_from(128 + key.len() + weights).unwrap_or(u32::MAX)
        };
        let entries = Moka::builder().max_capacity(size);
        Self(Arc::new(CacheInner {
            entries: entries.weigher(weigh).build(),
            flights: SingleFlight::default(),
            hit_for_miss: Moka::builder().max_capacity(10_000).time_to_live(HIT_FOR_MISS).build(),
            writes: [const { AtomicU64::new(0) }; STRIPES],
            hasher: RandomState::new(),
            entry_limit,
            successor: OnceLock::new(),
        }))
    }

    /// From now on, what a write changes that began before is forgotten by `successor` too.
    pub(super) fn hand_over(&self, successor: &Self) {
        // A plan is followed by one other.
        let _ = self.0.successor.set(successor.clone());
    }

    /// Answers `request` from the cache, or by `fetch`, which is given the request that it takes to ask the
    /// origin: it may differ in its conditions. All requests of a route that is cached come through here, writes
    /// too. Where an answer may be stale for a while, `fetch` runs on behind it, until the deadline of `context`.
    ///
    /// # Errors
    /// That of `fetch`, or 504 for a client that wants a stored answer where there is none.
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
                    let detail = "no answer is stored, and no other was wanted";
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
                        // Somebody was faster.
                        leader.finish(FillOutcome::Stored(stored.clone()));
                        return Ok(stored.hit(&client));
                    }
                    let miss = Miss::new(key, client, stale).leading(leader);
                    return self.fill(miss, request, fetch).await;
                }
            };
            match timeout_at(limit, follower.wait()).await {
                Ok(Some(FillOutcome::Stored(stored))) if stored.matches(&request.headers) => {
                    let status = HeaderValue::from_static("shop; fwd=miss; collapsed");
                    return Ok(stored.reply(&client, status));
                }
                Ok(Some(FillOutcome::Failed(error))) => return Err(Error::shared(&error)),
                Ok(Some(FillOutcome::Uncacheable)) | Err(_) => {
                    return self.fill(Miss::new(key, client, None), request, fetch).await;
                }
                // Another variant, or nothing.
                Ok(Some(FillOutcome::Stored(_)) | None) => {}
            }
        }
    }

    fn lookup(&self, key: &str, client: &Client, asked: &Headers) -> Lookup {
        let variants = self.0.entries.get(key).unwrap_or_default();
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

    /// Passes a write on, and armed what is stored of what it has changed.
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
        // Until it is known that nothing was written: this may be cut off, too.
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
            // Refused; but what is not there to be removed was there to be stored, or a first attempt has removed it.
            Ok(reply) if reply.status.is_client_error() => {
                guard.armed = is_delete && [404, 410].contains(&reply.status.as_u16());
            }
            // It may have been done before something broke, or the answer was lost.
            Ok(_) | Err(_) => {}
        }
        outcome
    }

    fn stripe(&self, key: &str) -> &AtomicU64 {
        // The remainder is far below 2^16.
        &self.0.writes[self.0.hasher.hash_one(key) as usize % STRIPES]
    }

    /// Forgets `key`, and lets nothing in that was asked for before.
    fn invalidate(&self, key: &str) {
        self.stripe(key).fetch_add(1, Ordering::AcqRel);
        self.0.entries.invalidate(key);
        if let Some(successor) = self.0.successor.get() {
            successor.invalidate(key);
        }
    }

    /// Stores an answer that was asked for when the stripe of `key` said `writes`; tells whether it did.
    fn insert(&self, key: &str, writes: u64, stored: &Arc<Stored>) -> bool {
        let stripe = self.stripe(key);
        if stripe.load(Ordering::Acquire) != writes {
            return false;
        }
        self.0.entries.entry_by_ref(key).and_upsert_with(|before| {
            let before = before.map(|entry| entry.into_value()).unwrap_or_default();
            let others = before.iter().filter(|other| !stored.replaces(other));
            std::iter::once(stored).chain(others).take(VARIANTS).cloned().collect::<Variants>()
        });
        if stored.weight() > LARGE {
            // What is too much leaves now, and not some answers later.
            self.0.entries.run_pending_tasks();
        }
        // A write between the two has looked before the answer was there.
        let current = stripe.load(Ordering::Acquire) == writes;
        if !current {
            self.0.entries.invalidate(key);
        }
        current
    }

    /// Where those meet who want the same answer: of one URI, after the same writes, and with the same values of
    /// the headers that its answers are known to depend on.
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

    /// Names those requests for `key` whose answers are likely for one alone when one was.
    fn hit_for_miss_key(&self, key: &str, asked: &Headers) -> u64 {
        self.0.hasher.hash_one((key, asked.contains_key(AUTHORIZATION)))
    }
}

/// What is forgotten when a write has ended, however it has.
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

/// What the cache has for a request.
enum Lookup {
    /// Its answer.
    Fresh(Arc<Stored>),
    /// Its answer, if somebody asks for a new one at this place.
    StaleWhileRevalidate(Arc<Stored>, Vec<u8>),
    /// Nothing, and nothing else is wanted.
    OnlyIfCached,
    /// What is past its time, if anything; nobody else asks for the same.
    Uncollapsed(Option<Arc<Stored>>),
    /// What is past its time, if anything; somebody at this place may ask for the same.
    Missing(Option<Arc<Stored>>, Vec<u8>),
}

/// The URI of `request` as a key.
fn key(request: &Request) -> String {
    key_of(&host(request), &request.target)
}

fn key_of(host: &[u8], uri: &Uri) -> String {
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    format!("{} {target}", host.escape_ascii())
}

/// The authority that `request` is for.
fn host(request: &Request) -> Vec<u8> {
    match request.target.authority() {
        Some(authority) => authority.as_str().into(),
        None => request.headers.get(HOST).map(|host| host.as_bytes().to_vec()).unwrap_or_default(),
    }
}

/// `reply`, which was not kept, with why it was asked for.
fn labelled(mut reply: Reply, why: &str) -> Reply {
    reply.headers.append(CACHE_STATUS, status(&format!("fwd={why}")));
    reply
}

/// What this cache says of what it did.
fn status(what: &str) -> HeaderValue {
    // Letters and digits are a header value.
    HeaderValue::from_str(&format!("shop; {what}")).unwrap_or(HeaderValue::from_static("shop"))
}
