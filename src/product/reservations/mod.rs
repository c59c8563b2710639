//! Reservations: pieces of products that are kept for an order, until they are sold or given back.
//!
//! A reservation is held until it expires. Then it lapses, unless it was committed, which sells its pieces. Releasing it
//! gives back what it has, held or sold, and is final, as is a lapse.

mod handlers;
mod sweep;

use std::collections::HashSet;
use std::fmt;

use bson::oid::ObjectId;
use serde::Deserialize;
use uuid::Uuid;

use crate::contract::{Money, Reservation, ReservedLine, Timestamp};
use crate::error::{Error, FieldError, Kind, Shortage};
use crate::middleware::Fields;

pub(super) use handlers::{commit, put, release};
pub(super) use sweep::sweep;

/// The most lines of a reservation, and the most pieces of a line.
const LINES: usize = 200;
const PIECES: i64 = 1_000_000;
/// The longest time that a reservation is held, in seconds.
const SECONDS: i64 = 86_400;

/// What becomes of the pieces of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// They are kept, until the reservation expires.
    Held,
    /// They are sold.
    Committed,
    /// They were given back, because somebody asked for it.
    Released,
    /// They were given back, because the reservation expired.
    Lapsed,
    /// Another reservation has them.
    Moved,
}

/// The states and their names, as they are stored.
const STATES: [(State, &str); 5] = [
    (State::Held, "held"),
    (State::Committed, "committed"),
    (State::Released, "released"),
    (State::Lapsed, "lapsed"),
    (State::Moved, "moved"),
];

impl State {
    pub(super) fn name(self) -> &'static str {
        STATES.iter().find(|(state, _)| *state == self).map_or("", |(_, name)| name)
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        STATES.iter().find(|(_, known)| *known == name).map(|(state, _)| *state)
    }
}

/// A reservation as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Hold {
    pub(super) id: Uuid,
    pub(super) state: State,
    pub(super) expires_at: Timestamp,
    /// The reservation whose pieces it has taken over.
    pub(super) source: Option<Uuid>,
    pub(super) lines: Vec<HeldLine>,
    /// When its state changed last.
    pub(super) changed_at: Timestamp,
}

/// The pieces of one product, and its name and price when they were reserved.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct HeldLine {
    pub(super) product: ObjectId,
    pub(super) quantity: i64,
    pub(super) name: String,
    pub(super) price: Money,
    /// Whether the pieces on hand became fewer when these were sold.
    pub(super) counted: bool,
}

/// The pieces that a reservation is to have.
#[derive(Clone, Debug)]
pub(super) enum Wanted {
    /// These.
    Lines(Vec<WantedLine>),
    /// All of another reservation.
    From(Uuid),
}

/// So many pieces of one product.
#[derive(Clone, Copy, Debug)]
pub(super) struct WantedLine {
    pub(super) product: ObjectId,
    pub(super) quantity: i64,
}

/// Why a reservation is refused.
#[derive(Clone, Debug)]
pub(super) enum Refusal {
    /// There is no such reservation.
    Missing,
    /// There are no such products.
    Unknown(Vec<ObjectId>),
    /// There are too few pieces.
    Short(Vec<Shortage>),
    /// It is over; its id is used up.
    Ended(State),
    /// It has other lines than those that are asked for.
    Different,
    /// The reservation whose pieces it is to take over has none; `None` if there is no such reservation.
    Source(Option<State>),
}

/// The outcome of a step, and whether a product came into stock or went out of it.
#[derive(Clone, Debug)]
pub(super) struct Step<T> {
    pub(super) outcome: T,
    pub(super) shows: bool,
}

impl Hold {
    /// Its state at `now`: what has expired is over, whether its pieces were given back yet or not.
    pub(super) fn state_at(&self, now: Timestamp) -> State {
        match self.state {
            State::Held if self.expires_at <= now => State::Lapsed,
            state => state,
        }
    }

    /// This reservation as the answer to a request for `wanted` at `now`.
    ///
    /// # Errors
    /// Why it is none.
    pub(super) fn repeat(self, wanted: &Wanted, now: Timestamp) -> Result<Self, Refusal> {
        match self.state_at(now) {
            State::Held | State::Committed if self.is_for(wanted) => Ok(self),
            State::Held | State::Committed => Err(Refusal::Different),
            ended => Err(Refusal::Ended(ended)),
        }
    }

