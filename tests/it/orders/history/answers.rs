//! What answers say by themselves.

use std::collections::HashMap;

use super::{Action, Answer, Judge, Operation, Rule, by_order, may_become};

const CONFLICT: &str = "/problems/conflict";

/// The refusals that an action can have.
fn refusals(action: &Action) -> &'static [(u16, &'static str)] {
    match action {
        Action::Place { .. } => &[(409, "/problems/out-of-stock"), (409, CONFLICT)],
        Action::Pay { .. } => &[(402, "/problems/payment-declined"), (409, CONFLICT)],
        Action::Cancel { .. } | Action::Refund { .. } => &[(409, CONFLICT)],
        Action::Read { .. } => &[],
    }
}

/// The state that an action leads to, of one that changes any.
fn target(action: &Action) -> Option<&'static str> {
    match action {
        Action::Place { .. } => Some("placed"),
        Action::Pay { .. } => Some("paid"),
        Action::Cancel { .. } => Some("cancelled"),
        Action::Refund { .. } => Some("refunded"),
        Action::Read { .. } => None,
    }
}

impl Judge {
    pub(super) fn answers(&mut self, operations: &[Operation]) {
        operations.iter().for_each(|operation| self.possible(operation));
        self.keys(operations);
        for seen in by_order(operations).values() {
            self.no_way_back(seen);
        }
    }

    fn possible(&mut self, operation: &Operation) {
        let Operation { action, answer, .. } = operation;
        let is_possible = match answer {
            Answer::Unknown => true,
            Answer::Refused(status, kind) => {
                refusals(action).iter().any(|known| *known == (*status, kind))
            }
            Answer::Order { id, status } => {
                let is_that = action.order().is_none_or(|order| order == id);
                // A payment may be refunded before its own answer is made.
                is_that && target(action).is_none_or(|target| may_become(target, status))
            }
        };
        self.expect(is_possible, Rule::PossibleAnswer, || format!("{operation:?}"));
    }

    /// One order for each key, and one key for each order.
    fn keys(&mut self, operations: &[Operation]) {
        let (mut orders, mut keys) = (HashMap::new(), HashMap::new());
        for operation in operations {
            let Action::Place { user, key, .. } = &operation.action else { continue };
            let Answer::Order { id, status } = &operation.answer else { continue };
            let first = *orders.entry((user, key)).or_insert(id);
            self.expect(first == id, Rule::OneOrderPerKey, || format!("{key}: {first} and {id}"));
            let first = *keys.entry(id).or_insert((user, key));
            self.expect(first == (user, key), Rule::OneOrderPerKey, || format!("{id}: {key}"));
            // Also when it is repeated.
            self.expect(status == "placed", Rule::PossibleAnswer, || format!("{operation:?}"));
        }
    }

    /// What was seen of an order before somebody asked again may have led to what was seen then.
    fn no_way_back(&mut self, operations: &[&Operation]) {
        let seen = |operation: &Operation| match &operation.answer {
            Answer::Order { status, .. } => Some((operation.start, operation.end, status.clone())),
            _ => None,
        };
        let seen = operations.iter().filter_map(|operation| seen(operation)).collect::<Vec<_>>();
        for (_, end, before) in &seen {
            for (start, _, after) in seen.iter().filter(|(start, ..)| start > end) {
                let what =
                    || format!("{before} until {end}, {after} since {start}: {operations:?}");
                self.expect(may_become(before, after), Rule::NoWayBack, what);
            }
        }
    }
}
