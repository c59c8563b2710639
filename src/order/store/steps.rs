//! Queries on the steps of an order: what begins, what ends, and what was left in between.
//!
//! A step of several systems is stored before it begins, and again when it ends. An order has one step at a time; who
//! finds one that somebody has left finishes it.
//!
//! An order is found by its id. Its state and its step are compared in ways that no index has (`concat("")`, `coalesce`):
//! without statistics, PostgreSQL would rather read all orders of that state, or with any step.

use chrono::NaiveDateTime;
use diesel::dsl::sql;
use diesel::expression::SqlLiteral;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Nullable, Text};
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use uuid::Uuid;

use super::schema::order_orders::{self, dsl};
use super::{Record, Row, Store, uuid};
use crate::contract::{OrderStatus, Timestamp, now, order_kind};
use crate::events::{creation, record};
use crate::order::counters;
use crate::order::step::Step;
use crate::storage::sql::{in_transaction, read, write_one};
use crate::storage::{Prepared, StoreError, run_to_completion};

/// What a step begins with.
#[derive(Clone, Debug)]
pub(in crate::order) struct Begin {
    pub(in crate::order) step: Step,
    /// The payment method, of an attempt to pay.
    pub(in crate::order) method: Option<String>,
    /// Whether pieces are given back, of a refund.
    pub(in crate::order) restock: bool,
}

/// What a step ends with.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::order) struct Finish {
    /// The state that the order is in from now on, if it has changed.
    pub(in crate::order) status: Option<OrderStatus>,
    /// The number of the reservation that has its pieces, if it has changed.
    pub(in crate::order) reservation: Option<i64>,
}

/// The columns that change when a step ends; `None` leaves a value as it is.
#[derive(AsChangeset)]
#[diesel(table_name = order_orders)]
struct Ended {
    status: Option<String>,
    reservation: Option<i64>,
    paid_at: Option<NaiveDateTime>,
}

impl Store {
    /// Begins a step of the order with `id`, unless another one is pending or its state does not allow it. Returns the order
    /// then.
    pub(in crate::order) async fn begin(
        &self,
        id: Uuid,
        begin: Begin,
    ) -> Result<Option<Record>, StoreError> {
        let (pool, Begin { step, method, restock }) = (self.pool.clone(), begin);
        let attempts = i64::from(step == Step::Charge);
        let from = step.from().map(OrderStatus::name).collect::<Vec<_>>();
        run_to_completion(&self.limits, async move {
            let free = dsl::status.concat("").eq_any(from).and(dsl::pending.is_null());
            let update = diesel::update(order_orders::table.find(id.to_string()).filter(free));
            let update = update.set((
                dsl::pending.eq(step.name()),
                dsl::pending_at.eq(now().naive_utc()),
                dsl::attempts.eq(dsl::attempts + attempts),
                method.map(|method| dsl::method.eq(method)),
                dsl::restock.eq(restock),
            ));
            let row = write_one!(&pool, update, get_result::<Row>, optional)?;
            row.map(Record::try_from).transpose()
        })
        .await
    }

    /// Ends the step that is pending in `record`, unless somebody else has ended it. Returns the order then.
    pub(in crate::order) async fn finish(
        &self,
        record: &Record,
        finish: Finish,
    ) -> Result<Option<Record>, StoreError> {
        let (pool, id, attempts) =
            (self.pool.clone(), record.order.id.to_string(), record.attempts);
        let step = record.pending.map_or("", |(step, _)| step.name());
        let is_paid = finish.status == Some(OrderStatus::Paid);
        let ended = Ended {
            status: finish.status.map(|status| status.name().to_owned()),
            reservation: finish.reservation,
            paid_at: is_paid.then(|| now().naive_utc()),
        };
        let moved = i64::from(finish.status.is_some());
        let mut making =
            finish.status.map(|status| creation(|| order_kind(status))).unwrap_or_default();
        let traceparent = making.traceparent();
        run_to_completion(&self.limits, async move {
            in_transaction!(&pool, StoreError, connection => {
                let pending = is_pending(step).and(dsl::attempts.eq(attempts));
                let update = diesel::update(order_orders::table.find(id).filter(pending));
                let update = update.set((
                    ended,
                    dsl::version.eq(dsl::version + moved),
                    dsl::pending.eq(None::<String>),
                    dsl::pending_at.eq(None::<NaiveDateTime>),
                ));
                let update = Prepared(update.returning(order_orders::all_columns));
                let row = update.get_result::<Row>(connection).await.optional()?;
                let record = row.map(Record::try_from).transpose()?;
                if let Some(record) = record.as_ref().filter(|_| moved > 0) {
                    record!(connection, "order", record.event()?, traceparent);
                }
                record
            })
        })
        .await
        .inspect(|record| {
            match record {
                Some(_) => making.succeed(),
                None => making.discard(),
            }
            record.iter().filter(|_| moved > 0).for_each(|record| counters::count(&record.order));
            self.news.tell();
        })
    }

    /// Goes on from the step that is pending in `record` to step `to`, unless somebody else has ended it. Returns the order
    /// then.
    pub(in crate::order) async fn switch(
        &self,
        record: &Record,
        to: Step,
    ) -> Result<Option<Record>, StoreError> {
        let (pool, id, attempts) =
            (self.pool.clone(), record.order.id.to_string(), record.attempts);
        let step = record.pending.map_or("", |(step, _)| step.name());
        run_to_completion(&self.limits, async move {
            let pending = is_pending(step).and(dsl::attempts.eq(attempts));
            let update = diesel::update(order_orders::table.find(id).filter(pending));
            let update =
                update.set((dsl::pending.eq(to.name()), dsl::pending_at.eq(now().naive_utc())));
            let row = write_one!(&pool, update, get_result::<Row>, optional)?;
            row.map(Record::try_from).transpose()
        })
        .await
    }

