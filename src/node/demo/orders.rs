//! The orders of a demo: a month of two customers, in every state.

use std::collections::HashMap;

use chrono::{Days, NaiveTime, TimeDelta};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use uuid::Uuid;

use super::super::{Failure, Role};
use super::accounts::{Accounts, details};
use crate::config::{Effective, Settings};
use crate::contract::OrderStatus::{self, Cancelled, Expired, Fulfilled, Paid, Placed, Refunded};
use crate::contract::{NewLine, Product, Timestamp, now};
use crate::error::Error;
use crate::order::{Ledger, PastOrder};
use crate::product::Shelves;

/// How many days there are orders of.
const DAYS: u64 = 30;
/// The most orders of a day.
const PER_DAY: usize = 4;
/// How many orders are not paid yet.
const PLACED: usize = 3;
/// How many pieces of a product stay in the shop.
const LEFT: i64 = 2;
/// How many orders are written at once: their transactions are committed together.
const AT_ONCE: usize = 32;
/// The same orders each time, but for the dates.
const SEED: u64 = 30;

/// Fills the store of orders with those of `accounts`, and takes their pieces from the catalogue.
///
/// # Errors
/// When a store fails.
pub(super) async fn fill(
    (settings, effective): (&Settings, &Effective),
    accounts: &Accounts,
) -> Result<(), Failure> {
    let stock = Shelves::open(&settings.product).await;
    let stock = stock.map_err(|error| effective.blame(Role::Product.store(), error))?;
    let ledger = Ledger::open(&settings.order, settings.shop.currency).await;
    let ledger = ledger.map_err(|error| effective.blame(Role::Order.store(), error))?;
    let products = stock.products().await.map_err(|error| Failure::Store(error.into()))?;
    let planned = Plan::new(&products, now()).orders(&accounts.customers);
    let write = async |(order, lines)| Box::pin(write(&stock, &ledger, order, lines)).await;
    let written = stream::iter(planned).map(write).buffer_unordered(AT_ONCE);
    let written = written.try_collect::<()>().await;
    written.map_err(|error| Failure::Other(format!("the demo's orders: {}", error.chain())))
}

/// Writes `order` of `lines`, whose pieces are kept, sold or given back, as its state demands.
async fn write(
    stock: &Shelves,
    ledger: &Ledger,
    order: PastOrder,
    lines: Vec<NewLine>,
) -> Result<(), Error> {
    let reservation = order.reservation();
    let reserved = stock.reserve(reservation, &lines, ledger.kept_for()).await?;
    match order.status {
        Placed => {}
        Paid | Fulfilled => stock.sell(reservation).await?,
        Refunded | Cancelled | Expired => stock.give_back(reservation).await?,
    }
    ledger.write(order, reserved).await
}

/// Thinks up orders.
struct Plan {
    now: Timestamp,
    dice: fastrand::Rng,
    /// Products, and how many pieces of them can be ordered.
    stock: Vec<(String, i64)>,
}

impl Plan {
    fn new(products: &[Product], now: Timestamp) -> Self {
        let available = |product: &Product| product.stock.on_hand.unwrap_or(i64::MAX);
        let stock = products.iter().map(|product| (product.id.to_hex(), available(product)));
        Self { now, dice: fastrand::Rng::with_seed(SEED), stock: stock.collect() }
    }

    /// Orders of `customers`, the oldest first, and what is ordered.
    fn orders(mut self, customers: &[Uuid]) -> Vec<(PastOrder, Vec<NewLine>)> {
        let mut times = Vec::new();
        for ago in (1..=DAYS).rev() {
            for _ in 0..1 + self.dice.usize(..PER_DAY) {
                times.push((self.time(ago), self.status(ago)));
            }
        }
        // Their time to be paid is not over.
        times.extend((1..=PLACED as i64).rev().map(|n| (self.now - TimeDelta::minutes(n), Placed)));
        let placed = times.into_iter().enumerate().filter_map(|(n, (time, status))| {
            let customer = n % customers.len().max(1);
            let mut order = PastOrder::new(*customers.get(customer)?, time, status);
            (order.ship_to, order.contact) = details(customer);
            Some((order, self.lines()))
        });
        placed.filter(|(_, lines)| !lines.is_empty()).collect()
    }

    /// Some time of the day that is so many days `ago`, between breakfast and bedtime.
    fn time(&mut self, ago: u64) -> Timestamp {
        let midnight = (self.now - Days::new(ago)).date_naive().and_time(NaiveTime::MIN).and_utc();
        let time = midnight + TimeDelta::seconds(self.dice.i64(7 * 3600..22 * 3600));
        // What has become of it is in the past, too.
        time.min(self.now - TimeDelta::hours(1))
    }

    /// The state of an order that is so many days old.
    fn status(&mut self, ago: u64) -> OrderStatus {
        match (self.dice.u8(..100), ago) {
            (0..12, _) => Cancelled,
            (12..22, _) => Expired,
            (22..32, 3..) => Refunded,
            (22.., 0..=2) => Paid,
            _ => Fulfilled,
        }
    }

    /// One to three products, one or two pieces of each.
    fn lines(&mut self) -> Vec<NewLine> {
        let mut lines = HashMap::<usize, i64>::new();
        for _ in 0..1 + self.dice.usize(..3) {
            let (product, quantity) =
                (self.dice.usize(..self.stock.len().max(1)), self.dice.i64(1..3));
            let is_new = !lines.contains_key(&product);
            let stock = self.stock.get_mut(product).filter(|(_, left)| *left >= LEFT + quantity);
            if let Some((_, left)) = stock.filter(|_| is_new) {
                *left -= quantity;
                lines.insert(product, quantity);
            }
        }
        let line = |(product, quantity): (usize, i64)| NewLine {
            product_id: self.stock[product].0.clone(),
            quantity,
        };
        let mut lines = lines.into_iter().collect::<Vec<_>>();
        lines.sort_unstable();
        lines.into_iter().map(line).collect()
    }
}
