//! Histories that are right, and others that are wrong.

use std::collections::BTreeMap;

use super::*;

/// The orders on a dashboard.
type Shown = Vec<(String, String)>;

const ALICE: &str = "alice";

fn items(pieces: i64) -> Items {
    Items::from([("lamp".to_owned(), pieces)])
}

fn operation((start, end): (u64, u64), action: Action, answer: Answer) -> Operation {
    Operation { start, end, action, answer }
}

fn order(id: &str, status: &str) -> Answer {
    Answer::Order { id: id.to_owned(), status: status.to_owned() }
}

fn conflict() -> Answer {
    Answer::Refused(409, "/problems/conflict".to_owned())
}

/// Alice places an order of so many lamps.
fn place(time: (u64, u64), key: &str, pieces: i64, answer: Answer) -> Operation {
    let (user, key) = (ALICE.to_owned(), key.to_owned());
    operation(time, Action::Place { user, key, items: items(pieces) }, answer)
}

fn pay(time: (u64, u64), id: &str, answer: Answer) -> Operation {
    operation(time, Action::Pay { order: id.to_owned(), method: "ok" }, answer)
}

fn cancel(time: (u64, u64), id: &str, answer: Answer) -> Operation {
    operation(time, Action::Cancel { order: id.to_owned() }, answer)
}

fn read(time: (u64, u64), id: &str, status: &str) -> Operation {
    operation(time, Action::Read { order: id.to_owned() }, order(id, status))
}

fn told(id: &str, status: &str, sequence: i64) -> Told {
    let name = format!("{id}-{sequence}");
    Told { id: name, order: id.to_owned(), status: status.to_owned(), sequence }
}

fn payment(id: &str, pieces: i64, [charges, refunds]: [i64; 2]) -> Payment {
    Payment { order: id.to_owned(), amount: 100 * pieces, charges, refunds, is_open: false }
}

/// Of ten lamps Alice has bought two, three were cancelled, one expired, and four were refunded. Some answers were lost.
fn right() -> (Vec<Operation>, End) {
    let operations = vec![
        place((0, 9), "one", 2, Answer::Unknown),
        place((10, 20), "one", 2, conflict()),
        place((21, 30), "one", 2, order("1", "placed")),
        read((31, 32), "1", "placed"),
        pay((33, 50), "1", Answer::Unknown),
        read((34, 52), "1", "paid"),
        read((35, 53), "1", "placed"),
        pay((54, 60), "1", order("1", "paid")),
        cancel((61, 62), "1", conflict()),
        place((63, 64), "one", 2, order("1", "placed")),
        place((70, 80), "two", 3, order("2", "placed")),
        pay((81, 82), "2", Answer::Refused(402, "/problems/payment-declined".to_owned())),
        cancel((83, 84), "2", order("2", "cancelled")),
        // Nobody knows of it but the shop.
        place((90, u64::MAX), "three", 1, Answer::Unknown),
        place((95, 99), "four", 4, order("4", "placed")),
        pay((100, 110), "4", order("4", "paid")),
        operation((111, 120), Action::Refund { order: "4".to_owned() }, order("4", "refunded")),
        place((130, 140), "five", 9, Answer::Refused(409, "/problems/out-of-stock".to_owned())),
    ];
    let placed = |id: &str, key: &str, pieces: i64, status: &str| FinalOrder {
        id: id.to_owned(),
        user: ALICE.to_owned(),
        key: key.to_owned(),
        status: status.to_owned(),
        items: items(pieces),
        total: 100 * pieces,
    };
    let log = vec![
        told("1", "placed", 1),
        told("2", "placed", 1),
        told("1", "paid", 2),
        told("2", "cancelled", 2),
        told("3", "placed", 1),
        told("4", "placed", 1),
        told("4", "paid", 2),
        told("3", "expired", 2),
        told("4", "refunded", 3),
    ];
    let shown = [("4", "refunded"), ("3", "expired"), ("2", "cancelled"), ("1", "paid")];
    let shown = shown.map(|(id, status)| (id.to_owned(), status.to_owned()));
    // One arrives again, late.
    let deliveries = [&log[..], &log[2..3]].concat();
    let end = End {
        orders: vec![
            placed("1", "one", 2, "paid"),
            placed("2", "two", 3, "cancelled"),
            placed("3", "three", 1, "expired"),
            placed("4", "four", 4, "refunded"),
        ],
        stocks: BTreeMap::from([(
            "lamp".to_owned(),
            Stock { initial: 10, on_hand: 8, reserved: 0 },
        )]),
        payments: vec![payment("1", 2, [1, 0]), payment("2", 3, [0, 0]), payment("4", 4, [1, 1])],
        heard: log.clone(),
        log,
        popularity: items(6),
        dashboards: BTreeMap::from([(ALICE.to_owned(), shown.to_vec())]),
        deliveries: Some(deliveries),
    };
    (operations, end)
}

