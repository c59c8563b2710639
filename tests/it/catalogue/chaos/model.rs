//! What the stock of a product may be, by what is known of everything that was asked for.

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

#[cfg(test)]
mod tests {
    use super::Place::{Free, Held, Sold};
    use super::*;

    const NEVER: DateTime<Utc> = DateTime::<Utc>::MAX_UTC;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn window(start: i64, end: i64) -> Window {
        Window { start: at(start), end: at(end) }
    }

    /// A shop with ten pieces of one product, and purchases of two of them: each is known to be in some places from some time on.
    fn model(purchases: &[&[(i64, &[Place])]]) -> Model {
        let mut model = Model::new(1, 10);
        for facts in purchases {
            let mut purchase = Purchase::new(vec![(0, 2)]);
            for (since, places) in *facts {
                purchase.learn_at(at(*since), places, NEVER);
            }
            model.purchases.push(purchase);
        }
        model
    }

    fn changed(model: &mut Model, change: Change, window: Window, outcome: Outcome) {
        model.changes.push(Changed { product: 0, change, window, outcome });
    }

    /// Whether `on_hand` pieces, of which some are `reserved`, are right within a window.
    fn is_right(model: &Model, window: Window, on_hand: i64, reserved: i64) -> bool {
        model.check(0, window, [on_hand, reserved, on_hand - reserved]).is_ok()
    }

    #[test]
    fn what_is_known_is_exact() {
        let model = model(&[&[(1, &[Held]), (5, &[Sold]), (9, &[Free])]]);
        for (time, right) in [(0, (10, 0)), (3, (10, 2)), (7, (8, 0)), (11, (10, 0))] {
            for (on_hand, reserved) in [(10, 0), (10, 2), (8, 0), (8, 2), (12, 0), (10, 1), (9, 0)]
            {
                let is_right = is_right(&model, window(time, time), on_hand, reserved);
                assert_eq!(is_right, (on_hand, reserved) == right, "{time}: {on_hand} {reserved}");
            }
        }
    }

    #[test]
    fn more_than_there_is_is_never_right() {
        let held: &[(i64, &[Place])] = &[(1, &[Held])];
        assert!(!is_right(&model(&[held; 6]), window(2, 2), 10, 12));
        let sold: &[(i64, &[Place])] = &[(1, &[Sold])];
        assert!(!is_right(&model(&[sold; 6]), window(2, 2), -2, 0));
        assert!(model(&[]).check(0, window(2, 2), [10, 2, 10]).is_err());
        assert!(model(&[]).check(0, window(2, 2), [10, -1, 11]).is_err());
    }

    #[test]
    fn what_is_under_way_is_done_or_not_but_not_half() {
        let model = model(&[&[(1, &[Free, Held])], &[(1, &[Held, Sold])]]);
        for (on_hand, reserved) in [(10, 2), (10, 4), (8, 0), (8, 2)] {
            assert!(is_right(&model, window(2, 3), on_hand, reserved));
        }
        // One and a half; both sold; pieces of the second given back; sold and still held.
        for (on_hand, reserved) in [(10, 3), (6, 0), (10, 0), (8, 4), (9, 1)] {
            assert!(!is_right(&model, window(2, 3), on_hand, reserved), "{on_hand} {reserved}");
        }
    }

    #[test]
    fn what_begins_or_ends_during_a_read_may_be_seen() {
        let model = model(&[&[(5, &[Held])]]);
        assert!(is_right(&model, window(3, 4), 10, 0) && !is_right(&model, window(3, 4), 10, 2));
        assert!(is_right(&model, window(4, 6), 10, 0) && is_right(&model, window(4, 6), 10, 2));
        assert!(!is_right(&model, window(6, 7), 10, 0) && is_right(&model, window(6, 7), 10, 2));
    }

    #[test]
    fn what_is_held_is_free_when_it_has_expired_and_not_before() {
        let mut model = model(&[]);
        let mut purchase = Purchase::new(vec![(0, 2)]);
        purchase.learn_at(at(1), &[Held], at(5));
        model.purchases.push(purchase);
        assert!(!is_right(&model, window(2, 4), 10, 0));
        assert!(is_right(&model, window(4, 6), 10, 0) && is_right(&model, window(4, 6), 10, 2));
    }

    #[test]
    fn a_change_counts_once_when_it_is_done_and_never_when_it_is_refused() {
        let by = |outcome, end| {
            let mut model = model(&[]);
            changed(&mut model, Change::By(3), window(2, end), outcome);
            move |start, end, on_hand| is_right(&model, window(start, end), on_hand, 0)
        };
        let done = by(Outcome::Done, 4);
        assert!(done(0, 1, 10) && !done(0, 1, 13));
        assert!(done(3, 3, 10) && done(3, 3, 13) && !done(3, 3, 12));
        assert!(done(5, 6, 13) && !done(5, 6, 10) && !done(5, 6, 16));
        let refused = by(Outcome::Refused, 4);
        assert!(refused(5, 6, 10) && !refused(5, 6, 13));
        let unknown = by(Outcome::Unknown, 4);
        assert!(unknown(5, 6, 10) && unknown(5, 6, 13) && !unknown(5, 6, 16));
    }

    #[test]
    fn what_was_sold_before_a_count_is_not_missing_from_it() {
        let mut model = model(&[&[(1, &[Sold])], &[(7, &[Sold])]]);
        changed(&mut model, Change::By(1), window(2, 2), Outcome::Done);
        changed(&mut model, Change::Set(6), window(3, 4), Outcome::Done);
        changed(&mut model, Change::By(5), window(5, 5), Outcome::Done);
        assert!(is_right(&model, window(2, 2), 8, 0) && is_right(&model, window(2, 2), 9, 0));
        assert!(is_right(&model, window(6, 6), 11, 0) && !is_right(&model, window(6, 6), 9, 0));
        assert!(is_right(&model, window(8, 8), 9, 0) && !is_right(&model, window(8, 8), 7, 0));
    }

    #[test]
    fn what_was_sold_during_a_count_may_be_missing_from_it() {
        let mut model = model(&[&[(3, &[Held, Sold]), (4, &[Sold])]]);
        changed(&mut model, Change::Set(6), window(2, 5), Outcome::Done);
        for (on_hand, expected) in [(6, true), (4, true), (5, false), (8, false)] {
            assert_eq!(is_right(&model, window(6, 6), on_hand, 0), expected, "{on_hand}");
        }
    }

    #[test]
    fn a_product_is_there_until_it_is_removed() {
        let mut model = model(&[]);
        let is_right = |model: &Model, start, end, is_there| {
            model.check_presence(0, window(start, end), is_there).is_ok()
        };
        assert!(is_right(&model, 1, 1, true) && !is_right(&model, 1, 1, false));
        model.removals[0] = Some(window(2, 4));
        assert!(is_right(&model, 1, 1, true) && !is_right(&model, 1, 1, false));
        assert!(is_right(&model, 3, 3, true) && is_right(&model, 3, 3, false));
        assert!(!is_right(&model, 5, 5, true) && is_right(&model, 5, 5, false));
    }
}
