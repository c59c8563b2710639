//! Cache-aside for the answers of the catalogue, as the bytes that are sent.
//!
//! Every answer carries the *generation* that was current when it was asked for. A write begins a new
//! generation once the store has it and before its own answer leaves. An answer of another generation counts
//! as missing, so a slow reader cannot put back an old page: it fills a place where nobody looks any more.
//!
//! A write whose outcome nobody knows, because its answer was lost or came too late, begins a generation too. What was
//! answered before it is asked for again, and stands in only while the store gives no answer.
//!
//! A miss asks the store once however many wait, in this process and, by a lock of a few seconds, across
//! processes. An answer past its time is served while one caller asks again, and as long as the store is
//! away. Without the cache, reads go to the store, one query for each key at a time.

mod entry;
mod generation;
mod memory;
mod redis;

use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deadpool_redis::redis::RedisError;
use tokio::time::{Instant, sleep, timeout};

pub(super) use entry::{Entry, Key};

use crate::config::{CacheUrl, Product as Options};
use crate::error::{Error, Kind};
use crate::single_flight::{Flight, SingleFlight};
use entry::{Found, Stored};

/// How long a process that fills a place keeps the others from doing the same.
const LOCK: Duration = Duration::from_secs(2);
/// How often the others look whether the place is filled.
const LOOK: Duration = Duration::from_millis(10);

/// How long a caller waits for the store while there is an answer that may be too old; and how long nobody waits after
/// one has waited in vain.
const PATIENCE: Duration = Duration::from_secs(2);
const REST: Duration = Duration::from_secs(5);

/// A span of time without a write. While the cache is away, such a span ends with a write of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Generation {
    Known(u128),
    Away(u64),
}

/// The cache as far as a process has one of it; each worker thread opens its own [`Cache`] of it.
#[derive(Clone, Debug)]
pub(super) struct ProcessCache {
    options: Options,
    memory: memory::Entries,
    /// The server, where answers are on one.
    redis: Option<Arc<redis::RedisState>>,
    flights: SingleFlight<(Generation, Key), Result<Stored, Arc<Error>>>,
    refreshing: SingleFlight<Key, ()>,
    writes: Arc<AtomicU64>,
    /// When a caller waited in vain for the store last.
    in_vain: Arc<Mutex<Option<Instant>>>,
}

/// The cache of one worker thread; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    shared: Rc<ProcessCache>,
    redis: Option<redis::Entries>,
}

/// How an answer was found: the value of the `X-Cache` header.
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
    /// Of one process.
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
            in_vain: Arc::default(),
            options: options.clone(),
        }
    }

    /// The cache for this thread. Opens no connection yet.
    pub(super) fn open(&self) -> Cache {
        let redis = self.redis.clone().map(redis::Entries::new);
        Cache { shared: Rc::new(self.clone()), redis }
    }
}

impl Cache {
    /// The answer for `key`, made by `load` where it is missing; `None` is the answer that there is none.
    ///
    /// # Errors
    /// That of `load`; a failure is not kept.
    pub(super) async fn get<L, F>(
        &self,
        key: Key,
        load: L,
    ) -> Result<(Option<Entry>, Origin), Error>
    where
        L: FnOnce() -> F + 'static,
        F: Future<Output = Result<Option<Entry>, Error>> + 'static,
    {
        let (generation, stored, in_doubt) = self.look(&key).await;
        match stored {
            Some(stored) if in_doubt => {
                Box::pin(self.ask_again(generation, key, stored, load)).await
            }
            Some(stored) if stored.is_fresh() => Ok((stored.entry, Origin::Hit)),
            Some(stored) => {
                self.refresh(generation, key, load);
                Ok((stored.entry, Origin::Stale))
            }
            None => {
                // Boxed, and so is the way to Redis: a hit does not carry what it takes to wait for another.
                let stored = Box::pin(self.fill(generation, key, load)).await?;
                Ok((stored.entry, Origin::Miss))
            }
        }
    }

