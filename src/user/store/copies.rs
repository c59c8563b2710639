//! For `app copy`: it copies accounts with their passwords and rights, and revocations. It does not copy sessions: users
//! log in again.

use diesel::prelude::*;
use diesel_async::{AsyncConnection as _, RunQueryDsl};

use super::schema::{revocations, users};
use super::{Record, Row, Store, revocation};
use crate::contract::Revocation;
use crate::storage::copy::{BATCH, Rows, Written};
use crate::storage::sql::{in_transaction, read};
use crate::storage::{StoreError, run_to_completion};
use crate::user::model::Filter;

impl Rows for Store {
    type Row = Record;

    async fn count(&self) -> Result<u64, StoreError> {
        let pool = self.pool.clone();
        run_to_completion(&self.limits, async move {
            let count = users::table.count();
            let count = read!(&pool, count, get_result::<i64>)?;
            Ok(count.unsigned_abs())
        })
        .await
    }

    async fn behind(&self, last: Option<&Record>) -> Result<Vec<Record>, StoreError> {
        self.list(Filter { after: last.map(Record::id), ..Filter::default() }, BATCH).await
    }

    async fn counterparts(&self, rows: &[Record]) -> Result<Vec<Record>, StoreError> {
        let pool = self.pool.clone();
        let ids = rows.iter().map(|record| record.id().to_string()).collect::<Vec<_>>();
        run_to_completion(&self.limits, async move {
            let rows = users::table.filter(users::id.eq_any(ids));
            let rows = read!(&pool, rows, load::<Row>)?;
            rows.into_iter().map(Record::try_from).collect()
        })
        .await
    }

    async fn add(&self, rows: Vec<Record>) -> Result<Written<Record>, StoreError> {
        let pool = self.pool.clone();
        run_to_completion(&self.limits, async move {
            in_transaction!(&pool, StoreError, connection => {
                let mut added = 0;
                for record in &rows {
                    let add = diesel::insert_into(users::table).values(Row::from(record));
                    let add = add.on_conflict(users::id).do_nothing();
                    added += add.execute(connection).await? as u64;
                }
                Written::all(added)
            })
        })
        .await
    }

    async fn put(&self, rows: Vec<Record>) -> Result<Written<Record>, StoreError> {
        let pool = self.pool.clone();
        run_to_completion(&self.limits, async move {
            in_transaction!(&pool, StoreError, connection => {
                for record in &rows {
                    let row = Row::from(record);
                    let put = diesel::insert_into(users::table).values(row.clone());
                    put.on_conflict(users::id).do_update().set(row).execute(connection).await?;
                }
                Written::all(rows.len() as u64)
            })
        })
        .await
    }
}

/// The revocations of a [`Store`], as rows to copy.
pub(in crate::user) struct Revocations<'a>(pub(in crate::user) &'a Store);

impl Rows for Revocations<'_> {
    type Row = Revocation;

    async fn count(&self) -> Result<u64, StoreError> {
        let pool = self.0.pool.clone();
        run_to_completion(&self.0.limits, async move {
            let count = revocations::table.count();
            let count = read!(&pool, count, get_result::<i64>)?;
            Ok(count.unsigned_abs())
        })
        .await
    }

    async fn behind(&self, last: Option<&Revocation>) -> Result<Vec<Revocation>, StoreError> {
        let pool = self.0.pool.clone();
        let last = last.map_or_else(String::new, |last| last.user.to_string());
        run_to_completion(&self.0.limits, async move {
            let batch = i64::try_from(BATCH).unwrap_or(i64::MAX);
            let rows = revocations::table.filter(revocations::user_id.gt(last));
            let rows = rows.order_by(revocations::user_id).limit(batch);
            let rows = read!(&pool, rows, load::<_>)?;
            rows.into_iter().map(revocation).collect()
        })
        .await
    }

    async fn counterparts(&self, rows: &[Revocation]) -> Result<Vec<Revocation>, StoreError> {
        let pool = self.0.pool.clone();
        let ids = rows.iter().map(|row| row.user.to_string()).collect::<Vec<_>>();
        run_to_completion(&self.0.limits, async move {
            let rows = revocations::table.filter(revocations::user_id.eq_any(ids));
            let rows = read!(&pool, rows, load::<_>)?;
            rows.into_iter().map(revocation).collect()
        })
        .await
    }

    /// As below: of two revocations, the later one stays.
    async fn add(&self, rows: Vec<Revocation>) -> Result<Written<Revocation>, StoreError> {
        self.put(rows).await
    }

    /// A later one in the target stays.
    async fn put(&self, rows: Vec<Revocation>) -> Result<Written<Revocation>, StoreError> {
        let pool = self.0.pool.clone();
        run_to_completion(&self.0.limits, async move {
            in_transaction!(&pool, StoreError, connection => {
                for Revocation { user, generation, at } in &rows {
                    let user = user.to_string();
                    let end = (
                        revocations::generation.eq(*generation),
                        revocations::created_at.eq(at.naive_utc()),
                    );
                    let earlier = revocations::generation.lt(*generation);
                    let earlier = revocations::table.find(&user).filter(earlier);
                    diesel::update(earlier).set(end).execute(connection).await?;
                    let new = diesel::insert_into(revocations::table);
                    let new = new.values((revocations::user_id.eq(&user), end));
                    new.on_conflict_do_nothing().execute(connection).await?;
                }
                Written::all(rows.len() as u64)
            })
        })
        .await
    }
}
