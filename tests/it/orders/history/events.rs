//! What was told of orders, and what others made of it.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{End, Items, Judge, MOVES, Rule, Told};

/// How many orders a dashboard shows.
const RECENT: usize = 5;

impl Judge {
    pub(super) fn events(&mut self, end: &End) {
        let (mut ids, mut of_orders) = (HashSet::new(), HashMap::<_, Vec<&Told>>::new());
        for told in &end.log {
            self.expect(ids.insert(&*told.id), Rule::Events, || format!("twice: {told:?}"));
            of_orders.entry(&*told.order).or_default().push(told);
        }
        for order in &end.orders {
            let told = of_orders.remove(&*order.id).unwrap_or_default();
            let is_counted = told.iter().zip(1..).all(|(told, number)| told.sequence == number);
            let mut steps = told.iter().zip(told.iter().skip(1));
            let is_legal = steps.all(|(one, next)| MOVES.contains(&(&one.status, &next.status)));
            let is_whole = told.first().is_some_and(|told| told.status == "placed")
                && told.last().is_some_and(|told| told.status == order.status);
            let is_right = is_counted && is_legal && is_whole;
            self.expect(is_right, Rule::Events, || format!("{order:?}: {told:?}"));
        }
        let is_known = of_orders.is_empty();
        self.expect(is_known, Rule::Events, || format!("of no order: {of_orders:?}"));
        let first = end.log.iter().zip(&end.heard).position(|(log, heard)| log != heard);
        let is_same = end.log == end.heard;
        let lengths = (end.log.len(), end.heard.len());
        self.expect(is_same, Rule::Stream, || format!("{lengths:?}, other at {first:?}"));
        if let Some(deliveries) = &end.deliveries {
            self.deliveries(&end.log, deliveries);
        }
    }

    /// At least once each, and none for the first time before all that precede it.
    fn deliveries(&mut self, log: &[Told], deliveries: &[Told]) {
        let (mut arrived, mut lasts) = (HashSet::new(), HashMap::<_, i64>::new());
        for told in deliveries.iter().filter(|told| arrived.insert(&*told.id)) {
            let last = lasts.entry(&*told.order).or_default();
            let is_next = told.sequence == *last + 1;
            let what = || format!("{told:?} behind number {last}");
            self.expect(is_next, Rule::Deliveries, what);
            *lasts.entry(&*told.order).or_default() = told.sequence;
        }
        for told in log {
            let is_there = arrived.contains(&*told.id);
            self.expect(is_there, Rule::Deliveries, || format!("not delivered: {told:?}"));
        }
    }

    pub(super) fn effects(&mut self, end: &End) {
        let paid = end.log.iter().filter(|told| told.status == "paid");
        let paid = paid.map(|told| &*told.order).collect::<HashSet<_>>();
        let (mut counted, mut of_users) = (Items::new(), BTreeMap::<_, Vec<_>>::new());
        for order in &end.orders {
            for (product, pieces) in order.items.iter().filter(|_| paid.contains(&*order.id)) {
                *counted.entry(product.clone()).or_default() += pieces;
            }
            let of_user = of_users.entry(&order.user).or_default();
            of_user.push((order.id.clone(), order.status.clone()));
        }
        let popularity = end.popularity.iter().filter(|(_, count)| **count != 0);
        let popularity = popularity.map(|(id, count)| (id.clone(), *count)).collect::<Items>();
        let what = || format!("{popularity:?}, expected {counted:?}");
        self.expect(popularity == counted, Rule::Popularity, what);
        for (user, shown) in &end.dashboards {
            let mut expected = of_users.remove(user).unwrap_or_default();
            // Their ids grow with time.
            expected.sort_by(|one, other| other.cmp(one));
            expected.truncate(RECENT);
            let what = || format!("{user}: {shown:?}, expected {expected:?}");
            self.expect(*shown == expected, Rule::Dashboards, what);
        }
    }
}
