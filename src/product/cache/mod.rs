//! Cache-aside for the catalogue's responses, as the bytes that are sent.
//!
//! Every entry has the *generation* that was current when the store was asked. A write starts a new generation once the
//! store has it and before its own response leaves. Entries of other generations count as missing, so a slow reader
//! cannot put back an old page.
//!
//! A write with an unknown outcome, because its answer was lost or late, starts a generation too. Older entries are
//! revalidated, and served only while the store does not answer.
//!
//! A miss asks the store once, however many callers wait: in this process by single flight, and across processes by a
//! lock of a few seconds. An entry past its time is served while one caller refreshes it, and while the store is away.
//! Without the cache, reads go to the store, one query per key at a time.
//!
//! Not every answer is kept: see [`admission`].

mod admission;
mod counters;
mod entry;
mod generation;
mod memory;
mod redis;

use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deadpool_redis::redis::RedisError;
use prometheus::core::Collector;
use tokio::time::{Instant, sleep, timeout};

pub(super) use entry::{Entry, Key};

use crate::config::{CacheUrl, Product as Options};
use crate::error::{Error, Kind};
use crate::single_flight::{Flight, SingleFlight};
use crate::tasks;
use crate::telemetry::{Part, Span, Wait, inherit};
use admission::Admission;
use counters::Counters;
use entry::{Found, Stored};

/// How long a process that fills an entry keeps others from doing so.
const LOCK: Duration = Duration::from_secs(2);
/// How often the others check whether the entry is filled.
const LOOK: Duration = Duration::from_millis(10);

/// How long a caller waits for the store if there is a doubtful entry, and for how long no caller waits after a timeout.
const PATIENCE: Duration = Duration::from_secs(2);
const BACKOFF: Duration = Duration::from_secs(5);

/// The time between two writes. While the cache is away, only writes of this process count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Generation {
    Known(u128),
    Away(u64),
}

/// The cache of a process; each worker thread opens its own [`Cache`] on it.
#[derive(Clone, Debug)]
pub(super) struct ProcessCache {
    options: Options,
    memory: memory::Entries,
    /// The server, if entries are on one.
    redis: Option<Arc<redis::RedisState>>,
    flights: SingleFlight<(Generation, Key), Result<Stored, Arc<Error>>>,
    refreshing: SingleFlight<Key, ()>,
    writes: Arc<AtomicU64>,
    counters: Counters,
    /// When the store last did not answer in time.
    timed_out_at: Arc<Mutex<Option<Instant>>>,
}

/// The cache of one worker thread; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    shared: Rc<ProcessCache>,
    redis: Option<redis::Entries>,
}

/// Where a response came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// In the cache.
    Hit,
    /// In the cache, past its time.
    Stale,
    /// In the store.
    Miss,
}

impl Origin {
    /// The value of the `X-Cache` header.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Hit => "HIT",
            Self::Stale => "STALE",
            Self::Miss => "MISS",
        }
    }
}

impl ProcessCache {
    /// The cache of one process.
    pub(super) fn new(options: &Options) -> Self {
        Self {
            memory: memory::Entries::new(options),
            redis: match &options.cache_url {
                CacheUrl::Memory => None,
                CacheUrl::Redis(url) => Some(Arc::new(redis::RedisState::new(url, options))),
            },
            flights: SingleFlight::default(),
            refreshing: SingleFlight::default(),
            writes: Arc::default(),
            counters: Counters::new(),
            timed_out_at: Arc::default(),
            options: options.clone(),
        }
    }

    /// Its metrics.
    pub(super) fn collectors(&self) -> Vec<Box<dyn Collector>> {
        self.counters.collectors()
    }

    /// The cache for this thread. Opens no connection yet.
    pub(super) fn open(&self) -> Cache {
        let redis = self.redis.clone().map(redis::Entries::new);
        Cache { shared: Rc::new(self.clone()), redis }
    }
}

