//! A pool of connections to SQLite or PostgreSQL, for one worker thread.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use bb8::RunError;
use diesel::ConnectionError;
use diesel_async::AsyncConnection;
use diesel_async::pooled_connection::{PoolError, PoolableConnection};
use futures_util::future::BoxFuture;
use tokio::time::timeout_at;

use super::error::acquire_error;
use super::pool_meter::PoolMeter;
use super::{Access, Permit, Permits, StoreError, StoreState};

/// Opens a connection.
type Open<C> = Box<dyn Fn() -> BoxFuture<'static, Result<C, ConnectionError>> + Send + Sync>;

/// A bounded pool of connections.
pub(super) struct Pool<C: Poolable> {
    connections: bb8::Pool<Manager<C>>,
    permits: Permits,
}

/// A connection that can be pooled.
pub trait Poolable: AsyncConnection + PoolableConnection + 'static {}
impl<C: AsyncConnection + PoolableConnection + 'static> Poolable for C {}

/// A connection that returns to its pool, or is closed if its call passed its deadline: the statement may still run.
pub struct Lease<'a, C: Poolable> {
    connection: bb8::PooledConnection<'a, Manager<C>>,
    permit: Permit,
}

/// Opens connections, and knows which ones can be reused.
struct Manager<C> {
    open: Open<C>,
    state: StoreState,
}

/// A pooled connection.
struct Pooled<C> {
    connection: C,
    opened: Instant,
    is_over: bool,
}

impl<C: Poolable> bb8::ManageConnection for Manager<C> {
    type Connection = Pooled<C>;
    type Error = PoolError;

    async fn connect(&self) -> Result<Pooled<C>, PoolError> {
        let opened = Instant::now();
        let connection = (self.open)().await.map_err(PoolError::ConnectionError)?;
        Ok(Pooled { connection, opened, is_over: false })
    }

    async fn is_valid(&self, _: &mut Pooled<C>) -> Result<(), PoolError> {
        Ok(())
    }

    fn has_broken(&self, pooled: &mut Pooled<C>) -> bool {
        std::thread::panicking() || !pooled.can_be_used(&self.state)
    }
}

impl<C: Poolable> Pooled<C> {
    fn can_be_used(&mut self, state: &StoreState) -> bool {
        !self.is_over && !self.connection.is_broken() && state.is_current(self.opened)
    }
}

impl<C: Poolable> Pool<C> {
    /// A pool of connections for those who get `permits`, which `open` opens, each for at most `lifetime`. Opens none yet.
    pub(super) fn new(open: Open<C>, permits: Permits, lifetime: Option<Duration>) -> Self {
        let limits = permits.limits();
        let state = limits.state.clone();
        let builder = bb8::Pool::builder()
            .max_size(limits.size.max(1))
            .connection_timeout(limits.acquire)
            .error_sink(Box::new(ConnectErrors(state.clone())))
            .test_on_check_out(false)
            .max_lifetime(lifetime);
        let connections = builder.build_unchecked(Manager { open, state });
        Self { connections, permits }
    }

    /// The meter of its connections.
    pub(super) fn meter(&self) -> &PoolMeter {
        self.permits.meter()
    }

    /// Waits for a connection for `access`. To be called within [`super::run_to_completion`].
    ///
    /// # Errors
    /// When none was free in time, or none can be opened.
    pub(super) async fn get(&self, access: Access) -> Result<Lease<'_, C>, StoreError> {
        let permit = self.permits.take(access).await?;
        let state = &self.permits.limits().state;
        loop {
            let opening = timeout_at(permit.until.into(), self.connections.get()).await;
            let connection = opening.unwrap_or(Err(RunError::TimedOut));
            let mut connection = connection.map_err(|error| acquire_error(error, state))?;
            // A closed or retired connection is dropped when it returns to the pool.
            if connection.can_be_used(state) {
                return Ok(Lease { connection, permit });
            }
        }
    }
}

impl<C: Poolable> Lease<'_, C> {
    /// Closes the connection when it returns to the pool, unless it is kept.
    pub(super) fn end(&mut self) {
        self.connection.is_over = true;
    }

    /// Keeps the connection after all.
    pub(super) fn keep(&mut self) {
        self.connection.is_over = false;
    }
}

impl<C: Poolable> Deref for Lease<'_, C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.connection.connection
    }
}

impl<C: Poolable> DerefMut for Lease<'_, C> {
    fn deref_mut(&mut self) -> &mut C {
        &mut self.connection.connection
    }
}

impl<C: Poolable> Drop for Lease<'_, C> {
    fn drop(&mut self) {
        if self.permit.is_overdue() {
            self.end();
        }
    }
}

impl<C: Poolable> Clone for Pool<C> {
    fn clone(&self) -> Self {
        Self { connections: self.connections.clone(), permits: self.permits.clone() }
    }
}

impl<C: Poolable> fmt::Debug for Pool<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("permits", &self.permits).finish_non_exhaustive()
    }
}

/// Remembers why a pool could not open a connection, for the errors of its callers: it retries many times a second.
#[derive(Clone, Debug)]
struct ConnectErrors(StoreState);

impl bb8::ErrorSink<PoolError> for ConnectErrors {
    fn sink(&self, error: PoolError) {
        log::debug!("a connection to a store could not be opened: {error}");
        self.0.note_connect_error(error.to_string());
    }

    fn boxed_clone(&self) -> Box<dyn bb8::ErrorSink<PoolError>> {
        Box::new(self.clone())
    }
}
