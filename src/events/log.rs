//! The outbox of a role, which is also the log of its events: those that were published have a place in it.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use diesel::sql_types::{BigInt, Text};
use diesel::{OptionalExtension as _, QueryableByName};
use diesel_async::{AsyncConnection as _, RunQueryDsl as _};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::counters;
use crate::contract::{Event, now};
use crate::storage::sql::{Pool, in_transaction, on_either, write_one};
use crate::storage::{Limits, Prepared, StoreError, Turn as _, run_to_completion};
use crate::telemetry::{Messages, Operation, Span};

/// How many events are published at once, and forgotten at once.
const BATCH: i64 = 500;
/// How often the log is looked at for what another process has written.
const INTERVAL: Duration = Duration::from_secs(1);
/// The pause after an error.
const PAUSE: Duration = Duration::from_millis(500);
/// How often old events are forgotten, and how long they stay.
const SWEEP: Duration = Duration::from_secs(60);
const RETENTION: TimeDelta = TimeDelta::hours(24);
/// The lock of a relay.
const RELAY: &[u8; 8] = b"app rela";

/// Writes an event into the outbox of the role `prefix`, in the transaction of `connection`. It is made in the span
/// that `traceparent` names, by [`creation`].
macro_rules! record {
    ($connection:expr, $prefix:literal, $event:expr, $traceparent:expr) => {{
        let mut event: $crate::contract::Event = $event;
        event.traceparent.clone_from(&$traceparent);
        let text = serde_json::to_string(&event).map_err($crate::storage::StoreError::corrupt)?;
        let insert = concat!("INSERT INTO ", $prefix, "_outbox (kind, event) VALUES ($1, $2)");
        let insert = diesel::sql_query(insert)
            .bind::<diesel::sql_types::Text, _>(&event.kind)
            .bind::<diesel::sql_types::Text, _>(text);
        $crate::storage::Prepared(insert).execute($connection).await?
    }};
}
pub(crate) use record;

/// The part of the current trace in which an event of this `kind` is made: until it has succeeded, when its transaction has, or
/// is discarded, where there is none in the end.
pub fn creation(kind: impl FnOnce() -> String) -> Span {
    Span::messages(|| Messages {
        operation: Operation::Create,
        system: "outbox",
        destination: kind().into(),
        count: 1,
    })
}

/// Tells the threads of a process of new events in a log.
#[derive(Clone, Debug, Default)]
pub struct News {
    written: Arc<Notify>,
    published: Arc<Notify>,
}

impl News {
    /// Tells the relay that something is in the outbox.
    pub fn tell(&self) {
        self.written.notify_one();
    }
}

/// The log of one role's events, for one thread.
#[derive(Clone, Debug)]
pub struct Log {
    pub(super) prefix: &'static str,
    pub(super) pool: Pool,
    pub(super) limits: Limits,
    news: News,
}

#[derive(QueryableByName)]
struct LogRow {
    #[diesel(sql_type = BigInt)]
    log_offset: i64,
    #[diesel(sql_type = Text)]
    event: String,
}

#[derive(QueryableByName)]
pub(super) struct Number {
    #[diesel(sql_type = BigInt)]
    pub(super) number: i64,
}

impl Log {
    /// The log of the role whose tables begin with `prefix`.
    pub fn new(prefix: &'static str, pool: Pool, limits: Limits, news: News) -> Self {
        Self { prefix, pool, limits, news }
    }

    /// Waits until its tables are there.
    pub(super) async fn prepared(&self) {
        while !self.limits.state.is_prepared() {
            sleep(INTERVAL).await;
        }
    }

