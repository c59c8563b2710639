//! `app check-stock`: orders and stock that agree, and every way in which they may not.

use std::collections::BTreeSet;
use std::fs;

use bson::{Document, doc};
use futures_util::future::join_all;
use mongodb::Database;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Client, Kind, Shop, Storage, Topology};

/// What the command prints, its last words, and its status.
fn check(shop: &Shop) -> (Vec<String>, String, Option<i32>) {
    let output = shop.run(&["check-stock"]);
    let out = String::from_utf8(output.stdout).unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    let last = log.lines().next_back().unwrap_or_default().to_owned();
    (out.lines().map(str::to_owned).collect(), last, output.status.code())
}

async fn place(client: &Client, product: &str, quantity: i64) -> Value {
    let placed = client.order(Uuid::now_v7(), &[(product, quantity)]).await;
    assert_eq!(placed.status, 201, "{placed:?}");
    placed.json()
}

/// The product role's store, whose reservations and products a test changes behind the shop's back.
enum Stock<'a> {
    File(&'a Shop),
    Server(Database),
}

impl<'a> Stock<'a> {
    async fn of(shop: &'a Shop) -> Self {
        let server = shop.servers.iter().find(|server| server.kind() == Kind::Mongo);
        match server {
            None => Self::File(shop),
            Some(server) => {
                let client = mongodb::Client::with_uri_str(server.url()).await.unwrap();
                Self::Server(client.database("shop"))
            }
        }
    }

    /// Gives the only reservation in the state `from` another one, whatever becomes of its pieces; returns its id.
    async fn turn(&self, from: &str, to: &str) -> String {
        match self {
            Self::File(shop) => {
                let id = format!("SELECT id FROM reservations WHERE state = '{from}'");
                let id = shop.query("product", &id);
                let set = format!("UPDATE reservations SET state = '{to}' WHERE id = '{id}'");
                shop.query("product", &set);
                id
            }
            Self::Server(database) => {
                let rows = database.collection::<Document>("reservations");
                let set = doc! { "$set": { "phase": to } };
                let found = rows.find_one_and_update(doc! { "phase": from }, set).await.unwrap();
                found.unwrap().get_str("_id").unwrap().to_owned()
            }
        }
    }

    /// Makes so many more pieces of all products reserved.
    async fn reserve(&self, more: i64) {
        match self {
            Self::File(shop) => {
                let set = format!("UPDATE products SET reserved = reserved + {more}");
                shop.query("product", &set);
            }
            Self::Server(database) => {
                let rows = database.collection::<Document>("products");
                let more = doc! { "$inc": { "reserved": more } };
                rows.update_many(doc! {}, more).await.unwrap();
            }
        }
    }
}

