//! Judges what clients saw of orders, and what is left in the end.
//!
//! Each request is an operation: from before it was sent until its answer was there, or without an end if nobody knows what
//! came of it. Of two operations that overlap, either may have come first.

mod answers;
mod end;
mod events;
mod tests;

use std::collections::{BTreeMap, HashMap};

/// Every move of an order from state to state.
const MOVES: [(&str, &str); 6] = [
    ("placed", "paid"),
    ("placed", "cancelled"),
    ("placed", "expired"),
    ("paid", "fulfilled"),
    ("paid", "refunded"),
    ("fulfilled", "refunded"),
];

/// Whether an order in state `from` may be in state `to` later.
fn may_become(from: &str, to: &str) -> bool {
    from == to || MOVES.iter().any(|(before, after)| *before == from && may_become(after, to))
}

/// Pieces of products, by their ids.
pub(super) type Items = BTreeMap<String, i64>;

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Place { user: String, key: String, items: Items },
    Pay { order: String, method: &'static str },
    Cancel { order: String },
    Refund { order: String },
    Read { order: String },
}

impl Action {
    /// The order that it is about, once there is one.
    pub(super) fn order(&self) -> Option<&str> {
        match self {
            Self::Place { .. } => None,
            Self::Pay { order, .. } => Some(order),
            Self::Cancel { order } | Self::Refund { order } | Self::Read { order } => Some(order),
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Order {
        id: String,
        status: String,
    },
    /// A status code and the type of the problem.
    Refused(u16, String),
    /// There was no answer, or none that says what has happened.
    Unknown,
}

/// A request and its answer; the times count from one beginning.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) action: Action,
    pub(super) answer: Answer,
}

/// An order as it is in the end.
#[derive(Clone, Debug)]
pub(super) struct FinalOrder {
    pub(super) id: String,
    pub(super) user: String,
    /// The idempotency key that it was placed with.
    pub(super) key: String,
    pub(super) status: String,
    pub(super) items: Items,
    /// In minor units.
    pub(super) total: i64,
}

/// The pieces of a product: those that there were, and those that there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stock {
    pub(super) initial: i64,
    pub(super) on_hand: i64,
    pub(super) reserved: i64,
}

/// A payment, as the provider has it.
#[derive(Clone, Debug)]
pub(super) struct Payment {
    pub(super) order: String,
    /// In minor units.
    pub(super) amount: i64,
    pub(super) charges: i64,
    pub(super) refunds: i64,
    /// Whether somebody has tried to charge it and it may still be charged.
    pub(super) is_open: bool,
}

/// An event: that an order came into a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) id: String,
    pub(super) order: String,
    pub(super) status: String,
    pub(super) sequence: i64,
}

/// What is left when nothing happens any more.
#[derive(Clone, Debug, Default)]
pub(super) struct End {
    pub(super) orders: Vec<FinalOrder>,
    pub(super) stocks: BTreeMap<String, Stock>,
    pub(super) payments: Vec<Payment>,
    /// The events in the order role's log, in order.
    pub(super) log: Vec<Told>,
    /// What somebody heard who listened to the stream from the beginning, and came back after each break.
    pub(super) heard: Vec<Told>,
    /// The pieces of each product that the product role has counted.
    pub(super) popularity: Items,
    /// The last orders on each user's dashboard and their states, the newest first.
    pub(super) dashboards: BTreeMap<String, Vec<(String, String)>>,
    /// What a webhook's receiver has got, in the order of arrival, where there is one.
    pub(super) deliveries: Option<Vec<Told>>,
}

/// A rule that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rule {
    /// Every request has an answer that its kind of request can have.
    PossibleAnswer,
    /// A key leads to one order.
    OneOrderPerKey,
    /// No order leaves a state that it cannot leave.
    NoWayBack,
    /// What was acknowledged is there, as it was ordered.
    NothingLost,
    /// What is there, and the state that it is in, was asked for by somebody.
    Asked,
    /// No order waits for anything.
    Finished,
    /// What was sold and what is left are what there was; nothing is reserved.
    Conservation,
    /// Who has paid was charged once, and nobody else is out of money.
    ChargedOnce,
    /// Every move of an order has one event, and they are in order.
    Events,
    /// The live stream has every event of the log once, in order.
    Stream,
    /// Pieces of paid orders are counted once.
    Popularity,
    /// Dashboards show the last orders as they are.
    Dashboards,
    /// Every event is delivered, and none before those that precede it.
    Deliveries,
}

/// What is wrong.
#[derive(Clone, Debug)]
pub(super) struct Wrong {
    pub(super) rule: Rule,
    #[expect(dead_code, reason = "is printed")]
    what: String,
}

/// Collects what is wrong.
#[derive(Debug, Default)]
struct Judge(Vec<Wrong>);

impl Judge {
    /// `rule` must hold.
    fn expect(&mut self, holds: bool, rule: Rule, what: impl FnOnce() -> String) {
        if !holds {
            self.0.push(Wrong { rule, what: what() });
        }
    }
}

/// What is wrong with the answers that clients got, whatever the end is.
pub(super) fn check_answers(operations: &[Operation]) -> Vec<Wrong> {
    let mut judge = Judge::default();
    judge.answers(operations);
    judge.0
}

/// What is wrong with the `end`, after these operations.
pub(super) fn check_end(operations: &[Operation], end: &End) -> Vec<Wrong> {
    let mut judge = Judge::default();
    judge.orders(operations, end);
    judge.stocks(end);
    judge.payments(end);
    judge.events(end);
    judge.effects(end);
    judge.0
}

/// The operations about each order.
fn by_order(operations: &[Operation]) -> HashMap<&str, Vec<&Operation>> {
    let mut all = HashMap::<_, Vec<_>>::new();
    for operation in operations {
        if let Some(order) = operation.action.order() {
            all.entry(order).or_default().push(operation);
        }
    }
    all
}
