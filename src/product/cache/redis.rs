//! The cache that the processes of a role share, on Redis.
//!
//! A read is one round trip: the current generation and the answer come together.
//!
//! A server may come back with an older memory: started again from a snapshot, or as a replica that lacks the last
//! writes; one whose memory is full answers reads, and takes no news of writes. So every loss owes a new generation,
//! before anything on the server is believed again: a call that was not answered or refused, a connection that broke,
//! another server behind a new connection, and a generation that is older than one that this process knows. A process
//! that starts owes one too, for what the one before may have requested when it ended; one that stops pays what it owes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool_redis::redis::{self, Cmd, FromRedisValue, RedisError};
use secrecy::SecretString;

use super::entry::{Found, Key, Stored};
use super::generation::GenerationToken;
use crate::config::Product as Options;
use crate::storage::redis::{Client, Server, Use, insist};

/// What the threads of a process know of the server.
#[derive(Debug)]
pub(super) struct RedisState {
    server: Server,
    /// How many generations were to be begun by writes, and how many of these and of those that the server's losses
    /// take have been. Unless all are, nothing on the server is believed.
    requested: AtomicU64,
    written: AtomicU64,
    /// How many of those are to begin an era, and how many have.
    requested_eras: AtomicU64,
    written_eras: AtomicU64,
    /// Whether a task is at it.
    advancing: AtomicBool,
    /// The logical time of the newest generation that this process has begun or seen; see [`GenerationToken`].
    newest: AtomicU64,
    /// The generation that this process saw last.
    current: Mutex<Option<GenerationToken>>,
    /// What the generation is called on the server.
    generation: String,
    stale: Duration,
}

impl RedisState {
    /// To the server at `url`. Opens no connection yet.
    pub(super) fn new(url: &SecretString, options: &Options) -> Self {
        let generation = format!("{}:products:generation", options.cache_prefix);
        // Every key has the name of the generation's as its hash tag. That one has none, and is where processes of
        // before look for it.
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
        }
    }

    fn is_trusted(&self) -> bool {
        self.written.load(Ordering::Acquire) >= self.total_requested()
    }

    /// A loss of the server takes a generation that begins an era, as a write does that was acknowledged.
    fn total_requested(&self) -> u64 {
        self.requested.load(Ordering::Acquire) + self.server.losses()
    }

    fn total_requested_eras(&self) -> u64 {
        self.requested_eras.load(Ordering::Acquire) + self.server.losses()
    }

    /// Owes a generation after a write whose outcome nobody knows.
    fn request_generation(&self) {
        self.requested.fetch_add(1, Ordering::AcqRel);
    }

    /// Owes an era: an acknowledged write may not be shown.
    fn request_era(&self) {
        // First: who pays for the generation must know that it is an era.
        self.requested_eras.fetch_add(1, Ordering::AcqRel);
        self.requested.fetch_add(1, Ordering::AcqRel);
    }

    /// Takes note of a generation that the server has.
    fn observe(&self, token: GenerationToken) {
        self.newest.fetch_max(token.time().unwrap_or_default(), Ordering::AcqRel);
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
    }
}

/// The entries on the server, for one worker thread; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Entries {
    client: Client,
    state: Arc<RedisState>,
}

impl Entries {
    /// Opens no connection yet.
    pub(super) fn new(state: Arc<RedisState>) -> Self {
        Self { client: state.server.client(), state }
    }

