//! The cache that the processes of a role share, on Redis.
//!
//! A read is one round trip: the current generation and the entry come together.
//!
//! A server may come back with older data, from a snapshot or as a replica that lacks the last writes; a full one answers
//! reads but refuses invalidations. So after every loss this process writes a new generation before it trusts the server
//! again. A loss is a call that failed or was refused, a broken connection, another server behind a new connection, or a
//! generation that is older than a known one. A process also writes one when it starts, for writes of its predecessor,
//! and writes what is outstanding before it stops.

use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool_redis::redis::{self, Cmd, FromRedisValue, RedisError, Script};
use secrecy::SecretString;

use super::admission::Admission;
use super::entry::{Found, Key, Stored};
use super::generation::GenerationToken;
use crate::config::Product as Options;
use crate::storage::redis::{Client, Server, Use, insist};
use crate::tasks;

/// What the threads of a process share about the server.
#[derive(Debug)]
pub(super) struct RedisState {
    server: Server,
    /// How many new generations writes have requested, and how many were written, including those for losses. While some
    /// are outstanding, the server is not trusted.
    requested: AtomicU64,
    written: AtomicU64,
    /// The same for generations that start an era.
    requested_eras: AtomicU64,
    written_eras: AtomicU64,
    /// Whether a task is writing outstanding generations.
    advancing: AtomicBool,
    /// The logical time of the newest generation that this process has started or seen; see [`GenerationToken`].
    newest: AtomicU64,
    /// The generation that this process saw last.
    current: Mutex<Option<GenerationToken>>,
    /// The server's key of the generation.
    generation: String,
    stale: Duration,
    admission: Admission,
}

impl RedisState {
    /// For the server at `url`. Opens no connection yet.
    pub(super) fn new(url: &SecretString, options: &Options) -> Self {
        let generation = format!("{}:products:generation", options.cache_prefix);
        // The hash tag of every key is the key of the generation, which itself has none, as older versions expect.
        let prefix = format!("{}:{{{generation}}}", options.cache_prefix);
        let (name, timeout) = ("product.cache", options.cache_timeout);
        let other = Some(generation.clone());
        let used = Use { name, timeout, tagged: prefix.clone(), prefix, other };
        Self {
            server: Server::new(url, used),
            requested: AtomicU64::default(),
            written: AtomicU64::default(),
            requested_eras: AtomicU64::default(),
            written_eras: AtomicU64::default(),
            advancing: AtomicBool::default(),
            newest: AtomicU64::default(),
            current: Mutex::default(),
            generation,
            stale: options.cache_stale,
            admission: Admission::new(),
        }
    }

    fn is_trusted(&self) -> bool {
        self.written.load(Ordering::Acquire) >= self.total_requested()
    }

    /// A loss requests a generation that starts an era, like an acknowledged write.
    fn total_requested(&self) -> u64 {
        self.requested.load(Ordering::Acquire) + self.server.losses()
    }

    fn total_requested_eras(&self) -> u64 {
        self.requested_eras.load(Ordering::Acquire) + self.server.losses()
    }

    /// Requests a generation after a write with an unknown outcome.
    fn request_generation(&self) {
        self.requested.fetch_add(1, Ordering::AcqRel);
    }

    /// Requests an era after an acknowledged write.
    fn request_era(&self) {
        // The era first: the process that writes the generation must know that it starts an era.
        self.requested_eras.fetch_add(1, Ordering::AcqRel);
        self.requested.fetch_add(1, Ordering::AcqRel);
    }

    /// Remembers the generation that the server has.
    fn observe(&self, token: GenerationToken) {
        self.newest.fetch_max(token.time().unwrap_or_default(), Ordering::AcqRel);
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
    }
}

/// The entries on the server, for one worker thread; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Entries {
    client: Client,
    raise: Rc<Script>,
    state: Arc<RedisState>,
}

impl Entries {
    /// Opens no connection yet.
    pub(super) fn new(state: Arc<RedisState>) -> Self {
        let raise = Rc::new(Script::new(include_str!("raise.lua")));
        Self { client: state.server.client(), raise, state }
    }

    /// What this process was asked for, which decides what the server gets.
    pub(super) fn admission(&self) -> &Admission {
        &self.state.admission
    }