impl Cache {
    /// The response for `key`, from `load` if it is missing; `None` if the resource does not exist.
    ///
    /// # Errors
    /// The error of `load`, which is not cached.
    pub(super) async fn get<L, F>(
        &self,
        key: Key,
        load: L,
    ) -> Result<(Option<Entry>, Origin), Error>
    where
        L: FnOnce() -> F + 'static,
        F: Future<Output = Result<Option<Entry>, Error>> + 'static,
    {
        let mut span = Span::cache_read(key.kind().name());
        // Of most requests: the future is made where it runs, and not moved there.
        let found = match span.scope() {
            None => self.read(key, load).await,
            Some(scope) => Box::pin(scope.run(self.read(key, load))).await,
        };
        span.read(found.as_ref().map_or("error", |(_, origin)| origin.label()));
        found
    }

    async fn read<L, F>(&self, key: Key, load: L) -> Result<(Option<Entry>, Origin), Error>
    where
        L: FnOnce() -> F + 'static,
        F: Future<Output = Result<Option<Entry>, Error>> + 'static,
    {
        let kind = key.kind();
        let counted = |origin| {
            self.shared.counters.read(kind, origin);
            origin
        };
        self.admission().inspect(|admission| admission.note(&key));
        let (generation, stored, in_doubt) = self.look(&key).await;
        match stored {
            Some(stored) if in_doubt => {
                let found = Box::pin(self.revalidate(generation, key, stored, load)).await;
                counted(found.as_ref().map_or(Origin::Miss, |(_, origin)| *origin));
                found
            }
            Some(stored) if stored.is_fresh() => Ok((stored.entry, counted(Origin::Hit))),
            Some(stored) => {
                self.refresh(generation, key, load);
                Ok((stored.entry, counted(Origin::Stale)))
            }
            None => {
                let origin = counted(Origin::Miss);
                // Boxed, as are the calls to Redis, to keep the future of a hit small.
                let stored = Box::pin(self.fill(generation, key, load)).await?;
                Ok((stored.entry, origin))
            }
        }
    }

    fn admission(&self) -> Option<&Admission> {
        self.redis.as_ref().map(redis::Entries::admission)
    }

    /// Keeps `key`, of which there is an entry, for as long as anybody asks for it.
    fn keep(&self, key: &Key) {
        self.admission().inspect(|admission| admission.admit(key));
    }

    /// After an acknowledged write: drops all entries.
    pub(super) async fn invalidate(&self) {
        self.shared.writes.fetch_add(1, Ordering::AcqRel);
        match &self.redis {
            Some(redis) => redis.invalidate().await,
            None => self.shared.memory.invalidate(),
        }
    }

    /// After a write with an unknown outcome: has all entries revalidated.
    pub(super) async fn doubt(&self) {
        self.shared.writes.fetch_add(1, Ordering::AcqRel);
        match &self.redis {
            Some(redis) => redis.doubt().await,
            None => self.shared.memory.doubt(),
        }
    }

    /// As [`Cache::doubt`], for callers that cannot wait. It takes effect in this process at once.
    pub(super) fn doubt_now(&self) {
        self.shared.writes.fetch_add(1, Ordering::AcqRel);
        match &self.redis {
            Some(redis) => redis.doubt_later(),
            None => self.shared.memory.doubt(),
        }
    }

    /// Waits until other processes know of all writes of this one.
    pub(super) async fn settle(&self) {
        if let Some(redis) = &self.redis {
            redis.settle().await;
        }
    }

    /// Checks that the cache answers.
    ///
    /// # Errors
    /// Why it does not.
    pub(super) async fn ping(&self) -> Result<(), RedisError> {
        match &self.redis {
            Some(redis) => redis.ping().await,
            None => Ok(()),
        }
    }