/// The rules that do not hold.
fn broken((operations, end): &(Vec<Operation>, End)) -> Vec<Rule> {
    let wrong = check_answers(operations).into_iter().chain(check_end(operations, end));
    let mut rules = wrong.map(|wrong| wrong.rule).collect::<Vec<_>>();
    rules.sort();
    rules.dedup();
    rules
}

/// What is broken when these change a right history.
fn broken_by(change: impl FnOnce(&mut Vec<Operation>, &mut End)) -> Vec<Rule> {
    let mut history = right();
    change(&mut history.0, &mut history.1);
    broken(&history)
}

#[test]
fn what_is_right_is_right() {
    assert_eq!(broken(&right()), []);
    assert_eq!(broken(&Default::default()), []);
    assert_eq!(broken_by(|_, end| end.deliveries = None), []);
    // What was charged for pieces that were gone was given back.
    assert_eq!(broken_by(|_, end| end.payments.push(payment("3", 1, [1, 1]))), []);
}

#[test]
fn an_order_goes_on_and_never_back() {
    for (before, after, expected) in [
        ("placed", "refunded", true),
        ("paid", "fulfilled", true),
        ("paid", "paid", true),
        ("paid", "placed", false),
        ("paid", "cancelled", false),
        ("cancelled", "expired", false),
        ("refunded", "fulfilled", false),
    ] {
        assert_eq!(may_become(before, after), expected, "{before} {after}");
    }
}

#[test]
fn two_orders_for_a_key_are_seen_in_answers() {
    let second = |operations: &mut Vec<Operation>| {
        operations.push(place((200, 201), "one", 2, order("2", "placed")));
    };
    assert!(broken_by(|operations, _| second(operations)).contains(&Rule::OneOrderPerKey));
}

#[test]
fn two_orders_for_a_key_are_seen_in_the_end() {
    // Nobody was told of the second.
    let broken = broken_by(|_, end| end.orders[2].key = "two".to_owned());
    assert_eq!(broken, [Rule::OneOrderPerKey, Rule::Asked]);
}

#[test]
fn an_acknowledged_order_that_is_gone_is_lost() {
    let broken = broken_by(|_, end| {
        end.orders.remove(1);
        end.payments.remove(1);
        for list in [&mut end.log, &mut end.heard] {
            list.retain(|told| told.order != "2");
        }
        end.deliveries = None;
        end.dashboards.values_mut().for_each(|shown| shown.retain(|(id, _)| id != "2"));
    });
    assert_eq!(broken, [Rule::NothingLost]);
}

#[test]
fn an_order_of_other_pieces_than_were_ordered_is_wrong() {
    let broken = broken_by(|_, end| end.orders[1].items = items(4));
    assert_eq!(broken, [Rule::NothingLost, Rule::Asked]);
}

#[test]
fn a_state_that_is_seen_again_after_a_later_one_is_resurrected() {
    let read = |start| {
        move |all: &mut Vec<Operation>, _: &mut End| all.push(read((start, 300), "1", "placed"))
    };
    assert_eq!(broken_by(read(61)), [Rule::NoWayBack]);
    // Asked before the answer that says it is paid was there.
    assert_eq!(broken_by(read(52)), []);
}

#[test]
fn a_paid_order_that_is_cancelled_in_the_end_is_wrong() {
    let broken = broken_by(|_, end| {
        end.orders[0].status = "cancelled".to_owned();
        end.payments.remove(0);
        end.stocks.values_mut().for_each(|stock| stock.on_hand = 10);
        for list in [&mut end.log, &mut end.heard] {
            list[2].status = "cancelled".to_owned();
        }
        end.deliveries = None;
        end.popularity = items(4);
        end.dashboards.values_mut().for_each(|shown| shown[3].1 = "cancelled".to_owned());
    });
    assert_eq!(broken, [Rule::NoWayBack]);
}

#[test]
fn an_answer_that_cannot_be_is_wrong() {
    for wrong in [
        pay((200, 201), "1", order("1", "cancelled")),
        pay((200, 201), "1", order("2", "cancelled")),
        pay((200, 201), "1", Answer::Refused(500, "/problems/internal".to_owned())),
        pay((200, 201), "1", Answer::Refused(404, "/problems/not-found".to_owned())),
        place((200, 201), "one", 2, order("1", "paid")),
        place((200, 201), "nine", 2, Answer::Refused(422, "/problems/invalid".to_owned())),
    ] {
        let broken = broken_by(|operations, _| operations.push(wrong.clone()));
        assert!(broken.contains(&Rule::PossibleAnswer), "{wrong:?}: {broken:?}");
    }
}

#[test]
fn what_nobody_asked_for_is_wrong() {
    assert_eq!(
        broken_by(|operations, _| operations.retain(|operation| operation.start != 90)),
        [Rule::Asked]
    );
    let broken = broken_by(|operations, _| {
        operations.retain(|operation| !matches!(operation.action, Action::Cancel { .. }));
    });
    assert_eq!(broken, [Rule::Asked], "cancelled");
    let broken = broken_by(|operations, _| {
        operations.retain(|operation| !matches!(operation.action, Action::Pay { .. }));
    });
    assert_eq!(broken, [Rule::Asked], "paid");
}

