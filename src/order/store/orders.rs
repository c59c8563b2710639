//! Queries on orders as they are read, and on new ones.

use diesel::dsl::{count_star, sum};
use diesel::prelude::*;
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use uuid::Uuid;

use super::schema::{order_keys, order_orders};
use super::{Record, Row, Store};
use crate::contract::{Event, Order, OrderStatus, Timestamp};
use crate::events::{creation, record};
use crate::order::counters;
use crate::order::idempotency::Key;
use crate::storage::sql::{in_transaction, read};
use crate::storage::{Prepared, StoreError, run_to_completion};

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

/// At most `limit` orders that match `filter`, the newest first. A macro, because a boxed query has the back end in its type.
macro_rules! page {
    ($filter:expr, $limit:expr) => {{
        let Filter { user, status, before } = $filter;
        let newest_first = order_orders::table.order_by(order_orders::id.desc());
        let mut query = newest_first.limit($limit).into_boxed();
        if let Some(before) = before {
            query = query.filter(order_orders::id.lt(before.to_string()));
        }
        query = match (user, status) {
            // One user's orders are few, those in a state are many: no index has this expression.
            (Some(user), Some(status)) => query
                .filter(order_orders::user_id.eq(user.to_string()))
                .filter(order_orders::status.concat("").eq(status.name())),
            (Some(user), None) => query.filter(order_orders::user_id.eq(user.to_string())),
            (None, Some(status)) => query.filter(order_orders::status.eq(status.name())),
            (None, None) => query,
        };
        query
    }};
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
        let mut making = creation(|| event.kind.clone());
        let key = key.map(|key| (record.order.user_id.to_string(), key.to_string()));
        let traceparent = making.traceparent();
        run_to_completion(&self.limits, async move {
            let insert = diesel::insert_into(order_orders::table).values(row);
            in_transaction!(&pool, StoreError, connection => {
                insert.execute(connection).await?;
                record!(connection, "order", event, traceparent);
                if let Some(key) = key {
                    let answered = diesel::update(order_keys::table.find(key));
                    let answered = answered.set(order_keys::status.eq(201));
                    Prepared(answered).execute(connection).await?;
                }
            })
        })
        .await
        .inspect(|()| {
            making.succeed();
            counters::count(&record.order);
            self.news.tell();
        })
    }

    /// Inserts an order of days gone by, with an event for each of its `states`, the last of which is the present.
    pub(in crate::order) async fn insert_past(
        &self,
        record: &Record,
        states: &[(OrderStatus, Timestamp)],
    ) -> Result<(), StoreError> {
        let (pool, row) = (self.pool.clone(), Row::try_from(record)?);
        let events = states.iter().zip(1..).map(|((status, time), sequence)| {
            let paid_at = record.order.paid_at.filter(|paid_at| paid_at <= time);
            let order = Order { status: *status, paid_at, ..record.order.clone() };
            let event = Event::of_order(&order, sequence);
            let mut event = event.map_err(|error| StoreError::corrupt(error.chain()))?;
            event.time = *time;
            Ok::<_, StoreError>(event)
        });
        let events = events.collect::<Result<Vec<_>, _>>()?;
        run_to_completion(&self.limits, async move {
            in_transaction!(&pool, StoreError, connection => {
                let insert = diesel::insert_into(order_orders::table).values(row);
                insert.execute(connection).await?;
                for event in events {
                    record!(connection, "order", event, None);
                }
            })
        })
        .await
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
            let rows = read!(&pool, page!(filter, limit), load::<Row>)?;
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

#[cfg(test)]
mod tests {
    use diesel::sqlite::Sqlite;

    use super::super::plans::plan;
    use super::*;

    #[test]
    fn a_page_of_one_user_costs_no_look_at_orders_of_others() {
        let (user, before) = (Some(Uuid::nil()), Some(Uuid::nil()));
        for status in [None, Some(OrderStatus::Paid)] {
            for before in [None, before] {
                let query = page!(Filter { user, status, before }, 20);
                let plan = plan(&diesel::debug_query::<Sqlite, _>(&query));
                assert!(plan.contains("INDEX order_orders_by_user (user_id=?"), "{plan}");
                assert!(!plan.contains("TEMP B-TREE"), "{plan}");
            }
        }
    }
}
