//! What holds on one back end of a store holds on the other.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use awc::http::Method;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{Client, Kind, Process, Server, Shop, Storage, Topology, account, until};

/// A shop in one process on `storage`.
fn shop(storage: Storage) -> Shop {
    Shop::start_on(Topology::OneProcess, storage.servers(), &[])
}

each_storage!(what_goes_in_comes_out);
async fn what_goes_in_comes_out(storage: Storage) {
    let shop = shop(storage);
    let client = shop.gateway();
    let widest = "🦊".repeat(200);
    for (name, price) in [
        ("Zoë's \"Lamp\" \\ $gt {\"$ne\":1}", json!(49.99)),
        ("名前 \u{202e}x", json!(0)),
        (widest.as_str(), json!(1_000_000_000_000_i64)),
        ("'; DROP TABLE products; --", json!(0.01)),
    ] {
        let added = client.post("/products", json!({ "name": name, "price": price })).await;
        assert_eq!(added.status, 201, "{storage:?} {name}");
        let product = added.json();
        assert_eq!((&product["name"], &product["price"]), (&json!(name), &price), "{storage:?}");
        assert_eq!(client.get(added.header("location")).await.json(), product, "{storage:?}");
    }
    for (n, name) in
        ["Zoë 🦊", "名前", &"ö".repeat(64), "'; DROP TABLE users; --"].iter().enumerate()
    {
        let local = if n == 2 { "a".repeat(64) } else { format!("u{n}") };
        let new = json!({ "username": name, "email": format!("{local}@example.com") });
        let added = client.post("/auth/register", new).await;
        assert_eq!(added.status, 201, "{storage:?} {name}");
        let dashboard = client.get(added.header("location")).await.json();
        assert_eq!(dashboard["user"], added.json(), "{storage:?}");
        assert_eq!(dashboard["user"]["username"], json!(name), "{storage:?}");
    }
}

each_storage!(of_twenty_who_want_one_address_one_gets_it);
async fn of_twenty_who_want_one_address_one_gets_it(storage: Storage) {
    let shop = shop(storage);
    let client = shop.gateway();
    let tries = (0..20).map(|n| {
        let client = client.clone();
        // Each in another mix of cases.
        let email = if n % 2 == 0 { "one@example.com" } else { "ONE@Example.com" };
        let body = json!({ "username": format!("u{n}"), "email": email });
        async move { client.post("/auth/register", body).await.status }
    });
    let mut statuses = join_all(tries).await;
    statuses.sort_unstable();
    assert_eq!(statuses[0], 201, "{storage:?}");
    assert_eq!(statuses[1..], [409; 19], "{storage:?}");
}

each_storage!(of_twenty_who_saw_one_version_one_may_write);
async fn of_twenty_who_saw_one_version_one_may_write(storage: Storage) {
    let shop = shop(storage);
    let client = shop.admin().await;
    let path = format!("/products/{}", client.add_product("Lamp", 1.0).await);
    let etag = client.get(&path).await.header("etag").to_owned();
    let tries = (0..20).map(|n| {
        let (client, path, etag) = (client.clone(), path.clone(), etag.clone());
        async move {
            let headers = [("content-type", "application/json"), ("if-match", etag.as_str())];
            let body = json!({ "name": format!("Lamp {n}"), "price": n }).to_string();
            client.send(Method::PUT, &path, &headers, body).await
        }
    });
    let answers = join_all(tries).await;
    let (done, refused) = answers.iter().partition::<Vec<_>, _>(|answer| answer.status == 200);
    assert_eq!((done.len(), refused.len()), (1, 19), "{storage:?}");
    for answer in refused {
        assert_eq!(answer.status, 412, "{answer:?}");
        assert_eq!(answer.problem().0, "/problems/precondition-failed");
    }
    let now = client.get(&path).await;
    assert_ne!(now.header("etag"), etag, "{storage:?}");
    assert_eq!(now.json(), done[0].json(), "{storage:?}");
    assert_eq!(done[0].header("etag"), now.header("etag"));
}

