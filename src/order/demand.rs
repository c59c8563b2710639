//! What orders demand of the stock, for `app check-stock`.

use uuid::Uuid;

use super::reservations::reservation;
use super::store::{self, Filter, Record, Store};
use crate::config;
use crate::contract::{OrderStatus, now};
use crate::events::News;
use crate::storage::{SetupError, StoreError, StoreState};

/// How many orders are read at once.
const PAGE: usize = 500;

/// What an order demands of the stock.
#[derive(Clone, Debug)]
pub struct Demand {
    /// The order.
    pub order: Uuid,
    /// How far it is.
    pub status: OrderStatus,
    /// What its pieces should be.
    pub need: Need,
    /// The reservation that should have them.
    pub reservation: Uuid,
    /// Other reservations that it had or may have had.
    pub others: Vec<Uuid>,
}

/// What the pieces of an order should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Held or sold.
    Kept,
    /// Sold.
    Sold,
    /// Given back.
    Nothing,
    /// Somebody is changing it, or is about to.
    Unsettled,
}

impl From<Record> for Demand {
    fn from(record: Record) -> Self {
        let Record { order, .. } = &record;
        let need = match order.status {
            _ if record.pending.is_some() => Need::Unsettled,
            OrderStatus::Placed if order.expires_at <= now() => Need::Unsettled,
            OrderStatus::Placed => Need::Kept,
            OrderStatus::Paid | OrderStatus::Fulfilled => Need::Sold,
            OrderStatus::Refunded if !record.restock => Need::Sold,
            OrderStatus::Refunded | OrderStatus::Cancelled | OrderStatus::Expired => Need::Nothing,
        };
        let others = (0..=record.attempts).filter(|number| *number != record.reservation);
        Self {
            order: order.id,
            status: order.status,
            need,
            reservation: reservation(order.id, record.reservation),
            others: others.map(|number| reservation(order.id, number)).collect(),
        }
    }
}

/// The demands of all orders.
#[derive(Clone, Debug)]
pub struct Demands(Store);

impl Demands {
    /// Those of the store that `options` name, which must have all migrations.
    ///
    /// # Errors
    /// When it cannot be used.
    pub async fn open(options: &config::Order) -> Result<Self, SetupError> {
        store::expect_migrated(options).await?;
        Ok(Self(Store::open(options, StoreState::already_prepared(), News::default())))
    }

    /// Those of some orders that are older than `before`; none at the end.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn before(&self, before: Option<Uuid>) -> Result<Vec<Demand>, StoreError> {
        let filter = Filter { before, ..Filter::default() };
        let found = self.0.list(filter, PAGE).await?;
        Ok(found.into_iter().map(Demand::from).collect())
    }
}
