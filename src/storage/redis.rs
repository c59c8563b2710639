//! Redis: one multiplexed connection per worker thread, and the state of the server that all threads share.
//!
//! A server that does not answer in time, breaks off or refuses is *away*: it is not used until a task, of which a process
//! has one, has read from it and written to it. So its absence costs requests nothing. A server that is full, has become a
//! replica or cannot save its data answers reads, but is away all the same.

use std::any::type_name_of_val;
use std::fmt;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex as Lock, PoisonError};
use std::time::Duration;

use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{
    self, ErrorKind, IntoConnectionInfo as _, RedisError, ServerErrorKind,
};
use deadpool_redis::{Connection, Hook, HookError, Manager, Pool, PoolError};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use super::StoreName;
use super::operations::Operation;
use super::pool_meter::PoolMeter;
use crate::tasks;
use crate::telemetry::{Part, Wait};

/// The pause before a server that is away is tried again, doubled each time up to [`REST`].
const RETRY: Duration = Duration::from_millis(50);
const REST: Duration = Duration::from_millis(500);

/// What metrics call this kind of store.
const SYSTEM: &str = "redis";

/// How a server is used.
#[derive(Clone, Debug)]
pub struct Use {
    /// The server's name in the log and in `/readyz`.
    pub name: &'static str,
    /// How long it may take to answer before it counts as away.
    pub timeout: Duration,
    /// The prefix of keys.
    pub prefix: String,
    /// The prefix with a hash tag, which keeps all keys of a Redis Cluster in one slot, so that commands may name several
    /// (Redis, "Cluster specification", hash tags).
    pub tagged: String,
    /// A key without the prefix.
    pub other: Option<String>,
}

/// A server, shared by the threads of a process; cheap to clone.
#[derive(Clone)]
pub struct Server(Arc<ServerInner>);

struct ServerInner {
    connection: redis::ConnectionInfo,
    used: Use,
    away: AtomicBool,
    /// Whether it is a cluster, which requires keys in one slot.
    is_cluster: AtomicBool,
    losses: AtomicU64,
    /// The run id of the server of the last connection.
    run: Lock<Option<String>>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("used", &self.0.used).finish_non_exhaustive()
    }
}

impl Server {
    /// The server at `url`, which the configuration has parsed. Opens no connection yet.
    pub fn new(url: &SecretString, used: Use) -> Self {
        let connection = url.expose_secret().into_connection_info();
        Self(Arc::new(ServerInner {
            connection: connection.unwrap_or_else(|error| unreachable!("{error}")),
            used,
            away: AtomicBool::new(false),
            is_cluster: AtomicBool::new(false),
            losses: AtomicU64::new(0),
            run: Lock::default(),
        }))
    }

    /// A client for this thread. Opens no connection yet.
    pub fn client(&self) -> Client {
        let manager = Manager::new(self.0.connection.clone());
        let manager = manager.unwrap_or_else(|error| unreachable!("it was parsed: {error}"));
        let server = self.clone();
        let meet = Hook::async_fn(move |connection: &mut MultiplexedConnection, _| {
            let server = server.clone();
            Box::pin(async move {
                server.meet(run_of(connection).await.map_err(HookError::Backend)?);
                Ok(())
            })
        });
        let pool = Pool::builder(manager).max_size(1).post_create(meet).build();
        // It has no timeouts, so it needs no runtime.
        let pool = pool.unwrap_or_else(|error| unreachable!("{error}"));
        let meter = PoolMeter::new(StoreName { setting: self.0.used.name, system: SYSTEM }, 1);
        Client { server: self.clone(), pool, current: Rc::default(), meter }
    }

    /// How often the server may have lost writes: calls without an answer, refusals, broken connections, and connections to
    /// another run of it.
    pub fn losses(&self) -> u64 {
        self.0.losses.load(Ordering::Acquire)
    }

    fn lose(&self) {
        self.0.losses.fetch_add(1, Ordering::AcqRel);
    }

    /// Remembers the run id of a connection's server. Another run, or an unknown one, may lack acknowledged writes.
    fn meet(&self, run: Option<String>) {
        let mut known = self.0.run.lock().unwrap_or_else(PoisonError::into_inner);
        if run.is_none() || *known != run {
            self.lose();
            *known = run;
        }
    }

    /// Switches to tagged keys if `error` requires it; returns whether that is new.
    fn tags_from_now_on(&self, error: &RedisError) -> bool {
        error.kind() == ErrorKind::Server(ServerErrorKind::CrossSlot)
            && !self.0.is_cluster.swap(true, Ordering::Relaxed)
    }
}

