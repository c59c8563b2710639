//! What happens to orders, and the money that is taken, for `/metrics`.

use std::sync::LazyLock;

use prometheus::{CounterVec, IntCounterVec};

use crate::config::Currency;
use crate::contract::{Order, OrderStatus};
use crate::metrics::{Collectors, amounts, counters};

static ALL: LazyLock<Counters> = LazyLock::new(Counters::new);

/// The minor units of an amount in the main unit of its currency: [`crate::contract::Money`] counts hundredths.
const MINOR: f64 = 100.0;

struct Counters {
    orders: IntCounterVec,
    taken: CounterVec,
    refunded: CounterVec,
}

impl Counters {
    fn new() -> Self {
        Self {
            orders: counters(
                "shop_orders_total",
                "Orders that came into a state: placed, paid, fulfilled, cancelled, expired, refunded.",
                &["status"],
            ),
            taken: amounts(
                "shop_money_taken_total",
                "What paid orders cost, in the main unit of the currency.",
                &["currency"],
            ),
            refunded: amounts(
                "shop_money_refunded_total",
                "What refunded orders cost, in the main unit of the currency.",
                &["currency"],
            ),
        }
    }
}

/// For the registry, with nothing counted yet of a shop that takes `currency`.
pub(super) fn collectors(currency: Currency) -> Collectors {
    let Counters { orders, taken, refunded } = &*ALL;
    for status in OrderStatus::all() {
        orders.with_label_values(&[status.name()]);
    }
    for money in [taken, refunded] {
        money.with_label_values(&[currency.code()]);
    }
    vec![Box::new(orders.clone()), Box::new(taken.clone()), Box::new(refunded.clone())]
}

/// Counts that `order` has come into its state.
pub(super) fn count(order: &Order) {
    ALL.orders.with_label_values(&[order.status.name()]).inc();
    let money = match order.status {
        OrderStatus::Paid => &ALL.taken,
        OrderStatus::Refunded => &ALL.refunded,
        _ => return,
    };
    let amount = order.total.minor() as f64 / MINOR;
    money.with_label_values(&[order.currency.as_str()]).inc_by(amount);
}
