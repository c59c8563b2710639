//! The locks that a transaction holds until it ends, on either back end.

use diesel::result::Error as QueryError;
use diesel::sql_types::BigInt;
use diesel::{OptionalExtension as _, QueryDsl as _};
use diesel_async::RunQueryDsl as _;

use super::Row;
use super::schema::users;
use crate::storage::{WriteConnection, postgres};

/// The advisory lock of transactions that may remove an admin: the bytes of "app admi".
const RIGHTS_LOCK: i64 = 0x6170_7020_6164_6d69;

/// A connection within a transaction that writes.
pub(super) trait Locks {
    /// The clause by which a query locks the rows that it finds, and skips rows that another transaction has locked.
    fn skip_locked(&self) -> &'static str;

    /// Waits until no other transaction may remove an admin: two admins who resign at once would leave none.
    fn lock_rights(&mut self) -> impl Future<Output = Result<(), QueryError>> + Send;

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

    async fn lock_rights(&mut self) -> Result<(), QueryError> {
        Ok(())
    }

    async fn lock_account(&mut self, id: &str) -> Result<Option<Row>, QueryError> {
        users::table.find(id).first(self).await.optional()
    }
}

impl Locks for postgres::Connection {
    fn skip_locked(&self) -> &'static str {
        "FOR UPDATE SKIP LOCKED"
    }

    async fn lock_rights(&mut self) -> Result<(), QueryError> {
        let lock = diesel::sql_query("SELECT pg_advisory_xact_lock($1)");
        lock.bind::<BigInt, _>(RIGHTS_LOCK).execute(self).await.map(drop)
    }

    async fn lock_account(&mut self, id: &str) -> Result<Option<Row>, QueryError> {
        // As strong as the lock of an UPDATE: writes and logins to one account take turns.
        users::table.find(id).for_no_key_update().first(self).await.optional()
    }
}
