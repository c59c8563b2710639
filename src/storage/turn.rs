//! Transactions of one kind that run one after the other.

use diesel::result::Error as QueryError;
use diesel::sql_types::BigInt;
use diesel_async::RunQueryDsl as _;

use super::{Prepared, WriteConnection, postgres};

/// A connection within a transaction that writes.
pub trait Turn {
    /// Waits until no other transaction of this `kind` is under way; others wait until this one ends. The kind is the name of a
    /// lock, which all roles that share a database must agree on.
    fn turn(
        &mut self,
        kind: &'static [u8; 8],
    ) -> impl Future<Output = Result<(), QueryError>> + Send;
}

/// A transaction that writes has the file to itself.
impl Turn for WriteConnection {
    async fn turn(&mut self, _: &'static [u8; 8]) -> Result<(), QueryError> {
        Ok(())
    }
}

impl Turn for postgres::Connection {
    async fn turn(&mut self, kind: &'static [u8; 8]) -> Result<(), QueryError> {
        let lock = diesel::sql_query("SELECT pg_advisory_xact_lock($1)");
        let lock = lock.bind::<BigInt, _>(i64::from_be_bytes(*kind));
        Prepared(lock).execute(self).await.map(drop)
    }
}