    /// The current generation and its entry, if any; `None` when the server is away.
    pub(super) async fn fetch(&self, key: &Key) -> Option<Found> {
        // Read before the check for outstanding generations: newer ones may not be on the server yet.
        let newest = self.state.newest.load(Ordering::Acquire);
        if !self.state.is_trusted() {
            self.advance_later();
            return None;
        }
        let names = [self.state.generation.clone(), self.name(key)];
        let (token, bytes): (Option<Vec<u8>>, Option<Vec<u8>>) =
            self.ask(redis::cmd("MGET").arg(&names)).await?;
        // This process may have written in the meantime.
        if !self.state.is_trusted() {
            return None;
        }
        let Some(token) = token.as_deref().and_then(GenerationToken::read) else {
            return Some(Found::nothing(self.first_generation(newest).await?.number()));
        };
        self.accept(token, newest)?;
        let stored = bytes.and_then(|bytes| Stored::decode(bytes.into()));
        let of_era = |filled: &u128| GenerationToken::from_number(*filled).is_of_the_era_of(token);
        let stored = stored.filter(|(filled, _)| *filled == token.number() || of_era(filled));
        let in_doubt = stored.as_ref().is_some_and(|(filled, _)| *filled != token.number());
        let stored = stored.map(|(_, stored)| stored);
        Some(Found { generation: token.number(), stored, in_doubt })
    }

    /// Remembers the server's generation. `None` if it is older than the `newest` that was known before the call: then the
    /// server has lost data, or is another one.
    fn accept(&self, token: GenerationToken, newest: u64) -> Option<()> {
        if token.time().is_some_and(|time| time < newest) {
            log::warn!(role = "product"; "the cache has older data than before: all entries are dropped");
            self.client.lose();
            self.advance_later();
            return None;
        }
        self.state.observe(token);
        Some(())
    }

    /// Returns whether the entry was admitted.
    pub(super) async fn store(&self, key: &Key, generation: u128, stored: &Stored) -> bool {
        if !self.state.admission.admits(key) {
            return false;
        }
        let ttl =
            u64::try_from(stored.time_to_live(self.state.stale).as_millis()).unwrap_or(u64::MAX);
        let bytes = stored.encode(generation);
        let mut set = redis::cmd("SET");
        self.ask::<()>(set.arg(self.name(key)).arg(bytes).arg("PX").arg(ttl)).await.is_some()
    }

    /// Starts a new era after an acknowledged write, now or as soon as the server answers; until then this process does
    /// not trust the server.
    pub(super) async fn invalidate(&self) {
        self.state.request_era();
        self.advance_now_or_later().await;
    }

    /// Starts a new generation after a write with an unknown outcome, in the same way.
    pub(super) async fn doubt(&self) {
        self.state.request_generation();
        self.advance_now_or_later().await;
    }

    /// As [`Entries::doubt`], for callers that cannot wait.
    pub(super) fn doubt_later(&self) {
        self.state.request_generation();
        // There is no runtime when the thread ends; the drain or the next process writes the generation.
        if tokio::runtime::Handle::try_current().is_ok() {
            self.advance_later();
        }
    }

    async fn advance_now_or_later(&self) {
        if !self.advance().await {
            self.advance_later();
        }
    }

    /// Writes all outstanding generations, however long the server takes to answer.
    pub(super) async fn settle(&self) {
        insist(async || self.state.is_trusted() || self.advance().await && self.state.is_trusted())
            .await;
    }

    /// Takes the lock for filling `key` in `generation`, for at most `time`. Returns whether this process may fill it, which
    /// it may while the server is away.
    pub(super) async fn lock(&self, key: &Key, generation: u128, time: Duration) -> bool {
        let name = self.lock_name(key, generation);
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let mut set = redis::cmd("SET");
        let answer =
            self.ask::<Option<String>>(set.arg(name).arg(1).arg("NX").arg("PX").arg(millis)).await;
        answer.is_none_or(|locked| locked.is_some())
    }

    /// Releases the lock.
    pub(super) async fn unlock(&self, key: &Key, generation: u128) {
        self.ask::<()>(redis::cmd("DEL").arg(self.lock_name(key, generation))).await;
    }

