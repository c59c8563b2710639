//! What is left: orders, pieces and money.

use std::collections::{HashMap, HashSet};

use super::{
    Action, Answer, End, FinalOrder, Items, Judge, Operation, Payment, Rule, by_order, may_become,
};

/// Whether the pieces of an order in state `status` are gone from the shop. Refunds put them back.
fn is_sold(status: &str) -> bool {
    matches!(status, "paid" | "fulfilled")
}

impl Judge {
    pub(super) fn orders(&mut self, operations: &[Operation], end: &End) {
        let (mut known, mut keys) = (HashMap::new(), HashSet::new());
        for order in &end.orders {
            let twin = known.insert(&*order.id, order);
            self.expect(twin.is_none(), Rule::OneOrderPerKey, || format!("{order:?}, {twin:?}"));
            let is_new = keys.insert((&*order.user, &*order.key));
            self.expect(is_new, Rule::OneOrderPerKey, || format!("another has its key: {order:?}"));
        }
        let mut asked = HashMap::<_, &Items>::new();
        for operation in operations {
            let Action::Place { user, key, items } = &operation.action else { continue };
            asked.insert((&**user, &**key), items);
            let Answer::Order { id, .. } = &operation.answer else { continue };
            let is_there = known
                .get(&**id)
                .is_some_and(|order| (&order.user, &order.key, &order.items) == (user, key, items));
            self.expect(is_there, Rule::NothingLost, || format!("{operation:?}"));
        }
        let about = by_order(operations);
        for order in &end.orders {
            let is_asked = asked.get(&(&*order.user, &*order.key)) == Some(&&order.items);
            self.expect(is_asked, Rule::Asked, || format!("{order:?}"));
            self.state(order, about.get(&*order.id).map_or(&[], Vec::as_slice));
        }
    }

    /// The state of `order` follows from the `operations` about it.
    fn state(&mut self, order: &FinalOrder, operations: &[&Operation]) {
        let was_asked = |wanted: fn(&Action) -> bool| {
            operations.iter().any(|operation| wanted(&operation.action))
        };
        let pays = |action: &Action| matches!(action, Action::Pay { .. });
        let is_asked = match &*order.status {
            "paid" => was_asked(pays),
            "cancelled" => was_asked(|action| matches!(action, Action::Cancel { .. })),
            "refunded" => {
                was_asked(pays) && was_asked(|action| matches!(action, Action::Refund { .. }))
            }
            "fulfilled" => false,
            _ => true,
        };
        self.expect(is_asked, Rule::Asked, || format!("{order:?}: {operations:?}"));
        self.expect(order.status != "placed", Rule::Finished, || format!("{order:?}"));
        for operation in operations {
            let Answer::Order { status, .. } = &operation.answer else { continue };
            let is_legal = may_become(status, &order.status);
            self.expect(is_legal, Rule::NoWayBack, || format!("{operation:?}, but {order:?}"));
        }
    }

    pub(super) fn stocks(&mut self, end: &End) {
        let mut sold = Items::new();
        for order in end.orders.iter().filter(|order| is_sold(&order.status)) {
            for (product, pieces) in &order.items {
                *sold.entry(product.clone()).or_default() += pieces;
            }
        }
        for (product, stock) in &end.stocks {
            let sold = sold.remove(product).unwrap_or_default();
            let is_right =
                stock.on_hand + sold == stock.initial && stock.on_hand >= 0 && stock.reserved == 0;
            let what = || format!("{product}: {sold} sold, {stock:?}");
            self.expect(is_right, Rule::Conservation, what);
        }
        self.expect(sold.is_empty(), Rule::Conservation, || format!("of no product: {sold:?}"));
    }

    pub(super) fn payments(&mut self, end: &End) {
        let mut payments = HashMap::<_, Vec<&Payment>>::new();
        for payment in &end.payments {
            payments.entry(&*payment.order).or_default().push(payment);
        }
        for order in &end.orders {
            let of_order = payments.remove(&*order.id).unwrap_or_default();
            let sum = |count: fn(&Payment) -> i64| -> i64 {
                of_order.iter().map(|payment| count(payment)).sum()
            };
            let counts = (sum(|payment| payment.charges), sum(|payment| payment.refunds));
            let is_right = match &*order.status {
                status if is_sold(status) => counts == (1, 0),
                "refunded" => counts == (1, 1),
                // One that was charged when its pieces were gone has its money back.
                _ => counts == (0, 0) || counts == (1, 1),
            };
            let is_right = is_right
                && of_order.iter().all(|payment| !payment.is_open && payment.amount == order.total);
            self.expect(is_right, Rule::ChargedOnce, || format!("{order:?}: {of_order:?}"));
        }
        let is_known = payments.is_empty();
        self.expect(is_known, Rule::ChargedOnce, || format!("for no order: {payments:?}"));
    }
}
