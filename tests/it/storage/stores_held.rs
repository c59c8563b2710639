//! Stores that take commands and do not answer them.

use std::time::{Duration, Instant};

use awc::http::Method;
use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, SqliteConnection};
use futures_util::future::join_all;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::{Answer, Client, Kind, MongoProxy, Server, Shop, Topology, account, until};

/// As long as a call may wait for a connection, and then for an answer, and some more: what has not been done by then
/// never is.
const LATER: Duration = Duration::from_millis(4500);

const ONE_WORKER: (&str, &str) = ("APP__SERVER__WORKERS", "1");

fn lamp(price: usize) -> String {
    json!({ "name": "Lamp", "price": price }).to_string()
}

/// Sends `count` requests at once that each have so many `millis`, or the role's own time.
async fn at_once(
    client: &Client,
    count: usize,
    (method, path): (Method, &str),
    body: impl Fn(usize) -> String,
    millis: Option<&str>,
) -> Vec<Answer> {
    let requests = (0..count).map(|n| {
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(millis.map(|millis| ("x-request-timeout-ms", millis)));
        let (client, method, body) = (client.clone(), method.clone(), body(n));
        async move { client.send(method, path, &headers, body).await }
    });
    join_all(requests).await
}

fn statuses(answers: &[Answer]) -> Vec<u16> {
    answers.iter().map(|answer| answer.status).collect()
}

/// A shop whose catalogue is behind a proxy.
fn behind_proxy(environment: &[(&str, &str)]) -> (Shop, MongoProxy, Server) {
    let server = Server::start(Kind::Mongo);
    let proxy = MongoProxy::start(&server);
    let url = proxy.url();
    let environment = [&[("MONGODB_URL", url.as_str())], environment].concat();
    (Shop::start_with(Topology::OneProcess, &environment), proxy, server)
}

#[actix_rt::test]
async fn mongodb_through_a_proxy_that_loses_a_reply_is_asked_again() {
    let (shop, proxy, _server) = behind_proxy(&[]);
    let client = shop.admin().await;
    let id = client.add_product("Lamp", 1.0).await;
    proxy.lose_replies("findAndModify", 1);
    let path = format!("/products/{id}");
    let answer = client.write(Method::PUT, &path, json!({ "name": "Lamp", "price": 2 })).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(proxy.seen("findAndModify").len(), 2);
    proxy.hold_replies("insert");
    let added = actix_rt::spawn({
        let client = client.clone();
        async move { client.add_product("Chair", 1.0).await }
    });
    until("the reply is held", async || proxy.held() == 1).await;
    proxy.release();
    let added = added.await.unwrap();
    assert_eq!(client.get("/products").await.ids()[0], added);
    proxy.hold("insert");
    let added = actix_rt::spawn({
        let client = client.clone();
        async move { client.add_product("Table", 1.0).await }
    });
    until("the command is held", async || proxy.held() == 1).await;
    proxy.release();
    let added = added.await.unwrap();
    assert_eq!(client.get("/products").await.ids()[0], added);
    proxy.replace_replies("findAndModify", bson::doc! { "value": null }, 1);
    let answer = client.write(Method::PUT, &path, json!({ "name": "Lamp", "price": 3 })).await;
    assert_eq!(answer.status, 412, "what is there, and was not met, has changed: {answer:?}");
    proxy.refuse("insert", bson::doc! { "ok": 0.0, "code": 1, "errmsg": "no" });
    assert_eq!(client.post("/products", json!({ "name": "x", "price": 1 })).await.status, 500);
}

#[actix_rt::test]
async fn inserts_that_mongodb_does_not_answer_are_not_made_later() {
    let (shop, proxy, _server) = behind_proxy(&[ONE_WORKER]);
    let client = shop.gateway();
    proxy.hold("insert");
    let answers = at_once(&client, 100, (Method::POST, "/products"), lamp, None).await;
    for answer in &answers {
        assert_eq!((answer.status, answer.header("retry-after")), (503, "1"), "{answer:?}");
    }
    // What has been sent is on its way, and no more than the connections of a worker take at a time.
    let sent = proxy.seen("insert").len();
    assert!((1..=9).contains(&sent), "{sent}");
    proxy.release();
    actix_rt::time::sleep(LATER).await;
    assert_eq!(proxy.seen("insert").len(), sent);
    let kept = client.get("/products?limit=100").await.ids();
    assert!(kept.len() <= sent, "{} of {sent}", kept.len());
    client.add_product("Chair", 1.0).await;
}

#[actix_rt::test]
async fn writes_that_mongodb_does_not_answer_hold_no_reads_and_no_other_way_round() {
    let (shop, proxy, _server) = behind_proxy(&[ONE_WORKER]);
    let client = shop.admin().await;
    let id = client.add_product("Lamp", 1.0).await;
    let path = format!("/products/{id}");
    proxy.hold("findAndModify");
    let writes = actix_rt::spawn({
        let (client, path) = (client.clone(), path.clone());
        async move { at_once(&client, 8, (Method::PUT, &path), lamp, None).await }
    });
    until("writes are held", async || proxy.held() >= 3).await;
    for limit in 1..20 {
        let begun = Instant::now();
        assert_eq!(client.get(&format!("/products?limit={limit}")).await.status, 200);
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    }
    assert!(statuses(&writes.await.unwrap()).iter().all(|status| *status == 503));
    proxy.release();
    proxy.hold("find");
    let reads = actix_rt::spawn({
        let client = client.clone();
        async move {
            join_all((30..38).map(|limit| {
                let client = client.clone();
                async move { client.get(&format!("/products?limit={limit}")).await }
            }))
            .await
        }
    });
    until("reads are held", async || proxy.held() >= 3).await;
    client.add_product("Chair", 1.0).await;
    assert!(statuses(&reads.await.unwrap()).iter().all(|status| *status == 503));
    proxy.release();
    let commands = [proxy.seen("findAndModify"), proxy.seen("insert")].concat();
    for command in commands {
        let bounded = command.contains_key("maxTimeMS");
        let concern = command.get_document("writeConcern").unwrap();
        assert!(bounded && concern.contains_key("wtimeout"), "{command}");
    }
}

