//! Orders of days gone by, which a command writes into the store of a shop that does not run: `app demo`.

use chrono::TimeDelta;
use serde_json::Value;
use uuid::{NoContext, Uuid};

use super::payments::Payments;
use super::placing::lines_of;
use super::reservations::{RESERVED_LONGER, reservation};
use super::store::{self, Record, Store};
use crate::config::{self, Currency};
use crate::contract::{Order, OrderStatus, Reservation, Timestamp};
use crate::error::Error;
use crate::events::News;
use crate::storage::{SetupError, StoreState};

/// How long after it was placed an order was paid, and how long after that it was sent, or its money given back.
const PAID_AFTER: TimeDelta = TimeDelta::minutes(2);
const SENT_AFTER: TimeDelta = TimeDelta::hours(5);
const REFUNDED_AFTER: TimeDelta = TimeDelta::hours(30);

/// An order to write.
#[derive(Clone, Debug)]
pub struct PastOrder {
    /// Its id, of its time.
    pub id: Uuid,
    /// Who placed it.
    pub user: Uuid,
    /// When.
    pub placed_at: Timestamp,
    /// How far it is.
    pub status: OrderStatus,
    /// Where it goes.
    pub ship_to: Value,
    /// How to reach the customer.
    pub contact: Value,
}

impl PastOrder {
    /// An order of `user` from the time `placed_at` on.
    pub fn new(user: Uuid, placed_at: Timestamp, status: OrderStatus) -> Self {
        let seconds = u64::try_from(placed_at.timestamp()).unwrap_or_default();
        let time =
            uuid::Timestamp::from_unix(NoContext, seconds, placed_at.timestamp_subsec_nanos());
        let id = Uuid::new_v7(time);
        Self { id, user, placed_at, status, ship_to: Value::Null, contact: Value::Null }
    }

    /// The reservation that has its pieces.
    pub fn reservation(&self) -> Uuid {
        reservation(self.id, 0)
    }

    /// The states that it was in, and since when; the last one is the present.
    fn states(&self, expires_at: Timestamp) -> Vec<(OrderStatus, Timestamp)> {
        let placed_at = self.placed_at;
        let paid_at = placed_at + PAID_AFTER;
        let placed = (OrderStatus::Placed, placed_at);
        let paid = (OrderStatus::Paid, paid_at);
        match self.status {
            OrderStatus::Placed => vec![placed],
            OrderStatus::Paid => vec![placed, paid],
            OrderStatus::Fulfilled => {
                vec![placed, paid, (OrderStatus::Fulfilled, paid_at + SENT_AFTER)]
            }
            OrderStatus::Refunded => {
                vec![placed, paid, (OrderStatus::Refunded, paid_at + REFUNDED_AFTER)]
            }
            OrderStatus::Cancelled => vec![placed, (OrderStatus::Cancelled, paid_at)],
            OrderStatus::Expired => vec![placed, (OrderStatus::Expired, expires_at)],
        }
    }
}

/// The orders of one store, and their payments.
pub struct Ledger {
    orders: Store,
    payments: Payments,
    currency: Currency,
    /// For how long an order can be paid.
    window: TimeDelta,
}

impl Ledger {
    /// Those of the store that `options` name, which is migrated if it is new, in a shop with this `currency`.
    ///
    /// # Errors
    /// When it cannot be used.
    pub async fn open(options: &config::Order, currency: Currency) -> Result<Self, SetupError> {
        store::migrate(options).await?;
        let orders = Store::open(options, StoreState::already_prepared(), News::default());
        // A provider elsewhere knows nothing of the past.
        let payments = Payments::played(options, orders.clone());
        let window = TimeDelta::from_std(options.payment_window).unwrap_or(TimeDelta::zero());
        Ok(Self { orders, payments, currency, window })
    }

    /// For how many seconds the pieces of an order are kept that is placed now.
    pub fn kept_for(&self) -> i64 {
        self.window.num_seconds() + RESERVED_LONGER.cast_signed()
    }

    /// Writes an order whose pieces were `reserved`, with the events of its life and its payment.
    ///
    /// # Errors
    /// When it costs more than an order can, or the store fails.
    pub async fn write(&self, past: PastOrder, reserved: Reservation) -> Result<(), Error> {
        let (items, total) = lines_of(reserved, self.currency)?;
        let expires_at = past.placed_at + self.window;
        let states = past.states(expires_at);
        let paid_at = states.iter().find(|(status, _)| *status == OrderStatus::Paid);
        let paid_at = paid_at.map(|(_, time)| *time);
        let mut record = Record::new(Order {
            id: past.id,
            user_id: past.user,
            status: past.status,
            items,
            total,
            currency: self.currency.code().to_owned(),
            ship_to: Some(past.ship_to).filter(|details| !details.is_null()),
            contact: Some(past.contact).filter(|details| !details.is_null()),
            created_at: past.placed_at,
            expires_at,
            paid_at,
        });
        record.version = states.len() as i64;
        if paid_at.is_some() {
            self.pay(&mut record).await?;
        }
        Ok(self.orders.insert_past(&record, &states).await?)
    }

    /// Plays the payment of an order that was paid, and perhaps paid back with its pieces.
    async fn pay(&self, record: &mut Record) -> Result<(), Error> {
        let (method, order) = ("ok", &record.order);
        let intent = self.payments.open(order).await?;
        self.payments.confirm((&intent, order.id, 1), method).await?;
        record.restock = order.status == OrderStatus::Refunded;
        if record.restock {
            self.payments.refund(&intent, order.id).await?;
        }
        (record.attempts, record.method) = (1, Some(method.to_owned()));
        record.intent = Some(intent);
        Ok(())
    }
}