each_storage!(orders_and_stock_that_agree_and_every_difference);
async fn orders_and_stock_that_agree_and_every_difference(storage: Storage) {
    let shop = Shop::start_on(Topology::OneProcess, storage.servers(), &[]);
    let client = shop.gateway();
    assert_eq!(
        check(&shop),
        (vec!["compared 0 orders and 0 reservations".into()], String::new(), Some(0))
    );
    let lamp = client.add_stocked("Lamp", 100).await;
    let mut orders = Vec::new();
    for _ in 0..7 {
        orders.push(place(&client, &lamp, 2).await);
    }
    let [placed, declined, paid, fulfilled, cancelled, refunded, restocked] =
        <[Value; 7]>::try_from(orders).unwrap();
    assert_eq!(client.pay(&declined, "declined").await.status, 402);
    for order in [&paid, &fulfilled, &refunded, &restocked] {
        assert_eq!(client.pay(order, "ok").await.status, 200);
    }
    assert_eq!(client.act(&fulfilled, "fulfil", Value::Null).await.status, 200);
    assert_eq!(client.act(&cancelled, "cancel", Value::Null).await.status, 200);
    for (order, restock) in [(&refunded, false), (&restocked, true)] {
        let body = json!({ "restock": restock });
        assert_eq!(client.act(order, "refund", body).await.status, 200);
    }
    // The declined one has moved its pieces to another reservation.
    let agreed = (vec!["compared 7 orders and 8 reservations".into()], String::new(), Some(0));
    assert_eq!(check(&shop), agreed);

    // All but one of each kind are out of the way.
    for order in [&declined, &placed] {
        assert_eq!(client.act(order, "cancel", Value::Null).await.status, 200);
    }
    for order in [&fulfilled] {
        assert_eq!(client.act(order, "refund", json!({ "restock": true })).await.status, 200);
    }
    let set = |order: &Value, status: &str| {
        let id = order["id"].as_str().unwrap();
        let sql = format!("UPDATE order_orders SET status = '{status}' WHERE id = '{id}'");
        shop.query("order", &sql);
    };
    let differs = |lines: &[String]| {
        let (found, last, code) = check(&shop);
        assert_eq!(code, Some(1), "{found:?}");
        let found = found.into_iter().collect::<BTreeSet<_>>();
        for line in lines {
            assert!(found.contains(line), "{line}: {found:?}");
        }
        assert_eq!(found.len(), lines.len() + 1, "and nothing else: {found:?}");
        assert!(last.starts_with("app: orders and stock differ in "), "{last}");
    };
    let agrees = || assert_eq!(check(&shop).2, Some(0));
    let stock = Stock::of(&shop).await;
    let id = |order: &Value| order["id"].as_str().unwrap().to_owned();

    // The order role's store knows less: what is sold is of an order that is over, or of none.
    let (refunded_id, paid_id) = (id(&refunded), id(&paid));
    set(&paid, "cancelled");
    let (found, ..) = check(&shop);
    let surplus = found.iter().find(|line| line.contains(&paid_id)).unwrap();
    assert!(surplus.contains("is cancelled, and pieces of its reservation"), "{surplus}");
    assert!(surplus.ends_with("are sold still"), "{surplus}");
    let reservation = surplus.split_whitespace().find(|word| word.len() == 36 && *word != paid_id);
    let reservation = reservation.unwrap().to_owned();
    differs(&[format!(
        "the order {paid_id} is cancelled, and pieces of its reservation {reservation} are sold still"
    )]);
    set(&paid, "paid");
    agrees();
    shop.query("order", &format!("DELETE FROM order_orders WHERE id = '{refunded_id}'"));
    let (found, _, code) = check(&shop);
    assert_eq!((found.len(), code), (2, Some(1)), "{found:?}");
    assert!(found[0].ends_with("are sold, and no order has them"), "{found:?}");
    let unknown = found[0].split_whitespace().find(|word| word.len() == 36).unwrap().to_owned();
    assert_ne!(unknown, reservation);
    // A restored product store has given back what is paid for.
    stock_of(&stock, &unknown, "released").await;
    agrees();
    let turned = stock.turn("committed", "lapsed").await;
    assert_eq!(turned, reservation);
    differs(&[format!(
        "the order {paid_id} is paid, and the pieces of its reservation {reservation} are given back"
    )]);
    stock_of(&stock, &reservation, "committed").await;
    agrees();

    // What is placed has its pieces, and no more are reserved.
    let open = place(&client, &lamp, 3).await;
    agrees();
    stock.reserve(2).await;
    differs(&[format!("the product {lamp} has 2 pieces more reserved than its reservations hold")]);
    // A move that nobody ends: no look can tell.
    if let Stock::Server(database) = &stock {
        let rows = database.collection::<Document>("products");
        let note = doc! {
            "reservation": "none", "life": 1_i64, "line": 0_i64, "number": 0_i64, "place": "held", "counted": true,
        };
        rows.update_many(doc! {}, doc! { "$set": { "move": note } }).await.unwrap();
        differs(&[format!(
            "the product {lamp} could not be compared with its reservations, whose pieces are being moved"
        )]);
        rows.update_many(doc! {}, doc! { "$unset": { "move": 1 } }).await.unwrap();
    }
    stock.reserve(-2).await;
    let held = stock.turn("held", "released").await;
    differs(&[
        format!(
            "the order {} is placed, and the pieces of its reservation {held} are given back",
            id(&open)
        ),
        format!("the product {lamp} has 3 pieces more reserved than its reservations hold"),
    ]);
    set(&open, "expired");
    stock_of(&stock, &held, "held").await;
    differs(&[format!(
        "the order {} is expired, and pieces of its reservation {held} are held still",
        id(&open)
    )]);
}

