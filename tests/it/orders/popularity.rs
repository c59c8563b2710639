//! What paid orders do to the catalogue and to dashboards.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use awc::http::Method;
use bson::{Document, doc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use futures_util::TryStreamExt as _;
use mongodb::Database;
use nix::sys::signal::Signal;
use serde_json::json;
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::{Client, Kind, Process, Server, Shop, Storage, Topology, until};

/// Pages by popularity are not to be late.
const NO_CACHE: [(&str, &str); 2] =
    [("APP__PRODUCT__CACHE_TTL", "10ms"), ("APP__PRODUCT__CACHE_STALE", "0s")];

/// Places an order and pays it.
async fn buy(client: &Client, user: Uuid, items: &[(&str, i64)]) {
    let order = client.order(user, items).await;
    assert_eq!(order.status, 201, "{order:?}");
    assert_eq!(client.pay(&order.json(), "ok").await.status, 200);
}

async fn popular(client: &Client) -> Vec<String> {
    client.get("/products?sort=popular").await.ids()
}

/// The ids of what the dashboard of `user` recommends.
async fn recommended(client: &Client, user: Uuid) -> Vec<String> {
    let dashboard = client.get(&format!("/auth/dashboard/{user}")).await.json();
    let products = dashboard["recommendedProducts"].as_array().unwrap().iter();
    products.map(|product| product["id"].as_str().unwrap().to_owned()).collect()
}

/// Some products, each newer than the one before.
async fn add<const N: usize>(client: &Client, mut names: [&'static str; N]) -> [&'static str; N] {
    for name in &mut names {
        *name = client.add_product(name, 2.5).await.leak();
    }
    names
}

each_storage!(what_is_ordered_is_popular);
async fn what_is_ordered_is_popular(storage: Storage) {
    let shop = Shop::start_on(Topology::OneProcess, storage.servers(), &NO_CACHE);
    let client = shop.gateway();
    let [lamp, chair, table, shelf] = add(&client, ["Lamp", "Chair", "Table", "Shelf"]).await;
    assert_eq!(popular(&client).await, [shelf, table, chair, lamp], "the newest first");
    let before = client.get(&format!("/products/{lamp}")).await;
    let user = Uuid::now_v7();
    buy(&client, user, &[(lamp, 3), (chair, 1)]).await;
    buy(&client, user, &[(chair, 2)]).await;
    // Nobody has paid for these.
    let unpaid = client.order(user, &[(table, 9)]).await;
    client.act(&unpaid.json(), "cancel", json!(null)).await;
    buy(&client, user, &[(lamp, 1)]).await;
    let expected = [lamp, chair, shelf, table];
    until("lamps are the most popular", async || popular(&client).await == expected).await;
    // One by one, from page to page.
    assert_eq!(client.walk("/products?sort=popular&limit=1").await, expected);
    let after = client.get(&format!("/products/{lamp}")).await;
    assert_eq!((after.header("etag"), after.text()), (before.header("etag"), before.text()));
    // It can be changed, and what was removed is ignored.
    let path = format!("/products/{lamp}");
    assert_eq!(client.write(Method::PATCH, &path, r#"{"price":1}"#).await.status, 200);
    let late = client.order(user, &[(chair, 9), (shelf, 5)]).await.json();
    client.send(Method::DELETE, &format!("/products/{chair}"), &[], "").await;
    assert_eq!(client.pay(&late, "ok").await.status, 200);
    let expected = [shelf, lamp, table];
    until("shelves are the most popular", async || popular(&client).await == expected).await;
}

each_storage!(the_dashboard_recommends_what_goes_with_the_last_orders);
async fn the_dashboard_recommends_what_goes_with_the_last_orders(storage: Storage) {
    let shop = Shop::start_on(Topology::OneProcess, storage.servers(), &NO_CACHE);
    let client = shop.gateway();
    let [mouse, lamp, gone, bulb, shade] =
        add(&client, ["Mouse", "Lamp", "Gone", "Bulb", "Shade"]).await;
    let plug = &*client.add_stocked("Plug", 2).await.leak();
    let neo: Uuid = client.register("neo").await.parse().unwrap();
    let other: Uuid = client.register("trinity").await.parse().unwrap();
    let newest = [plug, shade, bulb, gone, lamp];
    assert_eq!(recommended(&client, neo).await, newest, "as long as nothing was sold");

    let others = Uuid::now_v7();
    for _ in 0..2 {
        // The last plugs.
        buy(&client, others, &[(lamp, 1), (plug, 1), (gone, 1)]).await;
    }
    buy(&client, others, &[(lamp, 1), (shade, 1)]).await;
    buy(&client, others, &[(lamp, 1), (shade, 1), (bulb, 1)]).await;
    buy(&client, others, &[(mouse, 50)]).await;
    client.send(Method::DELETE, &format!("/products/{gone}"), &[], "").await;
    // Without orders: what is popular.
    let expected = [mouse, lamp, plug, shade, bulb];
    until("all is counted", async || recommended(&client, other).await == expected).await;

    assert_eq!(client.order(neo, &[(lamp, 1)]).await.status, 201);
    // What goes with a lamp and is in stock, then what does not go with it.
    let expected = [shade, bulb, plug, mouse];
    until("the order is known", async || recommended(&client, neo).await == expected).await;
    assert_eq!(client.order(neo, &[(mouse, 1), (shade, 1)]).await.status, 201);
    let expected = [bulb, plug];
    until("both orders are known", async || recommended(&client, neo).await == expected).await;
    let newcomer: Uuid = client.register("morpheus").await.parse().unwrap();
    assert_eq!(recommended(&client, newcomer).await[0], mouse);
}

#[actix_rt::test]
async fn recommendations_are_asked_for_with_twenty_products_at_most() {
    let shop = Shop::start(Topology::OneProcessARole);
    let client = shop.client("product");
    let [lamp, chair] = add(&client, ["Lamp", "Chair"]).await;
    let ask = async |query: &str| client.get(&format!("/internal/recommendations{query}")).await;
    for (query, expected) in [
        ("", vec![chair, lamp]),
        ("?limit=1", vec![chair]),
        (&format!("?with={chair}"), vec![lamp]),
        (&format!("?with={chair},{lamp}&limit=100"), vec![]),
        (&format!("?with={}", [lamp; 20].join(",")), vec![chair]),
    ] {
        let answer = ask(query).await;
        assert_eq!(answer.ids(), expected, "{query}");
    }
    for bad in ["?with=", "?with=7", "?limit=0", "?limit=101", "?user=1"] {
        assert_eq!(ask(bad).await.status, 422, "{bad}");
    }
    let many = format!("?with={}", [lamp; 21].join(","));
    assert_eq!(ask(&many).await.problem().1, ["with"]);
    assert_eq!(shop.gateway().get("/internal/recommendations").await.status, 404);
}

/// A shop in one process on `storage`, whose orders are in a file all the same.
struct Bench {
    folder: TempDir,
    server: Option<Server>,
}

impl Bench {
    fn new(storage: Storage) -> Self {
        let server = (storage == Storage::Polyglot).then(|| Server::start(Kind::Mongo));
        Self { folder: TempDir::new().unwrap(), server }
    }

    /// Starts a process with its orders in the file `orders`.
    fn start(&self, orders: &str) -> Process {
        Process::start(self.folder.path(), self.command(orders))
    }

    fn command(&self, orders: &str) -> Command {
        let mut command = Process::command(self.folder.path());
        command.env("APP__ORDER__DATABASE_URL", format!("sqlite://data/{orders}"));
        command.envs(self.server.iter().map(|server| (server.variable(), server.url())));
        command
    }

    fn file(&self, name: &str) -> SqliteConnection {
        connection(&self.folder.path().join("data").join(name))
    }

    async fn mongo(&self) -> Database {
        let url = self.server.as_ref().unwrap().url();
        mongodb::Client::with_uri_str(url).await.unwrap().default_database().unwrap()
    }

    /// What was counted: the pieces of products, and the orders of pairs.
    async fn counted(&self) -> BTreeMap<String, i64> {
        if self.server.is_none() {
            let mut file = self.file("product.db");
            assert_eq!(
                number(
                    &mut file,
                    "SELECT COUNT(*) AS number FROM listing JOIN products USING (id) \
                 WHERE listing.popularity <> products.popularity"
                ),
                0
            );
            let counts = "SELECT id AS name, popularity AS number FROM products WHERE popularity > 0 \
                 UNION ALL SELECT product || '-' || other, orders FROM bought_with";
            let counts = diesel::sql_query(counts).load::<Count>(&mut file).unwrap();
            return counts.into_iter().map(|count| (count.name, count.number)).collect();
        }
        let (mongo, mut counts) = (self.mongo().await, BTreeMap::new());
        for (collection, field) in [("products", "popularity"), ("bought_with", "orders")] {
            for row in rows(&mongo, collection).await {
                let id = row.get("_id").unwrap();
                let id =
                    id.as_object_id().map_or_else(|| id.as_str().unwrap().into(), |id| id.to_hex());
                let count = row.get_i64(field).unwrap();
                if count > 0 {
                    counts.insert(id, count);
                }
            }
        }
        counts
    }

    /// Waits until the consumer has taken all events of `orders`.
    async fn taken(&self, orders: &str) {
        let left = "SELECT (SELECT COUNT(*) FROM order_outbox WHERE log_offset IS NULL) + COALESCE(MAX(log_offset), 0) \
            - COALESCE((SELECT log_offset FROM order_cursors WHERE consumer = 'product.popularity'), 0) AS number \
            FROM order_outbox";
        until("all events are taken", async || number(&mut self.file(orders), left) == 0).await;
    }

    /// Gives all events of `orders` again.
    fn rewind(&self, orders: &str) {
        let rewind =
            "UPDATE order_cursors SET log_offset = 0 WHERE consumer = 'product.popularity'";
        diesel::sql_query(rewind).execute(&mut self.file(orders)).unwrap();
    }

    /// Asserts that no document has notes of what is being counted.
    async fn expect_no_notes(&self, state: &str) {
        if self.server.is_some() {
            let mongo = self.mongo().await;
            for collection in ["products", "bought_with"] {
                for row in rows(&mongo, collection).await {
                    let notes = row.get_array("counting").map_or(0, Vec::len);
                    assert_eq!(notes, 0, "{state}: {row}");
                }
            }
        }
    }
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = BigInt)]
    number: i64,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

fn connection(path: &Path) -> SqliteConnection {
    let mut file = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    diesel::sql_query("PRAGMA busy_timeout = 5000").execute(&mut file).unwrap();
    file
}

fn number(file: &mut SqliteConnection, query: &str) -> i64 {
    diesel::sql_query(query).get_result::<Number>(file).unwrap().number
}

async fn rows(mongo: &Database, collection: &str) -> Vec<Document> {
    let rows = mongo.collection::<Document>(collection).find(doc! {}).await.unwrap();
    rows.try_collect().await.unwrap()
}

each_storage!(events_that_come_again_are_counted_once);
async fn events_that_come_again_are_counted_once(storage: Storage) {
    let bench = Bench::new(storage);
    let mut process = bench.start("order.db");
    let client = process.client("gateway");
    let [lamp, chair, table] = add(&client, ["Lamp", "Chair", "Table"]).await;
    for _ in 0..3 {
        buy(&client, Uuid::now_v7(), &[(lamp, 2), (chair, 5)]).await;
    }
    buy(&client, Uuid::now_v7(), &[(table, 1), (chair, 1), (lamp, 1)]).await;
    let pair = |one: &str, other: &str| format!("{one}-{other}");
    let expected = BTreeMap::from([
        (lamp.to_owned(), 7),
        (chair.to_owned(), 16),
        (table.to_owned(), 1),
        (pair(lamp, chair), 4),
        (pair(chair, lamp), 4),
        (pair(lamp, table), 1),
        (pair(table, lamp), 1),
        (pair(chair, table), 1),
        (pair(table, chair), 1),
    ]);
    bench.taken("order.db").await;
    assert_eq!(bench.counted().await, expected);
    for _ in 0..2 {
        bench.rewind("order.db");
        bench.taken("order.db").await;
        assert_eq!(bench.counted().await, expected);
    }
    process.signal(Signal::SIGKILL);
    process.wait();
    bench.rewind("order.db");
    let _process = bench.start("order.db");
    bench.taken("order.db").await;
    assert_eq!(bench.counted().await, expected);
    bench.expect_no_notes("at the end").await;
}

each_storage!(two_processes_that_take_the_same_events_count_them_once);
async fn two_processes_that_take_the_same_events_count_them_once(storage: Storage) {
    let bench = Bench::new(storage);
    let mut process = bench.start("order.db");
    let client = process.client("gateway");
    let products = add(&client, ["A", "B", "C", "D", "E", "F"]).await;
    for n in 0..12 {
        let items = (0..=n % 6).map(|n| (products[n], n as i64 + 1)).collect::<Vec<_>>();
        buy(&client, Uuid::now_v7(), &items).await;
    }
    bench.taken("order.db").await;
    let expected = bench.counted().await;
    process.signal(Signal::SIGTERM);
    process.wait();
    let folder = bench.folder.path().join("data");
    let copy = "VACUUM INTO 'twin.db'".replace("twin.db", folder.join("twin.db").to_str().unwrap());
    diesel::sql_query(copy).execute(&mut bench.file("order.db")).unwrap();
    for round in 0..3 {
        match &bench.server {
            None => {
                let mut file = bench.file("product.db");
                for table in ["inbox", "bought_with"] {
                    diesel::sql_query(format!("DELETE FROM {table}")).execute(&mut file).unwrap();
                }
                for table in ["products", "listing"] {
                    let forget = format!("UPDATE {table} SET popularity = 0");
                    diesel::sql_query(forget).execute(&mut file).unwrap();
                }
            }
            Some(_) => forget(&bench.mongo().await).await,
        }
        bench.rewind("order.db");
        bench.rewind("twin.db");
        let starts = ["order.db", "twin.db"].map(|orders| {
            let (folder, command) = (bench.folder.path().to_owned(), bench.command(orders));
            std::thread::spawn(move || Process::start(&folder, command))
        });
        let processes = starts.map(|start| start.join().unwrap());
        bench.taken("order.db").await;
        bench.taken("twin.db").await;
        assert_eq!(bench.counted().await, expected, "round {round}");
        bench.expect_no_notes("with two processes").await;
        for mut process in processes {
            process.signal(Signal::SIGTERM);
            process.wait();
        }
    }
}

/// Forgets what was counted.
async fn forget(mongo: &Database) {
    for collection in ["sales", "bought_with"] {
        mongo.collection::<Document>(collection).delete_many(doc! {}).await.unwrap();
    }
    let nothing = doc! { "$set": { "popularity": 0_i64 }, "$unset": { "counting": "" } };
    let products = mongo.collection::<Document>("products");
    products.update_many(doc! {}, nothing).await.unwrap();
}

/// Makes documents of MongoDB as a crash would leave them, in the middle of counting 2 lamps and 3 chairs.
#[actix_rt::test]
async fn wherever_counting_ends_it_goes_on() {
    let bench = Bench::new(Storage::Polyglot);
    let process = bench.start("order.db");
    let client = process.client("gateway");
    let [lamp, chair] = add(&client, ["Lamp", "Chair"]).await;
    buy(&client, Uuid::now_v7(), &[(lamp, 2), (chair, 3)]).await;
    bench.taken("order.db").await;
    let (mongo, expected) = (bench.mongo().await, bench.counted().await);
    let pairs = [format!("{lamp}-{chair}"), format!("{chair}-{lamp}")];
    let counts =
        [(lamp.to_owned(), 2), (chair.to_owned(), 3), (pairs[0].clone(), 1), (pairs[1].clone(), 1)];
    assert_eq!(expected, BTreeMap::from(counts));
    let sales = rows(&mongo, "sales").await;
    let event = sales[0].get_str("_id").unwrap();

    // How many of products and pairs are raised, how many of these are noted, and whether the sale is done.
    for (raised_products, raised_pairs, without_notes, is_done) in [
        (0, 0, 0, false),
        (1, 0, 0, false),
        (2, 0, 0, false),
        (1, 1, 0, false),
        (2, 1, 0, false),
        (2, 2, 0, false),
        (2, 2, 0, true),
        (2, 2, 1, true),
        (2, 2, 2, true),
        (2, 2, 3, true),
        (2, 2, 4, true),
    ] {
        let state = format!("{raised_products} {raised_pairs} {without_notes} {is_done}");
        forget(&mongo).await;
        let mut unnoted = without_notes;
        let mut notes = || {
            unnoted -= 1;
            if unnoted < 0 { vec![event] } else { vec![] }
        };
        let products = mongo.collection::<Document>("products");
        for (id, quantity) in [(lamp, 2_i64), (chair, 3)].into_iter().take(raised_products) {
            let id = bson::oid::ObjectId::parse_str(id).unwrap();
            let raised = doc! { "$set": { "popularity": quantity, "counting": notes() } };
            products.update_one(doc! { "_id": id }, raised).await.unwrap();
        }
        let ids = [lamp, chair].map(|id| bson::oid::ObjectId::parse_str(id).unwrap());
        for (n, id) in pairs.iter().enumerate().take(raised_pairs) {
            let (product, other) = (ids[n], ids[1 - n]);
            let row = doc! { "_id": id, "product": product, "other": other, "orders": 1_i64, "counting": notes() };
            mongo.collection("bought_with").insert_one(row).await.unwrap();
        }
        if is_done {
            mongo.collection("sales").insert_one(sales[0].clone()).await.unwrap();
        }
        bench.rewind("order.db");
        bench.taken("order.db").await;
        assert_eq!(bench.counted().await, expected, "{state}");
        bench.expect_no_notes(&state).await;
        assert_eq!(rows(&mongo, "sales").await.len(), 1, "{state}");
    }
}

each_storage!(what_was_counted_long_ago_is_forgotten);
async fn what_was_counted_long_ago_is_forgotten(storage: Storage) {
    let bench = Bench::new(storage);
    let process = bench.start("order.db");
    let client = process.client("gateway");
    let [lamp] = add(&client, ["Lamp"]).await;
    buy(&client, Uuid::now_v7(), &[(lamp, 1)]).await;
    buy(&client, Uuid::now_v7(), &[(lamp, 1)]).await;
    bench.taken("order.db").await;
    let long_ago = 1_600_000_000_000_000_i64;
    let left = async || match &bench.server {
        None => number(&mut bench.file("product.db"), "SELECT COUNT(*) AS number FROM inbox"),
        Some(_) => rows(&bench.mongo().await, "sales").await.len() as i64,
    };
    assert_eq!(left().await, 2);
    match &bench.server {
        None => {
            let age = format!(
                "UPDATE inbox SET created_at = {long_ago} WHERE event_id = (SELECT MIN(event_id) FROM inbox)"
            );
            diesel::sql_query(age).execute(&mut bench.file("product.db")).unwrap();
        }
        Some(_) => {
            let sales = bench.mongo().await.collection::<Document>("sales");
            let age = doc! { "$set": { "created_at": long_ago } };
            sales.update_one(doc! {}, age).await.unwrap();
        }
    }
    until("the old one is forgotten", async || left().await < 2).await;
    assert_eq!(left().await, 1);
    assert_eq!(bench.counted().await[lamp], 2);
}
