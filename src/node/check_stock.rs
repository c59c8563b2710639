//! Compares orders with stock, each by its own role.
//!
//! Memory does not grow with the shop: reservations are read in ranges of ids, and for each range all orders are, because
//! nothing but an order tells the ids of its reservations.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bson::oid::ObjectId;
use tokio::time::sleep;
use uuid::Uuid;

use super::commands::BATCH_TIMEOUT;
use super::{Failure, Role};
use crate::config::{self, Effective, Settings};
use crate::contract::Product;
use crate::order::{Demand, Demands, Need};
use crate::product::{Pieces, Supplies};
use crate::storage::{SetupError, StoreError};

/// How many reservations are in memory at once.
const RANGE: usize = 100_000;
/// How often a difference must be seen, and the pause in between: a shop that runs may be changing it.
const ROUNDS: usize = 3;
const PAUSE: Duration = Duration::from_secs(1);
/// How often a product is looked at whose pieces are being moved.
const TRIES: usize = 20;

/// A difference between orders and stock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// An order should have the pieces of its reservation.
    Missing(Uuid, Uuid),
    /// An order should have none in its reservation.
    Surplus(Uuid, Uuid),
    /// No order has the pieces that are sold by this reservation.
    Unknown(Uuid),
    /// The product has other pieces reserved than its reservations hold, or may have.
    Reserved(ObjectId),
}

/// Differences, with what to say about each: this may change while the shop runs, and it is the same difference.
type Differences = BTreeMap<Difference, String>;

/// What a comparison has found.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// How many orders there are.
    pub orders: u64,
    /// How many reservations.
    pub reservations: u64,
    /// What differs, in words.
    pub differences: BTreeMap<Difference, String>,
}

/// Compares the orders with the stock. Only what differs several times in a row counts.
///
/// # Errors
/// When a store cannot be used.
pub async fn check_stock(
    settings: &Settings,
    effective: &Effective,
) -> Result<Comparison, Failure> {
    let blame = |role: Role, error: SetupError| effective.blame(role.store(), error);
    let statement_timeout = BATCH_TIMEOUT;
    let orders = config::Order { statement_timeout, ..settings.order.clone() };
    let orders = Demands::open(&orders).await.map_err(|error| blame(Role::Order, error))?;
    let products = config::Product { statement_timeout, ..settings.product.clone() };
    let stock = Supplies::open(&products).await.map_err(|error| blame(Role::Product, error))?;
    let compare = async || compare(&orders, &stock).await.map_err(SetupError::from);
    let mut found = compare().await?;
    for _ in 1..ROUNDS {
        if found.differences.is_empty() {
            break;
        }
        sleep(PAUSE).await;
        let mut again = compare().await?;
        again.differences.retain(|difference, _| found.differences.contains_key(difference));
        found = again;
    }
    Ok(found)
}

async fn compare(orders: &Demands, stock: &Supplies) -> Result<Comparison, StoreError> {
    let (mut found, mut last) = (Comparison::default(), None);
    let mut reserved = HashMap::<ObjectId, i64>::new();
    loop {
        let mut range = Range { after: last, until: None, pieces: HashMap::new() };
        while range.pieces.len() < RANGE {
            let page = stock.behind(last).await?;
            last = page.last().map(|supply| supply.id);
            range.until = last;
            if page.is_empty() {
                break;
            }
            for supply in page {
                range.pieces.insert(supply.id, supply.pieces);
                for (product, quantity) in supply.reserved {
                    *reserved.entry(product).or_default() += quantity;
                }
            }
        }
        found.reservations += range.pieces.len() as u64;
        let is_last = range.until.is_none();
        found.orders = range.compare(orders, &mut found.differences).await?;
        if is_last {
            break;
        }
    }
    compare_reserved(stock, reserved, &mut found.differences).await?;
    Ok(found)
}

/// The reservations whose ids are in a range.
struct Range {
    /// They are behind this one, and go to that one, or to the end.
    after: Option<Uuid>,
    until: Option<Uuid>,
    pieces: HashMap<Uuid, Pieces>,
}

impl Range {
    /// Compares them with all orders; returns how many orders there are.
    async fn compare(
        mut self,
        orders: &Demands,
        differences: &mut Differences,
    ) -> Result<u64, StoreError> {
        let (mut count, mut before) = (0, None);
        loop {
            let page = orders.before(before).await?;
            let Some(end) = page.last() else { break };
            before = Some(end.order);
            count += page.len() as u64;
            for demand in &page {
                differences.extend(self.judge(demand));
            }
        }
        let sold = self.pieces.into_iter().filter(|(_, pieces)| *pieces == Pieces::Sold);
        differences.extend(sold.map(|(id, _)| {
            let words =
                format!("the pieces of the reservation {id} are sold, and no order has them");
            (Difference::Unknown(id), words)
        }));
        Ok(count)
    }

