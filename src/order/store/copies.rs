//! For `app copy`: it copies orders, the requests with an idempotency key, what a sandbox has played, and webhooks. It does
//! not copy events and their deliveries, which are of what happened in the source.

use diesel::prelude::*;
use diesel_async::{AsyncConnection as _, RunQueryDsl};

use super::claims::KeyRow;
use super::sandbox::PaymentRow;
use super::schema::{order_keys, order_orders, order_sandbox, order_webhooks};
use super::webhooks::WebhookRow;
use super::{Row, Store};
use crate::storage::copy::of_source;
use crate::storage::copy::{self, BATCH, Copied, CopyError, Existing, Progress, Rows, Written};
use crate::storage::sql::{in_transaction, read};
use crate::storage::{StoreError, run_to_completion};

/// Copies everything at `from` to `to`. Returns what was copied, in a word, and how.
///
/// # Errors
/// When either store fails.
pub(in crate::order) async fn copy(
    from: &Store,
    to: &Store,
    existing: Existing,
    progress: impl Progress,
) -> Result<Vec<(&'static str, Copied)>, CopyError> {
    let orders = copy::copy(&Orders(from), &Orders(to), existing, progress).await?;
    let mut copied = vec![("orders", orders)];
    if Keys(from).count().await.map_err(of_source)? > 0 {
        let keys = copy::copy(&Keys(from), &Keys(to), existing, |_, _| {}).await?;
        copied.push(("idempotency keys", keys));
    }
    if Payments(from).count().await.map_err(of_source)? > 0 {
        let payments = copy::copy(&Payments(from), &Payments(to), existing, |_, _| {}).await?;
        copied.push(("sandbox payments", payments));
    }
    if Webhooks(from).count().await.map_err(of_source)? > 0 {
        let webhooks = copy::copy(&Webhooks(from), &Webhooks(to), existing, |_, _| {}).await?;
        copied.push(("webhooks", webhooks));
    }
    Ok(copied)
}

/// A table of a [`Store`], as rows to copy: its type, its rows, and its primary key of one column or two. Column names are
/// those of rows.
macro_rules! rows {
    ($name:ident, $row:ty, $table:ident, $first:ident $(, $second:ident)?) => {
        struct $name<'a>(&'a Store);

        impl Rows for $name<'_> {
            type Row = $row;

            async fn count(&self) -> Result<u64, StoreError> {
                let pool = self.0.pool.clone();
                run_to_completion(&self.0.limits, async move {
                    let count = read!(&pool, $table::table.count(), get_result::<i64>)?;
                    Ok(count.unsigned_abs())
                })
                .await
            }

            async fn behind(&self, last: Option<&$row>) -> Result<Vec<$row>, StoreError> {
                let pool = self.0.pool.clone();
                let first = last.map_or_else(String::new, |row| row.$first.clone());
                $(let $second = last.map_or_else(String::new, |row| row.$second.clone());)?
                run_to_completion(&self.0.limits, async move {
                    let batch = i64::try_from(BATCH).unwrap_or(i64::MAX);
                    let behind = $table::$first.gt(first.clone());
                    $(let behind = behind.or($table::$first.eq(first).and($table::$second.gt($second)));)?
                    let rows = $table::table.filter(behind);
                    let rows = rows.order_by(($table::$first, $($table::$second)?)).limit(batch);
                    read!(&pool, rows, load::<$row>)
                })
                .await
            }

            async fn counterparts(&self, rows: &[$row]) -> Result<Vec<$row>, StoreError> {
                let pool = self.0.pool.clone();
                let key = |row: &$row| (row.$first.clone(), $(row.$second.clone())?);
                let keys = rows.iter().map(key).collect::<Vec<_>>();
                let firsts = rows.iter().map(|row| row.$first.clone()).collect::<Vec<_>>();
                run_to_completion(&self.0.limits, async move {
                    let rows = $table::table.filter($table::$first.eq_any(firsts));
                    let mut rows = read!(&pool, rows, load::<$row>)?;
                    rows.retain(|row| keys.contains(&key(row)));
                    Ok(rows)
                })
                .await
            }

            async fn add(&self, rows: Vec<$row>) -> Result<Written<$row>, StoreError> {
                let pool = self.0.pool.clone();
                run_to_completion(&self.0.limits, async move {
                    in_transaction!(&pool, StoreError, connection => {
                        let mut added = 0;
                        for row in &rows {
                            let add = diesel::insert_into($table::table).values(row.clone());
                            let add = add.on_conflict_do_nothing();
                            added += add.execute(connection).await? as u64;
                        }
                        Written::all(added)
                    })
                })
                .await
            }

            async fn put(&self, rows: Vec<$row>) -> Result<Written<$row>, StoreError> {
                let pool = self.0.pool.clone();
                run_to_completion(&self.0.limits, async move {
                    in_transaction!(&pool, StoreError, connection => {
                        for row in &rows {
                            let put = diesel::insert_into($table::table).values(row.clone());
                            // Not deleted first: what belongs to it stays.
                            let put = put.on_conflict(($table::$first, $($table::$second)?));
                            put.do_update().set(row.clone()).execute(connection).await?;
                        }
                        Written::all(rows.len() as u64)
                    })
                })
                .await
            }
        }
    };
}

rows!(Orders, Row, order_orders, id);
rows!(Keys, KeyRow, order_keys, user_id, key);
rows!(Payments, PaymentRow, order_sandbox, intent);
rows!(Webhooks, WebhookRow, order_webhooks, id);
