//! What the stock of a product may be, by what is known of everything that was asked for.

mod tests;

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

/// From before a request was sent until its answer was there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) start: DateTime<Utc>,
    pub(super) end: DateTime<Utc>,
}

/// Where the pieces of a purchase are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In the shop, for anybody.
    Free,
    Held,
    Sold,
}

/// From when on the pieces are in one of some places.
#[derive(Debug)]
struct Fact {
    since: DateTime<Utc>,
    places: Vec<Place>,
    /// When those that are held become free.
    expires_at: DateTime<Utc>,
}

/// Pieces of some products, by their numbers, on their way through one reservation after another.
#[derive(Debug)]
pub(super) struct Purchase {
    lines: Vec<(usize, i64)>,
    facts: Vec<Fact>,
}

/// A change of what is on hand of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Set(i64),
    By(i64),
}

/// What came of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    Refused,
    /// There is no answer, or none yet.
    Unknown,
}

#[derive(Debug)]
struct Changed {
    product: usize,
    change: Change,
    window: Window,
    outcome: Outcome,
}

/// All that happened to some products.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) purchases: Vec<Purchase>,
    changes: Vec<Changed>,
    /// When each was removed.
    removals: Vec<Option<Window>>,
}

impl Window {
    /// Begins now; its end is not known.
    pub(super) fn open() -> Self {
        Self { start: Utc::now(), end: DateTime::<Utc>::MAX_UTC }
    }

    pub(super) fn close(self) -> Self {
        Self { end: Utc::now(), ..self }
    }

    fn is_before(self, other: Self) -> bool {
        self.end < other.start
    }
}

impl Purchase {
    pub(super) fn new(lines: Vec<(usize, i64)>) -> Self {
        Self { lines, facts: Vec::new() }
    }

    /// Its products and how many pieces of each.
    pub(super) fn lines(&self) -> &[(usize, i64)] {
        &self.lines
    }

    /// From now on its pieces are in one of `places`; those that are held are free at `expires_at`.
    pub(super) fn learn(&mut self, places: &[Place], expires_at: DateTime<Utc>) {
        self.learn_at(Utc::now(), places, expires_at);
    }

    fn learn_at(&mut self, since: DateTime<Utc>, places: &[Place], expires_at: DateTime<Utc>) {
        self.facts.push(Fact { since, places: places.to_vec(), expires_at });
    }

    /// Where its pieces may be within `window`; some are there more than once.
    pub(super) fn places(&self, window: Window) -> Vec<Place> {
        let known = self.facts.partition_point(|fact| fact.since <= window.start);
        let mut places = if known == 0 { vec![Place::Free] } else { Vec::new() };
        let facts = self.facts[known.saturating_sub(1)..].iter();
        for fact in facts.take_while(|fact| fact.since <= window.end) {
            places.extend(&fact.places);
            if fact.places.contains(&Place::Held) && fact.expires_at <= window.end {
                places.push(Place::Free);
            }
        }
        places
    }
}

impl Model {
    /// That of `products` with so many `pieces` each.
    pub(super) fn new(products: usize, pieces: i64) -> Self {
        let always = DateTime::<Utc>::MIN_UTC;
        let first = |product| Changed {
            product,
            change: Change::Set(pieces),
            window: Window { start: always, end: always },
            outcome: Outcome::Done,
        };
        Self {
            purchases: Vec::new(),
            changes: (0..products).map(first).collect(),
            removals: vec![None; products],
        }
    }

    /// Notes a change of `product` that begins; returns its number.
    pub(super) fn begin(&mut self, product: usize, change: Change) -> usize {
        let (window, outcome) = (Window::open(), Outcome::Unknown);
        self.changes.push(Changed { product, change, window, outcome });
        self.changes.len() - 1
    }

    /// Notes what came of change `number`; returns when it happened.
    pub(super) fn end(&mut self, number: usize, outcome: Outcome) -> Window {
        let changed = &mut self.changes[number];
        (changed.window, changed.outcome) = (changed.window.close(), outcome);
        changed.window
    }

    pub(super) fn begin_removal(&mut self, product: usize) {
        self.removals[product] = Some(Window::open());
    }

    pub(super) fn end_removal(&mut self, product: usize) {
        self.removals[product] = self.removals[product].map(Window::close);
    }

    pub(super) fn is_removed(&self, product: usize) -> bool {
        self.removals[product].is_some()
    }