    /// After a write that the store has: what was answered so far is not answered again.
    pub(super) async fn invalidate(&self) {
        self.shared.writes.fetch_add(1, Ordering::AcqRel);
        match &self.redis {
            Some(redis) => redis.invalidate().await,
            None => self.shared.memory.invalidate(),
        }
    }

    /// After a write that the store may have: what was answered so far is asked for again.
    pub(super) async fn doubt(&self) {
        self.shared.writes.fetch_add(1, Ordering::AcqRel);
        match &self.redis {
            Some(redis) => redis.doubt().await,
            None => self.shared.memory.doubt(),
        }
    }

    /// The same, for who can not wait. What this process answers is asked for again from now on.
    pub(super) fn doubt_now(&self) {
        self.shared.writes.fetch_add(1, Ordering::AcqRel);
        match &self.redis {
            Some(redis) => redis.doubt_later(),
            None => self.shared.memory.doubt(),
        }
    }

    /// Has other processes know of all writes of this one, as soon as that can be.
    pub(super) async fn settle(&self) {
        if let Some(redis) = &self.redis {
            redis.settle().await;
        }
    }

    /// Asks whether the cache answers.
    ///
    /// # Errors
    /// Why it does not.
    pub(super) async fn ping(&self) -> Result<(), RedisError> {
        match &self.redis {
            Some(redis) => redis.ping().await,
            None => Ok(()),
        }
    }

    /// The generation, what is stored, and whether that is from before a write whose outcome nobody knows.
    async fn look(&self, key: &Key) -> (Generation, Option<Stored>, bool) {
        let found = match &self.redis {
            Some(redis) => Box::pin(redis.fetch(key)).await,
            None => Some(self.shared.memory.fetch(key).await),
        };
        match found {
            Some(Found { generation, stored, in_doubt }) => {
                // That something was not there is of no use in doubt.
                let stored = stored.filter(|stored| !in_doubt || stored.entry.is_some());
                (Generation::Known(generation), stored, in_doubt)
            }
            None => (Generation::Away(self.shared.writes.load(Ordering::Acquire)), None, false),
        }
    }

    /// Asks the store, and gives `old` where it has no answer, or none soon: that may be too old, or not.
    async fn ask_again<L, F>(
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
        let in_vain = self.in_vain().is_some_and(|last| last.elapsed() < REST);
        let patience = if in_vain { Duration::ZERO } else { PATIENCE };
        let cache = self.clone();
        // By itself: it goes on for the next one.
        let filling = actix_rt::spawn(async move { cache.fill(generation, key, load).await });
        match timeout(patience, filling).await {
            Ok(Ok(Ok(stored))) => {
                *self.in_vain() = None;
                return Ok((stored.entry, Origin::Miss));
            }
            Ok(Ok(Err(error))) if error.kind() != Kind::Unavailable => return Err(error),
            Ok(outcome) => log::debug!(role = "product"; "what is in doubt stands in: {outcome:?}"),
            Err(_) => log::debug!(role = "product"; "what is in doubt stands in: no answer"),
        }
        if !patience.is_zero() {
            *self.in_vain() = Some(Instant::now());
        }
        Ok((old.entry, Origin::Stale))
    }

    fn in_vain(&self) -> MutexGuard<'_, Option<Instant>> {
        self.shared.in_vain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn store(&self, key: &Key, generation: Generation, stored: &Stored) {
        let too_large = stored.length() > self.shared.options.cache_entry_limit;
        let Generation::Known(token) = generation else { return };
        match &self.redis {
            _ if too_large => {}
            Some(redis) => Box::pin(redis.store(key, token, stored)).await,
            None => self.shared.memory.store(*key, token, stored.clone()).await,
        }
    }

