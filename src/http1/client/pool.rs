//! The pool of idle connections to a server.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use super::connect::Connector;
use super::connection::Connection;
use super::{Error, Options};
use crate::tasks;

/// How old a connection may become, so that a change of the server's address is noticed.
const LIFETIME: Duration = Duration::from_secs(600);

/// One worker thread's connections to one server, and the read timeout; cheap to clone.
#[derive(Clone)]
pub(super) struct Pool(Rc<PoolInner>, Duration);

struct PoolInner {
    connector: Connector,
    connect_timeout: Duration,
    pool_idle: Duration,
    /// With the time of their last use, which is in ascending order.
    idle: RefCell<Vec<(Connection, Instant)>>,
}

impl Pool {
    /// A pool of connections from `connector`. A background task closes idle ones until the last clone is dropped.
    pub(super) fn new(connector: Connector, options: &Options) -> Self {
        let shared = Rc::new(PoolInner {
            connector,
            connect_timeout: options.connect_timeout,
            pool_idle: options.pool_idle,
            idle: RefCell::default(),
        });
        let (pool, idle) = (Rc::downgrade(&shared), options.pool_idle);
        tasks::supervise("connection_sweep", move || sweep(pool.clone(), idle));
        Self(shared, options.read_timeout)
    }

    /// The same connections with another read timeout.
    pub(super) fn with_read_timeout(self, read_timeout: Duration) -> Self {
        Self(self.0, read_timeout)
    }

    /// How long a response may pause.
    pub(super) fn read_timeout(&self) -> Duration {
        self.1
    }

    /// Takes an idle connection that is usable at the time `now`, if there is one.
    pub(super) fn take(&self, now: Instant) -> Option<Connection> {
        loop {
            // The most recently used first, so that those that are not needed become old and are closed.
            let (mut connection, since) = self.0.idle.borrow_mut().pop()?;
            let young = now.saturating_duration_since(connection.opened) < LIFETIME;
            if young
                && now.saturating_duration_since(since) < self.0.pool_idle
                && connection.is_usable()
            {
                return Some(connection);
            }
        }
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// [`Error::Unreachable`], also when the connect timeout passes.
    pub(super) async fn open(&self) -> Result<Connection, Error> {
        let opened = timeout(self.0.connect_timeout, self.0.connector.open()).await;
        let opened = opened.map_err(|_| Error::Unreachable("timed out".into()))?;
        let stream = opened.map_err(|error| Error::Unreachable(error.to_string()))?;
        Ok(Connection::new(stream))
    }

    /// Keeps `connection` for another request; its response is complete.
    pub(super) fn keep(&self, connection: Connection) {
        self.0.idle.borrow_mut().push((connection, Instant::now()));
    }
}

/// Closes connections that have been idle for too long.
async fn sweep(pool: Weak<PoolInner>, pool_idle: Duration) {
    loop {
        sleep((pool_idle / 2).max(Duration::from_millis(50))).await;
        let Some(pool) = pool.upgrade() else { return };
        pool.idle.borrow_mut().retain(|(_, since)| since.elapsed() < pool_idle);
    }
}
