//! How many events of a log wait, for `/metrics`.

use std::time::Duration;

use diesel::result::Error as QueryError;
use diesel::sql_types::{BigInt, Text};
use diesel::{OptionalExtension as _, QueryableByName};
use diesel_async::RunQueryDsl as _;
use tokio::time::sleep;

use super::log::Number;
use super::{Log, counters};
use crate::contract::{Event, now};
use crate::storage::sql::on_either;
use crate::storage::{StoreError, run_to_completion};

/// How often the events that wait are counted.
const INTERVAL: Duration = Duration::from_secs(5);

#[derive(QueryableByName)]
struct Waiting {
    #[diesel(sql_type = Text)]
    event: String,
}

impl Log {
    /// Counts the events that not all of `consumers` have taken, again and again. Never returns.
    pub(super) async fn watch(self, consumers: Vec<&'static str>) {
        self.prepared().await;
        loop {
            // Readiness logs that the store is away.
            if let Ok((depth, oldest)) = self.backlog(&consumers).await {
                let age = oldest.map_or(0.0, |event| (now() - event.time).as_seconds_f64());
                counters::waiting(self.prefix, depth, age.max(0.0));
            }
            sleep(INTERVAL).await;
        }
    }

    /// How many events wait, and the first of them. The cost does not grow with their number.
    async fn backlog(&self, consumers: &[&str]) -> Result<(i64, Option<Event>), StoreError> {
        let (pool, prefix) = (self.pool.clone(), self.prefix);
        let taken = self.taken_by_all(consumers);
        let last = self.last_place();
        // The relay leaves few of them.
        let new =
            format!("SELECT COUNT(*) AS number FROM {prefix}_outbox WHERE log_offset IS NULL");
        let logged = format!(
            "SELECT event FROM {prefix}_outbox WHERE log_offset > $1 ORDER BY log_offset LIMIT 1"
        );
        let written = format!(
            "SELECT event FROM {prefix}_outbox WHERE log_offset IS NULL ORDER BY position LIMIT 1"
        );
        run_to_completion(&self.limits, async move {
            let found = on_either!(&mut pool.get().await?, connection => {
                async {
                    let taken = diesel::sql_query(taken).get_result::<Number>(connection).await?;
                    let last = diesel::sql_query(last).get_result::<Number>(connection).await?;
                    let new = diesel::sql_query(new).get_result::<Number>(connection).await?;
                    let logged = diesel::sql_query(logged).bind::<BigInt, _>(taken.number);
                    let mut oldest = logged.get_result::<Waiting>(connection).await.optional()?;
                    if oldest.is_none() {
                        let written = diesel::sql_query(written);
                        oldest = written.get_result::<Waiting>(connection).await.optional()?;
                    }
                    let logged = (last.number - taken.number).max(0);
                    Ok::<_, QueryError>((logged + new.number, oldest))
                }
                .await
            });
            let (depth, oldest) = found?;
            let oldest = oldest.map(|row| serde_json::from_str(&row.event));
            Ok((depth, oldest.transpose().map_err(StoreError::corrupt)?))
        })
        .await
    }
}