each_storage!(a_client_that_has_it_already_gets_304);
async fn a_client_that_has_it_already_gets_304(storage: Storage) {
    let shop = shop(storage);
    let client = shop.admin().await;
    let one = format!("/products/{}", client.add_product("Lamp", 1.0).await);
    let first = client.get(&one).await.header("etag").to_owned();
    for path in ["/products", &one] {
        let etag = client.get(path).await.header("etag").to_owned();
        let ask =
            async |tags: &str| client.send(Method::GET, path, &[("if-none-match", tags)], "").await;
        let known = ask(&etag).await;
        assert_eq!((known.status, known.body.len()), (304, 0), "{storage:?} {path}");
        assert_eq!(known.header("etag"), etag);
        assert_eq!(ask(&format!("\"x\", W/{etag}")).await.status, 304);
        assert_eq!(ask("\"other\"").await.status, 200);
        let headers = [("content-type", "application/json")];
        client.send(Method::PUT, &one, &headers, r#"{"name":"Lamp","price":2}"#).await;
        assert_eq!(ask(&etag).await.status, 200, "{storage:?} {path}: it has changed");
    }
    let now = client.get(&one).await.header("etag").to_owned();
    let stale = [("if-match", first.as_str())];
    assert_eq!(client.send(Method::DELETE, &one, &stale, "").await.status, 412);
    assert_eq!(
        client.send(Method::DELETE, &one, &[("if-match", "nonsense")], "").await.status,
        412
    );
    // A weak tag is taken for that of a compressed answer, which stands for the same version.
    let weak = format!("W/{first}");
    let weak = [("if-match", weak.as_str())];
    assert_eq!(
        client.send(Method::DELETE, &one, &weak, "").await.status,
        412,
        "weak tags of other versions match nothing"
    );
    let tags = format!("\"7\", {now}");
    let put = [("content-type", "application/json"), ("if-match", tags.as_str())];
    let lamp = r#"{"name":"Lamp","price":2}"#;
    assert_eq!(
        client.send(Method::PUT, &one, &put, lamp).await.status,
        200,
        "{storage:?}: one of the tags"
    );
    assert_eq!(client.send(Method::DELETE, &one, &[("if-match", "*")], "").await.status, 204);
    assert_eq!(client.get(&one).await.status, 404, "{storage:?}");
    assert_eq!(client.get("/products").await.json(), json!([]), "{storage:?}");
}

const JSON: (&str, &str) = ("content-type", "application/json");

/// Replaces the product at `path`; gives its ETag.
async fn replaced(client: &Client, path: &str, name: &str) -> String {
    let body = json!({ "name": name, "price": 1 }).to_string();
    let answer = client.send(Method::PUT, path, &[JSON], body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.header("etag").to_owned()
}

/// Asserts that nobody who has what `old` names takes it for what is at `path` now.
async fn is_another(client: &Client, path: &str, old: &str) {
    let now = client.get(path).await;
    assert_ne!(now.header("etag"), old);
    let known = client.send(Method::GET, path, &[("if-none-match", old)], "").await;
    assert_eq!((known.status, known.body), (200, now.body.clone()));
    let body = json!({ "name": "Written over", "price": 1 }).to_string();
    let put = client.send(Method::PUT, path, &[JSON, ("if-match", old)], body).await;
    assert_eq!(put.status, 412, "{put:?}");
    let removed = client.send(Method::DELETE, path, &[("if-match", old)], "").await;
    assert_eq!(removed.status, 412, "{removed:?}");
    assert_eq!(client.get(path).await.json(), now.json());
}

async fn an_etag_names_one_life(storage: Storage) {
    let shop = shop(storage);
    let client = shop.admin().await;
    let seed = || assert!(shop.run(&["seed", "--products", "1"]).status.success());
    seed();
    let path = "/products/659200807365656400000000";
    let seeded = client.get(path).await.header("etag").to_owned();
    let first = replaced(&client, path, "One").await;
    is_another(&client, path, &seeded).await;
    // The same content, in another version.
    let second = replaced(&client, path, "One").await;
    is_another(&client, path, &first).await;
    assert_eq!(client.get(path).await.header("etag"), second);
    assert_eq!(client.send(Method::DELETE, path, &[], "").await.status, 204);
    seed();
    assert_eq!(client.get(path).await.status, 404, "an id is not given out again");
}

#[actix_rt::test]
async fn an_etag_names_one_life_in_a_file() {
    an_etag_names_one_life(Storage::Embedded).await;
}

#[actix_rt::test]
async fn an_etag_names_one_life_in_mongodb() {
    an_etag_names_one_life(Storage::Polyglot).await;
}

each_storage!(an_etag_survives_no_restore);
async fn an_etag_survives_no_restore(storage: Storage) {
    let shop = shop(storage);
    let client = shop.admin().await;
    let path = format!("/products/{}", client.add_product("Lamp", 1.0).await);
    let saved = client.get(&path).await.header("etag").to_owned();
    let mongo = shop.servers.iter().find(|server| server.kind() == Kind::Mongo);
    let live = mongo.map_or_else(|| "sqlite://data/product.db".to_owned(), Server::url);
    let copy = |from: &str, to: &str| {
        let output = shop.run(&["copy", "--overwrite", "--from", from, "--to", to]);
        assert!(output.status.success(), "{output:?}");
    };
    copy(&live, "sqlite://backup.db");
    let lost = replaced(&client, &path, "Lost").await;
    copy("sqlite://backup.db", &live);
    // Any write has the cache forget what was before.
    client.add_product("Another", 1.0).await;
    assert_eq!(client.get(&path).await.header("etag"), saved, "it is what it was");
    is_another(&client, &path, &lost).await;
    replaced(&client, &path, "Kept").await;
    is_another(&client, &path, &lost).await;
}

each_storage!(what_was_stored_without_a_revision_reads_and_changes_as_ever);
async fn what_was_stored_without_a_revision_reads_and_changes_as_ever(storage: Storage) {
    let shop = shop(storage);
    let ids = [1, 2].map(|n| bson::oid::ObjectId::from_bytes([n; 12]));
    match storage {
        Storage::Embedded | Storage::Pooled => tie_in_file(&shop, &ids),
        Storage::Polyglot => tie_in_mongo(&shop.servers, &ids).await,
    }
    let client = shop.admin().await;
    let [one, other] = ids.map(|id| format!("/products/{id}"));
    let etag = client.get(&one).await.header("etag").to_owned();
    let body = json!({ "name": "Lamp", "price": 1 }).to_string();
    let headers = [JSON, ("if-match", etag.as_str())];
    let put = client.send(Method::PUT, &one, &headers, body).await;
    assert_eq!(put.status, 200, "{storage:?} {put:?}");
    is_another(&client, &one, &etag).await;
    let etag = client.get(&other).await.header("etag").to_owned();
    let gone = client.send(Method::DELETE, &other, &[("if-match", etag.as_str())], "").await;
    assert_eq!(gone.status, 204, "{storage:?} {gone:?}");
}

each_storage!(pages_neither_skip_nor_repeat_while_others_write);
async fn pages_neither_skip_nor_repeat_while_others_write(storage: Storage) {
    let shop = shop(storage);
    let client = shop.gateway();
    let mut before = Vec::new();
    for n in 0..60 {
        before.push(client.add_product(&format!("Product {n}"), 1.0).await);
    }
    before.reverse();
    let writer = async {
        for n in 0..40 {
            client.add_product(&format!("Newcomer {n}"), 1.0).await;
        }
    };
    let reader = async {
        for _ in 0..3 {
            let seen = client.walk("/products?limit=7").await;
            let old = seen.iter().filter(|id| before.contains(id)).cloned().collect::<Vec<_>>();
            assert_eq!(old, before, "{storage:?}");
            assert_eq!(seen.iter().collect::<HashSet<_>>().len(), seen.len(), "{storage:?}");
        }
    };
    futures_util::future::join(writer, reader).await;
    assert_eq!(client.walk("/products").await.len(), 100, "{storage:?}");
}

each_storage!(products_of_one_moment_keep_one_order);
async fn products_of_one_moment_keep_one_order(storage: Storage) {
    let ids = (0..25_u8).map(|n| bson::oid::ObjectId::from_bytes([n.wrapping_mul(77); 12]));
    let mut ids = ids.collect::<Vec<_>>();
    let shop = shop(storage);
    match storage {
        Storage::Embedded | Storage::Pooled => tie_in_file(&shop, &ids),
        Storage::Polyglot => tie_in_mongo(&shop.servers, &ids).await,
    }
    ids.sort_by(|a, b| b.cmp(a));
    let expected = ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    for limit in [1, 4, 25] {
        let seen = shop.gateway().walk(&format!("/products?limit={limit}")).await;
        assert_eq!(seen, expected, "{storage:?} {limit}");
    }
}

/// The time of products that were all added at once, in microseconds.
const MOMENT: i64 = 1_700_000_000_000_000;

fn tie_in_file(shop: &Shop, ids: &[bson::oid::ObjectId]) {
    use diesel::connection::SimpleConnection as _;
    use diesel::{Connection as _, SqliteConnection};
    let file = shop.folder.path().join("data/product.db");
    let mut connection = SqliteConnection::establish(file.to_str().unwrap()).unwrap();
    for id in ids {
        let insert = format!(
            "INSERT INTO products (id, name, price, created_at) VALUES ('{id}', 'x', 1, {MOMENT})"
        );
        connection.batch_execute(&insert).unwrap();
    }
}

async fn tie_in_mongo(servers: &[Server], ids: &[bson::oid::ObjectId]) {
    let server = servers.iter().find(|server| server.kind() == Kind::Mongo).unwrap();
    let client = mongodb::Client::with_uri_str(server.url()).await.unwrap();
    let products = client.default_database().unwrap().collection("products");
    for id in ids {
        let row = bson::doc! { "_id": id, "name": "x", "price": 1_i64, "created_at": MOMENT, "version": 1_i64 };
        products.insert_one(row).await.unwrap();
    }
}

#[actix_rt::test]
async fn any_mix_of_back_ends_works() {
    for kind in [Kind::Postgres, Kind::Mongo, Kind::Redis] {
        let shop = Shop::start_on(Topology::OneProcess, vec![Server::start(kind)], &[]);
        let client = shop.gateway();
        let user = client.register("neo").await;
        let product = client.add_product("Lamp", 5.0).await;
        let dashboard: Value = client.get(&format!("/auth/dashboard/{user}")).await.json();
        assert_eq!(dashboard["recommendedProducts"][0]["id"], json!(product), "{kind:?}");
        assert_eq!(client.get("/products").await.header("x-cache"), "MISS", "{kind:?}");
        assert_eq!(client.get("/products").await.header("x-cache"), "HIT", "{kind:?}");
    }
}

#[actix_rt::test]
async fn ten_processes_may_start_on_an_empty_server_at_once() {
    let server = Server::start(Kind::Postgres);
    let folder = tempfile::TempDir::new().unwrap();
    let children = (0..10).map(|_| {
        let mut command = Process::command(folder.path());
        command.args(["migrate", "--role", "user"]).env("DATABASE_URL", server.url());
        actix_rt::task::spawn_blocking(move || command.output().unwrap())
    });
    let mut applied = 0;
    for child in children.collect::<Vec<_>>() {
        let output = child.await.unwrap();
        assert!(output.status.success(), "{output:?}");
        applied += String::from_utf8(output.stdout).unwrap().matches("applied").count();
    }
    assert_eq!(applied, 7);
}

#[actix_rt::test]
async fn postgresql_is_spoken_to_over_tls_where_the_url_asks_for_it() {
    let authority = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let server = Server::start_postgres_with_tls(
        &authority.cert.pem(),
        &authority.signing_key.serialize_pem(),
    );
    let folder = tempfile::TempDir::new().unwrap();
    let trusted = folder.path().join("trusted.pem");
    std::fs::write(&trusted, authority.cert.pem()).unwrap();
    let url = server.url().replace("127.0.0.1", "localhost").replace("disable", "require");
    let migrate = |trust: bool| {
        let mut command = Process::command(folder.path());
        command.args(["migrate", "--role", "user"]).env("DATABASE_URL", &url);
        if trust {
            command.env("SSL_CERT_FILE", &trusted);
        }
        Process::run(command)
    };
    let refused = migrate(false);
    let why = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && why.contains("invalid peer certificate"), "{why}");
    let accepted = migrate(true);
    assert!(accepted.status.success(), "{accepted:?}");
}

#[actix_rt::test]
async fn redis_is_spoken_to_over_tls_and_believed_by_its_authority() {
    let authority = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let server =
        Server::start_redis_with_tls(&authority.cert.pem(), &authority.signing_key.serialize_pem());
    let folder = tempfile::TempDir::new().unwrap();
    let trusted = folder.path().join("trusted.pem");
    std::fs::write(&trusted, authority.cert.pem()).unwrap();
    let url = server.url();
    for (trusted, missing, label) in [
        (trusted.to_str(), json!([]), "HIT"),
        (None, json!(["gateway.limits", "user.limits", "product.cache"]), "MISS"),
    ] {
        let mut environment = vec![
            ("REDIS_URL", url.as_str()),
            ("APP__GATEWAY__ROUTES__PRODUCTS__LIMITS", "50000/1s by address"),
        ];
        environment.extend(trusted.map(|path| ("SSL_CERT_FILE", path)));
        let shop = Shop::start_with(Topology::OneProcess, &environment);
        let (client, process) = (shop.gateway(), shop.process("gateway"));
        client.add_product("Lamp", 1.0).await;
        until("/readyz says so", async || process.missing().await == missing).await;
        // The first of these may be the one that fills the cache; without Redis a process has none.
        until("it is answered so", async || {
            let page = client.get("/products").await;
            assert_eq!(page.status, 200, "{page:?}");
            page.header("x-cache") == label
        })
        .await;
    }
}

#[actix_rt::test]
async fn a_call_waits_for_a_connection_and_for_an_answer_as_long_as_is_set() {
    let (acquire, statement) = (Duration::from_millis(600), Duration::from_millis(2500));
    let environment = [
        ("APP__SERVER__WORKERS", "1"),
        ("APP__USER__POOL_SIZE", "2"),
        ("APP__USER__ACQUIRE_TIMEOUT", "600ms"),
        ("APP__USER__STATEMENT_TIMEOUT", "2500ms"),
    ];
    let server = vec![Server::start(Kind::Postgres)];
    let shop = Shop::start_on(Topology::OneProcess, server, &environment);
    let client = shop.gateway();
    client.register("neo").await;
    let (other, connection) =
        tokio_postgres::connect(&shop.servers[0].url(), tokio_postgres::NoTls).await.unwrap();
    actix_rt::spawn(connection);
    other.batch_execute("BEGIN; LOCK TABLE users IN EXCLUSIVE MODE").await.unwrap();
    let register = async |n: usize| {
        let begun = Instant::now();
        let answer = client.post("/auth/register", account(n)).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, "1"), "{answer:?}");
        begun.elapsed()
    };
    // One of two connections is for reads.
    let (mut times, slack) = (join_all((0..4).map(register)).await, Duration::from_millis(900));
    times.sort_unstable();
    let last = times.pop().unwrap();
    assert!(last >= statement && last < statement + slack, "an answer: {last:?}");
    for time in times {
        assert!(time >= acquire && time < acquire + slack, "a connection: {time:?}");
    }
    // The server itself has ended it: it would wait for the lock beyond the client's patience.
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
    assert_eq!(other.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0), 0);
    other.batch_execute("ROLLBACK").await.unwrap();
    client.register("trinity").await;
}

