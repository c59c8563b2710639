//! Queries on orders, the same on SQLite and PostgreSQL.

mod claims;
mod copies;
mod deliveries;
mod erasure;
mod orders;
#[cfg(test)]
mod plans;
mod sandbox;
mod schema;
mod steps;
mod webhooks;

use chrono::NaiveDateTime;
use diesel::prelude::*;
use diesel_migrations::embed_migrations;
use serde_json::Value;
use uuid::Uuid;

use crate::config::{Order as Options, SqlUrl};
use crate::contract::{Event, Money, Order, OrderLine, Timestamp};
use crate::error::Cause;
use crate::events::{Log, News};
use crate::storage::sql::{Migrations, Pool};
use crate::storage::{Limits, SetupError, StoreError, StoreName, StoreState};

pub(super) use claims::{Claim, Claimed};
pub(super) use copies::copy;
pub(super) use deliveries::Delivery;
pub(super) use orders::{Filter, SummaryRow};
pub(super) use sandbox::{SandboxIntent, SandboxState};
use schema::order_orders;
pub(super) use steps::{Begin, Finish};

use super::step::Step;

const MIGRATIONS: Migrations = Migrations {
    sqlite: embed_migrations!("migrations/sqlite/order"),
    postgres: embed_migrations!("migrations/postgres/order"),
};

/// Everything that is stored about an order.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    pub(super) order: Order,
    /// Counts its states.
    pub(super) version: i64,
    /// The number of the reservation that has its pieces.
    pub(super) reservation: i64,
    /// How often somebody tried to pay it.
    pub(super) attempts: i64,
    /// The payment at the provider.
    pub(super) intent: Option<String>,
    /// The payment method of the last attempt.
    pub(super) method: Option<String>,
    /// The step that has begun and not ended, and when somebody last worked at it.
    pub(super) pending: Option<(Step, Timestamp)>,
    /// Whether a refund gives the pieces back.
    pub(super) restock: bool,
}

impl Record {
    /// The event that the order is in its state now.
    fn event(&self) -> Result<Event, StoreError> {
        Event::of_order(&self.order, self.version)
            .map_err(|error| StoreError::corrupt(error.chain()))
    }

    /// A new order.
    pub(super) fn new(order: Order) -> Self {
        Self {
            order,
            version: 1,
            reservation: 0,
            attempts: 0,
            intent: None,
            method: None,
            pending: None,
            restock: false,
        }
    }
}

/// A row of the table of orders.
#[derive(Clone, Debug, PartialEq, Queryable, Insertable, AsChangeset)]
#[diesel(table_name = order_orders, treat_none_as_null = true, treat_none_as_default_value = false)]
struct Row {
    id: String,
    user_id: String,
    status: String,
    items: String,
    total: i64,
    currency: String,
    ship_to: Option<String>,
    contact: Option<String>,
    created_at: NaiveDateTime,
    day: String,
    expires_at: NaiveDateTime,
    paid_at: Option<NaiveDateTime>,
    version: i64,
    reservation: i64,
    attempts: i64,
    intent: Option<String>,
    method: Option<String>,
    pending: Option<String>,
    pending_at: Option<NaiveDateTime>,
    restock: bool,
}

impl TryFrom<&Record> for Row {
    type Error = StoreError;

    fn try_from(record: &Record) -> Result<Self, StoreError> {
        let Record { order, .. } = record;
        let json = |value: &Option<Value>| value.as_ref().map(Value::to_string);
        Ok(Self {
            id: order.id.to_string(),
            user_id: order.user_id.to_string(),
            status: order.status.name().to_owned(),
            items: serde_json::to_string(&order.items).map_err(StoreError::corrupt)?,
            total: order.total.minor(),
            currency: order.currency.clone(),
            ship_to: json(&order.ship_to),
            contact: json(&order.contact),
            created_at: order.created_at.naive_utc(),
            day: order.created_at.date_naive().to_string(),
            expires_at: order.expires_at.naive_utc(),
            paid_at: order.paid_at.map(|time| time.naive_utc()),
            version: record.version,
            reservation: record.reservation,
            attempts: record.attempts,
            intent: record.intent.clone(),
            method: record.method.clone(),
            pending: record.pending.map(|(step, _)| step.name().to_owned()),
            pending_at: record.pending.map(|(_, since)| since.naive_utc()),
            restock: record.restock,
        })
    }
}

impl TryFrom<Row> for Record {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let json = |text: Option<String>| {
            text.map(|text| serde_json::from_str::<Value>(&text)).transpose()
        };
        let step = |name: String| Step::from_name(&name).ok_or_else(|| StoreError::corrupt("step"));
        let pending = row.pending.map(step).transpose()?;
        let order = Order {
            id: uuid(&row.id)?,
            user_id: uuid(&row.user_id)?,
            status: row.status.parse().map_err(StoreError::corrupt)?,
            items: serde_json::from_str::<Vec<OrderLine>>(&row.items)
                .map_err(StoreError::corrupt)?,
            total: Money::from_minor(row.total).map_err(StoreError::corrupt)?,
            currency: row.currency,
            ship_to: json(row.ship_to).map_err(StoreError::corrupt)?,
            contact: json(row.contact).map_err(StoreError::corrupt)?,
            created_at: row.created_at.and_utc(),
            expires_at: row.expires_at.and_utc(),
            paid_at: row.paid_at.map(|time| time.and_utc()),
        };
        Ok(Self {
            order,
            version: row.version,
            reservation: row.reservation,
            attempts: row.attempts,
            intent: row.intent,
            method: row.method,
            pending: pending.zip(row.pending_at.map(|time| time.and_utc())),
            restock: row.restock,
        })
    }
}

fn uuid(text: &str) -> Result<Uuid, StoreError> {
    Uuid::try_parse(text).map_err(StoreError::corrupt)
}

/// The orders, for one worker thread.
#[derive(Clone, Debug)]
pub(super) struct Store {
    pool: Pool,
    limits: Limits,
    /// Tells of new events.
    news: News,
}

impl Store {
    /// The store that `options` name, which shares `state` with other threads and `news` of events. Opens no
    /// connection yet.
    pub(super) fn open(options: &Options, state: StoreState, news: News) -> Self {
        let limits = limits(options, state);
        Self { pool: Pool::new(&options.database_url, &limits), limits, news }
    }

    /// The events of orders.
    pub(super) fn log(&self) -> Log {
        Log::new("order", self.pool.clone(), self.limits.clone(), self.news.clone())
    }

    /// Checks that the store answers, and takes writes.
    ///
    /// # Errors
    /// What is wrong with it, for the log.
    pub(super) async fn check(&self) -> Result<(), Cause> {
        self.pool.check(&self.limits).await
    }
}

/// Migrates the database; returns the names of the migrations that were applied. Blocks on SQLite.
pub(super) async fn migrate(options: &Options) -> Result<Vec<String>, SetupError> {
    MIGRATIONS.apply(&options.database_url, &limits(options, StoreState::default())).await
}

/// Asserts that the database has all migrations. Blocks on SQLite.
pub(super) async fn expect_migrated(options: &Options) -> Result<(), SetupError> {
    let limits = limits(options, StoreState::default());
    MIGRATIONS.expect_applied(&options.database_url, &limits).await
}

fn limits(options: &Options, state: StoreState) -> Limits {
    Limits {
        name: StoreName::of_sql("order.database", &options.database_url),
        size: options.pool_size,
        acquire: options.acquire_timeout,
        statement: options.statement_timeout,
        ends_calls: matches!(options.database_url, SqlUrl::Postgres(_)),
        state,
    }
}