    /// Checks that the server answers and is trusted.
    pub(super) async fn ping(&self) -> Result<(), RedisError> {
        let answer = async {
            self.client.trial().await?;
            while !self.state.is_trusted() {
                self.try_advance().await?;
            }
            Ok(())
        }
        .await;
        self.advance_after_loss();
        answer
    }

    async fn advance(&self) -> bool {
        self.try_advance().await.is_ok()
    }

    /// Writes one generation for all that are outstanding. It tries even if the server counts as away, because other
    /// processes may reach and trust it.
    async fn try_advance(&self) -> Result<(), RedisError> {
        // First, because a new connection may count as a loss.
        self.client.attempt(async |_| Ok(())).await?;
        let requested = self.state.total_requested();
        let requested_eras = self.state.total_requested_eras();
        let same = self.state.written_eras.load(Ordering::Acquire) >= requested_eras;
        let current = *self.state.current.lock().unwrap_or_else(PoisonError::into_inner);
        let mut era = current.filter(|_| same).and_then(GenerationToken::era);
        loop {
            let newest = self.state.newest.load(Ordering::Acquire);
            let token = GenerationToken::after(newest, era);
            let time = token.time().unwrap_or_default();
            let before = self.raise(token).await?;
            // Another process was ahead, by its clock or by an acknowledged write.
            let late = before.and_then(GenerationToken::time).is_some_and(|before| before >= time);
            let broken = era.is_some() && before.and_then(GenerationToken::era) != era;
            if !late {
                self.state.observe(token);
            }
            if !late && !broken {
                self.state.written_eras.fetch_max(requested_eras, Ordering::AcqRel);
                self.state.written.fetch_max(requested, Ordering::AcqRel);
                return Ok(());
            }
            self.state.newest.fetch_max(
                before.and_then(GenerationToken::time).unwrap_or_default(),
                Ordering::AcqRel,
            );
            era = era.filter(|_| !broken);
        }
    }

    /// Keeps trying in a task, of which a process has one.
    fn advance_later(&self) {
        if self.state.advancing.swap(true, Ordering::AcqRel) {
            return;
        }
        let (entries, advancing) = (self.clone(), AdvanceGuard(self.state.clone()));
        tasks::spawn("generation", async move {
            entries.settle().await;
            drop(advancing);
        });
    }

    /// The first generation of an empty server; the first process to write one wins.
    async fn first_generation(&self, newest: u64) -> Option<GenerationToken> {
        let token = GenerationToken::after(self.state.newest.load(Ordering::Acquire), None);
        let mut set = redis::cmd("SET");
        set.arg(&self.state.generation).arg(&token.bytes()[..]).arg("NX").arg("GET");
        let before: Option<Vec<u8>> = self.ask(&set).await?;
        let token = before.as_deref().and_then(GenerationToken::read).unwrap_or(token);
        self.accept(token, newest)?;
        Some(token)
    }

    /// Sends `command`; `None` when the server is away.
    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Option<T> {
        let answer =
            self.client.ask(async |connection| command.query_async(connection).await).await;
        self.advance_after_loss();
        answer
    }

    /// Sets the generation unless the server has one that is as late. Returns the generation before.
    async fn raise(&self, token: GenerationToken) -> Result<Option<GenerationToken>, RedisError> {
        let before = self.client.attempt(async |connection| {
            let mut call = self.raise.key(&self.state.generation);
            call.arg(&token.bytes()[..]).invoke_async::<Option<Vec<u8>>>(connection).await
        });
        let before = before.await;
        self.advance_after_loss();
        Ok(before?.as_deref().and_then(GenerationToken::read))
    }

    /// Writes a new generation if a call was lost.
    fn advance_after_loss(&self) {
        if !self.state.is_trusted() {
            self.advance_later();
        }
    }

    fn lock_name(&self, key: &Key, generation: u128) -> String {
        format!("{}:lock:{generation:032x}", self.name(key))
    }

    fn name(&self, key: &Key) -> String {
        self.client.key(&key.name())
    }
}

/// Marks the running task; its drop lets another one start.
struct AdvanceGuard(Arc<RedisState>);

impl Drop for AdvanceGuard {
    fn drop(&mut self) {
        self.0.advancing.store(false, Ordering::Release);
    }
}
