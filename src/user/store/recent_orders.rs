//! The last orders of users, by the events of the order role.

use chrono::NaiveDateTime;
use diesel::prelude::*;
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use uuid::Uuid;

use super::schema::{recent_orders, users};
use super::{Store, uuid};
use crate::contract::{Event, MOST_WITH, Money, RecentOrder};
use crate::events::Refusal;
use crate::storage::sql::{in_transaction, read};
use crate::storage::{Prepared, StoreError, run_to_completion};

/// How many orders of a user are kept.
const KEPT: i64 = 20;

/// A row of the table.
#[derive(Queryable, Insertable, AsChangeset)]
#[diesel(table_name = recent_orders, treat_none_as_default_value = false)]
struct OrderRow {
    order_id: String,
    user_id: String,
    sequence: i64,
    status: String,
    total: i64,
    currency: String,
    created_at: NaiveDateTime,
    /// The ids of the first of its products.
    products: String,
}

impl TryFrom<&Event> for OrderRow {
    type Error = Refusal;

    fn try_from(event: &Event) -> Result<Self, Refusal> {
        let order = event.order().map_err(|error| Refusal::Invalid(error.to_string()))?;
        let products = order.items.into_iter().map(|line| line.product_id).take(MOST_WITH);
        Ok(Self {
            order_id: order.id.to_string(),
            user_id: order.user_id.to_string(),
            sequence: event.sequence,
            status: order.status.name().to_owned(),
            total: order.total.minor(),
            currency: order.currency,
            created_at: order.created_at.naive_utc(),
            products: products.collect::<Vec<_>>().join(","),
        })
    }
}

impl TryFrom<OrderRow> for RecentOrder {
    type Error = StoreError;

    fn try_from(row: OrderRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: uuid(&row.order_id)?,
            status: row.status.parse().map_err(StoreError::corrupt)?,
            total: Money::from_minor(row.total).map_err(StoreError::corrupt)?,
            currency: row.currency,
            created_at: row.created_at.and_utc(),
        })
    }
}

impl Store {
    /// Takes events of orders, of users who are there. What an older event says of an order is ignored.
    pub(in crate::user) async fn take_orders(&self, events: Vec<Event>) -> Result<(), Refusal> {
        let rows = events.iter().map(OrderRow::try_from).collect::<Result<Vec<_>, _>>()?;
        let pool = self.pool.clone();
        let taken = run_to_completion(&self.limits, async move {
            in_transaction!(&pool, StoreError, connection => {
                for row in rows {
                    let user = users::table.find(&row.user_id).select(users::id);
                    if user.first::<String>(connection).await.optional()?.is_none() {
                        continue;
                    }
                    let known = recent_orders::table.find(&row.order_id);
                    let known = known.select(recent_orders::sequence).first::<i64>(connection);
                    match known.await.optional()? {
                        Some(sequence) if sequence >= row.sequence => {}
                        Some(_) => {
                            let known = diesel::update(recent_orders::table.find(&row.order_id));
                            Prepared(known.set(&row)).execute(connection).await?;
                        }
                        None => {
                            let insert = diesel::insert_into(recent_orders::table).values(&row);
                            insert.execute(connection).await?;
                            let of_user = recent_orders::user_id.eq(&row.user_id);
                            let of_user = recent_orders::table.filter(of_user);
                            let old = of_user.order_by(recent_orders::order_id.desc()).offset(KEPT);
                            let old = old.limit(KEPT).select(recent_orders::order_id);
                            let old = old.load::<String>(connection).await?;
                            if !old.is_empty() {
                                let old = recent_orders::order_id.eq_any(old);
                                let old = diesel::delete(recent_orders::table.filter(old));
                                old.execute(connection).await?;
                            }
                        }
                    }
                }
            })
        });
        Ok(taken.await?)
    }

    /// The last orders of `user`, the newest first, at most `limit`, and the ids of some of their products, each once.
    pub(in crate::user) async fn recent_orders(
        &self,
        user: Uuid,
        limit: i64,
    ) -> Result<(Vec<RecentOrder>, Vec<String>), StoreError> {
        let pool = self.pool.clone();
        run_to_completion(&self.limits, async move {
            let rows = read!(
                &pool,
                {
                    let of_user = recent_orders::user_id.eq(user.to_string());
                    let newest_first = recent_orders::order_id.desc();
                    recent_orders::table.filter(of_user).order_by(newest_first).limit(limit)
                },
                load::<OrderRow>
            )?;
            let mut products = Vec::new();
            for id in rows.iter().flat_map(|row| row.products.split(',')) {
                let is_new = !id.is_empty() && !products.iter().any(|known| known == id);
                if is_new && products.len() < MOST_WITH {
                    products.push(id.to_owned());
                }
            }
            let orders = rows.into_iter().map(RecentOrder::try_from).collect::<Result<_, _>>()?;
            Ok((orders, products))
        })
        .await
    }
}
