//! Opening what roles keep their data in. Nothing here knows of users or products.

pub mod sqlite;

use diesel::result::{DatabaseErrorKind, Error as QueryError};

use crate::error::Error;

/// Why the store gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No connection was free, or none could be opened, within the time allowed.
    #[error("no connection: {0}")]
    Connection(String),
    /// The statement failed.
    #[error(transparent)]
    Query(#[from] QueryError),
}

impl StoreError {
    /// Whether a row with the same unique value is there already.
    pub fn is_duplicate(&self) -> bool {
        matches!(
            self,
            Self::Query(QueryError::DatabaseError(DatabaseErrorKind::UniqueViolation, _))
        )
    }

    /// Whether the store is away or busy, so that the same may work later.
    fn is_transient(&self) -> bool {
        match self {
            Self::Connection(_) => true,
            Self::Query(QueryError::DatabaseError(kind, info)) => {
                matches!(kind, DatabaseErrorKind::ClosedConnection)
                    || info.message().contains("locked")
            }
            Self::Query(_) => false,
        }
    }
}

/// Runs a call to a store to its end, even when nobody waits for it any longer: a statement that is cut
/// off in the middle would leave its connection, or on SQLite its thread, in no state to go on.
///
/// # Errors
/// That of the call.
pub async fn to_the_end<T: 'static>(
    call: impl Future<Output = Result<T, StoreError>> + 'static,
) -> Result<T, StoreError> {
    let done = actix_rt::spawn(call).await;
    done.unwrap_or_else(|error| {
        Err(StoreError::Connection(format!("the call ended early: {error}")))
    })
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        if error.is_transient() {
            Error::unavailable("the store is not available, try again", error)
        } else {
            Error::internal(error)
        }
    }
}
