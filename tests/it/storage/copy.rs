//! `app copy`: from embedded to polyglot storage and back.

use std::path::Path;
use std::time::Duration;

use awc::http::Method;
use bson::{Document, doc};
use serde_json::{Value, json};

use crate::support::{Client, Kind, Process, Server, Shop, Storage, Topology, password_in, until};

/// Copies, and gives what the program said.
pub(super) fn copy(folder: &Path, from: &str, to: &str) -> (bool, String) {
    copy_with(folder, from, to, &[])
}

pub(super) fn copy_with(folder: &Path, from: &str, to: &str, options: &[&str]) -> (bool, String) {
    let mut command = Process::command(folder);
    command.args(["copy", "--from", from, "--to", to]).args(options);
    let output = Process::run(command);
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

/// The two lines that begin with a side: what comes behind it must be equal.
pub(super) fn sides(text: &str) -> [String; 2] {
    ["source: ", "target: "].map(|side| {
        let line = text.lines().find_map(|line| line.strip_prefix(side));
        line.unwrap_or_else(|| panic!("{text}")).to_owned()
    })
}

#[actix_rt::test]
async fn everything_moves_there_and_back() {
    let (postgres, mongo) = (Server::start(Kind::Postgres), Server::start(Kind::Mongo));
    let shop = Shop::start(Topology::OneProcess);
    let client = shop.gateway();
    let mut paths = Vec::new();
    for n in 0..30 {
        paths.push(format!("/auth/dashboard/{}", client.register(&format!("u{n}")).await));
        paths.push(format!("/products/{}", client.add_product(&format!("Zoë {n}"), 1.25).await));
    }
    let edited = [("content-type", "application/json")];
    let edit = r#"{"name":"Edited","price":2}"#;
    assert_eq!(
        shop.admin().await.send(awc::http::Method::PUT, &paths[1], &edited, edit).await.status,
        200
    );
    let folder = shop.folder.path();
    let mut seed = Process::command(folder);
    seed.args(["seed", "--products", "1200"]);
    assert!(Process::run(seed).status.success());

    for (file, server, back, count) in [
        ("sqlite://data/user.db", postgres.url(), "sqlite://back/user.db", 31),
        ("sqlite://data/product.db", mongo.url(), "sqlite://back/product.db", 1230),
    ] {
        let (well, text) = copy(folder, file, &server);
        assert!(well && text.starts_with(&format!("wrote {count} ")), "{text}");
        let [from, to] = sides(&text);
        assert_eq!(from, to);
        let (well, text) = copy(folder, file, &server);
        assert!(well && text.starts_with("wrote 0 "), "{text}");
        let (well, text) = copy(folder, &server, back);
        assert!(well && text.starts_with(&format!("wrote {count} ")), "{text}");
        assert_eq!(sides(&text)[1], from, "the same after both ways");
    }
    // The shop on the copies gives the same answers.
    let mut command = Process::command(folder);
    command
        .env("DATABASE_URL", "sqlite://back/user.db")
        .env("MONGODB_URL", "sqlite://back/product.db");
    let copied = Process::start(folder, command);
    until("the cache has seen the seed", async || {
        !client.get("/products?limit=99").await.body.is_empty()
    })
    .await;
    for path in &paths {
        let (before, after) = (client.get(path).await, copied.client("gateway").get(path).await);
        if path.starts_with("/products") {
            assert_eq!(
                (before.body.clone(), before.header("etag")),
                (after.body.clone(), after.header("etag"))
            );
        }
        assert_eq!(before.json()["user"], after.json()["user"]);
    }
}

#[actix_rt::test]
async fn a_copy_that_was_cut_off_goes_on() {
    let mongo = Server::start(Kind::Mongo);
    let folder = tempfile::TempDir::new().unwrap();
    let mut seed = Process::command(folder.path());
    seed.args(["seed", "--products", "4000"]);
    assert!(Process::run(seed).status.success());
    let mut command = Process::command(folder.path());
    command.args(["copy", "--from", "sqlite://data/product.db", "--to", &mongo.url()]);
    let mut child = command.spawn().unwrap();
    let client = mongodb::Client::with_uri_str(mongo.url()).await.unwrap();
    let products = client.default_database().unwrap().collection::<bson::Document>("products");
    until("some are there", async || {
        products.count_documents(bson::doc! {}).await.unwrap() >= 1000
    })
    .await;
    child.kill().unwrap();
    child.wait().unwrap();
    // The server may still be at the last batch.
    let mut there = 0;
    until("the server has finished the last batch", async || {
        actix_rt::time::sleep(Duration::from_millis(500)).await;
        let now = products.count_documents(bson::doc! {}).await.unwrap();
        std::mem::replace(&mut there, now) == now
    })
    .await;
    assert!(there < 4_000, "it was cut off");
    let (well, text) = copy(folder.path(), "sqlite://data/product.db", &mongo.url());
    assert!(well && text.starts_with(&format!("wrote {} ", 4_000 - there)), "{there}: {text}");
}

/// Take the migrations of a catalogue back as far as the listing, the last first.
const BACK: [&str; 7] = [
    include_str!("../../../migrations/sqlite/product/00000000000011_vocabulary/down.sql"),
    include_str!("../../../migrations/sqlite/product/00000000000010_sales/down.sql"),
    include_str!("../../../migrations/sqlite/product/00000000000009_search_words/down.sql"),
    include_str!("../../../migrations/sqlite/product/00000000000008_low_stock/down.sql"),
    include_str!("../../../migrations/sqlite/product/00000000000007_reservations/down.sql"),
    include_str!("../../../migrations/sqlite/product/00000000000006_places/down.sql"),
    include_str!("../../../migrations/sqlite/product/00000000000005_listing/down.sql"),
];

/// Takes the last migrations of the file at `path` back.
fn age(path: &Path, back: &[&str]) {
    for back in back {
        let forget = "DELETE FROM __diesel_schema_migrations WHERE version =
            (SELECT max(version) FROM __diesel_schema_migrations)";
        execute(path, &format!("{back}; {forget}"));
    }
}

/// Runs `statements` on the file at `path`.
pub(super) fn execute(path: &Path, statements: &str) {
    use diesel::connection::SimpleConnection as _;
    use diesel::{Connection as _, SqliteConnection};
    let mut connection = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    connection.batch_execute(statements).unwrap();
}

/// Products are found after the last migrations of their file are taken back, and a start makes them again.
async fn are_found_after(back: &[&str]) {
    let folder = tempfile::TempDir::new().unwrap();
    let mut seed = Process::command(folder.path());
    seed.args(["seed", "--products", "1200"]);
    assert!(Process::run(seed).status.success());
    age(&folder.path().join("data/product.db"), back);
    let shop = Process::start(folder.path(), Process::command(folder.path()));
    let client = shop.client("gateway");
    let all = client.walk("/products?limit=100").await;
    assert_eq!(all.len(), 1200);
    assert_eq!(client.walk("/products?limit=100&minPrice=0").await, all);
    assert_eq!(client.walk("/products?limit=100&sort=name").await.len(), 1200);
    let lamps = client.get("/products?q=lamp%20walnut").await.json();
    let lamps = lamps.as_array().unwrap().clone();
    assert!(!lamps.is_empty());
    for lamp in lamps {
        let name = lamp["name"].as_str().unwrap();
        assert!(name.contains("Walnut") && name.contains("Lamp"), "{name}");
    }
}

#[actix_rt::test]
async fn products_from_before_there_was_a_listing_are_found() {
    are_found_after(&BACK).await;
}

#[actix_rt::test]
async fn products_from_before_there_was_a_vocabulary_are_found() {
    are_found_after(&BACK[..1]).await;
}

#[actix_rt::test]
async fn documents_from_before_there_was_a_search_are_found_but_for_corrupt_ones() {
    let mongo = Server::start(Kind::Mongo);
    let client = mongodb::Client::with_uri_str(mongo.url()).await.unwrap();
    let documents = client.default_database().unwrap().collection::<Document>("products");
    let old = |n: i64| doc! { "name": format!("Lamp {n}"), "price": n, "created_at": n, "version": 1_i64 };
    documents.insert_many((0..1200).map(old)).await.unwrap();
    let mut corrupt = old(5000);
    corrupt.insert("price", "dear");
    documents.insert_one(corrupt).await.unwrap();
    let shop = Shop::start_on(Topology::OneProcess, vec![mongo], &[]);
    let gateway = shop.gateway();
    until("it is ready", async || shop.process("gateway").missing().await == json!([])).await;
    assert_eq!(gateway.walk("/products?inStock=true&limit=100").await.len(), 1200);
    assert_eq!(gateway.walk("/products?q=lamp&limit=100").await.len(), 1200);
    let log = shop.process("gateway").log();
    assert_eq!(log.matches("searchable: corrupt record").count(), 1, "{log}");
}

/// Two shops, of which the products of the first are copied to the second.
struct Shops {
    from: Shop,
    to: Shop,
    source: Client,
    target: Client,
}

impl Shops {
    async fn start(storage: Storage) -> Self {
        let from = Shop::start(Topology::OneProcess);
        let to = Shop::start_on(Topology::OneProcess, storage.servers(), &[]);
        let (source, target) = (from.admin().await, to.admin().await);
        Self { from, to, source, target }
    }

    fn copy(&mut self, options: &[&str]) -> (bool, String) {
        let embedded = format!("sqlite://{}/data/product.db", self.to.folder.path().display());
        let to = match self.to.servers.is_empty() {
            true => embedded,
            false => self.to.server(Kind::Mongo).url(),
        };
        copy_with(self.from.folder.path(), "sqlite://data/product.db", &to, options)
    }
}

async fn add(client: &Client, sku: &str) -> String {
    let added = client.post("/products", json!({ "name": "Lamp", "price": 1, "sku": sku })).await;
    assert_eq!(added.status, 201, "{added:?}");
    added.header("location").to_owned()
}

async fn set_sku(client: &Client, path: &str, sku: Value) {
    let headers = [("content-type", "application/merge-patch+json")];
    let body = json!({ "sku": sku }).to_string();
    assert_eq!(client.send(Method::PATCH, path, &headers, body).await.status, 200);
}

async fn sku(client: &Client, path: &str) -> Value {
    client.get(path).await.json()["sku"].clone()
}

each_storage!(skus_that_moved_are_copied_and_those_of_others_are_named);
async fn skus_that_moved_are_copied_and_those_of_others_are_named(storage: Storage) {
    let mut shops = Shops::start(storage).await;
    // Between the first and the others, so that they are in different batches.
    assert!(shops.from.run(&["seed", "--products", "600"]).status.success());
    let first = shops.source.walk("/products?sort=newest&limit=100").await.pop().unwrap();
    let first = format!("/products/{first}");
    set_sku(&shops.source, &first, json!("first")).await;
    let mut paths = vec![first];
    for sku in ["one", "two", "three"] {
        paths.push(add(&shops.source, sku).await);
    }
    let (well, text) = shops.copy(&[]);
    assert!(well && text.starts_with("wrote 603 "), "{text}");
    // The first and the last exchange theirs, and so do the two between.
    for (path, sku) in [
        (&paths[0], json!(null)),
        (&paths[1], json!(null)),
        (&paths[3], json!("first")),
        (&paths[0], json!("three")),
        (&paths[2], json!("one")),
        (&paths[1], json!("two")),
    ] {
        set_sku(&shops.source, path, sku).await;
    }
    let others = add(&shops.target, "Of-Another").await;
    let refused = add(&shops.source, "of-another").await;
    let name = refused.trim_start_matches("/products/");
    let why = format!(
        "the product {name} is left out: another one in the target has its SKU \"of-another\""
    );
    for _ in 0..2 {
        let (well, text) = shops.copy(&[]);
        assert!(!well && text.starts_with("wrote 0 products"), "{text}");
        assert!(text.contains("4 of them differ and stay") && text.contains(&why), "{text}");
    }
    let (well, text) = shops.copy(&["--overwrite"]);
    assert!(!well && text.starts_with("wrote 4 products") && text.contains(&why), "{text}");
    assert_eq!(shops.target.send(Method::DELETE, &others, &[], "").await.status, 204);
    let (well, text) = shops.copy(&["--overwrite"]);
    assert!(well && text.starts_with("wrote 1 products"), "{text}");
    for (path, expected) in paths.iter().zip(["three", "two", "one", "first"]) {
        assert_eq!(sku(&shops.target, path).await, expected);
        let taken = json!({ "name": "Lamp", "price": 1, "sku": expected.to_uppercase() });
        assert_eq!(shops.target.post("/products", taken).await.status, 409, "it is taken");
    }
    assert_eq!(sku(&shops.target, &refused).await, "of-another");
}

each_storage!(what_was_removed_stays_removed);
async fn what_was_removed_stays_removed(storage: Storage) {
    let mut shops = Shops::start(storage).await;
    let (gone, stays) = (add(&shops.source, "gone").await, add(&shops.source, "stays").await);
    assert!(shops.copy(&[]).0);
    assert_eq!(shops.target.send(Method::DELETE, &gone, &[], "").await.status, 204);
    set_sku(&shops.source, &stays, json!("changed")).await;
    for (options, wrote) in [(&[][..], 0), (&["--overwrite"][..], 1), (&["--overwrite"][..], 0)] {
        let (well, text) = shops.copy(options);
        assert!(!well && text.starts_with(&format!("wrote {wrote} products")), "{text}");
        assert!(text.contains("\n1 were removed from the target and stay so\n"), "{text}");
    }
    assert_eq!(shops.target.get(&gone).await.status, 404);
    assert_eq!(sku(&shops.target, &stays).await, "changed");
    assert_eq!(shops.target.walk("/products?sort=name").await.len(), 1);

    let seeded =
        |shop: &Shop| String::from_utf8(shop.run(&["seed", "--products", "3"]).stdout).unwrap();
    assert!(seeded(&shops.to).starts_with("added 3 of 3"));
    let seed = shops.target.walk("/products?sort=newest&limit=2").await.pop().unwrap();
    let seed = format!("/products/{seed}");
    assert_eq!(shops.target.send(Method::DELETE, &seed, &[], "").await.status, 204);
    assert!(seeded(&shops.to).starts_with("added 0 of 3"));
    assert_eq!(shops.target.get(&seed).await.status, 404);
}

#[actix_rt::test]
async fn a_copy_from_a_file_that_needs_migrations_says_so() {
    let folder = tempfile::TempDir::new().unwrap();
    let mut seed = Process::command(folder.path());
    seed.args(["seed", "--products", "3"]);
    assert!(Process::run(seed).status.success());
    age(&folder.path().join("data/product.db"), &BACK);
    let mongo = Server::start(Kind::Mongo);
    for to in ["sqlite://new.db".to_owned(), mongo.url()] {
        let (well, text) = copy(folder.path(), "sqlite://data/product.db", &to);
        let why = "data/product.db needs migrations first: 00000000000005_listing";
        assert!(!well && text.contains(why) && text.lines().count() == 1, "{text}");
    }
    assert!(!folder.path().join("new.db").exists(), "the target was left alone");
    let mut migrate = Process::command(folder.path());
    migrate.args(["migrate", "--role", "product"]);
    assert!(Process::run(migrate).status.success());
    let (well, text) = copy(folder.path(), "sqlite://data/product.db", "sqlite://new.db");
    assert!(well && text.starts_with("wrote 3 "), "{text}");
}

#[actix_rt::test]
async fn a_copy_of_accounts_that_need_migrations_says_so() {
    let folder = tempfile::TempDir::new().unwrap();
    let migrate = |url: &str| {
        let mut command = Process::command(folder.path());
        command.args(["migrate", "--role", "user"]).env("DATABASE_URL", url);
        assert!(Process::run(command).status.success());
    };
    migrate("sqlite://data/user.db");
    let events = "DROP TABLE user_dead_letters; DROP TABLE user_cursors; DROP TABLE user_outbox";
    let orders = ["ALTER TABLE recent_orders DROP COLUMN products", "DROP TABLE recent_orders"];
    let letters =
        include_str!("../../../migrations/sqlite/user/00000000000007_dead_letters/down.sql");
    let back =
        [letters, "DROP TABLE user_relay", events, orders[0], orders[1], "DROP TABLE sessions"];
    age(&folder.path().join("data/user.db"), &back);
    let (well, text) = copy(folder.path(), "sqlite://data/user.db", "sqlite://new.db");
    let why = "data/user.db needs migrations first: 00000000000002_identity";
    assert!(!well && text.contains(why) && text.lines().count() == 1, "{text}");
    let postgres = Server::start(Kind::Postgres);
    let (well, text) = copy(folder.path(), &postgres.url(), "sqlite://new.db");
    assert!(!well && text.contains("cannot read the database"), "{text}");
    migrate(&postgres.url());
    let (well, text) = copy(folder.path(), &postgres.url(), "sqlite://new.db");
    assert!(well && text.starts_with("wrote 0 "), "{text}");
}

#[actix_rt::test]
async fn what_cannot_be_copied_says_why() {
    let folder = tempfile::TempDir::new().unwrap();
    let mut migrate = Process::command(folder.path());
    migrate.arg("migrate");
    assert!(Process::run(migrate).status.success());
    for (from, to, why) in [
        ("postgres://x", "mongodb://x", "neither can be copied to the other"),
        ("sqlite://nowhere.db", "sqlite://x.db", "--from: cannot read nowhere.db"),
        ("sqlite://nowhere.db", "mongodb://127.0.0.1:1/x", "--from: cannot read nowhere.db"),
        ("postgres://127.0.0.1:1/x", "sqlite://x.db", "app: --from: "),
        ("mongodb://127.0.0.1:1/x", "sqlite://x.db", "app: --from: "),
        ("sqlite://data/user.db", "postgres://127.0.0.1:1/x", "app: --to: "),
        ("sqlite://data/product.db", "mongodb://127.0.0.1:1/x", "app: --to: "),
        (
            "sqlite://data/user.db",
            "sqlite://data/product.db",
            "--to: data/product.db is no store of accounts",
        ),
        (
            "sqlite://data/product.db",
            "sqlite://data/user.db",
            "--to: data/user.db is no store of products",
        ),
        (
            "postgres://x",
            "sqlite://data/product.db",
            "--to: data/product.db is no store of accounts",
        ),
        (
            "sqlite://data/order.db",
            "sqlite://data/user.db",
            "--to: data/user.db is no store of orders",
        ),
        ("sqlite://data/order.db", "mongodb://127.0.0.1:1/x", "has no tables that can be copied"),
        ("mysql://x", "postgres://x", "mysql:// is not a back end"),
        ("mongodb://x/?readPreference=secondary", "sqlite://x.db", "can lag behind"),
    ] {
        let (well, text) = copy(folder.path(), from, to);
        assert!(!well && text.contains(why) && text.lines().count() == 1, "{text}");
    }
}

#[actix_rt::test]
async fn what_the_target_has_stays_unless_it_is_to_be_overwritten() {
    let postgres = Server::start(Kind::Postgres);
    let shop = Shop::start(Topology::OneProcess);
    let (client, folder) = (shop.gateway(), shop.folder.path());
    client.register("neo").await;
    client.add_product("Lamp", 1.25).await;
    let set = |url: Option<&str>, email: &str| {
        let mut command = Process::command(folder);
        command.args(["user", "password", email]).envs(url.map(|url| ("DATABASE_URL", url)));
        password_in(&Process::run(command))
    };
    let email = "neo@example.com";
    let old = set(None, email);
    for (target, whole) in [(postgres.url(), true), ("sqlite://other/user.db".to_owned(), true)] {
        let from = "sqlite://data/user.db";
        assert_eq!(copy(folder, from, &target).0, whole);
        // Changed there, and the first shop has one more since.
        let new = set(Some(&target), email);
        client.register(&format!("u{}", target.len())).await;
        let (well, text) = copy(folder, from, &target);
        assert!(!well && text.starts_with("wrote 1 accounts"), "{text}");
        assert!(text.contains("1 of them differ and stay as they are; --overwrite"), "{text}");
        let mut command = Process::command(folder);
        command.env("DATABASE_URL", &target).env("MONGODB_URL", "sqlite://other/product.db");
        let other = Process::start(folder, command);
        other.client("gateway").signed_in(email, &new).await;
        drop(other);
        let mut command = Process::command(folder);
        command.args(["copy", "--overwrite", "--from", from, "--to", &target]);
        let output = Process::run(command);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.starts_with("wrote 1 accounts"), "{text}");
        let mut command = Process::command(folder);
        command.env("DATABASE_URL", &target).env("MONGODB_URL", "sqlite://other/product.db");
        Process::start(folder, command).client("gateway").signed_in(email, &old).await;
    }
}
