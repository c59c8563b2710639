//! Many buyers for few pieces who place, pay, call off, ask again and give up, while every process and every server of the
//! shop, and the payment provider, die and hang. What the buyers saw and what is left in the end is judged as a history.
//!
//! `make chaos` runs it long, with a new seed; CHAOS_ROUNDS and CHAOS_SEED set both.

#![expect(clippy::print_stderr, reason = "who repeats a run needs its seed")]

mod buyer;
mod listener;
mod outcome;
mod victims;

use std::rc::Rc;
use std::time::{Duration, Instant};

use actix_rt::time::sleep;
use awc::http::Method;
use futures_util::future::join_all;
use serde_json::json;

use self::buyer::{Buyer, Diary};
use self::listener::Listener;
use self::outcome::Books;
use self::victims::{Kind, Victims};
use super::history::{End, Items, check_answers, check_end};
use super::webhooks::Receiver;
use crate::support::Client;
use crate::support::chaos::{Torment, setting};

/// The buyers; the products of a round, and the pieces of each.
const BUYERS: usize = 20;
const PRODUCTS: usize = 3;
const PIECES: i64 = 20;
/// How long the shop may take until nothing happens any more: longer than a reservation outlives its order.
const SETTLED: Duration = Duration::from_secs(150);

each_case!(every_order_is_placed_once_and_paid_once:
    in_one_process(Kind::Sandbox),
    in_one_process_with_a_provider(Kind::Provider),
    on_servers(Kind::Cluster),
);
async fn every_order_is_placed_once_and_paid_once(kind: Kind) {
    let rounds = setting("CHAOS_ROUNDS").unwrap_or(1);
    let seed = setting("CHAOS_SEED").unwrap_or(18);
    eprintln!("CHAOS_SEED={seed} CHAOS_ROUNDS={rounds} {kind:?}");
    let mut dice = fastrand::Rng::with_seed(seed);
    let victims = Victims::start(kind).await;
    let client = victims.client();
    let mut users = Vec::new();
    for n in 0..BUYERS {
        users.push(client.register(&format!("buyer{n}")).await);
    }
    let listener = Listener::start(victims.client());
    let receiver = Receiver::obliging();
    let webhook = json!({ "url": receiver.upstream.url });
    let registered = victims.admin().await.post("/webhooks", webhook).await;
    assert_eq!(registered.status, 201, "{registered:?}");
    let chance = dice.u64(..);
    let torment = Torment::start(victims, move |victims, is_over| victims.suffer(chance, is_over));

    let begun = Instant::now();
    let (diary, mut products) = (Rc::new(Diary::new()), Items::new());
    for n in 0..rounds {
        if n % 10 == 9 {
            eprintln!("round {}", n + 1);
        }
        let of_round = stocked(&client).await;
        products.extend(of_round.iter().map(|id| (id.clone(), PIECES)));
        let buyers = users.iter().map(|user| {
            let (client, diary) = (Client::impatient(client.base.clone()), diary.clone());
            Buyer::new(user.clone(), client, diary, of_round.clone(), dice.fork(), kind)
        });
        join_all(buyers.collect::<Vec<_>>().into_iter().map(Buyer::buy)).await;
    }
    eprintln!("{}, {:?}", diary.summary(), begun.elapsed());
    let (_alive, victims) = torment.end().await;

    // In a short run who has no answer asks once more: the pieces of an order that never comes about are kept for a minute.
    if rounds == 1 {
        diary.repeat_unanswered(&client).await;
    }
    let operations = diary.operations();
    assert!(check_answers(&operations).is_empty(), "{:#?}", check_answers(&operations));
    let books = Books {
        client,
        victims: &victims,
        listener: &listener,
        receiver: &receiver,
        users,
        products,
    };
    let begun = Instant::now();
    let end = loop {
        let end = books.read().await;
        let wrong = check_end(&operations, &end);
        if wrong.is_empty() {
            break end;
        }
        assert!(begun.elapsed() < SETTLED, "{wrong:#?}");
        sleep(Duration::from_secs(1)).await;
    };
    let settled = begun.elapsed();
    // It stays so.
    sleep(Duration::from_secs(1)).await;
    let wrong = check_end(&operations, &books.read().await);
    assert!(wrong.is_empty(), "{wrong:#?}");
    victims.check_logs();
    sum_up(&end, settled);
}

/// Some new products.
async fn stocked(client: &Client) -> Rc<[String]> {
    let json = [("content-type", "application/json")];
    let mut products = Vec::new();
    while products.len() < PRODUCTS {
        let new = json!({ "name": "Lamp", "price": 12.5, "stock": PIECES }).to_string();
        // One that was made without an answer stays, untouched.
        let made = client.try_send(Method::POST, "/products", &json, new).await;
        match made.ok().filter(|made| made.status == 201) {
            Some(made) => products.push(made.json()["id"].as_str().unwrap().to_owned()),
            None => sleep(Duration::from_millis(50)).await,
        }
    }
    products.into()
}

/// Prints what came of it, which must be something.
fn sum_up(end: &End, settled: Duration) {
    let count = |status: &str| end.orders.iter().filter(|order| order.status == status).count();
    let states = ["paid", "cancelled", "expired", "refunded"].map(|status| (status, count(status)));
    let events = end.log.len();
    eprintln!("{states:?}, {events} events, settled after {settled:?}");
    // How many are paid depends on how slow the machine is.
    assert!(!end.orders.is_empty());
}