/// Gives the reservation `id` a state, whatever becomes of its pieces.
async fn stock_of(stock: &Stock<'_>, id: &str, state: &str) {
    match stock {
        Stock::File(shop) => {
            let set = format!("UPDATE reservations SET state = '{state}' WHERE id = '{id}'");
            shop.query("product", &set);
        }
        Stock::Server(database) => {
            let rows = database.collection::<Document>("reservations");
            let set = doc! { "$set": { "phase": state } };
            let done = rows.update_one(doc! { "_id": id }, set).await.unwrap();
            assert_eq!(done.matched_count, 1);
        }
    }
}

#[actix_rt::test]
async fn an_older_catalogue_that_was_restored_differs_from_the_orders() {
    let mut shop = Shop::start(Topology::OneProcess);
    let client = shop.gateway();
    let lamp = client.add_stocked("Lamp", 100).await;
    let before = place(&client, &lamp, 1).await;
    let archive = shop.folder.path().join("backup.tar");
    let output = shop.run(&["backup", archive.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    let after = place(&client, &lamp, 1).await;
    for order in [&before, &after] {
        assert_eq!(client.pay(order, "ok").await.status, 200);
    }
    shop.kill("gateway");
    let data = shop.folder.path().join("data");
    for file in ["product.db-wal", "product.db-shm"] {
        let _ = fs::remove_file(data.join(file));
    }
    let unpacked = std::process::Command::new("tar")
        .args(["-xf", archive.to_str().unwrap(), "-C", data.to_str().unwrap(), "product.db"])
        .status();
    assert!(unpacked.unwrap().success());
    let (found, last, code) = check(&shop);
    assert_eq!((found.len(), code), (3, Some(1)), "{found:?}");
    for (order, end) in [(&before, "are held"), (&after, "are missing")] {
        let start = format!("the order {} is paid, and the pieces", order["id"].as_str().unwrap());
        let is_named = |line: &String| line.starts_with(&start) && line.ends_with(end);
        assert!(found.iter().any(is_named), "{start} {end}: {found:?}");
    }
    assert_eq!(last, "app: orders and stock differ in 2 points");
}

each_storage!(a_shop_that_sells_meanwhile_raises_no_alarm);
async fn a_shop_that_sells_meanwhile_raises_no_alarm(storage: Storage) {
    let shop = Shop::start_on(Topology::OneProcess, storage.servers(), &[]);
    let client = shop.gateway();
    let products = join_all((0..8).map(|n| {
        let client = client.clone();
        async move { client.add_stocked(&format!("Lamp {n}"), 1_000).await }
    }));
    let products = products.await;
    let stop = std::rc::Rc::new(std::cell::Cell::new(false));
    let buyers = products.into_iter().enumerate().map(|(n, lamp)| {
        let (client, stop) = (client.clone(), stop.clone());
        actix_rt::spawn(async move {
            while !stop.get() {
                let order = place(&client, &lamp, 1).await;
                let method = if n % 2 == 0 { "ok" } else { "declined" };
                client.pay(&order, method).await;
                if n % 2 == 1 {
                    client.act(&order, "cancel", Value::Null).await;
                }
            }
        })
    });
    let buyers = buyers.collect::<Vec<_>>();
    let mut seen = Vec::new();
    let shop = std::sync::Arc::new(shop);
    for _ in 0..3 {
        let shop = shop.clone();
        seen.push(crate::support::blocking(move || check(&shop)).await);
    }
    stop.set(true);
    for buyer in buyers {
        buyer.await.unwrap();
    }
    for (found, last, code) in seen {
        assert_eq!(code, Some(0), "{found:?} {last}");
    }
    assert_eq!(check(&shop).2, Some(0));
}