#[actix_rt::test]
async fn a_ping_that_mongodb_does_not_answer_is_asked_again() {
    let (shop, proxy, _server) = behind_proxy(&[]);
    let missing = async || shop.process("gateway").missing().await;
    proxy.hold("ping");
    // As many as there are connections.
    until("some are held", async || proxy.held() >= 4).await;
    assert_eq!(missing().await, json!(["product.database"]));
    proxy.stop_holding();
    let back = Instant::now();
    until("it is back", async || missing().await == json!([])).await;
    assert!(back.elapsed() < Duration::from_secs(5), "{:?}", back.elapsed());
}

/// Locks the file against writers until it is dropped.
fn lock(shop: &Shop, file: &str) -> SqliteConnection {
    let file = shop.folder.path().join("data").join(file);
    let mut connection = SqliteConnection::establish(file.to_str().unwrap()).unwrap();
    connection.batch_execute("BEGIN IMMEDIATE").unwrap();
    connection
}

#[actix_rt::test]
async fn writes_that_wait_for_a_lock_on_sqlite_are_not_made_later() {
    let shop = Shop::start_with(Topology::OneProcess, &[ONE_WORKER]);
    let client = shop.gateway();
    let user = client.register("neo").await;
    let account = |n| account(n).to_string();
    for millis in [None, Some("500")] {
        let locks = [lock(&shop, "product.db"), lock(&shop, "user.db")];
        let begun = Instant::now();
        let (products, accounts, read) = futures_util::join!(
            at_once(&client, 10, (Method::POST, "/products"), lamp, millis),
            at_once(&client, 10, (Method::POST, "/auth/register"), account, millis),
            async {
                actix_rt::time::sleep(Duration::from_millis(100)).await;
                let read = (
                    client.get("/products?limit=7").await.status,
                    client.get(&format!("/auth/dashboard/{user}")).await.status,
                );
                (read, begun.elapsed())
            }
        );
        assert_eq!(read.0, (200, 200));
        assert!(read.1 < Duration::from_secs(1), "{:?}", read.1);
        for status in statuses(&products).into_iter().chain(statuses(&accounts)) {
            assert!([503, 504].contains(&status), "{millis:?} {status}");
            assert!(millis.is_some() || status == 503, "{status}");
        }
        drop(locks);
        actix_rt::time::sleep(LATER).await;
        assert_eq!(client.get("/products?limit=8").await.ids().len(), 0, "{millis:?}");
    }
    client.add_product("Lamp", 1.0).await;
    // An address of those that were refused is free.
    assert_eq!(client.post("/auth/register", account(3)).await.status, 201);
}

each_case!(writes_that_wait_for_a_lock_on_postgresql_are_not_made_later:
    direct(Server::start(Kind::Postgres)),
    pooled(Server::start_pooled()),
);
async fn writes_that_wait_for_a_lock_on_postgresql_are_not_made_later(postgres: Server) {
    let shop = Shop::start_on(Topology::OneProcess, vec![postgres], &[ONE_WORKER]);
    let client = shop.gateway();
    let account = |n| account(n).to_string();
    for millis in [None, Some("500")] {
        let (other, connection) =
            tokio_postgres::connect(&shop.servers[0].plain_url(), tokio_postgres::NoTls)
                .await
                .unwrap();
        actix_rt::spawn(connection);
        other.batch_execute("BEGIN; LOCK TABLE users IN EXCLUSIVE MODE").await.unwrap();
        let answers = at_once(&client, 10, (Method::POST, "/auth/register"), account, millis).await;
        for status in statuses(&answers) {
            assert!([503, 504].contains(&status), "{millis:?} {status}");
            assert!(millis.is_some() || status == 503, "{status}");
        }
        other.batch_execute("ROLLBACK").await.unwrap();
        actix_rt::time::sleep(LATER).await;
        let count = other.query_one("SELECT count(*) FROM users", &[]).await.unwrap();
        assert_eq!(count.get::<_, i64>(0), 0, "{millis:?}");
    }
    assert_eq!(client.post("/auth/register", account(3)).await.status, 201);
}

#[actix_rt::test]
async fn connections_to_postgresql_that_hang_are_replaced() {
    let server = Server::start_own(Kind::Postgres);
    let mut shop = Shop::start_on(Topology::OneProcess, vec![server], &[ONE_WORKER]);
    let client = shop.gateway();
    let user = client.register("neo").await;
    let path = format!("/auth/dashboard/{user}");
    let together = async || join_all((0..8).map(|_| client.get(&path))).await;
    together().await;
    shop.server(Kind::Postgres).signal_backends(Signal::SIGSTOP);
    until("others have been opened", async || client.get(&path).await.status == 200).await;
    assert!(statuses(&together().await).iter().all(|status| *status == 200));
    shop.server(Kind::Postgres).signal_backends(Signal::SIGCONT);
}
