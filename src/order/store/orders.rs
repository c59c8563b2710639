//! Queries on orders as they are read, and on new ones.

use diesel::dsl::{count_star, sum};
use diesel::prelude::*;
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use uuid::Uuid;

use super::schema::{order_keys, order_orders};
use super::{Record, Row, Store};
use crate::contract::OrderStatus;
use crate::events::record;
use crate::order::idempotency::Key;
use crate::storage::sql::{in_transaction, read};
use crate::storage::{StoreError, run_to_completion};

/// Which orders a page has.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::order) struct Filter {
    /// Those of this user alone.
    pub(in crate::order) user: Option<Uuid>,
    /// Those in this state alone.
    pub(in crate::order) status: Option<OrderStatus>,
    /// Those before this one, which are older.
    pub(in crate::order) before: Option<Uuid>,
}

/// The orders of one day in one state: how many, and what they cost in minor units.
#[derive(Clone, Debug)]
pub(in crate::order) struct SummaryRow {
    pub(in crate::order) day: String,
    pub(in crate::order) status: OrderStatus,
    pub(in crate::order) orders: i64,
    pub(in crate::order) total: i64,
}

impl Store {
    /// Inserts a new order, and answers the request that claimed `key`; [`StoreError::Duplicate`] when the order is there.
    pub(in crate::order) async fn insert(
        &self,
        record: &Record,
        key: Option<&Key>,
    ) -> Result<(), StoreError> {
        let (pool, row) = (self.pool.clone(), Row::try_from(record)?);
        let event = record.event()?;
        let key = key.map(|key| (record.order.user_id.to_string(), key.to_string()));
        run_to_completion(&self.limits, async move {
            let insert = diesel::insert_into(order_orders::table).values(row);
            in_transaction!(&pool, StoreError, connection => {
                insert.execute(connection).await?;
                record!(connection, "order", &event);
                if let Some(key) = key {
                    let answered = diesel::update(order_keys::table.find(key));
                    let answered = answered.set(order_keys::status.eq(201));
                    answered.execute(connection).await?;
                }
            })
        })
        .await
        .inspect(|()| self.news.tell())
    }

    /// The order with `id`, if there is one.
    pub(in crate::order) async fn find(&self, id: Uuid) -> Result<Option<Record>, StoreError> {
        let pool = self.pool.clone();
        run_to_completion(&self.limits, async move {
            let found = order_orders::table.find(id.to_string());
            let row = read!(&pool, found, first::<Row>, optional)?;
            row.map(Record::try_from).transpose()
        })
        .await
    }

    /// At most `limit` orders that match `filter`, the newest first.
    pub(in crate::order) async fn list(
        &self,
        filter: Filter,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        let pool = self.pool.clone();
        run_to_completion(&self.limits, async move {
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows = read!(
                &pool,
                {
                    let newest_first = order_orders::table.order_by(order_orders::id.desc());
                    let mut query = newest_first.limit(limit).into_boxed();
                    if let Some(before) = filter.before {
                        query = query.filter(order_orders::id.lt(before.to_string()));
                    }
                    if let Some(user) = filter.user {
                        query = query.filter(order_orders::user_id.eq(user.to_string()));
                    }
                    if let Some(status) = filter.status {
                        query = query.filter(order_orders::status.eq(status.name()));
                    }
                    query
                },
                load::<Row>
            )?;
            rows.into_iter().map(Record::try_from).collect()
        })
        .await
    }

    /// The orders since the `day`, by day and state, the newest day first.
    pub(in crate::order) async fn summary(
        &self,
        day: String,
    ) -> Result<Vec<SummaryRow>, StoreError> {
        let pool = self.pool.clone();
        run_to_completion(&self.limits, async move {
            // A sum of whole numbers is a decimal on PostgreSQL; this many orders' totals fit a double to the cent.
            let rows = read!(
                &pool,
                {
                    let of_day = order_orders::table.filter(order_orders::day.ge(day));
                    let columns = (order_orders::day, order_orders::status);
                    let total = sum(diesel::dsl::sql::<diesel::sql_types::Double>(
                        "CAST(total AS DOUBLE PRECISION)",
                    ));
                    of_day
                        .group_by(columns)
                        .select((order_orders::day, order_orders::status, count_star(), total))
                        .order_by((order_orders::day.desc(), order_orders::status))
                },
                load::<(String, String, i64, Option<f64>)>
            )?;
            let row = |(day, status, orders, total): (String, String, i64, Option<f64>)| {
                let status = status.parse().map_err(StoreError::corrupt)?;
                let total = total.unwrap_or_default().round() as i64;
                Ok(SummaryRow { day, status, orders, total })
            };
            rows.into_iter().map(row).collect()
        })
        .await
    }
}