    /// The generation, the entry, and whether the entry is older than a write with an unknown outcome.
    async fn look(&self, key: &Key) -> (Generation, Option<Stored>, bool) {
        let found = match &self.redis {
            Some(redis) => Box::pin(redis.fetch(key)).await,
            None => Some(self.shared.memory.fetch(key).await),
        };
        match found {
            Some(Found { generation, stored, in_doubt }) => {
                // A doubtful "does not exist" is of no use.
                let stored = stored.filter(|stored| !in_doubt || stored.entry.is_some());
                (Generation::Known(generation), stored, in_doubt)
            }
            None => (Generation::Away(self.shared.writes.load(Ordering::Acquire)), None, false),
        }
    }

    /// Asks the store, and returns the doubtful `old` entry if it does not answer soon.
    async fn revalidate<L, F>(
        &self,
        generation: Generation,
        key: Key,
        old: Stored,
        load: L,
    ) -> Result<(Option<Entry>, Origin), Error>
    where
        L: FnOnce() -> F + 'static,
        F: Future<Output = Result<Option<Entry>, Error>> + 'static,
    {
        self.keep(&key);
        let is_away = self.timed_out_at().is_some_and(|last| last.elapsed() < BACKOFF);
        let patience = if is_away { Duration::ZERO } else { PATIENCE };
        // A fill that has begun goes on for the next caller.
        match timeout(patience, self.fill(generation, key, load)).await {
            Ok(Ok(stored)) => {
                *self.timed_out_at() = None;
                return Ok((stored.entry, Origin::Miss));
            }
            Ok(Err(error)) if error.kind() != Kind::Unavailable => return Err(error),
            Ok(outcome) => log::debug!(role = "product"; "serving a doubtful entry: {outcome:?}"),
            Err(_) => log::debug!(role = "product"; "serving a doubtful entry: no answer in time"),
        }
        if !patience.is_zero() {
            *self.timed_out_at() = Some(Instant::now());
        }
        Ok((old.entry, Origin::Stale))
    }

    fn timed_out_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.shared.timed_out_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether the entry was admitted.
    async fn store(&self, key: &Key, generation: Generation, stored: &Stored) -> bool {
        let too_large = stored.length() > self.shared.options.cache_entry_limit;
        let Generation::Known(token) = generation else { return false };
        match &self.redis {
            _ if too_large => false,
            Some(redis) => Box::pin(redis.store(key, token, stored)).await,
            None => self.shared.memory.store(key, token, stored.clone()).await,
        }
    }

    /// Asks the store, or waits for a caller of this process that does so already.
    async fn fill<L, F>(&self, generation: Generation, key: Key, load: L) -> Result<Stored, Error>
    where
        L: FnOnce() -> F + 'static,
        F: Future<Output = Result<Option<Entry>, Error>> + 'static,
    {
        // While the cache is away, a query may be older than a write of another process that this caller knows of. One
        // that begins after that query has ended is not.
        let mut is_current = matches!(generation, Generation::Known(_));
        loop {
            let leader = match self.shared.flights.join((generation, key.clone())) {
                Flight::Leader(leader) => leader,
                Flight::Follower(follower) => {
                    // The store is asked for this request, too.
                    let _wait = Wait::begin(Part::Stores);
                    match follower.wait().await {
                        Some(result) if is_current => {
                            return result.map_err(|error| Error::shared(&error));
                        }
                        _ => is_current = true,
                    }
                    continue;
                }
            };
            let cache = self.clone();
            // In a task of its own, because others wait for it even if this caller leaves.
            let filling = tasks::spawn(
                "cache_fill",
                inherit(async move {
                    let result = match cache.turn(generation, &key).await {
                        FillTurn::Filled(stored) => Ok(stored),
                        FillTurn::Ours(lock) => cache.load(generation, key, load, lock).await,
                    };
                    let result = result.map_err(Arc::new);
                    leader.finish(result.clone());
                    result
                }),
            );
            let result = filling.await.map_err(Error::internal)?;
            let result = result.ok_or_else(|| Error::internal("the cache was not filled"))?;
            return result.map_err(|error| Error::shared(&error));
        }
    }

