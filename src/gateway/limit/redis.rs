//! The counts that the processes of a gateway share, on Redis.
//!
//! A request is one round trip, in which the server decides on all its limits at once. All requests of a worker
//! thread share one connection. A server that does not answer in time is not asked again until it has answered
//! a task that waits for it, so that its absence costs requests nothing.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{self, Client, ErrorKind, RedisError, Script, ServerErrorKind};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use super::gcra::Quota;
use crate::config::Gateway as Options;

/// How often a server that is away is asked whether it is back.
const REST: Duration = Duration::from_millis(500);

/// What the threads of a process know of the server.
#[derive(Debug, Default)]
pub(super) struct Link {
    away: AtomicBool,
    /// Whether it is a cluster, which looks at the slots of names.
    tagged: AtomicBool,
}

/// The way to the server for one worker thread; cheap to clone.
#[derive(Clone)]
pub(super) struct Server {
    client: Client,
    /// Locked while it is opened, so that one is opened for all who wait for it.
    connection: Rc<Mutex<Option<MultiplexedConnection>>>,
    link: Arc<Link>,
    script: Rc<Script>,
    timeout: Duration,
    prefix: Rc<str>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl Server {
    /// Opens no connection yet.
    pub(super) fn open(
        url: &SecretString,
        options: &Options,
        link: Arc<Link>,
    ) -> Result<Self, String> {
        Ok(Self {
            client: Client::open(url.expose_secret()).map_err(|error| error.to_string())?,
            connection: Rc::default(),
            link,
            script: Rc::new(Script::new(include_str!("take.lua"))),
            timeout: options.limits_timeout,
            prefix: options.limits_prefix.as_str().into(),
        })
    }

    /// Counts a request, unless one of the limits refuses it. Each limit is what its key is called and its quota.
    /// Gives the server's time and the arrival times from before the request, in µs; nothing when the server is
    /// away.
    pub(super) async fn take(
        &self,
        limits: impl Iterator<Item = (String, Quota)>,
    ) -> Option<(u64, Vec<u64>)> {
        if self.link.away.load(Ordering::Relaxed) {
            return None;
        }
        match self.in_time(self.attempt(limits)).await {
            Ok(answer) => Some(answer),
            Err(why) => {
                self.wait_for_it(&why);
                None
            }
        }
    }

    /// Whether it is there and takes writes, which it does not when its memory is full, it has become a replica, or
    /// cannot save them.
    pub(super) async fn ping(&self) -> Result<(), String> {
        let write = async {
            let mut connection = self.connection().await?.0;
            loop {
                // A server that answers PING may still keep these keys elsewhere, or from this user.
                let mut read = redis::cmd("MGET");
                read.arg(self.name("trial")).arg(self.name("another trial"));
                let answer = read.query_async::<[Option<Vec<u8>>; 2]>(&mut connection).await;
                if !self.tags_from_now_on(answer.as_ref().err()) {
                    answer?;
                    break;
                }
            }
            let mut set = redis::cmd("SET");
            set.arg(self.name("trial")).arg(1).arg("PX").arg(1000);
            set.query_async::<()>(&mut connection).await
        };
        self.in_time(write).await
    }

    /// Whether names get a hash tag because of `error`, and had none before.
    fn tags_from_now_on(&self, error: Option<&RedisError>) -> bool {
        let slots = ErrorKind::Server(ServerErrorKind::CrossSlot);
        error.is_some_and(|error| error.kind() == slots)
            && !self.link.tagged.swap(true, Ordering::Relaxed)
    }

    /// What a key is called on the server. In a Redis Cluster all have one hash tag: it keeps them in one slot, and the
    /// script may name several (Redis, "Cluster specification", hash tags).
    fn name(&self, key: &str) -> String {
        let limits = if self.link.tagged.load(Ordering::Relaxed) { "{limits}" } else { "limits" };
        format!("{}:{limits}:{key}", self.prefix)
    }

    async fn attempt(
        &self,
        limits: impl Iterator<Item = (String, Quota)>,
    ) -> Result<(u64, Vec<u64>), RedisError> {
        let limits = limits.collect::<Vec<_>>();
        let answer = self.attempt_once(&limits).await;
        if self.tags_from_now_on(answer.as_ref().err()) {
            return self.attempt_once(&limits).await;
        }
        answer
    }

    async fn attempt_once(
        &self,
        limits: &[(String, Quota)],
    ) -> Result<(u64, Vec<u64>), RedisError> {
        let mut call = self.script.prepare_invoke();
        for (key, quota) in limits {
            call.key(self.name(key));
            call.arg(quota.interval()).arg(quota.window());
        }
        let (mut connection, kept) = self.connection().await?;
        let mut answer = call.invoke_async::<Vec<u64>>(&mut connection).await;
        if kept && answer.as_ref().is_err_and(RedisError::is_unrecoverable_error) {
            // One that the server has closed since: it may be there again, or have closed it for being idle.
            self.connection.lock().await.take();
            connection = self.connection().await?.0;
            answer = call.invoke_async(&mut connection).await;
        }
        let mut answer = answer?;
        let now = if answer.is_empty() { 0 } else { answer.remove(0) };
        Ok((now, answer))
    }

    /// What `call` gives, if it does so in time; otherwise the next one gets another connection.
    async fn in_time<T>(
        &self,
        call: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, String> {
        let outcome = match timeout(self.timeout, call).await {
            Ok(outcome) => outcome.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {}", humantime::format_duration(self.timeout))),
        };
        if outcome.is_err()
            && let Ok(mut connection) = self.connection.try_lock()
        {
            connection.take();
        }
        outcome
    }

    /// This thread's connection, on which calls need not wait for each other, and whether it was there already.
    async fn connection(&self) -> Result<(MultiplexedConnection, bool), RedisError> {
        let mut current = self.connection.lock().await;
        if let Some(connection) = current.as_ref() {
            return Ok((connection.clone(), true));
        }
        let opened = self.client.get_multiplexed_async_connection().await?;
        *current = Some(opened.clone());
        Ok((opened, false))
    }

    /// Leaves the server alone until it answers a task, of which a process has one.
    fn wait_for_it(&self, why: &str) {
        if self.link.away.swap(true, Ordering::Relaxed) {
            return;
        }
        log::warn!(role = "gateway"; "the limits' server is away, this process counts for itself: {why}");
        let (server, watch) = (self.clone(), Watch(self.link.clone()));
        actix_rt::spawn(async move {
            while server.ping().await.is_err() {
                sleep(REST).await;
            }
            drop(watch);
            log::info!(role = "gateway"; "the limits' server is back");
        });
    }
}

/// A task that waits for the server. Whatever ends it, requests ask again.
struct Watch(Arc<Link>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.away.store(false, Ordering::Relaxed);
    }
}