    /// Moves the order with `id` from one of the states `from` to `status`, unless a step is pending. Returns the order then.
    pub(in crate::order) async fn advance(
        &self,
        id: Uuid,
        from: OrderStatus,
        status: OrderStatus,
    ) -> Result<Option<Record>, StoreError> {
        let (pool, mut making) = (self.pool.clone(), creation(|| order_kind(status)));
        let traceparent = making.traceparent();
        run_to_completion(&self.limits, async move {
            in_transaction!(&pool, StoreError, connection => {
                let free = dsl::status.concat("").eq(from.name()).and(dsl::pending.is_null());
                let update = diesel::update(order_orders::table.find(id.to_string()).filter(free));
                let update =
                    update.set((dsl::status.eq(status.name()), dsl::version.eq(dsl::version + 1)));
                let update = Prepared(update.returning(order_orders::all_columns));
                let row = update.get_result::<Row>(connection).await.optional()?;
                let record = row.map(Record::try_from).transpose()?;
                if let Some(record) = &record {
                    record!(connection, "order", record.event()?, traceparent);
                }
                record
            })
        })
        .await
        .inspect(|record| {
            match record {
                Some(_) => making.succeed(),
                None => making.discard(),
            }
            record.iter().for_each(|record| counters::count(&record.order));
            self.news.tell();
        })
    }

    /// Stores the `intent` of the order at the provider, unless somebody else has ended the attempt to pay that is pending
    /// in `record`. Returns whether it is stored: only then may it be charged, for others know of it.
    pub(in crate::order) async fn set_intent(
        &self,
        record: &Record,
        intent: String,
    ) -> Result<bool, StoreError> {
        let (pool, id, attempts) =
            (self.pool.clone(), record.order.id.to_string(), record.attempts);
        run_to_completion(&self.limits, async move {
            let charge = is_pending(Step::Charge.name());
            let charge = charge.and(dsl::attempts.eq(attempts));
            let update = diesel::update(order_orders::table.find(id).filter(charge));
            write_one!(&pool, update.set(dsl::intent.eq(intent)), execute)
        })
        .await
        .map(|stored| stored == 1)
    }

    /// At most `limit` orders that can no longer be paid at `now`, the first to expire first.
    pub(in crate::order) async fn expired(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<Uuid>, StoreError> {
        let (pool, now) = (self.pool.clone(), now.naive_utc());
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        run_to_completion(&self.limits, async move {
            let over = expired_at(now);
            let rows = read!(&pool, over.limit(limit).select(dsl::id), load::<String>)?;
            rows.iter().map(|id| uuid(id)).collect()
        })
        .await
    }

    /// Takes over a step at which nobody has worked since `since`. Returns its order.
    pub(in crate::order) async fn take_over(
        &self,
        since: Timestamp,
    ) -> Result<Option<Record>, StoreError> {
        let (pool, since) = (self.pool.clone(), since.naive_utc());
        run_to_completion(&self.limits, async move {
            let left = dsl::pending.is_not_null().and(dsl::pending_at.le(since));
            let found = read!(
                &pool,
                order_orders::table.filter(left).order_by(dsl::pending_at).select(dsl::id),
                first::<String>,
                optional
            )?;
            let Some(id) = found else { return Ok(None) };
            let update = diesel::update(order_orders::table.find(id).filter(left));
            let update = update.set(dsl::pending_at.eq(now().naive_utc()));
            let row = write_one!(&pool, update, get_result::<Row>, optional)?;
            row.map(Record::try_from).transpose()
        })
        .await
    }
}

diesel::define_sql_function! {
    /// The first of them that is not NULL.
    fn coalesce(value: Nullable<Text>, other: Text) -> Text;
}

/// Whether this step is pending. A comparison with the column alone would tell PostgreSQL that the order is in the index of
/// those with any.
#[diesel::dsl::auto_type(no_type_alias)]
fn is_pending(step: &'static str) -> _ {
    let none: &'static str = "none";
    coalesce(dsl::pending, none).eq(step)
}

/// The orders that can no longer be paid at `now`, the first to expire first.
#[diesel::dsl::auto_type(no_type_alias)]
fn expired_at(now: NaiveDateTime) -> _ {
    // A value that is bound would keep SQLite from using the partial index.
    let placed: SqlLiteral<Bool> = sql::<Bool>("status = 'placed'");
    order_orders::table
        .filter(placed)
        .filter(dsl::pending.is_null())
        .filter(dsl::expires_at.le(now))
        .order_by(dsl::expires_at)
}

#[cfg(test)]
mod tests {
    use diesel::sqlite::Sqlite;

    use super::super::plans::plan;
    use super::*;

    #[test]
    fn what_has_expired_is_found_without_a_look_at_what_has_not() {
        let plan = plan(&diesel::debug_query::<Sqlite, _>(&expired_at(now().naive_utc())));
        assert!(
            plan.contains("INDEX order_orders_by_expiry (status=? AND expires_at<?)"),
            "{plan}"
        );
        assert!(!plan.contains("TEMP B-TREE"), "{plan}");
    }
}
