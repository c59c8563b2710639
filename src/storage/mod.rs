//! Opening what roles keep their data in. Nothing here knows of users or products.

pub mod copy;
pub mod postgres;
pub mod sql;
pub mod sqlite;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_rt::task::JoinHandle;
use bb8::RunError;
use diesel::result::{DatabaseErrorKind, Error as QueryError};
use diesel_async::pooled_connection::PoolError;
use tokio::time::timeout;

use crate::error::{Error, Kind};

/// The first half of the SHA-256 digest of `bytes`.
pub fn digest(bytes: &[u8]) -> u128 {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let mut half = [0; 16];
    half.copy_from_slice(&digest.as_ref()[..16]);
    u128::from_be_bytes(half)
}

/// How much of a store one worker thread may take, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections.
    pub size: u32,
    /// The wait for a connection.
    pub acquire: Duration,
    /// The wait for an answer on it.
    pub statement: Duration,
}

/// Whether a store's tables and indexes are up to date; shared by all threads of a process.
#[derive(Clone, Debug, Default)]
pub struct Prepared(Arc<AtomicBool>);

impl Prepared {
    /// Of a store whose tables are.
    pub fn already() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    /// From now on.
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether they are.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// How long [`Preparing::look`] waits for the work to be done.
const LOOK: Duration = Duration::from_millis(500);

/// Brings a store's tables up to date in a task of its own: once at a time, however long it takes and however
/// often somebody looks. Belongs to the thread that made it.
#[derive(Clone, Debug, Default)]
pub struct Preparing(Rc<RefCell<Option<Work>>>);

type Work = JoinHandle<Result<(), String>>;

impl Preparing {
    /// Starts `prepare`, unless it is at work, and gives its outcome when there is one soon.
    ///
    /// # Errors
    /// Why it failed, or that it is not done yet.
    pub async fn look<F>(&self, prepare: impl FnOnce() -> F) -> Result<(), String>
    where
        F: Future<Output = Result<(), String>> + 'static,
    {
        let mut task = self.0.take().unwrap_or_else(|| actix_rt::spawn(prepare()));
        match timeout(LOOK, &mut task).await {
            Ok(done) => done.map_err(|error| error.to_string())?,
            Err(_) => {
                self.0.replace(Some(task));
                Err("its tables are being brought up to date, or it does not answer".into())
            }
        }
    }
}

/// Why the store gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No connection was free, or none could be opened, or no answer came, within the time allowed.
    #[error("no connection: {0}")]
    Connection(String),
    /// A row or document with the same unique value is there already.
    #[error("duplicate")]
    Duplicate,
    /// The statement failed.
    #[error("{0}")]
    Failed(String),
}

impl StoreError {
    /// Something is stored that cannot be: what, in words.
    pub fn corrupt(what: impl std::fmt::Display) -> Self {
        Self::Failed(format!("what is stored makes no sense: {what}"))
    }
}

impl From<QueryError> for StoreError {
    fn from(error: QueryError) -> Self {
        match &error {
            QueryError::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => Self::Duplicate,
            QueryError::DatabaseError(DatabaseErrorKind::ClosedConnection, _) => {
                Self::Connection(error.to_string())
            }
            QueryError::DatabaseError(_, info) if is_transient(info.message()) => {
                Self::Connection(error.to_string())
            }
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// What SQLite and PostgreSQL say when the same may work later.
fn is_transient(message: &str) -> bool {
    const LATER: [&str; 7] = [
        "locked",
        "deadlock detected",
        "connection closed",
        "statement timeout",
        "the database system is",
        "terminating connection",
        "administrator command",
    ];
    LATER.iter().any(|text| message.contains(text))
}

/// The error of a pool that gave no connection.
fn acquire_error(error: RunError<PoolError>) -> StoreError {
    StoreError::Connection(match error {
        RunError::User(PoolError::ConnectionError(error)) => error.to_string(),
        RunError::User(PoolError::QueryError(error)) => error.to_string(),
        // Why none can be opened is in the log: the pool goes on trying.
        RunError::TimedOut => "none was free in time".into(),
    })
}

/// How often a pool says that it cannot open a connection.
const COMPLAINT: Duration = Duration::from_secs(5);

/// Says why a pool could not open a connection, now and then: it tries many times a second.
#[derive(Clone, Debug, Default)]
struct LogFailures(Arc<Mutex<Option<Instant>>>);

impl bb8::ErrorSink<PoolError> for LogFailures {
    fn sink(&self, error: PoolError) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() > COMPLAINT) {
            *last = Some(Instant::now());
            log::warn!("a connection to a store could not be opened: {error}");
        }
    }

    fn boxed_clone(&self) -> Box<dyn bb8::ErrorSink<PoolError>> {
        Box::new(self.clone())
    }
}

/// Waits for a call to a store, at most as long as `limits` say. The call itself runs to its end, even when
/// nobody waits for it any longer: a statement that is cut off in the middle would leave its connection, or
/// on SQLite its thread, in no state to go on.
///
/// # Errors
/// That of the call, or [`StoreError::Connection`] when there was no answer in time.
pub async fn to_the_end<T: 'static>(
    limits: &Limits,
    call: impl Future<Output = Result<T, StoreError>> + 'static,
) -> Result<T, StoreError> {
    let call = timeout(limits.acquire + limits.statement, actix_rt::spawn(call));
    match call.await {
        Ok(Ok(done)) => done,
        Ok(Err(error)) => Err(StoreError::Failed(error.to_string())),
        Err(_) => Err(StoreError::Connection("no answer in time".into())),
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Connection(_) => {
                Error::unavailable("the store is not available, try again", error)
            }
            StoreError::Duplicate => Error::new(Kind::Conflict, "it exists already"),
            StoreError::Failed(_) => Error::internal(error),
        }
    }
}
