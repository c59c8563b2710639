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
use crate::single_flight::{Flights, Turn};
use client::Client;
use fill::{Landing, Miss};
use stored::{CACHE_STATUS, Fit, Stored};

/// The longest that one waits for what another asks.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it is remembered that the answers of a place are for one alone.
const PASSING: Duration = Duration::from_secs(10);
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
pub(super) struct Cache(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    entries: Moka<String, Variants>,
    /// Those under way, by where they meet; see [`Cache::place`].
    flights: Flights<Vec<u8>, Landing>,
    passing: Moka<u64, ()>,
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
        Self(Arc::new(Shared {
            entries: entries.weigher(weigh).build(),
            flights: Flights::default(),
            passing: Moka::builder().max_capacity(10_000).time_to_live(PASSING).build(),
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
        let client = Client::of(&request);
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
            let (stale, place) = match self.look(&key, &client, &request.headers) {
                Look::Good(stored) => return Ok(stored.hit(&client)),
                Look::GoodEnough(stored, place) => {
                    let reply = stored.hit(&client);
                    if let Turn::Ours(flight) = self.0.flights.board(place) {
                        let miss = Miss::new(key, client, Some(stored)).leading(flight);
                        self.refresh(miss, request, context, fetch);
                    }
                    return Ok(reply);
                }
                Look::Unwanted => {
                    let detail = "no answer is stored, and no other was wanted";
                    return Err(Error::new(Kind::DeadlineExceeded, detail));
                }
                Look::Alone(stale) => {
                    return self.fill(Miss::new(key, client, stale), request, fetch).await;
                }
                Look::Missing(stale, place) => (stale, place),
            };
            let ticket = match self.0.flights.board(place) {
                Turn::Theirs(ticket) => ticket,
                Turn::Ours(flight) => {
                    if let Look::Good(stored) = self.look(&key, &client, &request.headers) {
                        // Somebody was faster.
                        flight.land(Landing::Stored(stored.clone()));
                        return Ok(stored.hit(&client));
                    }
                    let miss = Miss::new(key, client, stale).leading(flight);
                    return self.fill(miss, request, fetch).await;
                }
            };
            match timeout_at(limit, ticket.wait()).await {
                Ok(Some(Landing::Stored(stored))) if stored.matches(&request.headers) => {
                    let status = HeaderValue::from_static("shop; fwd=miss; collapsed");
                    return Ok(stored.reply(&client, status));
                }
                Ok(Some(Landing::Failed(error))) => return Err(Error::shared(&error)),
                Ok(Some(Landing::Passed)) | Err(_) => {
                    return self.fill(Miss::new(key, client, None), request, fetch).await;
                }
                // Another variant, or nothing.
                Ok(Some(Landing::Stored(_)) | None) => {}
            }
        }
    }

    fn look(&self, key: &str, client: &Client, asked: &Headers) -> Look {
        let variants = self.0.entries.get(key).unwrap_or_default();
        let found = variants.iter().find(|stored| stored.matches(asked)).cloned();
        let fit = found.as_ref().map_or(Fit::Unfit, |stored| stored.fit(&client.directives));
        match (fit, found) {
            (Fit::Good, Some(stored)) => Look::Good(stored),
            (Fit::WhileRevalidated, Some(stored)) if !client.is_head => {
                Look::GoodEnough(stored, self.place(key, asked, &variants))
            }
            _ if client.directives.only_if_cached => Look::Unwanted,
            (_, found) if client.is_head || client.wants_new() => Look::Alone(found),
            (_, None) if self.0.passing.contains_key(&self.passage(key, asked)) => {
                Look::Alone(None)
            }
            (_, found) => Look::Missing(found, self.place(key, asked, &variants)),
        }
    }

    /// Passes a write on, and forgets what is stored of what it has changed.
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
        let mut doubt = Doubt { cache: self, key: key(&request), forgets: true };
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
                doubt.forgets = is_delete && [404, 410].contains(&reply.status.as_u16());
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
    fn place(&self, key: &str, asked: &Headers, variants: &[Arc<Stored>]) -> Vec<u8> {
        let mut place = key.as_bytes().to_vec();
        place.extend(self.stripe(key).load(Ordering::Acquire).to_be_bytes());
        place.push(asked.contains_key(AUTHORIZATION).into());
        for name in variants.first().iter().flat_map(|stored| stored.selecting()) {
            for value in asked.get_all(name) {
                place.extend(value.as_bytes());
                place.push(b'\n');
            }
            place.push(b'\r');
        }
        place
    }

    /// Names those requests for `key` whose answers are likely for one alone when one was.
    fn passage(&self, key: &str, asked: &Headers) -> u64 {
        self.0.hasher.hash_one((key, asked.contains_key(AUTHORIZATION)))
    }
}

/// What is forgotten when a write has ended, however it has.
struct Doubt<'a> {
    cache: &'a Cache,
    key: String,
    forgets: bool,
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        if self.forgets {
            self.cache.invalidate(&self.key);
        }
    }
}

/// What the cache has for a request.
enum Look {
    /// Its answer.
    Good(Arc<Stored>),
    /// Its answer, if somebody asks for a new one at this place.
    GoodEnough(Arc<Stored>, Vec<u8>),
    /// Nothing, and nothing else is wanted.
    Unwanted,
    /// What is past its time, if anything; nobody else asks for the same.
    Alone(Option<Arc<Stored>>),
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
