//! Histories that are right, and others that are wrong.

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
        for (on_hand, reserved) in [(10, 0), (10, 2), (8, 0), (8, 2), (12, 0), (10, 1), (9, 0)] {
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