    /// Publishes what is written, in order. Never returns.
    pub(super) async fn relay(self) {
        self.prepared().await;
        loop {
            match self.publish().await {
                Ok(published) => {
                    if published > 0 {
                        counters::published(self.prefix, "log", published.unsigned_abs());
                        self.news.published.notify_waiters();
                    }
                    if published < BATCH {
                        let _ = timeout(INTERVAL, self.news.written.notified()).await;
                    }
                }
                // Readiness logs that the store is away.
                Err(error) => {
                    let level = error.level();
                    log::log!(level, "events of {} are not published yet: {error}", self.prefix);
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Waits until more may be published than when this is called.
    pub fn news(&self) -> impl Future<Output = ()> {
        let published = self.news.published.notified();
        async { drop(timeout(INTERVAL, published).await) }
    }

    /// Gives what is written the next places in the log; returns how many there were.
    async fn publish(&self) -> Result<i64, StoreError> {
        let (pool, table) = (self.pool.clone(), format!("{}_outbox", self.prefix));
        run_to_completion(&self.limits, async move {
            let count = format!(
                "SELECT COUNT(*) AS number FROM (SELECT 1 FROM {table} WHERE log_offset IS NULL LIMIT 1) AS found"
            );
            let some = on_either!(&mut pool.get().await?, connection => {
                Prepared(diesel::sql_query(count)).get_result::<Number>(connection).await
            })?;
            if some.number == 0 {
                return Ok(0);
            }
            let update = format!(
                "UPDATE {table} SET published_at = $1, log_offset = new.rank \
                 + (SELECT COALESCE(MAX(log_offset), 0) FROM {table} WHERE log_offset IS NOT NULL) \
                 FROM (SELECT position, ROW_NUMBER() OVER (ORDER BY position) AS rank FROM {table} \
                 WHERE log_offset IS NULL ORDER BY position LIMIT {BATCH}) AS new \
                 WHERE {table}.position = new.position"
            );
            let at = now().naive_utc();
            let published = in_transaction!(&pool, StoreError, connection => {
                connection.turn(RELAY).await?;
                let update = diesel::sql_query(update).bind::<diesel::sql_types::Timestamp, _>(at);
                Prepared(update).execute(connection).await?
            })?;
            Ok(i64::try_from(published).unwrap_or(i64::MAX))
        })
        .await
    }

    /// The place of the last event that was published; 0 if there is none.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn end(&self) -> Result<i64, StoreError> {
        let pool = self.pool.clone();
        let query = self.last_place();
        run_to_completion(&self.limits, async move {
            let end = on_either!(&mut pool.get().await?, connection => {
                diesel::sql_query(query).get_result::<Number>(connection).await
            })?;
            Ok(end.number)
        })
        .await
    }

    /// The query for the place of the last event that was published; 0 if there is none.
    pub(super) fn last_place(&self) -> String {
        format!(
            "SELECT COALESCE(MAX(log_offset), 0) AS number FROM {}_outbox WHERE log_offset IS NOT NULL",
            self.prefix
        )
    }

    /// At most `limit` events behind place `offset`, and their places.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn after(&self, offset: i64, limit: i64) -> Result<Vec<(i64, Event)>, StoreError> {
        let pool = self.pool.clone();
        let query = format!(
            "SELECT log_offset, event FROM {}_outbox WHERE log_offset > $1 ORDER BY log_offset LIMIT $2",
            self.prefix
        );
        run_to_completion(&self.limits, async move {
            let rows = on_either!(&mut pool.get().await?, connection => {
                let query = diesel::sql_query(query);
                let query = query.bind::<BigInt, _>(offset).bind::<BigInt, _>(limit);
                Prepared(query).load::<LogRow>(connection).await
            })?;
            let event = |row: LogRow| {
                let event = serde_json::from_str(&row.event).map_err(StoreError::corrupt)?;
                Ok((row.log_offset, event))
            };
            rows.into_iter().map(event).collect()
        })
        .await
    }

    /// The place of the last event that `consumer` has taken.
    pub(super) async fn cursor(&self, consumer: &'static str) -> Result<i64, StoreError> {
        let pool = self.pool.clone();
        let query =
            format!("SELECT log_offset AS number FROM {}_cursors WHERE consumer = $1", self.prefix);
        run_to_completion(&self.limits, async move {
            let row = on_either!(&mut pool.get().await?, connection => {
                let query = diesel::sql_query(query).bind::<Text, _>(consumer);
                Prepared(query).get_result::<Number>(connection).await.optional()
            })?;
            Ok(row.map_or(0, |row| row.number))
        })
        .await
    }

    /// Notes that `consumer` has taken all events up to place `offset`.
    pub(super) async fn set_cursor(
        &self,
        consumer: &'static str,
        offset: i64,
    ) -> Result<(), StoreError> {
        let pool = self.pool.clone();
        let upsert = format!(
            "INSERT INTO {prefix}_cursors (consumer, log_offset) VALUES ($1, $2) ON CONFLICT (consumer) DO UPDATE \
             SET log_offset = excluded.log_offset WHERE excluded.log_offset > {prefix}_cursors.log_offset",
            prefix = self.prefix
        );
        run_to_completion(&self.limits, async move {
            let upsert = diesel::sql_query(upsert).bind::<Text, _>(consumer);
            write_one!(&pool, upsert.bind::<BigInt, _>(offset), execute)
        })
        .await
        .map(drop)
    }

    /// Forgets events that were published a day ago and that all of `consumers` have taken. Never returns.
    pub(super) async fn sweep(self, consumers: Vec<&'static str>) {
        let taken = self.taken_by_all(&consumers);
        loop {
            sleep(SWEEP).await;
            while matches!(self.forget(&taken).await, Ok(true)) {}
        }
    }

    /// The query for the place up to which all of `consumers` have taken events: 0 while one of them has taken none.
    pub(super) fn taken_by_all(&self, consumers: &[&str]) -> String {
        let names = consumers.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>();
        format!(
            "SELECT CASE WHEN COUNT(*) = {} THEN COALESCE(MIN(log_offset), 0) ELSE 0 END AS number \
             FROM {}_cursors WHERE consumer IN ({})",
            names.len(),
            self.prefix,
            names.join(", ")
        )
    }

    /// Forgets some of them, up to the place that the query `taken` finds; returns whether there were many. It looks at the oldest alone, so that it costs no more with many
    /// events of today.
    async fn forget(&self, taken: &str) -> Result<bool, StoreError> {
        let (pool, prefix) = (self.pool.clone(), self.prefix);
        let delete = format!(
            "DELETE FROM {prefix}_outbox WHERE position IN (SELECT position FROM \
             (SELECT position, log_offset, published_at FROM {prefix}_outbox \
             WHERE log_offset IS NOT NULL ORDER BY log_offset LIMIT {BATCH}) AS oldest \
             WHERE log_offset <= ({taken}) \
             AND published_at < $1 AND log_offset < (SELECT MAX(log_offset) FROM {prefix}_outbox \
             WHERE log_offset IS NOT NULL))"
        );
        run_to_completion(&self.limits, async move {
            let horizon = (now() - RETENTION).naive_utc();
            let delete = diesel::sql_query(delete);
            let delete = delete.bind::<diesel::sql_types::Timestamp, _>(horizon);
            let deleted = write_one!(&pool, delete, execute)?;
            Ok(deleted as i64 == BATCH)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use diesel::connection::SimpleConnection as _;
    use diesel::{Connection as _, SqliteConnection};

    use super::*;
    use crate::config::SqlUrl;
    use crate::storage::{StoreName, StoreState};

    const SCHEMA: &str = "PRAGMA journal_mode = WAL;
        CREATE TABLE t_outbox (position INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT, event TEXT, log_offset BIGINT,
                               published_at TIMESTAMP);
        CREATE TABLE t_cursors (consumer TEXT PRIMARY KEY, log_offset BIGINT NOT NULL);
        INSERT INTO t_outbox (kind, event, log_offset, published_at) VALUES
            ('k', 'e', 1, '2020-01-01 00:00:00'), ('k', 'e', 2, '2020-01-01 00:00:00'),
            ('k', 'e', 3, '2999-01-01 00:00:00'), ('k', 'e', 4, '2020-01-01 00:00:00'),
            ('k', 'e', 5, '2020-01-01 00:00:00');
        INSERT INTO t_cursors VALUES ('one', 5);";

    #[actix_rt::test]
    async fn old_events_are_forgotten_once_all_consumers_have_taken_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.db");
        let mut file = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
        file.batch_execute(SCHEMA).unwrap();
        let time = Duration::from_secs(20);
        let limits = Limits {
            name: StoreName { setting: "t.database", system: "sqlite" },
            size: 2,
            acquire: time,
            statement: time,
            ends_calls: false,
            state: StoreState::already_prepared(),
        };
        let pool = Pool::new(&SqlUrl::Sqlite(path), &limits);
        let log = Log::new("t", pool, limits, News::default());
        let mut left = async |taken: &str| {
            assert!(!log.forget(taken).await.unwrap());
            let left = "SELECT COUNT(*) AS number FROM t_outbox";
            diesel::RunQueryDsl::get_result::<Number>(diesel::sql_query(left), &mut file)
                .unwrap()
                .number
        };
        let taken = log.taken_by_all(&["one", "two"]);
        assert_eq!(left(&taken).await, 5, "another one has taken none");
        log.set_cursor("two", 1).await.unwrap();
        assert_eq!(left(&taken).await, 4);
        log.set_cursor("two", 5).await.unwrap();
        // One of today, and the last one, whose place the next one continues.
        assert_eq!(left(&taken).await, 2);
    }
}
