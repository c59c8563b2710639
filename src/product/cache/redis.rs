//! The cache that the processes of a role share, on Redis.
//!
//! A read is one round trip: the current generation and the answer come together. All calls of a worker
//! thread share one connection, on which they follow each other without waiting. A server that does not
//! answer is left alone for a moment, so that its absence costs a request nothing.

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
use uuid::Uuid;

use super::entry::{Key, Stored};
use crate::config::Product as Options;

/// How long a server that did not answer is left alone.
const REST: Duration = Duration::from_millis(500);

/// How long to wait before a generation that could not be begun is tried again.
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
    /// Whether a task is at it.
    paying: AtomicBool,
}

impl Link {
    fn is_trusted(&self) -> bool {
        self.paid.load(Ordering::Acquire) >= self.owed.load(Ordering::Acquire)
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
    pub(super) async fn fetch(&self, key: &Key) -> Option<(u128, Option<Stored>)> {
        if !self.link.is_trusted() {
            self.pay_later();
            return None;
        }
        let names = [self.generation_name(), self.name(key)];
        let (token, bytes): (Option<Vec<u8>>, Option<Vec<u8>>) =
            self.ask(redis::cmd("MGET").arg(&names)).await?;
        let Some(token) = token.as_deref().and_then(|token| <[u8; 16]>::try_from(token).ok())
        else {
            return Some((self.first_generation().await?, None));
        };
        // A write of this process may have come between.
        if !self.link.is_trusted() {
            return None;
        }
        let token = u128::from_be_bytes(token);
        let stored = bytes
            .and_then(|bytes| Stored::decode(bytes.into()))
            .filter(|(filled, _)| *filled == token);
        Some((token, stored.map(|(_, stored)| stored)))
    }

    pub(super) async fn store(&self, key: &Key, generation: u128, stored: &Stored) {
        let ttl = u64::try_from(stored.time_to_live(self.stale).as_millis()).unwrap_or(u64::MAX);
        let bytes = stored.encode(generation);
        let mut set = redis::cmd("SET");
        self.ask::<()>(set.arg(self.name(key)).arg(bytes).arg("PX").arg(ttl)).await;
    }

    /// Begins a new generation, now or as soon as the server answers; until then this process believes
    /// nothing that is on it.
    pub(super) async fn invalidate(&self) {
        self.link.owed.fetch_add(1, Ordering::AcqRel);
        if !self.pay().await {
            self.pay_later();
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

    pub(super) async fn ping(&self) -> Result<(), String> {
        // What requests ask for: a server that answers PING may still keep these keys elsewhere, or from this user.
        let mut read = redis::cmd("MGET");
        read.arg(self.generation_name()).arg(self.named("trial"));
        let read = self.attempt::<[Option<Vec<u8>>; 2]>(&read).await;
        read.map_err(|error| error.to_string())?;
        // So does one whose memory is full, that has become a replica, or that cannot save writes.
        let mut set = redis::cmd("SET");
        set.arg(self.named("trial")).arg(1).arg("PX").arg(1000);
        let outcome = self.attempt::<()>(&set).await;
        outcome.map_err(|error| error.to_string())
    }

    /// Begins a generation for all that are owed by now. Does not leave the server alone: other processes may
    /// well reach it, and believe it.
    ///
    /// A generation is a random number, not a count: a server that has lost its memory, and counts from one
    /// again, would meet the answers of slow readers from before.
    async fn pay(&self) -> bool {
        let owed = self.link.owed.load(Ordering::Acquire);
        let mut set = redis::cmd("SET");
        set.arg(self.generation_name()).arg(Uuid::new_v4().as_bytes());
        let paid = self.attempt::<()>(&set).await.is_ok();
        if paid {
            self.link.paid.fetch_max(owed, Ordering::AcqRel);
        }
        paid
    }

    /// Goes on trying in a task of its own, of which a process has one.
    fn pay_later(&self) {
        if self.link.paying.swap(true, Ordering::AcqRel) {
            return;
        }
        let entries = self.clone();
        actix_rt::spawn(async move {
            while !entries.link.is_trusted() {
                if !entries.pay().await {
                    sleep(RETRY).await;
                }
            }
            entries.link.paying.store(false, Ordering::Release);
        });
    }

    /// The generation of a server that has none: that of whoever is first.
    async fn first_generation(&self) -> Option<u128> {
        let token = Uuid::new_v4();
        let mut set = redis::cmd("SET");
        set.arg(self.generation_name()).arg(token.as_bytes()).arg("NX").arg("GET");
        let before: Option<Vec<u8>> = self.ask(&set).await?;
        let before = before.and_then(|token| <[u8; 16]>::try_from(token).ok());
        Some(before.map_or(token.as_u128(), u128::from_be_bytes))
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
                log::warn!(role = "product"; "the cache is away: {error}");
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
            drop(self.current.take().map(Connection::take));
            return Err(away("no answer in time"));
        };
        if outcome.as_ref().is_err_and(|error| error.kind() != ErrorKind::UnexpectedReturnType) {
            // Out of the pool: the next call opens another. What answers there may be a server that has
            // started again with an older memory.
            if let Some(lost) = self.current.take() {
                drop(Connection::take(lost));
                self.link.owed.fetch_add(1, Ordering::AcqRel);
                self.pay_later();
            }
        }
        outcome
    }

    /// This thread's connection, on which calls need not wait for each other.
    async fn connection(&self) -> Result<MultiplexedConnection, RedisError> {
        if let Some(current) = self.current.borrow().as_ref() {
            return Ok(MultiplexedConnection::clone(current));
        }
        let opened = self.pool.get().await.map_err(|error| away(error.to_string()))?;
        let connection = MultiplexedConnection::clone(&opened);
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

fn away(why: impl Into<String>) -> RedisError {
    (ErrorKind::Io, "the server is away", why.into()).into()
}
