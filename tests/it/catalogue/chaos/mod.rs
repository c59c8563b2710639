//! Many buyers for few pieces at two processes of the product role, while processes and servers die and hang, and an
//! administrator changes stocks and removes products.
//!
//! `make chaos` runs it long, with a new seed; CHAOS_ROUNDS and CHAOS_SEED set both.

#![expect(clippy::print_stderr, reason = "who repeats a run needs its seed")]

mod buyer;
mod model;
mod others;
mod victims;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use awc::http::Method;
use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use serde_json::{Value, json};
use uuid::Uuid;

use self::buyer::{Asker, Buyer, Round};
use self::model::{Model, Place, Window};
use self::others::{administer, numbers, read};
use self::victims::{Stored, Victims};
use crate::support::chaos::{Torment, setting};
use crate::support::{Client, Storage, until};

/// The buyers of a round, its products, and the pieces of each.
const BUYERS: usize = 50;
const PRODUCTS: usize = 3;
const PIECES: i64 = 10;

each_storage!(nothing_is_sold_twice_and_nothing_is_lost);
async fn nothing_is_sold_twice_and_nothing_is_lost(storage: Storage) {
    let rounds =
        setting("CHAOS_ROUNDS").unwrap_or(if storage == Storage::Embedded { 10 } else { 3 });
    let seed = setting("CHAOS_SEED").unwrap_or(17);
    eprintln!("CHAOS_SEED={seed} CHAOS_ROUNDS={rounds} {storage:?}");
    let victims = Victims::start(storage);
    let mut dice = fastrand::Rng::with_seed(seed);
    let chance = dice.u64(..);
    let mut asker = Asker { clients: victims.clients(), dice };
    let torment = Torment::start(victims, move |victims, is_over| victims.suffer(chance, is_over));

    let mut sales = Vec::new();
    for n in 0..rounds {
        if n % 100 == 99 {
            eprintln!("round {}", n + 1);
        }
        sales.push(Sale::hold(&mut asker, format!("Round {n}")).await);
    }
    let (_alive, victims) = torment.end().await;

    // All is well again, and what nobody has committed lapses.
    let mut open = victims.stored().await.open;
    while open > 0 {
        // Each expires sooner than this waits.
        until("another one has lapsed", async || victims.stored().await.open < open).await;
        open = victims.stored().await.open;
    }
    let client = victims.clients().swap_remove(0);
    let mut sold = 0;
    for sale in &sales {
        sold += sale.settle(&client).await;
    }
    let stored = victims.stored().await;
    for sale in &sales {
        sale.check(&client, &stored).await;
    }
    let sold_out = sales.iter().map(|sale| sale.sold_out).sum::<usize>();
    let all = sales.iter().map(|sale| sale.ids.len()).sum::<usize>();
    eprintln!("{all} purchases, {sold} sold, {sold_out} reads of products without a piece");
    assert!(sold > rounds / 2 && sold_out > 0, "{sold} {sold_out}");
}

/// A round, and what came of it.
struct Sale {
    round: Round,
    category: String,
    /// The reservations of each purchase.
    ids: Vec<Vec<Uuid>>,
    sold_out: usize,
}

impl Sale {
    async fn hold(asker: &mut Asker, category: String) -> Self {
        let mut products = Vec::new();
        while products.len() < PRODUCTS {
            let new = json!({ "name": "Lamp", "price": 1, "stock": PIECES, "category": category });
            // One that was made without an answer stays, untouched, in no round.
            let made = asker.ask(Method::POST, "/products", &new.to_string()).await;
            let Some((made, _)) = made else { continue };
            assert_eq!(made.status, 201, "{made:?}");
            products.push(made.json()["id"].as_str().unwrap().to_owned());
        }
        let model = Rc::new(RefCell::new(Model::new(PRODUCTS, PIECES)));
        let round = Round { products: products.into(), model };
        let buyers = (0..BUYERS).map(|_| Buyer::new(asker.fork(), round.clone()));
        let buyers = buyers.collect::<Vec<_>>();
        let is_over = Cell::new(false);
        let buying = async {
            let ids = join_all(buyers.into_iter().map(Buyer::buy)).await;
            is_over.set(true);
            ids
        };
        let reading = read(asker.fork(), round.clone(), || is_over.get());
        let changing = administer(asker.fork(), round.clone(), || is_over.get());
        let (ids, sold_out, ()) = futures_util::join!(buying, reading, changing);
        Self { round, category, ids, sold_out }
    }