    fn is_for(&self, wanted: &Wanted) -> bool {
        match wanted {
            Wanted::From(source) => self.source == Some(*source),
            Wanted::Lines(lines) => {
                let own = self.lines.iter().map(|line| (line.product, line.quantity));
                self.source.is_none()
                    && own.eq(lines.iter().map(|line| (line.product, line.quantity)))
            }
        }
    }
}

impl From<Hold> for Reservation {
    fn from(hold: Hold) -> Self {
        let lines = hold.lines.into_iter().map(|line| ReservedLine {
            product_id: line.product.to_hex(),
            quantity: line.quantity,
            name: line.name,
            price: line.price,
        });
        Self {
            id: hold.id,
            state: hold.state.name().into(),
            expires_at: hold.expires_at,
            lines: lines.collect(),
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let conflict = |detail: String| Self::new(Kind::Conflict, detail);
        match refusal {
            Refusal::Missing => Self::not_found("reservation"),
            Refusal::Unknown(products) => {
                let named =
                    |id: ObjectId| FieldError::new("lines", format!("there is no product {id}"));
                Self::invalid(products.into_iter().map(named).collect())
            }
            Refusal::Short(lines) => Self::out_of_stock(lines),
            Refusal::Ended(state) => conflict(format!("the reservation was {state}")),
            Refusal::Different => conflict("the reservation has other lines".into()),
            Refusal::Source(None) => conflict("there is no reservation to take over".into()),
            Refusal::Source(Some(state)) => {
                conflict(format!("the reservation to take over was {state}"))
            }
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A request for a reservation: its pieces, and for how many seconds they are held.
#[derive(Debug)]
struct NewReservation {
    wanted: Wanted,
    seconds: i64,
}

impl NewReservation {
    /// Reads the request for the reservation `id`.
    ///
    /// # Errors
    /// 422 with one entry per field that is missing or invalid.
    fn read(id: Uuid, mut fields: Fields) -> Result<Self, Error> {
        let lines = fields.optional::<Lines>("lines").map(|lines| Wanted::Lines(lines.0));
        let from = fields.optional::<Uuid>("from").map(Wanted::From);
        let seconds = fields.required::<Number<SECONDS>>("seconds");
        let (given, seconds) = fields.finish(seconds.map(|seconds| ((lines, from), seconds.0)))?;
        let refuse = |field, detail| Err(Error::invalid(vec![FieldError::new(field, detail)]));
        match given {
            (_, Some(Wanted::From(from))) if from == id => {
                refuse("from", "must be another reservation")
            }
            (Some(wanted), None) | (None, Some(wanted)) => Ok(Self { wanted, seconds }),
            _ => refuse("lines", "give either lines or from"),
        }
    }
}

/// A whole number from 1 to `MOST`.
#[derive(Debug, Deserialize)]
#[serde(try_from = "i64")]
struct Number<const MOST: i64>(i64);

impl<const MOST: i64> TryFrom<i64> for Number<MOST> {
    type Error = RangeError;

    fn try_from(number: i64) -> Result<Self, RangeError> {
        (1..=MOST).contains(&number).then_some(Self(number)).ok_or(RangeError(MOST))
    }
}

/// A number that is out of its range, which ends here.
#[derive(Debug, thiserror::Error)]
#[error("must be a whole number from 1 to {0}")]
struct RangeError(i64);

/// Lines of different products: 1 to 200.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Vec<LineFields>")]
struct Lines(Vec<WantedLine>);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LineFields {
    product_id: String,
    quantity: Number<PIECES>,
}

/// Why lines are refused.
#[derive(Debug, thiserror::Error)]
enum LinesError {
    #[error("must have 1 to {LINES} entries")]
    Count,
    #[error("entry {0} names no product: an id has 24 hexadecimal digits")]
    Id(usize),
    #[error("entry {0} names the product of another one")]
    Twice(usize),
}

impl TryFrom<Vec<LineFields>> for Lines {
    type Error = LinesError;

    fn try_from(fields: Vec<LineFields>) -> Result<Self, LinesError> {
        if !(1..=LINES).contains(&fields.len()) {
            return Err(LinesError::Count);
        }
        let mut known = HashSet::new();
        let line = |(n, line): (usize, LineFields)| {
            let product =
                ObjectId::parse_str(&line.product_id).map_err(|_| LinesError::Id(n + 1))?;
            match known.insert(product) {
                true => Ok(WantedLine { product, quantity: line.quantity.0 }),
                false => Err(LinesError::Twice(n + 1)),
            }
        };
        fields.into_iter().enumerate().map(line).collect::<Result<_, _>>().map(Self)
    }
}
