//! The locks that a transaction holds until it ends, on either back end.

use diesel::result::Error as QueryError;
use diesel::{OptionalExtension as _, QueryDsl as _};
use diesel_async::RunQueryDsl as _;

use super::Row;
use super::schema::users;
use crate::storage::{WriteConnection, postgres};

/// A connection within a transaction that writes.
pub(super) trait Locks {
    /// The clause by which a query locks the rows that it finds, and skips rows that another transaction has locked.
    fn skip_locked(&self) -> &'static str;

    /// The account with `id`, locked against changes until the transaction ends.
    fn lock_account(
        &mut self,
        id: &str,
    ) -> impl Future<Output = Result<Option<Row>, QueryError>> + Send;
}

/// A transaction that writes has the file to itself.
impl Locks for WriteConnection {
    fn skip_locked(&self) -> &'static str {
        ""
    }

    async fn lock_account(&mut self, id: &str) -> Result<Option<Row>, QueryError> {
        users::table.find(id).first(self).await.optional()
    }
}

impl Locks for postgres::Connection {
    fn skip_locked(&self) -> &'static str {
        "FOR UPDATE SKIP LOCKED"
    }

    async fn lock_account(&mut self, id: &str) -> Result<Option<Row>, QueryError> {
        // As strong as the lock of an UPDATE: writes and logins to one account take turns.
        users::table.find(id).for_no_key_update().first(self).await.optional()
    }
}
