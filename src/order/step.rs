//! The states of an order, the moves between them, and the steps that take several systems.

use crate::contract::OrderStatus::{self, Cancelled, Expired, Fulfilled, Paid, Placed, Refunded};
use crate::error::{Error, Kind};

/// Every move that there is.
const MOVES: [(OrderStatus, OrderStatus); 6] = [
    (Placed, Paid),
    (Placed, Cancelled),
    (Placed, Expired),
    (Paid, Fulfilled),
    (Paid, Refunded),
    (Fulfilled, Refunded),
];

/// A step that takes several systems. It is stored before it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// An attempt to pay.
    Charge,
    /// The customer calls it off.
    Cancel,
    /// It was not paid in time.
    Expire,
    /// The customer gets the money back.
    Refund,
    /// An attempt to pay has come to nothing, and its pieces are kept for the next one.
    Retreat,
}

/// The steps, their names as they are stored, and the state that each leads to.
const STEPS: [(Step, &str, OrderStatus); 5] = [
    (Step::Charge, "charge", Paid),
    (Step::Cancel, "cancel", Cancelled),
    (Step::Expire, "expire", Expired),
    (Step::Refund, "refund", Refunded),
    (Step::Retreat, "retreat", Placed),
];

impl Step {
    /// Its name, as it is stored.
    pub(super) fn name(self) -> &'static str {
        self.row().1
    }

    /// The state that it leads to.
    pub(super) fn target(self) -> OrderStatus {
        self.row().2
    }

    /// The states that it may begin in.
    pub(super) fn from(self) -> impl Iterator<Item = OrderStatus> {
        let target = self.target();
        MOVES.iter().filter(move |(_, to)| *to == target).map(|(from, _)| *from)
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        STEPS.iter().find(|(_, known, _)| *known == name).map(|(step, ..)| *step)
    }

    fn row(self) -> &'static (Step, &'static str, OrderStatus) {
        // The table lists the variants in order; a test checks that.
        &STEPS[self as usize]
    }
}

/// Whether an order that is `from` can become `to`.
pub(super) fn may_move(from: OrderStatus, to: OrderStatus) -> bool {
    MOVES.contains(&(from, to))
}

/// 409 for an order that is `from` and cannot become `to`.
pub(super) fn illegal(from: OrderStatus, to: OrderStatus) -> Error {
    Error::new(Kind::Conflict, format!("an order that is {from} cannot become {to}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_is_in_its_row_and_begins_somewhere() {
        for (n, (step, name, target)) in STEPS.into_iter().enumerate() {
            assert_eq!((step as usize, step.name(), step.target()), (n, name, target));
            assert_eq!(Step::from_name(name), Some(step));
            // A retreat follows an attempt to pay alone.
            assert_eq!(step.from().count() == 0, step == Step::Retreat);
            assert!(step.from().all(|from| may_move(from, target)));
        }
    }

    #[test]
    fn what_is_over_stays_as_it_is() {
        for over in [Cancelled, Expired, Refunded] {
            assert!(MOVES.iter().all(|(from, _)| *from != over), "{over}");
        }
    }
}