    /// The current generation, and the answer where there is one of it; nothing when the server is away.
    pub(super) async fn fetch(&self, key: &Key) -> Option<Found> {
        // Before the question whether anything is requested: what is begun from now on may not be there yet.
        let newest = self.state.newest.load(Ordering::Acquire);
        if !self.state.is_trusted() {
            self.advance_later();
            return None;
        }
        let names = [self.state.generation.clone(), self.name(key)];
        let (token, bytes): (Option<Vec<u8>>, Option<Vec<u8>>) =
            self.ask(redis::cmd("MGET").arg(&names)).await?;
        // A write of this process may have come between.
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

    /// Takes note of the generation that the server has, unless it is older than the `newest` that was known before
    /// it was asked: then it has lost its memory, or is another server.
    fn accept(&self, token: GenerationToken, newest: u64) -> Option<()> {
        if token.time().is_some_and(|time| time < newest) {
            log::warn!(role = "product"; "the cache has an older memory than it had: all of it is forgotten");
            self.client.lose();
            self.advance_later();
            return None;
        }
        self.state.observe(token);
        Some(())
    }

    pub(super) async fn store(&self, key: &Key, generation: u128, stored: &Stored) {
        let ttl =
            u64::try_from(stored.time_to_live(self.state.stale).as_millis()).unwrap_or(u64::MAX);
        let bytes = stored.encode(generation);
        let mut set = redis::cmd("SET");
        self.ask::<()>(set.arg(self.name(key)).arg(bytes).arg("PX").arg(ttl)).await;
    }

    /// Begins a new era after a write that was acknowledged, now or as soon as the server answers; until then this
    /// process believes nothing that is on it.
    pub(super) async fn invalidate(&self) {
        self.state.request_era();
        self.advance_now_or_later().await;
    }

    /// Begins a new generation after a write whose outcome nobody knows, in the same way.
    pub(super) async fn doubt(&self) {
        self.state.request_generation();
        self.advance_now_or_later().await;
    }

    /// The same, for who can not wait.
    pub(super) fn doubt_later(&self) {
        self.state.request_generation();
        // None when the thread ends: what is requested is written when the process stops, or by its successor.
        if tokio::runtime::Handle::try_current().is_ok() {
            self.advance_later();
        }
    }

    async fn advance_now_or_later(&self) {
        if !self.advance().await {
            self.advance_later();
        }
    }

    /// Pays what is requested, however long the server takes to answer.
    pub(super) async fn settle(&self) {
        insist(async || self.state.is_trusted() || self.advance().await && self.state.is_trusted())
            .await;
    }

    /// Whether this process may fill the place of `key` in `generation` and the others wait, for at most
    /// `time`. A server that is away keeps nobody from it.
    pub(super) async fn lock(&self, key: &Key, generation: u128, time: Duration) -> bool {
        let name = self.lock_name(key, generation);
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let mut set = redis::cmd("SET");
        let answer =
            self.ask::<Option<String>>(set.arg(name).arg(1).arg("NX").arg("PX").arg(millis)).await;
        answer.is_none_or(|locked| locked.is_some())
    }

    /// Lets the others have a try, because the place is filled or could not be.
    pub(super) async fn unlock(&self, key: &Key, generation: u128) {
        self.ask::<()>(redis::cmd("DEL").arg(self.lock_name(key, generation))).await;
    }

    /// Whether the server is there, and believed.
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

    /// Begins a generation for all that are requested by now. Does not leave the server alone: other processes may
    /// well reach it, and accept it.
    async fn try_advance(&self) -> Result<(), RedisError> {
        // First, because a new connection may request_generation one.
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
            self.state.newest.fetch_max(time, Ordering::AcqRel);
            let mut set = redis::cmd("SET");
            set.arg(&self.state.generation).arg(&token.bytes()[..]).arg("GET");
            let before = self.attempt::<Option<Vec<u8>>>(&set).await?;
            let before = before.as_deref().and_then(GenerationToken::read);
            self.state.observe(token);
            // Another process was ahead, by its clock or by a write that was acknowledged.
            let late = before.and_then(GenerationToken::time).is_some_and(|before| before >= time);
            let broken = era.is_some() && before.and_then(GenerationToken::era) != era;
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

    /// Goes on trying in a task of its own, of which a process has one.
    fn advance_later(&self) {
        if self.state.advancing.swap(true, Ordering::AcqRel) {
            return;
        }
        let (entries, advancing) = (self.clone(), AdvanceGuard(self.state.clone()));
        actix_rt::spawn(async move {
            entries.settle().await;
            drop(advancing);
        });
    }

    /// The generation of a server that has none: that of whoever is first.
    async fn first_generation(&self, newest: u64) -> Option<GenerationToken> {
        let token = GenerationToken::after(self.state.newest.load(Ordering::Acquire), None);
        let mut set = redis::cmd("SET");
        set.arg(&self.state.generation).arg(&token.bytes()[..]).arg("NX").arg("GET");
        let before: Option<Vec<u8>> = self.ask(&set).await?;
        let token = before.as_deref().and_then(GenerationToken::read).unwrap_or(token);
        self.accept(token, newest)?;
        Some(token)
    }

    /// Sends `command`; nothing when the server is away.
    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Option<T> {
        let answer =
            self.client.ask(async |connection| command.query_async(connection).await).await;
        self.advance_after_loss();
        answer
    }

    async fn attempt<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        let answer = self.client.attempt(async |connection| command.query_async(connection).await);
        let answer = answer.await;
        self.advance_after_loss();
        answer
    }

    /// After a call that may have been lost, and with it whatever the server was told before.
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

/// The right to pay. Whatever ends it, another may.
struct AdvanceGuard(Arc<RedisState>);

impl Drop for AdvanceGuard {
    fn drop(&mut self) {
        self.0.advancing.store(false, Ordering::Release);
    }
}
