//! The errors of stores, and how those of SQLite and PostgreSQL map to them.

use std::path::{Path, PathBuf};

use bb8::RunError;
use diesel::result::{DatabaseErrorKind, Error as QueryError};
use diesel_async::pooled_connection::PoolError;

use super::StoreState;
use crate::error::{Cause, Error, Kind};

/// The error of a pool whose connections are all in use.
pub(super) const NONE_FREE: &str = "none was free in time";

/// How many seconds a client should wait before it writes again to a store that is read-only.
const READ_ONLY_PAUSE: u32 = 5;

/// Why a call to a store failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// No connection was free or could be opened in time, or the transaction was rolled back. The store is unchanged.
    #[error("no connection: {0}")]
    Unreachable(String),
    /// No answer came in time, or the connection broke: the outcome is unknown.
    #[error("no connection: {0}")]
    Connection(String),
    /// A row or document with the same unique value exists.
    #[error("duplicate")]
    Duplicate,
    /// A disk, a file or a quota is full.
    #[error("no room: {0}")]
    Full(String),
    /// The store takes no writes, because of its permissions or because another server is the primary.
    #[error("read-only: {0}")]
    ReadOnly(String),
    /// The statement failed.
    #[error("{0}")]
    Failed(String),
}

impl StoreError {
    /// The record has an invalid value, which `what` names.
    pub fn corrupt(what: impl std::fmt::Display) -> Self {
        Self::Failed(format!("corrupt record: {what}"))
    }

    /// How the log has it from a task in the background: readiness says that a store is away, full or read-only.
    pub fn level(&self) -> log::Level {
        match self {
            Self::Failed(_) => log::Level::Warn,
            _ => log::Level::Debug,
        }
    }

    /// The error of a call that `writes` or does not: some errors mean different things for reads and writes.
    pub(super) fn of_call(self, writes: bool) -> Self {
        match self {
            Self::Failed(why) if writes && why.contains(IO_ERROR) => Self::Full(why),
            Self::Failed(why) if why.contains(CANNOT_OPEN) => Self::ReadOnly(why).of_call(writes),
            Self::ReadOnly(why) if !writes => Self::Connection(why),
            error => error,
        }
    }
}

/// Why a store cannot be opened or brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// What was tried on the store's file, its path, and why that failed.
    #[error("cannot {0} {path}: {2}", path = .1.display())]
    File(&'static str, PathBuf, Cause),
    /// The store lacks migrations.
    #[error("{store} needs migrations first: {missing} (app migrate applies them)")]
    NotMigrated {
        /// The file, or the database.
        store: String,
        /// The names of the migrations.
        missing: String,
    },
    /// The server cannot be used, in its driver's words.
    #[error("{0}")]
    Server(String),
    /// A statement failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SetupError {
    /// The error of `verb` on the file at `path`.
    pub(super) fn of_file<E: Into<Cause>>(verb: &'static str, path: &Path) -> impl Fn(E) -> Self {
        move |error| Self::File(verb, path.to_owned(), error.into())
    }

    /// A server's error.
    pub fn of_server(error: impl std::fmt::Display) -> Self {
        Self::Server(error.to_string())
    }
}

impl From<QueryError> for SetupError {
    fn from(error: QueryError) -> Self {
        Self::of_server(error)
    }
}

/// SQLite's errors when the system refuses to read or write a file for another reason than a full disk, such as a quota;
/// and when it cannot create the files beside the database.
const IO_ERROR: &str = "disk I/O error";
const CANNOT_OPEN: &str = "unable to open database file";

/// The errors of SQLite (SQLITE_FULL) and PostgreSQL (53100, with the system's text) for a full disk.
const FULL: [&str; 4] = [
    "database or disk is full",
    "No space left on device",
    "Disk quota exceeded",
    "could not extend file",
];

/// SQLite's error for a read-only file (SQLITE_READONLY). PostgreSQL's has a kind of its own.
const READ_ONLY: &str = "attempt to write a readonly database";

/// Errors that may pass: locks, deadlocks and timeouts, a server that starts or stops (57P01 to 57P03), or that lacks
/// memory or connections (53200, 53300).
const LATER: [&str; 12] = [
    "locked",
    "deadlock detected",
    "connection closed",
    "statement timeout",
    "lock timeout",
    "user request",
    "the database system is",
    "terminating connection",
    "administrator command",
    "out of memory",
    "too many clients",
    "remaining connection slots",
];