    /// Asks the store, unless somebody of this process does so already; then waits for that answer.
    async fn fill<L, F>(&self, generation: Generation, key: Key, load: L) -> Result<Stored, Error>
    where
        L: FnOnce() -> F + 'static,
        F: Future<Output = Result<Option<Entry>, Error>> + 'static,
    {
        loop {
            let leader = match self.shared.flights.join((generation, key)) {
                Flight::Leader(leader) => leader,
                Flight::Follower(follower) => match follower.wait().await {
                    Some(result) => return result.map_err(|error| Error::shared(&error)),
                    None => continue,
                },
            };
            let cache = self.clone();
            // By itself: a caller that leaves must not take along what others wait for.
            // Boxed: the runtime moves what it spawns several times.
            let filling = actix_rt::spawn(Box::pin(async move {
                let result = match cache.turn(generation, &key).await {
                    FillTurn::Filled(stored) => Ok(stored),
                    FillTurn::Ours(lock) => cache.load(generation, key, load, lock).await,
                };
                let result = result.map_err(Arc::new);
                leader.finish(result.clone());
                result
            }));
            let result = filling.await.map_err(Error::internal)?;
            return result.map_err(|error| Error::shared(&error));
        }
    }

    /// Asks the store and fills the place; lets others have a try, where they wait for a `lock` of ours.
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
            self.store(&key, generation, stored).await;
        }
        if let (Some(redis), Generation::Known(token), Lock::Held) = (&self.redis, generation, lock)
        {
            Box::pin(redis.unlock(&key, token)).await;
        }
        stored
    }

    /// Waits for what another process puts into the place while it holds the lock, or for the lock; at most
    /// as long as a lock lasts. The place may have been filled since it was found empty, so whoever gets the
    /// lock looks again.
    async fn turn(&self, generation: Generation, key: &Key) -> FillTurn {
        let (Some(redis), Generation::Known(token)) = (&self.redis, generation) else {
            return self
                .filled(generation, key)
                .await
                .map_or(FillTurn::Ours(Lock::None), FillTurn::Filled);
        };
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
                // Ours; or a write came between, or the cache is gone.
                _ => return FillTurn::Ours(if locked { Lock::Held } else { Lock::None }),
            }
        }
        FillTurn::Ours(Lock::None)
    }

    /// What is in the place by now.
    async fn filled(&self, generation: Generation, key: &Key) -> Option<Stored> {
        let (now, stored, in_doubt) = self.look(key).await;
        stored.filter(|stored| now == generation && !in_doubt && stored.is_fresh())
    }

    /// Asks the store again in the background, unless somebody does so already.
    fn refresh<L, F>(&self, generation: Generation, key: Key, load: L)
    where
        L: FnOnce() -> F + 'static,
        F: Future<Output = Result<Option<Entry>, Error>> + 'static,
    {
        let Flight::Leader(leader) = self.shared.refreshing.join(key) else { return };
        let cache = self.clone();
        actix_rt::spawn(async move {
            // However this ends, another may follow.
            let _leader = leader;
            let lock = match (&cache.redis, generation) {
                (Some(redis), Generation::Known(token)) if redis.lock(&key, token, LOCK).await => {
                    Lock::Held
                }
                (Some(_), Generation::Known(_)) => return,
                _ => Lock::None,
            };
            if cache.filled(generation, &key).await.is_some() {
                // Somebody was faster. The lock, if it is ours, ends by itself and keeps nobody from reading.
                return;
            }
            if let Err(error) = cache.load(generation, key, load, lock).await {
                log::warn!(role = "product"; "an answer could not be refreshed: {}", error.chain());
                // Not again at once: the store is likely away.
                sleep(LOOK * 20).await;
            }
        });
    }
}

/// Whose turn it is to fill a place.
enum FillTurn {
    /// Another process has filled it.
    Filled(Stored),
    /// That of this process.
    Ours(Lock),
}

/// Whether other processes wait for this one.
#[derive(Clone, Copy)]
enum Lock {
    Held,
    None,
}