    /// Asks the store, fills the entry, and releases the `lock` if this process holds it.
    async fn load<L, F>(
        &self,
        generation: Generation,
        key: Key,
        load: L,
        lock: Lock,
    ) -> Result<Stored, Error>
    where
        L: FnOnce() -> F,
        F: Future<Output = Result<Option<Entry>, Error>>,
    {
        let loaded = load().await;
        let stored = loaded.map(|entry| {
            let options = &self.shared.options;
            let ttl = if entry.is_some() { options.cache_ttl } else { options.cache_absent_ttl };
            Stored::new(entry, ttl)
        });
        if let Ok(stored) = &stored {
            let admitted = self.store(&key, generation, stored).await;
            self.shared.counters.fill(key.kind(), admitted);
        }
        if let (Some(redis), Generation::Known(token), Lock::Held) = (&self.redis, generation, lock)
        {
            Box::pin(redis.unlock(&key, token)).await;
        }
        stored
    }

    /// Waits for the lock, or for another process to fill the entry, at most as long as a lock lasts. The entry may have
    /// been filled in the meantime, so the holder of the lock looks again.
    async fn turn(&self, generation: Generation, key: &Key) -> FillTurn {
        let (Some(redis), Generation::Known(token)) = (&self.redis, generation) else {
            return self
                .filled(generation, key)
                .await
                .map_or(FillTurn::Ours(Lock::None), FillTurn::Filled);
        };
        if !redis.admission().admits(key) {
            // No other process will fill it.
            return FillTurn::Ours(Lock::None);
        }
        let start = Instant::now();
        while start.elapsed() < LOCK {
            let locked = redis.lock(key, token, LOCK).await;
            match redis.fetch(key).await {
                Some(Found { generation, stored: Some(stored), in_doubt: false })
                    if generation == token && stored.is_fresh() =>
                {
                    if locked {
                        redis.unlock(key, token).await;
                    }
                    return FillTurn::Filled(stored);
                }
                Some(found) if found.generation == token && !locked => sleep(LOOK).await,
                // This process has the lock, or there was a write, or the cache is away.
                _ => return FillTurn::Ours(if locked { Lock::Held } else { Lock::None }),
            }
        }
        FillTurn::Ours(Lock::None)
    }

    /// The entry, if it has been filled by now.
    async fn filled(&self, generation: Generation, key: &Key) -> Option<Stored> {
        let (now, stored, in_doubt) = self.look(key).await;
        stored.filter(|stored| now == generation && !in_doubt && stored.is_fresh())
    }

    /// Refreshes the entry in the background, unless another caller does so already.
    fn refresh<L, F>(&self, generation: Generation, key: Key, load: L)
    where
        L: FnOnce() -> F + 'static,
        F: Future<Output = Result<Option<Entry>, Error>> + 'static,
    {
        let Flight::Leader(leader) = self.shared.refreshing.join(key.clone()) else { return };
        self.keep(&key);
        let cache = self.clone();
        tasks::spawn(
            "cache_refresh",
            inherit(async move {
                // Ends the flight whatever happens.
                let _leader = leader;
                let lock = match (&cache.redis, generation) {
                    (Some(redis), Generation::Known(token))
                        if redis.lock(&key, token, LOCK).await =>
                    {
                        Lock::Held
                    }
                    (Some(_), Generation::Known(_)) => return,
                    _ => Lock::None,
                };
                if cache.filled(generation, &key).await.is_some() {
                    // Another process was faster. A held lock expires, and does not block readers.
                    return;
                }
                if let Err(error) = cache.load(generation, key, load, lock).await {
                    log::warn!(role = "product"; "an entry could not be refreshed: {}", error.chain());
                    // Not at once again: the store is probably away.
                    sleep(LOOK * 20).await;
                }
            }),
        );
    }
}

/// Who fills an entry.
enum FillTurn {
    /// Another process has filled it.
    Filled(Stored),
    /// This process does.
    Ours(Lock),
}

/// Whether this process holds the lock.
#[derive(Clone, Copy)]
enum Lock {
    Held,
    None,
}
