//! The lease of a relay to a broker: one process at a time publishes a log, and notes how far the broker has it.

use diesel::sql_types::{BigInt, Text};
use diesel_async::{AsyncConnection as _, RunQueryDsl as _};

use super::Log;
use crate::storage::sql::in_transaction;
use crate::storage::{Prepared, StoreError, WriteConnection, postgres, run_to_completion};

/// For how long a relay keeps others out after it has last shown that it lives, in milliseconds.
const LEASE: i64 = 3_000;
/// Whose cursor says how far the broker has a log.
pub(super) const BROKER: &str = "broker";

/// A connection whose database has the time.
trait Clock {
    /// The SQL of it, in milliseconds since 1970.
    fn clock(&self) -> &'static str;
}

impl Clock for WriteConnection {
    fn clock(&self) -> &'static str {
        "CAST(unixepoch('now', 'subsec') * 1000 AS INTEGER)"
    }
}

impl Clock for postgres::Connection {
    fn clock(&self) -> &'static str {
        "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)"
    }
}

impl Log {
    /// Keeps the relays of other processes out for a while; whether none of them does the same.
    pub(super) async fn lease(&self, holder: &str) -> Result<bool, StoreError> {
        let (pool, holder, table) = (self.pool.clone(), holder.to_owned(), self.table("relay"));
        run_to_completion(&self.limits, async move {
            in_transaction!(&pool, StoreError, connection => {
                let clock = connection.clock();
                let upsert = diesel::sql_query(format!(
                    "INSERT INTO {table} (id, holder, expires_at) VALUES (1, $1, {clock} + {LEASE}) \
                     ON CONFLICT (id) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at \
                     WHERE {table}.holder = excluded.holder OR {table}.expires_at < {clock}"
                ));
                Prepared(upsert.bind::<Text, _>(holder)).execute(connection).await? == 1
            })
        })
        .await
    }

    /// Notes that the broker has the log up to `offset`, and ends the lease. Whether it was still the holder's: otherwise
    /// another relay publishes the same events, and nothing is noted.
    pub(super) async fn note(&self, holder: &str, offset: i64) -> Result<bool, StoreError> {
        let (pool, holder) = (self.pool.clone(), holder.to_owned());
        let end = format!(
            "UPDATE {} SET expires_at = 0 WHERE id = 1 AND holder = $1",
            self.table("relay")
        );
        let note = format!(
            "INSERT INTO {} (consumer, log_offset) VALUES ('{BROKER}', $1) \
             ON CONFLICT (consumer) DO UPDATE SET log_offset = excluded.log_offset",
            self.table("cursors")
        );
        run_to_completion(&self.limits, async move {
            in_transaction!(&pool, StoreError, connection => {
                let end = diesel::sql_query(end).bind::<Text, _>(holder);
                let is_held = Prepared(end).execute(connection).await? == 1;
                if is_held {
                    let note = diesel::sql_query(note).bind::<BigInt, _>(offset);
                    Prepared(note).execute(connection).await?;
                }
                is_held
            })
        })
        .await
    }

    pub(super) fn table(&self, name: &str) -> String {
        format!("{}_{name}", self.prefix)
    }
}