    /// Learns which purchases were sold in the end, which must be as their buyers know; returns how many.
    async fn settle(&self, client: &Client) -> u64 {
        let mut sold = 0;
        for (n, ids) in self.ids.iter().enumerate() {
            let mut places = Vec::new();
            for id in ids {
                let path = format!("/internal/reservations/{id}/commit");
                let status = client.send(Method::POST, &path, &[], "").await.status;
                assert!(matches!(status, 200 | 404 | 409), "{status}");
                places.extend((status == 200).then_some(Place::Sold));
            }
            assert!(places.len() < 2, "sold twice: {ids:?}");
            sold += places.len() as u64;
            let place = places.first().copied().unwrap_or(Place::Free);
            let purchase = &mut self.round.model.borrow_mut().purchases[n];
            let known = purchase.places(Window::open().close());
            assert!(known.contains(&place), "{ids:?}: {place:?}, not one of {known:?}");
            purchase.learn(&[place], DateTime::<Utc>::MAX_UTC);
        }
        sold
    }

    /// Checks what is left in the store, what clients see of it, and that it can be sold.
    async fn check(&self, client: &Client, stored: &Stored) {
        let mut left = Vec::new();
        for (n, product) in self.round.products.iter().enumerate() {
            let [on_hand, reserved] = stored.stocks[product];
            assert_eq!(reserved, 0, "{product}");
            let (model, now) = (self.round.model.borrow(), Window::open().close());
            let checked = model.check(n, now, [on_hand, reserved, on_hand - reserved]);
            checked.unwrap_or_else(|wrong| panic!("{product}: {wrong}: {model:?}"));
            if !model.is_removed(n) {
                left.push((product, on_hand));
            }
        }
        for (product, on_hand) in &left {
            let stock = client.get(&format!("/products/{product}/stock")).await.json();
            assert_eq!(numbers(&stock), [*on_hand, 0, *on_hand], "{product}");
        }
        left.retain(|(_, on_hand)| *on_hand > 0);
        self.check_listed(client, &left).await;
        self.buy_all(client, &left).await;
    }

    /// Those that are in stock are found as such.
    async fn check_listed(&self, client: &Client, left: &[(&String, i64)]) {
        let category = self.category.replace(' ', "%20");
        let listed = client.get(&format!("/products?category={category}&inStock=true")).await.ids();
        let mut listed =
            listed.into_iter().filter(|id| self.round.products.contains(id)).collect::<Vec<_>>();
        let mut left = left.iter().map(|(product, _)| (*product).clone()).collect::<Vec<_>>();
        listed.sort();
        left.sort();
        assert_eq!(listed, left, "{}", self.category);
    }

    /// All that is `left` can be bought, and no more.
    async fn buy_all(&self, client: &Client, left: &[(&String, i64)]) {
        let reserve = async |lines: Value| {
            let path = format!("/internal/reservations/{}", Uuid::new_v4());
            let body = json!({ "lines": lines, "seconds": 60 }).to_string();
            let json = [("content-type", "application/json")];
            (client.send(Method::PUT, &path, &json, body).await.status, path)
        };
        let line = |product: &str, n| json!({ "productId": product, "quantity": n });
        if left.is_empty() {
            return;
        }
        let all = left.iter().map(|(product, n)| line(product, *n)).collect();
        let (status, path) = reserve(Value::Array(all)).await;
        assert_eq!(status, 200, "{left:?}");
        for (product, _) in left {
            assert_eq!(reserve(json!([line(product, 1)])).await.0, 409, "{product}");
        }
        assert_eq!(client.send(Method::DELETE, &path, &[], "").await.status, 204);
    }
}