/// A client for one worker thread; cheap to clone.
#[derive(Clone)]
pub struct Client {
    server: Server,
    pool: Pool,
    /// Locked while it is opened, so that all callers wait for one connection.
    current: Rc<Mutex<Option<Connection>>>,
    meter: PoolMeter,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Client {
    /// The result of `call`; `None` when the server is away. The call is repeated on a new connection if the server has closed
    /// the old one, and with tagged keys if the server turns out to be a cluster.
    pub async fn ask<T>(
        &self,
        call: impl AsyncFn(&mut MultiplexedConnection) -> Result<T, RedisError>,
    ) -> Option<T> {
        if self.server.0.away.load(Ordering::Relaxed) {
            return None;
        }
        let outcome = self.attempt(call).await;
        outcome.inspect_err(|error| self.leave_alone(error)).ok()
    }

    /// As [`Client::ask`], even if the server is away.
    ///
    /// # Errors
    /// The call's error, or a timeout.
    pub async fn attempt<T>(
        &self,
        call: impl AsyncFn(&mut MultiplexedConnection) -> Result<T, RedisError>,
    ) -> Result<T, RedisError> {
        let _wait = Wait::begin(Part::Stores);
        let (operation, used) =
            (Operation::begin(type_name_of_val(&call), SYSTEM), self.meter.take());
        let outcome = timeout(self.server.0.used.timeout, self.call(call)).await;
        let outcome = outcome.unwrap_or_else(|_| Err(io_error("no answer in time")));
        drop(used);
        operation.end_with(match &outcome {
            Err(error) if error.kind() == ErrorKind::Io => "connection",
            Err(_) => "failed",
            Ok(_) => "",
        });
        match &outcome {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedReturnType => {}
            // A server that refuses this call may have refused other processes' writes.
            Err(_) => self.lose(),
        }
        outcome
    }

    /// The full key on the server.
    pub fn key(&self, name: &str) -> String {
        let ServerInner { used, is_cluster, .. } = &*self.server.0;
        let is_cluster = is_cluster.load(Ordering::Relaxed);
        format!("{}:{name}", if is_cluster { &used.tagged } else { &used.prefix })
    }

    /// Checks that the server answers a read of several keys, takes a write and runs a script, for this user and these keys.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn trial(&self) -> Result<(), RedisError> {
        self.attempt(async |connection| {
            let trial = self.key("trial");
            let other = self.server.0.used.other.clone();
            let other = other.unwrap_or_else(|| self.key("another trial"));
            let mut read = redis::cmd("MGET");
            read.arg(&trial).arg(other).query_async::<[Option<Vec<u8>>; 2]>(connection).await?;
            let mut write = redis::cmd("SET");
            write.arg(&trial).arg(1).arg("PX").arg(1000).query_async::<()>(connection).await?;
            redis::Script::new("return 1").key(&trial).invoke_async::<()>(connection).await
        })
        .await
    }

    /// Counts a loss and drops the connection: a new one may lead to a working server.
    pub fn lose(&self) {
        // The holder of the lock is opening a new one.
        if let Ok(mut current) = self.current.try_lock() {
            drop(current.take().map(Connection::take));
        }
        self.server.lose();
    }

    async fn call<T>(
        &self,
        call: impl AsyncFn(&mut MultiplexedConnection) -> Result<T, RedisError>,
    ) -> Result<T, RedisError> {
        let (mut connection, kept) = self.connection().await?;
        match call(&mut connection).await {
            // The server has closed it: after a restart, or because it was idle.
            Err(error) if kept && error.is_unrecoverable_error() => {
                self.lose();
                call(&mut self.connection().await?.0).await
            }
            Err(error) if self.server.tags_from_now_on(&error) => call(&mut connection).await,
            outcome => outcome,
        }
    }

    /// This thread's connection, and whether it was there already.
    async fn connection(&self) -> Result<(MultiplexedConnection, bool), RedisError> {
        let mut current = self.current.lock().await;
        if let Some(connection) = current.as_ref() {
            return Ok((MultiplexedConnection::clone(connection), true));
        }
        let opened = self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => {
                error
            }
            error => io_error(error.to_string()),
        })?;
        let connection = MultiplexedConnection::clone(&opened);
        *current = Some(opened);
        Ok((connection, false))
    }

    /// Marks the server as away until it works again.
    fn leave_alone(&self, why: &RedisError) {
        if self.server.0.away.swap(true, Ordering::Relaxed) {
            return;
        }
        let name = self.server.0.used.name;
        // Readiness warns about it.
        log::info!("{name} is away, this process goes on without it: {why}");
        let (client, watch) = (self.clone(), Watch(self.server.clone()));
        tasks::spawn("redis_watch", async move {
            insist(async || client.trial().await.is_ok()).await;
            drop(watch);
            log::info!("{name} is used again");
        });
    }
}

/// Marks the running task; its drop makes requests use the server again.
struct Watch(Server);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.0.away.store(false, Ordering::Relaxed);
    }
}

/// Repeats `attempt` until it succeeds, less and less often.
pub async fn insist(attempt: impl AsyncFn() -> bool) {
    let mut pause = RETRY;
    while !attempt().await {
        sleep(pause).await;
        pause = REST.min(pause * 2);
    }
}

/// The run id of a connection's server; `None` if this user may not see it.
async fn run_of(connection: &mut MultiplexedConnection) -> Result<Option<String>, RedisError> {
    match redis::cmd("INFO").arg("server").query_async::<String>(connection).await {
        Ok(info) => {
            let run = info.lines().find_map(|line| line.strip_prefix("run_id:"));
            Ok(run.map(|run| run.trim().to_owned()))
        }
        Err(error) if matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn io_error(why: impl Into<String>) -> RedisError {
    (ErrorKind::Io, "the server is away", why.into()).into()
}
