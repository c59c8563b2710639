//! The cache that the processes of a role share, on Redis.
//!
//! A read is one round trip: the current generation and the answer come together. All calls of a worker
//! thread share one connection, on which they follow each other without waiting. A server that does not
//! answer is left alone for a moment, so that its absence costs a request nothing.
//!
//! A server may come back with an older memory: started again from a snapshot, or as a replica that lacks the last
//! writes; one whose memory is full answers reads, and takes no news of writes. So every loss owes a new generation,
//! before anything on the server is believed again: a call that was not answered or refused, a connection that broke, another server behind a new connection, and a generation that is older than one
//! that this process knows. A process that starts owes one too, for what the one before may have owed when it ended;
//! one that stops pays what it owes.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{self, Cmd, ErrorKind, FromRedisValue, RedisError};
use deadpool_redis::{Config, Connection, Pool, PoolConfig, Runtime};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::{sleep, timeout};

use super::entry::{Found, Key, Stored};
use super::generation::Token;
use crate::config::Product as Options;

/// How long a server that did not answer is left alone.
const REST: Duration = Duration::from_millis(500);

/// How long to wait before a generation that could not be begun is tried again: twice as long each time, up to [`REST`].
const RETRY: Duration = Duration::from_millis(50);

/// What the threads of a process know of the server.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// Until when the server is left alone.
    resting: Mutex<Option<Instant>>,
    /// How many generations were to be begun, by writes and because the server may have lost its memory, and
    /// how many of them have been. Unless both are equal, nothing on the server is believed.
    owed: AtomicU64,
    paid: AtomicU64,
    /// How many of those are to begin an era, and how many have.
    owed_eras: AtomicU64,
    paid_eras: AtomicU64,
    /// Whether a task is at it.
    paying: AtomicBool,
    /// The logical time of the newest generation that this process has begun or seen; see [`Token`].
    newest: AtomicU64,
    /// The generation that this process saw last.
    current: Mutex<Option<Token>>,
    /// Which run of a server the last connection was opened to.
    server: Mutex<Option<String>>,
}

impl Link {
    fn is_trusted(&self) -> bool {
        self.paid.load(Ordering::Acquire) >= self.owed.load(Ordering::Acquire)
    }

    /// Owes a generation after a write whose outcome nobody knows.
    fn owe(&self) {
        self.owed.fetch_add(1, Ordering::AcqRel);
    }

    /// Owes an era: an acknowledged write may be lost, or not shown.
    fn owe_era(&self) {
        // First: who pays for the generation must know that it is an era.
        self.owed_eras.fetch_add(1, Ordering::AcqRel);
        self.owed.fetch_add(1, Ordering::AcqRel);
    }

    /// Takes note of a generation that the server has.
    fn note(&self, token: Token) {
        self.newest.fetch_max(token.time().unwrap_or_default(), Ordering::AcqRel);
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
    }

    /// Takes note of the run of a server that a connection leads to. Another one than before, or one that can not be
    /// told, may lack what was acknowledged.
    fn meet(&self, server: Option<String>) {
        let mut known = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        if server.is_none() || *known != server {
            self.owe_era();
            *known = server;
        }
    }
}

/// The way to the server for one worker thread; cheap to clone.
#[derive(Clone)]
pub(super) struct Entries {
    pool: Pool,
    current: Rc<RefCell<Option<Connection>>>,
    link: std::sync::Arc<Link>,
    timeout: Duration,
    stale: Duration,
    prefix: Rc<str>,
}

