//! Those who are there while others buy: one who reads, and an administrator.

use std::time::Duration;

use actix_rt::time::sleep;
use awc::http::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::buyer::{Asker, Round};
use super::model::{Change, Outcome, Window};

/// The most changes of a round.
const CHANGES: usize = 20;

/// Reads stocks until `is_over`, and checks them; returns how often no piece was left.
pub(super) async fn read(mut asker: Asker, round: Round, is_over: impl Fn() -> bool) -> usize {
    let mut sold_out = 0;
    while !is_over() {
        for (n, product) in round.products.iter().enumerate() {
            let window = Window::open();
            let path = format!("/products/{product}/stock");
            let Some((answer, _)) = asker.ask(Method::GET, &path, "").await else { continue };
            let (window, model) = (window.close(), round.model.borrow());
            model.check_presence(n, window, answer.status == 200).unwrap();
            if answer.status == 200 {
                let stock = numbers(&answer.json());
                model.check(n, window, stock).unwrap_or_else(|wrong| panic!("{product}: {wrong}"));
                sold_out += usize::from(stock[2] == 0);
            }
        }
        sleep(Duration::from_millis(20)).await;
    }
    sold_out
}

/// What is on hand, what of it is reserved, and what is available.
pub(super) fn numbers(stock: &Value) -> [i64; 3] {
    ["onHand", "reserved", "available"].map(|name| stock[name].as_i64().unwrap())
}

/// Changes stocks and prices until `is_over`, and perhaps removes a product.
pub(super) async fn administer(mut asker: Asker, round: Round, is_over: impl Fn() -> bool) {
    let removed_at = asker.dice.usize(0..10);
    for n in 0..CHANGES {
        sleep(Duration::from_millis(asker.dice.u64(20..300))).await;
        if is_over() {
            return;
        }
        let product = asker.dice.usize(0..round.products.len());
        let new = match asker.dice.u8(0..6) {
            0..3 => Change::By(*asker.dice.choice(&[-3, -2, -1, 1, 2, 3]).unwrap()),
            3..5 => Change::Set(asker.dice.i64(3..=12)),
            _ => {
                let body = json!({ "price": asker.dice.u8(1..9) }).to_string();
                let path = format!("/products/{}", round.products[product]);
                if let Some((answer, _)) = asker.ask(Method::PATCH, &path, &body).await {
                    assert!(matches!(answer.status, 200 | 404 | 409), "{answer:?}");
                }
                continue;
            }
        };
        change(&mut asker, &round, product, new).await;
        if n == removed_at {
            remove(&mut asker, &round, product).await;
        }
    }
}

async fn change(asker: &mut Asker, round: &Round, product: usize, change: Change) {
    let number = round.model.borrow_mut().begin(product, change);
    let body = match change {
        Change::Set(pieces) => json!({ "onHand": pieces }),
        Change::By(pieces) => json!({ "change": pieces }),
    };
    let path = format!("/products/{}/stock", round.products[product]);
    // A second try could change it a second time.
    let Some(answer) = asker.once(Method::PATCH, &path, &body.to_string()).await else { return };
    let outcome = if answer.status == 200 { Outcome::Done } else { Outcome::Refused };
    let window = round.model.borrow_mut().end(number, outcome);
    let model = round.model.borrow();
    model.check_presence(product, window, answer.status != 404).unwrap();
    match answer.status {
        200 => {
            let stock = numbers(&answer.json());
            model
                .check(product, window, stock)
                .unwrap_or_else(|wrong| panic!("{change:?}: {wrong}"));
            if let Change::Set(pieces) = change {
                assert_eq!(stock[0], pieces);
            }
        }
        // Fewer than are reserved.
        409 => assert!(!matches!(change, Change::By(1..)), "{change:?}: {answer:?}"),
        404 => {}
        _ => panic!("{answer:?}"),
    }
}

async fn remove(asker: &mut Asker, round: &Round, product: usize) {
    round.model.borrow_mut().begin_removal(product);
    let path = format!("/products/{}", round.products[product]);
    let Some((answer, _)) = asker.ask(Method::DELETE, &path, "").await else { return };
    assert!(matches!(answer.status, 204 | 404), "{answer:?}");
    round.model.borrow_mut().end_removal(product);
    let path = format!("/internal/reservations/{}", Uuid::from_u128(asker.dice.u128(..)));
    let line = json!({ "productId": round.products[product], "quantity": 1 });
    let body = json!({ "lines": [line], "seconds": 1 }).to_string();
    if let Some((answer, _)) = asker.ask(Method::PUT, &path, &body).await {
        assert_eq!(answer.status, 422, "{answer:?}");
    }
}
