//! For `app copy`: accounts go with their passwords and rights. Sessions stay: their users log in again.

use diesel::prelude::*;
use diesel_async::{AsyncConnection as _, RunQueryDsl};

use super::schema::users;
use super::{Filter, Record, Row, Store};
use crate::storage::copy::{BATCH, Rows};
use crate::storage::sql::on_either;
use crate::storage::{StoreError, to_the_end};

impl Rows for Store {
    type Row = Record;

    async fn count(&self) -> Result<u64, StoreError> {
        let pool = self.pool()?;
        to_the_end(&self.limits, async move {
            let count = users::table.count();
            let count = on_either!(&mut pool.get().await?, connection => {
                count.get_result::<i64>(connection).await
            })?;
            Ok(count.unsigned_abs())
        })
        .await
    }

    async fn behind(&self, last: Option<&Record>) -> Result<Vec<Record>, StoreError> {
        self.list(Filter { after: last.map(Record::id), ..Filter::default() }, BATCH).await
    }

    async fn counterparts(&self, rows: &[Record]) -> Result<Vec<Record>, StoreError> {
        let pool = self.pool()?;
        let ids = rows.iter().map(|record| record.id().to_string()).collect::<Vec<_>>();
        to_the_end(&self.limits, async move {
            let rows = users::table.filter(users::id.eq_any(ids));
            let rows = on_either!(&mut pool.get().await?, connection => {
                rows.load::<Row>(connection).await
            })?;
            rows.into_iter().map(Record::try_from).collect()
        })
        .await
    }

    async fn put(&self, rows: Vec<Record>) -> Result<(), StoreError> {
        let pool = self.pool()?;
        to_the_end(&self.limits, async move {
            on_either!(&mut pool.get().await?, connection => {
                connection.transaction::<(), diesel::result::Error, _>(async |connection| {
                    for record in &rows {
                        let row = Row::from(record);
                        let put = diesel::insert_into(users::table).values(row.clone());
                        put.on_conflict(users::id).do_update().set(row).execute(connection).await?;
                    }
                    Ok(())
                })
                .await
            })?;
            Ok(())
        })
        .await
    }
}
