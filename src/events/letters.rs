//! The dead letters of a log: rows beside it, for as long as nobody decides on them.
//!
//! One that is redriven stays until its consumer has taken it, so that a crash loses nothing: the consumer takes it again
//! then, without another effect. Until then it can be seen, and dropped.

use chrono::NaiveDateTime;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Text, Timestamp};
use diesel_async::{AsyncConnection as _, RunQueryDsl as _};

use super::Log;
use super::dead_letters::{Decision, reason};
use crate::contract::{DeadLetter, Event, now};
use crate::storage::sql::{Pool, in_transaction, on_either, write_one};
use crate::storage::{StoreError, run_to_completion};

/// How many a consumer takes again at once.
const BATCH: i64 = 200;

#[derive(QueryableByName)]
struct LetterRow {
    #[diesel(sql_type = Text)]
    id: String,
    #[diesel(sql_type = Text)]
    consumer: String,
    #[diesel(sql_type = Text)]
    event: String,
    #[diesel(sql_type = Text)]
    reason: String,
    #[diesel(sql_type = BigInt)]
    attempts: i64,
    #[diesel(sql_type = diesel::sql_types::Bool)]
    redriven: bool,
    #[diesel(sql_type = Timestamp)]
    created_at: NaiveDateTime,
}

/// A dead letter that its consumer is to take again.
#[derive(QueryableByName)]
pub(super) struct Redriven {
    #[diesel(sql_type = Text)]
    pub(super) id: String,
    #[diesel(sql_type = Text)]
    pub(super) event: String,
}

impl From<LetterRow> for DeadLetter {
    fn from(row: LetterRow) -> Self {
        let given_up = (row.attempts, row.created_at.and_utc());
        // Its text may be no event any more.
        let letter = Self::new(&row.consumer, row.event.as_bytes(), row.reason, given_up);
        Self { id: row.id, redriven: row.redriven, ..letter }
    }
}

impl Log {
    /// Keeps an event that `consumer` could not take.
    pub(super) async fn bury(
        &self,
        consumer: &'static str,
        event: &Event,
        why: &str,
    ) -> Result<(), StoreError> {
        let (pool, table, reason) = (self.pool.clone(), self.table("dead_letters"), reason(why));
        let text = serde_json::to_string(event).map_err(StoreError::corrupt)?;
        let id = DeadLetter::id(consumer, event.id);
        run_to_completion(&self.limits, async move {
            let insert = diesel::sql_query(format!(
                "INSERT INTO {table} (id, consumer, event, reason, created_at) VALUES ($1, $2, $3, $4, $5) \
                 ON CONFLICT (id) DO NOTHING"
            ));
            let insert = insert.bind::<Text, _>(id).bind::<Text, _>(consumer);
            let insert = insert.bind::<Text, _>(text).bind::<Text, _>(reason);
            write_one!(&pool, insert.bind::<Timestamp, _>(now().naive_utc()), execute)
        })
        .await
        .map(drop)
    }

    /// At most `limit` dead letters whose ids are behind `after`, by id.
    pub(super) async fn letters(
        &self,
        after: String,
        limit: i64,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let (pool, table) = (self.pool.clone(), self.table("dead_letters"));
        run_to_completion(&self.limits, async move {
            // The order of bytes, as in the other store.
            let id = match &pool {
                Pool::Sqlite(_) => "id",
                Pool::Postgres(_) => "id COLLATE \"C\"",
            };
            let query = format!(
                "SELECT id, consumer, event, reason, attempts, redriven, created_at FROM {table} \
                 WHERE {id} > $1 ORDER BY {id} LIMIT $2"
            );
            let rows = on_either!(&mut pool.get().await?, connection => {
                let query = diesel::sql_query(query);
                let query = query.bind::<Text, _>(after).bind::<BigInt, _>(limit);
                query.load::<LetterRow>(connection).await
            })?;
            Ok(rows.into_iter().map(DeadLetter::from).collect())
        })
        .await
    }

    /// Carries out `decision` on the dead letter `id`, or on all; returns on how many.
    pub(super) async fn decide(
        &self,
        decision: Decision,
        id: Option<String>,
    ) -> Result<u64, StoreError> {
        let (pool, table) = (self.pool.clone(), self.table("dead_letters"));
        let change = match decision {
            Decision::Redrive => format!("UPDATE {table} SET redriven = TRUE"),
            Decision::Drop => format!("DELETE FROM {table}"),
        };
        let id = id.unwrap_or_default();
        run_to_completion(&self.limits, async move {
            let change = format!("{change} WHERE $1 = '' OR id = $1");
            write_one!(&pool, diesel::sql_query(change).bind::<Text, _>(id), execute)
        })
        .await
        .map(|changed| changed as u64)
    }

    /// Some of the dead letters that `consumer` is to take again.
    pub(super) async fn redriven(
        &self,
        consumer: &'static str,
    ) -> Result<Vec<Redriven>, StoreError> {
        let (pool, table) = (self.pool.clone(), self.table("dead_letters"));
        run_to_completion(&self.limits, async move {
            let query = format!(
                "SELECT id, event FROM {table} WHERE consumer = $1 AND redriven ORDER BY id LIMIT {BATCH}"
            );
            Ok(on_either!(&mut pool.get().await?, connection => {
                let query = diesel::sql_query(query).bind::<Text, _>(consumer);
                query.load::<Redriven>(connection).await
            })?)
        })
        .await
    }

    /// Ends the redrive of the dead letter `id`: it is gone, or is one again because of `failed`.
    pub(super) async fn end_redrive(
        &self,
        id: String,
        failed: Option<String>,
    ) -> Result<(), StoreError> {
        let (pool, table) = (self.pool.clone(), self.table("dead_letters"));
        run_to_completion(&self.limits, async move {
            in_transaction!(&pool, StoreError, connection => {
                match failed {
                    None => {
                        let delete = format!("DELETE FROM {table} WHERE id = $1 AND redriven");
                        let delete = diesel::sql_query(delete).bind::<Text, _>(id);
                        delete.execute(connection).await?;
                    }
                    Some(why) => {
                        let update = diesel::sql_query(format!(
                            "UPDATE {table} SET redriven = FALSE, attempts = attempts + 1, reason = $1, \
                             created_at = $2 WHERE id = $3 AND redriven"
                        ));
                        let update = update.bind::<Text, _>(reason(&why));
                        let update = update.bind::<Timestamp, _>(now().naive_utc());
                        update.bind::<Text, _>(id).execute(connection).await?;
                    }
                }
            })
        })
        .await
    }
}