/// A pooler gives each transaction another session: what is kept in one is lost, or somebody else's.
#[actix_rt::test]
async fn behind_a_pooler_nothing_is_kept_in_a_session_and_starts_do_not_hang() {
    let server = Server::start_pooled();
    let url = server.url();
    let folder = tempfile::TempDir::new().unwrap();
    for n in 0..3 {
        let mut command = Process::command(folder.path());
        command.env("DATABASE_URL", &url);
        let process = Process::start(folder.path(), command);
        let client = process.client("gateway");
        let names = (0..20).map(|m| format!("user-{n}-{m}")).collect::<Vec<_>>();
        let added = names.iter().map(async |name| {
            let account = json!({ "username": name, "email": format!("{name}@example.com") });
            client.post("/auth/register", account).await
        });
        let added = join_all(added).await;
        let refused = added.iter().find(|answer| answer.status != 201);
        assert!(refused.is_none(), "start {n}: {refused:?}: {}", process.log());
        let ids = added.iter().map(|answer| answer.json()["id"].as_str().unwrap().to_owned());
        let ids = ids.collect::<Vec<_>>();
        let found =
            ids.iter().map(async |id| client.get(&format!("/auth/dashboard/{id}")).await.status);
        let found = join_all(found).await;
        assert!(found.into_iter().all(|status| status == 200), "start {n}");
        let again =
            serde_json::json!({ "username": "x", "email": format!("user-{n}-0@example.com") });
        assert_eq!(client.post("/auth/register", again).await.status, 409);
        assert!(!process.log().contains("\"level\":\"error\""), "{}", process.log());
    }
    // Whoever comes next finds a session as the server makes it.
    let psql = |sql: &str| {
        let url = url.replace("&prepared_statements=false", "");
        let output = std::process::Command::new("psql").args(["-qAt", &url, "-c", sql]).output();
        String::from_utf8(output.unwrap().stdout).unwrap().trim().to_owned()
    };
    assert_eq!(psql("SHOW statement_timeout"), "0");
    assert_eq!(psql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"), "0");
}

#[actix_rt::test]
async fn a_start_that_waits_for_anothers_migration_says_so() {
    let server = Server::start(Kind::Postgres);
    let url = server.url();
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    actix_rt::spawn(connection);
    let lock = format!("SELECT pg_advisory_lock({})", 0x6170_7020_6d69_6772_i64);
    client.batch_execute(&lock).await.unwrap();
    let folder = tempfile::TempDir::new().unwrap();
    let mut command = Process::command(folder.path());
    command.args(["migrate", "--role", "user"]).env("DATABASE_URL", &url);
    let started = std::time::Instant::now();
    let output = actix_rt::task::spawn_blocking(move || Process::run(command)).await.unwrap();
    assert!(!output.status.success());
    assert!(started.elapsed() > std::time::Duration::from_secs(10));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("another process"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}