    /// What is wrong with those of an order, which are no concern of others.
    fn judge(&mut self, demand: &Demand) -> Vec<(Difference, String)> {
        let id = demand.reservation;
        let mut found = Vec::new();
        if self.has(id) {
            let pieces = self.pieces.remove(&id);
            let is_there = matches!(pieces, Some(Pieces::Held | Pieces::Sold));
            let is_right = match demand.need {
                _ if pieces == Some(Pieces::Unsettled) => true,
                Need::Unsettled => true,
                Need::Kept => is_there,
                Need::Sold => pieces == Some(Pieces::Sold),
                Need::Nothing => !is_there,
            };
            match (is_right, demand.need) {
                (true, _) => {}
                (false, Need::Nothing) => found.push(surplus(demand, id, pieces)),
                (false, _) => found.push(missing(demand, pieces)),
            }
        }
        for id in &demand.others {
            let pieces = self.pieces.remove(id);
            let is_there = matches!(pieces, Some(Pieces::Held | Pieces::Sold));
            if is_there && demand.need != Need::Unsettled {
                found.push(surplus(demand, *id, pieces));
            }
        }
        found
    }

    /// Whether `id` is in the range, there or not.
    fn has(&self, id: Uuid) -> bool {
        self.after.is_none_or(|after| id > after) && self.until.is_none_or(|until| id <= until)
    }
}

/// The pieces of an order are missing.
fn missing(demand: &Demand, pieces: Option<Pieces>) -> (Difference, String) {
    let Demand { order, reservation, .. } = *demand;
    let (status, pieces) = (demand.status.name(), word(pieces));
    let words = format!(
        "the order {order} is {status}, and the pieces of its reservation {reservation} are {pieces}"
    );
    (Difference::Missing(order, reservation), words)
}

/// An order has pieces that it should not have.
fn surplus(demand: &Demand, id: Uuid, pieces: Option<Pieces>) -> (Difference, String) {
    let (order, status, pieces) = (demand.order, demand.status.name(), word(pieces));
    let words = format!(
        "the order {order} is {status}, and pieces of its reservation {id} are {pieces} still"
    );
    (Difference::Surplus(order, id), words)
}

fn word(pieces: Option<Pieces>) -> &'static str {
    match pieces {
        Some(Pieces::Held) => "held",
        Some(Pieces::Sold) => "sold",
        Some(Pieces::Gone) => "given back",
        Some(Pieces::Unsettled) => "on their way",
        None => "missing",
    }
}

/// Compares what products have reserved with what reservations hold.
async fn compare_reserved(
    stock: &Supplies,
    held: HashMap<ObjectId, i64>,
    differences: &mut Differences,
) -> Result<(), StoreError> {
    let mut last = None;
    loop {
        let page = stock.products(last.as_ref()).await?;
        let differs = |product: &&Product| {
            product.stock.reserved != held.get(&product.id).copied().unwrap_or(0)
        };
        let doubtful = page.iter().filter(differs).map(|product| product.id).collect();
        look_again(stock, doubtful, differences).await?;
        last = match page.into_iter().next_back() {
            Some(end) => Some(end),
            None => return Ok(()),
        };
    }
}

/// Looks at `products` until two looks agree on how many more pieces of each are reserved than held.
async fn look_again(
    stock: &Supplies,
    mut products: Vec<ObjectId>,
    differences: &mut Differences,
) -> Result<(), StoreError> {
    let mut seen = HashMap::new();
    for _ in 0..TRIES {
        if products.is_empty() {
            return Ok(());
        }
        let found = stock.excess(products.clone()).await?;
        products.retain(|&product| match found.get(&product) {
            Some(0) => false,
            Some(&more) if seen.insert(product, more) == Some(more) => {
                differences.insert(Difference::Reserved(product), reserved(product, more));
                false
            }
            _ => true,
        });
        sleep(PAUSE / 10).await;
    }
    differences.extend(products.into_iter().map(|product| {
        let words = format!(
            "the product {product} could not be compared with its reservations, whose pieces are being moved"
        );
        (Difference::Reserved(product), words)
    }));
    Ok(())
}

fn reserved(product: ObjectId, more: i64) -> String {
    let (count, word) = (more.abs(), if more > 0 { "more" } else { "fewer" });
    format!("the product {product} has {count} pieces {word} reserved than its reservations hold")
}