    /// Checks that an answer within `window` may say whether `product` is there.
    pub(super) fn check_presence(
        &self,
        product: usize,
        window: Window,
        is_there: bool,
    ) -> Result<(), String> {
        let removal = self.removals[product];
        let may_be = match is_there {
            true => !removal.is_some_and(|removal| removal.is_before(window)),
            false => removal.is_some_and(|removal| removal.start <= window.end),
        };
        if may_be { Ok(()) } else { Err(format!("there: {is_there}, though {removal:?}")) }
    }

    /// Checks that `product` may have had these numbers of pieces within `window`.
    pub(super) fn check(
        &self,
        product: usize,
        window: Window,
        [on_hand, reserved, available]: [i64; 3],
    ) -> Result<(), String> {
        if reserved < 0 || available < 0 || on_hand - reserved != available {
            return Err(format!("{on_hand} - {reserved} = {available}"));
        }
        let held = self.lots(product).map(|(purchase, quantity)| {
            terms(&purchase.places(window), |place| quantity * i64::from(place == Place::Held))
        });
        let expected = [
            ("on hand", on_hand, self.left(product, window, |place| place == Place::Sold)),
            ("reserved", reserved, sums(0, held)),
            ("available", available, self.left(product, window, |place| place != Place::Free)),
        ];
        for (name, number, expected) in expected {
            if !expected.contains(&number) {
                return Err(format!("{number} {name}, expected one of {expected:?}"));
            }
        }
        Ok(())
    }

    /// The purchases of `product`, and how many pieces of it.
    fn lots(&self, product: usize) -> impl Iterator<Item = (&Purchase, i64)> {
        let lot = move |purchase: &'_ Purchase| {
            purchase.lines.iter().find(|line| line.0 == product).map(|line| line.1)
        };
        self.purchases.iter().filter_map(move |purchase| Some((purchase, lot(purchase)?)))
    }

    /// How many pieces of `product` there may be within `window` without those whose place `counts` as away.
    fn left(&self, product: usize, window: Window, counts: fn(Place) -> bool) -> BTreeSet<i64> {
        let changes = || self.changes.iter().filter(|changed| changed.product == product);
        let mut left = BTreeSet::new();
        for changed in changes() {
            let (Change::Set(pieces), set) = (changed.change, changed.window) else { continue };
            let is_later = |other: &Changed| {
                let is_surely =
                    other.outcome == Outcome::Done && matches!(other.change, Change::Set(_));
                is_surely && set.is_before(other.window) && other.window.is_before(window)
            };
            let may_be = changed.outcome != Outcome::Refused && set.start <= window.end;
            if !may_be || changes().any(is_later) {
                continue;
            }
            // What was sold before it was set is not missing.
            let lots = self.lots(product).map(|(purchase, quantity)| {
                let sold = |place| quantity * i64::from(place == Place::Sold);
                let away = |place| -quantity * i64::from(counts(place));
                let (before, now) =
                    (terms(&purchase.places(set), sold), terms(&purchase.places(window), away));
                before.iter().flat_map(|a| now.iter().map(move |b| a + b)).collect()
            });
            let changes = changes().map(|changed| changed.terms(set, window));
            left.extend(sums(pieces, lots.chain(changes)));
        }
        left
    }
}

impl Changed {
    /// By how much it may have changed the pieces between `set` and `window`.
    fn terms(&self, set: Window, window: Window) -> BTreeSet<i64> {
        let Change::By(change) = self.change else { return BTreeSet::from([0]) };
        let is_outside = self.window.is_before(set) || self.window.start > window.end;
        if is_outside || self.outcome == Outcome::Refused {
            return BTreeSet::from([0]);
        }
        let is_inside = set.is_before(self.window) && self.window.is_before(window);
        match is_inside && self.outcome == Outcome::Done {
            true => BTreeSet::from([change]),
            false => BTreeSet::from([0, change]),
        }
    }
}

fn terms(places: &[Place], weigh: impl Fn(Place) -> i64) -> BTreeSet<i64> {
    places.iter().map(|place| weigh(*place)).collect()
}

/// All sums of `start` and one of each of `terms`.
fn sums(start: i64, terms: impl Iterator<Item = BTreeSet<i64>>) -> BTreeSet<i64> {
    terms.fold(BTreeSet::from([start]), |sums, terms| match terms.len() {
        1 if terms.contains(&0) => sums,
        _ => sums.iter().flat_map(|sum| terms.iter().map(move |term| sum + term)).collect(),
    })
}