impl From<QueryError> for StoreError {
    fn from(error: QueryError) -> Self {
        // The cause of the rollback counts.
        if let QueryError::RollbackErrorOnCommit { commit_error, .. } = error {
            return Self::from(*commit_error);
        }
        let text = error.to_string();
        let says = |known: &[&str]| known.iter().any(|known| text.contains(known));
        match &error {
            QueryError::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => Self::Duplicate,
            QueryError::DatabaseError(DatabaseErrorKind::ReadOnlyTransaction, _) => {
                Self::ReadOnly(text)
            }
            QueryError::DatabaseError(DatabaseErrorKind::ClosedConnection, _) => {
                Self::Connection(text)
            }
            QueryError::DatabaseError(..) if says(&[READ_ONLY]) => Self::ReadOnly(text),
            QueryError::DatabaseError(..) if says(&FULL) => Self::Full(text),
            QueryError::DatabaseError(..) if says(&LATER) => Self::Connection(text),
            // From the program's own transactions; see call::in_time.
            QueryError::RollbackTransaction => {
                Self::Unreachable("it was not done in time, and was rolled back".into())
            }
            _ => Self::Failed(text),
        }
    }
}

/// The error of a pool that gave no connection; `state` may know why.
pub(super) fn acquire_error(error: RunError<PoolError>, state: &StoreState) -> StoreError {
    StoreError::Unreachable(match error {
        RunError::User(error) => error.to_string(),
        // The pool retries until the timeout.
        RunError::TimedOut => state.connect_error().unwrap_or_else(|| NONE_FREE.into()),
    })
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unreachable(_) | StoreError::Connection(_) => {
                Error::unavailable("the store is not available, try again", error).logged()
            }
            StoreError::Duplicate => Error::new(Kind::Conflict, "it exists already"),
            StoreError::Full(_) => {
                let detail = "the store is full";
                Error::new(Kind::InsufficientStorage, detail).caused_by(error).logged()
            }
            StoreError::ReadOnly(_) => {
                let error = Error::unavailable("the store takes no writes at the moment", error);
                error.retry_after(READ_ONLY_PAUSE).logged()
            }
            StoreError::Failed(_) => Error::internal(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> StoreError {
        QueryError::DatabaseError(DatabaseErrorKind::Unknown, Box::new(text.to_owned())).into()
    }

    #[test]
    fn each_way_of_a_store_to_say_that_it_cannot_write_has_its_answer() {
        let status = |error: StoreError| Error::from(error.of_call(true)).kind().status().as_u16();
        for (text, answer) in [
            ("database or disk is full", 507),
            ("disk I/O error", 507),
            ("could not extend file \"base/5/16386\": No space left on device", 507),
            ("could not extend file \"base/5/16386\": Disk quota exceeded", 507),
            ("attempt to write a readonly database", 503),
            ("unable to open database file", 503),
            ("database is locked", 503),
            ("the database system is starting up", 503),
            ("canceling statement due to lock timeout", 503),
            ("syntax error", 500),
        ] {
            assert_eq!(status(said(text)), answer, "{text}");
        }
        let kind = DatabaseErrorKind::ReadOnlyTransaction;
        let text = "cannot execute INSERT in a read-only transaction".to_owned();
        let error = StoreError::from(QueryError::DatabaseError(kind, Box::new(text)));
        assert!(matches!(error, StoreError::ReadOnly(_)), "{error:?}");
    }

    #[test]
    fn a_read_that_fails_does_not_say_that_the_store_is_full() {
        assert!(matches!(said("disk I/O error").of_call(false), StoreError::Failed(_)));
    }

    #[test]
    fn what_failed_at_the_commit_counts_and_not_the_rollback() {
        let database = |text: &str| {
            Box::new(QueryError::DatabaseError(
                DatabaseErrorKind::Unknown,
                Box::new(text.to_owned()),
            ))
        };
        let error = QueryError::RollbackErrorOnCommit {
            rollback_error: database("cannot rollback - no transaction is active"),
            commit_error: database("database or disk is full"),
        };
        assert!(matches!(StoreError::from(error), StoreError::Full(_)));
    }
}
