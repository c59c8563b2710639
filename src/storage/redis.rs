//! Redis: one connection for each worker thread, on which calls need not wait for each other, and what the threads of
//! a process know of the server together.
//!
//! A server that gives no answer in time, breaks off or refuses is *away*: it is not asked again before a task, of
//! which a process has one, has read from it and written to it. So its absence costs requests nothing. One that is
//! full, has become a replica or cannot save answers reads, and is away all the same.

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

/// How soon a server that is away is asked again: twice as long each time, up to [`REST`].
const RETRY: Duration = Duration::from_millis(50);
const REST: Duration = Duration::from_millis(500);

/// What a server is used for.
#[derive(Clone, Debug)]
pub struct Use {
    /// What the log calls the server: as `/readyz` does.
    pub name: &'static str,
    /// How long it may take to answer before it is away.
    pub timeout: Duration,
    /// What the keys begin with.
    pub prefix: String,
    /// The same with a hash tag: in a Redis Cluster it keeps all keys in one slot, so that a command may name several
    /// (Redis, "Cluster specification", hash tags).
    pub tagged: String,
    /// A key that does not begin with the prefix.
    pub other: Option<String>,
}

/// A server, as far as the threads of a process share what they know of it; cheap to clone.
#[derive(Clone)]
pub struct Server(Arc<ServerInner>);

struct ServerInner {
    connection: redis::ConnectionInfo,
    used: Use,
    away: AtomicBool,
    /// Whether it is a cluster, which looks at the slots of keys.
    is_cluster: AtomicBool,
    losses: AtomicU64,
    /// Which run of a server the last connection was opened to.
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
        // It has no timeouts, for which it would need a runtime.
        let pool = pool.unwrap_or_else(|error| unreachable!("{error}"));
        Client { server: self.clone(), pool, current: Rc::default() }
    }

    /// How often the server may have lost what it was told, or not heard it: calls without an answer, refusals,
    /// connections that broke, and connections to another run of it.
    pub fn losses(&self) -> u64 {
        self.0.losses.load(Ordering::Acquire)
    }

    fn lose(&self) {
        self.0.losses.fetch_add(1, Ordering::AcqRel);
    }

    /// Takes note of the run of a server that a connection leads to. Another one than before, or one that cannot be
    /// told, may lack what was acknowledged.
    fn meet(&self, run: Option<String>) {
        let mut known = self.0.run.lock().unwrap_or_else(PoisonError::into_inner);
        if run.is_none() || *known != run {
            self.lose();
            *known = run;
        }
    }

    /// Whether keys are tagged because of `error`, and were not before.
    fn tags_from_now_on(&self, error: &RedisError) -> bool {
        error.kind() == ErrorKind::Server(ServerErrorKind::CrossSlot)
            && !self.0.is_cluster.swap(true, Ordering::Relaxed)
    }
}

/// The way to a server for one worker thread; cheap to clone.
#[derive(Clone)]
pub struct Client {
    server: Server,
    pool: Pool,
    /// Locked while it is opened, so that one is opened for all who wait for it.
    current: Rc<Mutex<Option<Connection>>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Client {
    /// What `call` gives; nothing when the server is away. The call is made again on another connection where the
    /// server has closed the one that was there, and with tagged keys where it turns out to be a cluster.
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

    /// As [`Client::ask`], whether the server is away or not.
    ///
    /// # Errors
    /// That of the call, or that there was no answer in time.
    pub async fn attempt<T>(
        &self,
        call: impl AsyncFn(&mut MultiplexedConnection) -> Result<T, RedisError>,
    ) -> Result<T, RedisError> {
        let outcome = timeout(self.server.0.used.timeout, self.call(call)).await;
        let outcome = outcome.unwrap_or_else(|_| Err(io_error("no answer in time")));
        match &outcome {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedReturnType => {}
            // Who refuses this may refuse other processes as well, and does not have what they wrote.
            Err(_) => self.lose(),
        }
        outcome
    }

    /// What a key is called on the server.
    pub fn key(&self, name: &str) -> String {
        let ServerInner { used, is_cluster, .. } = &*self.server.0;
        let is_cluster = is_cluster.load(Ordering::Relaxed);
        format!("{}:{name}", if is_cluster { &used.tagged } else { &used.prefix })
    }

    /// Asks whether the server answers a read of several keys and takes a write, as this user and with these keys.
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
            write.arg(&trial).arg(1).arg("PX").arg(1000).query_async::<()>(connection).await
        })
        .await
    }

    /// Counts a loss. The connection is not used any more: another may lead to a server that does what it is asked.
    pub fn lose(&self) {
        // Whoever holds the lock opens another one.
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
            // The server has closed it since: it may have started again, or have closed it for being idle.
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

    /// Asks the server nothing until it is there again.
    fn leave_alone(&self, why: &RedisError) {
        if self.server.0.away.swap(true, Ordering::Relaxed) {
            return;
        }
        let name = self.server.0.used.name;
        // Readiness warns, once a second at most.
        log::info!("{name} is away, this process goes on without it: {why}");
        let (client, watch) = (self.clone(), Watch(self.server.clone()));
        actix_rt::spawn(async move {
            insist(async || client.trial().await.is_ok()).await;
            drop(watch);
            log::info!("{name} is asked again");
        });
    }
}

/// A task that waits for the server. Whatever ends it, requests ask again.
struct Watch(Server);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.0.away.store(false, Ordering::Relaxed);
    }
}

/// Makes `attempt` until one succeeds, less and less often.
pub async fn insist(attempt: impl AsyncFn() -> bool) {
    let mut pause = RETRY;
    while !attempt().await {
        sleep(pause).await;
        pause = REST.min(pause * 2);
    }
}

/// Which run of a server a connection leads to; nothing where the server does not tell this user.
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
