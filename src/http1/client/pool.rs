//! The connections to a peer that are kept for the next request.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use super::connect::Connector;
use super::connection::Connection;
use super::{Error, Options};
use crate::tasks;

/// A connection is given up after this long, so that a moved address is noticed.
const LIFETIME: Duration = Duration::from_secs(600);

/// One worker's connections to one peer; cheap to clone.
#[derive(Clone)]
pub(super) struct Pool(Rc<PoolInner>, Duration);

struct PoolInner {
    connector: Connector,
    connect_timeout: Duration,
    pool_idle: Duration,
    /// The one that was used last is at the end.
    idle: RefCell<Vec<(Connection, Instant)>>,
}

impl Pool {
    /// A pool of connections from `connector`. Closes idle connections as long as a clone exists.
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

    /// The same connections, over which the next piece of an answer may take as long as `patience`.
    pub(super) fn with_read_timeout(self, read_timeout: Duration) -> Self {
        Self(self.0, read_timeout)
    }

    /// How long the next piece of an answer may take.
    pub(super) fn read_timeout(&self) -> Duration {
        self.1
    }

    /// A kept connection that can be used `now`, if there is one.
    pub(super) fn take(&self, now: Instant) -> Option<Connection> {
        loop {
            // The last one first: so the others grow old, and there are no more than it takes.
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

    /// Opens a new one.
    ///
    /// # Errors
    /// [`Error::Unreachable`], when nobody takes it in time.
    pub(super) async fn open(&self) -> Result<Connection, Error> {
        let opened = timeout(self.0.connect_timeout, self.0.connector.open()).await;
        let opened = opened.map_err(|_| Error::Unreachable("timed out".into()))?;
        let stream = opened.map_err(|error| Error::Unreachable(error.to_string()))?;
        Ok(Connection::new(stream))
    }

    /// Keeps `connection`, whose answer is over.
    pub(super) fn keep(&self, connection: Connection) {
        self.0.idle.borrow_mut().push((connection, Instant::now()));
    }
}

/// Gives up connections that have been unused for too long.
async fn sweep(pool: Weak<PoolInner>, pool_idle: Duration) {
    loop {
        sleep((pool_idle / 2).max(Duration::from_millis(50))).await;
        let Some(pool) = pool.upgrade() else { return };
        pool.idle.borrow_mut().retain(|(_, since)| since.elapsed() < pool_idle);
    }
}