#[test]
fn an_order_that_still_waits_is_wrong() {
    let broken = broken_by(|_, end| {
        end.orders[2].status = "placed".to_owned();
        for list in [&mut end.log, &mut end.heard] {
            list.remove(7);
        }
        end.dashboards.values_mut().for_each(|shown| shown[1].1 = "placed".to_owned());
    });
    assert_eq!(broken, [Rule::Finished]);
}

#[test]
fn pieces_that_are_sold_twice_lost_or_kept_are_wrong() {
    for (on_hand, reserved) in [(9, 0), (7, 0), (10, 0), (8, 1)] {
        let stock = Stock { initial: 10, on_hand, reserved };
        let broken = broken_by(|_, end| end.stocks.values_mut().for_each(|old| *old = stock));
        assert_eq!(broken, [Rule::Conservation], "{stock:?}");
    }
    // More than there were.
    let broken = broken_by(|_, end| {
        end.stocks.values_mut().for_each(|stock| (stock.initial, stock.on_hand) = (1, -1));
    });
    assert_eq!(broken, [Rule::Conservation]);
}

#[test]
fn money_that_is_taken_twice_or_for_nothing_or_not_at_all_is_wrong() {
    for (n, counts) in
        [(0, [2, 0]), (0, [0, 0]), (0, [1, 1]), (1, [1, 0]), (2, [1, 0]), (2, [1, 2])]
    {
        let broken = broken_by(|_, end| {
            (end.payments[n].charges, end.payments[n].refunds) = (counts[0], counts[1]);
        });
        assert_eq!(broken, [Rule::ChargedOnce], "{n} {counts:?}");
    }
    let changes: [fn(&mut Vec<Payment>); 5] = [
        |payments| payments.push(payment("1", 2, [1, 0])),
        |payments| payments.push(payment("9", 2, [1, 0])),
        |payments| drop(payments.remove(0)),
        |payments| payments[0].amount = 1,
        |payments| payments[1].is_open = true,
    ];
    for (n, change) in changes.into_iter().enumerate() {
        let broken = broken_by(|_, end| change(&mut end.payments));
        assert_eq!(broken, [Rule::ChargedOnce], "{n}");
    }
}

#[test]
fn events_that_are_missing_doubled_or_out_of_order_are_wrong() {
    let changes: [fn(&mut Vec<Told>); 6] = [
        |log| drop(log.remove(3)),
        |log| drop(log.remove(0)),
        |log| log.push(log[3].clone()),
        |log| log.swap(0, 2),
        |log| log[3].sequence = 3,
        |log| log.push(told("9", "placed", 1)),
    ];
    for (n, change) in changes.into_iter().enumerate() {
        let broken = broken_by(|_, end| {
            change(&mut end.log);
            end.heard = end.log.clone();
            end.deliveries = None;
        });
        assert_eq!(broken, [Rule::Events], "{n}");
    }
}

#[test]
fn a_stream_that_leaves_out_repeats_or_reorders_is_wrong() {
    let changes: [fn(&mut Vec<Told>); 4] = [
        |heard| drop(heard.remove(3)),
        |heard| drop(heard.pop()),
        |heard| heard.push(heard[8].clone()),
        |heard| heard.swap(0, 1),
    ];
    for (n, change) in changes.into_iter().enumerate() {
        assert_eq!(broken_by(|_, end| change(&mut end.heard)), [Rule::Stream], "{n}");
    }
}

#[test]
fn an_effect_twice_or_never_is_wrong() {
    for counted in [items(8), items(4), Items::new()] {
        let broken = broken_by(|_, end| end.popularity = counted.clone());
        assert_eq!(broken, [Rule::Popularity], "{counted:?}");
    }
}

#[test]
fn a_dashboard_that_shows_too_few_too_many_or_an_old_state_is_wrong() {
    let changes: [fn(&mut Shown); 4] = [
        |shown| drop(shown.remove(0)),
        |shown| shown.insert(0, shown[0].clone()),
        |shown| shown[3].1 = "placed".to_owned(),
        |shown| shown.swap(0, 1),
    ];
    for (n, change) in changes.into_iter().enumerate() {
        let broken = broken_by(|_, end| end.dashboards.values_mut().for_each(change));
        assert_eq!(broken, [Rule::Dashboards], "{n}");
    }
}

#[test]
fn a_delivery_that_is_missing_or_comes_before_another_is_wrong() {
    let changes: [fn(&mut Vec<Told>); 3] = [
        |deliveries| deliveries.retain(|told| told.id != "1-2"),
        |deliveries| deliveries.swap(0, 2),
        |deliveries| deliveries.retain(|told| told.id != "4-2"),
    ];
    for (n, change) in changes.into_iter().enumerate() {
        let broken = broken_by(|_, end| end.deliveries.as_mut().into_iter().for_each(change));
        assert_eq!(broken, [Rule::Deliveries], "{n}");
    }
}