impl std::fmt::Debug for Entries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entries").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl Entries {
    /// Opens no connection yet.
    pub(super) fn open(
        url: &SecretString,
        options: &Options,
        link: std::sync::Arc<Link>,
    ) -> Result<Self, String> {
        let mut config = Config::from_url(url.expose_secret());
        config.pool = Some(PoolConfig::new(2));
        let pool = config.create_pool(Some(Runtime::Tokio1)).map_err(|error| error.to_string())?;
        Ok(Self {
            pool,
            current: Rc::default(),
            link,
            timeout: options.cache_timeout,
            stale: options.cache_stale,
            prefix: options.cache_prefix.as_str().into(),
        })
    }

    /// The current generation, and the answer where there is one of it; nothing when the server is away.
    pub(super) async fn fetch(&self, key: &Key) -> Option<Found> {
        // Before the question whether anything is owed: what is begun from now on may not be there yet.
        let newest = self.link.newest.load(Ordering::Acquire);
        if !self.link.is_trusted() {
            self.pay_later();
            return None;
        }
        let names = [self.generation_name(), self.name(key)];
        let (token, bytes): (Option<Vec<u8>>, Option<Vec<u8>>) =
            self.ask(redis::cmd("MGET").arg(&names)).await?;
        // A write of this process may have come between.
        if !self.link.is_trusted() {
            return None;
        }
        let Some(token) = token.as_deref().and_then(Token::read) else {
            return Some(Found::nothing(self.first_generation(newest).await?.number()));
        };
        self.believe(token, newest)?;
        let stored = bytes.and_then(|bytes| Stored::decode(bytes.into()));
        let of_era = |filled: &u128| Token::of(*filled).is_of_the_era_of(token);
        let stored = stored.filter(|(filled, _)| *filled == token.number() || of_era(filled));
        let in_doubt = stored.as_ref().is_some_and(|(filled, _)| *filled != token.number());
        let stored = stored.map(|(_, stored)| stored);
        Some(Found { generation: token.number(), stored, in_doubt })
    }

    /// Takes note of the generation that the server has, unless it is older than the `newest` that was known before
    /// it was asked: then it has lost its memory, or is another server.
    fn believe(&self, token: Token, newest: u64) -> Option<()> {
        if token.time().is_some_and(|time| time < newest) {
            log::warn!(role = "product"; "the cache has an older memory than it had: all of it is forgotten");
            self.lose();
            return None;
        }
        self.link.note(token);
        Some(())
    }

    pub(super) async fn store(&self, key: &Key, generation: u128, stored: &Stored) {
        let ttl = u64::try_from(stored.time_to_live(self.stale).as_millis()).unwrap_or(u64::MAX);
        let bytes = stored.encode(generation);
        let mut set = redis::cmd("SET");
        self.ask::<()>(set.arg(self.name(key)).arg(bytes).arg("PX").arg(ttl)).await;
    }

    /// Begins a new era after a write that was acknowledged, now or as soon as the server answers; until then this
    /// process believes nothing that is on it.
    pub(super) async fn invalidate(&self) {
        self.link.owe_era();
        self.pay_now_or_later().await;
    }

    /// Begins a new generation after a write whose outcome nobody knows, in the same way.
    pub(super) async fn doubt(&self) {
        self.link.owe();
        self.pay_now_or_later().await;
    }

    /// The same, for who can not wait.
    pub(super) fn doubt_later(&self) {
        self.link.owe();
        // None when the thread ends: what is owed is paid when the process stops, or by its successor.
        if tokio::runtime::Handle::try_current().is_ok() {
            self.pay_later();
        }
    }

    async fn pay_now_or_later(&self) {
        if !self.pay().await {
            self.pay_later();
        }
    }

    /// Pays what is owed, however long the server takes to answer.
    pub(super) async fn settle(&self) {
        let mut pause = RETRY;
        while !self.link.is_trusted() {
            if !self.pay().await {
                sleep(pause).await;
                pause = REST.min(pause * 2);
            }
        }
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
    pub(super) async fn ping(&self) -> Result<(), String> {
        let pinging = async {
            // What a read asks for: a server that answers PING may still keep these keys elsewhere, or from this user.
            let mut read = redis::cmd("MGET");
            read.arg(self.generation_name()).arg(self.named("trial"));
            self.attempt::<[Option<Vec<u8>>; 2]>(&read).await?;
            while !self.link.is_trusted() {
                self.try_to_pay().await?;
            }
            // One whose memory is full, that has become a replica, or that cannot save writes answers reads.
            let mut set = redis::cmd("SET");
            set.arg(self.named("trial")).arg(1).arg("PX").arg(1000);
            self.attempt::<()>(&set).await?;
            Ok::<_, RedisError>(())
        };
        pinging.await.map_err(|error| error.to_string())
    }

    async fn pay(&self) -> bool {
        self.try_to_pay().await.is_ok()
    }

    /// Begins a generation for all that are owed by now. Does not leave the server alone: other processes may
    /// well reach it, and believe it.
    async fn try_to_pay(&self) -> Result<(), RedisError> {
        // First, because a new connection may owe one.
        timeout(self.timeout, self.connection())
            .await
            .map_err(|_| away("no connection in time"))??;
        let owed = self.link.owed.load(Ordering::Acquire);
        let owed_eras = self.link.owed_eras.load(Ordering::Acquire);
        let same = self.link.paid_eras.load(Ordering::Acquire) >= owed_eras;
        let current = *self.link.current.lock().unwrap_or_else(PoisonError::into_inner);
        let mut era = current.filter(|_| same).and_then(Token::era);
        loop {
            let newest = self.link.newest.load(Ordering::Acquire);
            let token = Token::after(newest, era);
            let time = token.time().unwrap_or_default();
            self.link.newest.fetch_max(time, Ordering::AcqRel);
            let mut set = redis::cmd("SET");
            set.arg(self.generation_name()).arg(&token.bytes()[..]).arg("GET");
            let before = self.attempt::<Option<Vec<u8>>>(&set).await?;
            let before = before.as_deref().and_then(Token::read);
            self.link.note(token);
            // Another process was ahead, by its clock or by a write that was acknowledged.
            let late = before.and_then(Token::time).is_some_and(|before| before >= time);
            let broken = era.is_some() && before.and_then(Token::era) != era;
            if !late && !broken {
                self.link.paid_eras.fetch_max(owed_eras, Ordering::AcqRel);
                self.link.paid.fetch_max(owed, Ordering::AcqRel);
                return Ok(());
            }
            self.link
                .newest
                .fetch_max(before.and_then(Token::time).unwrap_or_default(), Ordering::AcqRel);
            era = era.filter(|_| !broken);
        }
    }

    /// Goes on trying in a task of its own, of which a process has one.
    fn pay_later(&self) {
        if self.link.paying.swap(true, Ordering::AcqRel) {
            return;
        }
        let (entries, paying) = (self.clone(), Paying(self.link.clone()));
        actix_rt::spawn(async move {
            entries.settle().await;
            drop(paying);
        });
    }

    /// The generation of a server that has none: that of whoever is first.
    async fn first_generation(&self, newest: u64) -> Option<Token> {
        let token = Token::after(self.link.newest.load(Ordering::Acquire), None);
        let mut set = redis::cmd("SET");
        set.arg(self.generation_name()).arg(&token.bytes()[..]).arg("NX").arg("GET");
        let before: Option<Vec<u8>> = self.ask(&set).await?;
        let token = before.as_deref().and_then(Token::read).unwrap_or(token);
        self.believe(token, newest)?;
        Some(token)
    }

    /// Sends `command`; nothing when the server is away, or is being left alone.
    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Option<T> {
        let resting = *self.link.resting.lock().unwrap_or_else(PoisonError::into_inner);
        if resting.is_some_and(|until| Instant::now() < until) {
            return None;
        }
        match self.attempt(command).await {
            Ok(answer) => {
                if resting.is_some() {
                    *self.link.resting.lock().unwrap_or_else(PoisonError::into_inner) = None;
                }
                Some(answer)
            }
            Err(error) => {
                // The check of it says so once, and when it is back.
                log::debug!(role = "product"; "the cache is away: {error}");
                let until = Instant::now() + REST;
                *self.link.resting.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
                None
            }
        }
    }

    async fn attempt<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        let call = async {
            let mut connection = self.connection().await?;
            command.query_async::<T>(&mut connection).await
        };
        let Ok(outcome) = timeout(self.timeout, call).await else {
            self.lose();
            return Err(away("no answer in time"));
        };
        match &outcome {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedReturnType => {}
            // A server that refuses this may refuse other processes as well, and does not have what they wrote.
            Err(_) => self.lose(),
        }
        outcome
    }

    /// After a call that may be lost, and with it whatever the server was told before: nothing on it is believed until
    /// a new era has begun. The connection leaves the pool, for another may lead to a server that does what it is asked.
    fn lose(&self) {
        drop(self.current.take().map(Connection::take));
        self.link.owe_era();
        self.pay_later();
    }

    /// This thread's connection, on which calls need not wait for each other.
    async fn connection(&self) -> Result<MultiplexedConnection, RedisError> {
        if let Some(current) = self.current.borrow().as_ref() {
            return Ok(MultiplexedConnection::clone(current));
        }
        let opened = self.pool.get().await.map_err(|error| away(error.to_string()))?;
        let mut connection = MultiplexedConnection::clone(&opened);
        // One that may not ask is told nothing.
        let info = redis::cmd("INFO").arg("server").query_async::<String>(&mut connection).await;
        let info = match info {
            Ok(info) => info,
            Err(error) if is_answer(&error) => String::new(),
            Err(error) => {
                drop(Connection::take(opened));
                return Err(error);
            }
        };
        let run = info.lines().find_map(|line| line.strip_prefix("run_id:"));
        self.link.meet(run.map(|run| run.trim().to_owned()));
        *self.current.borrow_mut() = Some(opened);
        Ok(connection)
    }

    fn generation_name(&self) -> String {
        format!("{}:products:generation", self.prefix)
    }

    fn lock_name(&self, key: &Key, generation: u128) -> String {
        format!("{}:lock:{generation:032x}", self.name(key))
    }

    fn name(&self, key: &Key) -> String {
        self.named(&key.name())
    }

    /// Every key has the name of the generation's as its hash tag, so that a Redis Cluster keeps them all in one slot,
    /// and a command may name several (Redis, "Cluster specification", hash tags). That one has none, and is where
    /// processes of before look for it.
    fn named(&self, what: &str) -> String {
        format!("{}:{{{}}}:{what}", self.prefix, self.generation_name())
    }
}

/// The right to pay. Whatever ends it, another may.
struct Paying(std::sync::Arc<Link>);

impl Drop for Paying {
    fn drop(&mut self) {
        self.0.paying.store(false, Ordering::Release);
    }
}

/// Whether the server has said so itself.
fn is_answer(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
}

fn away(why: impl Into<String>) -> RedisError {
    (ErrorKind::Io, "the server is away", why.into()).into()
}
