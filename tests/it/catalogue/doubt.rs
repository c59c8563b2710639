//! Writes whose outcome nobody knows: what the catalogue answers afterwards.

use awc::http::Method;
use bson::{Document, doc};
use serde_json::json;

use crate::support::{Answer, Client, Kind, MongoProxy, Server, Shop, Topology, until};

/// A shop with one product that everybody has seen, whose catalogue is behind a proxy.
struct Bench {
    shop: Shop,
    client: Client,
    proxy: MongoProxy,
    path: String,
    _mongo: Server,
}

impl Bench {
    async fn start(cache: Option<Kind>) -> Self {
        let mongo = Server::start(Kind::Mongo);
        let proxy = MongoProxy::start(&mongo);
        let url = proxy.url();
        let servers = cache.map(Server::start).into_iter().collect();
        let shop = Shop::start_on(
            Topology::OneProcess,
            servers,
            &[("MONGODB_URL", &url), ("RUST_LOG", "info,app::product=debug")],
        );
        let client = shop.admin().await;
        let path = format!("/products/{}", client.add_product("Before", 1.0).await);
        let bench = Self { shop, client, proxy, path, _mongo: mongo };
        bench.is_cached().await;
        bench
    }

    /// Waits until both answers come from the cache.
    async fn is_cached(&self) {
        for path in ["/products", &self.path] {
            until("it is cached", async || self.client.get(path).await.header("x-cache") == "HIT")
                .await;
        }
    }

    async fn replace(&self, name: &str) -> Answer {
        self.client.write(Method::PUT, &self.path, json!({ "name": name, "price": 1 })).await
    }

    /// Asserts that `name` shows now, and goes on to.
    async fn shows(&self, name: &str) {
        let (product, page) =
            (self.client.get(&self.path).await, self.client.get("/products").await);
        assert_eq!(product.json()["name"], json!(name), "{}", self.shop.process("gateway").log());
        assert_eq!(page.json()[0]["name"], json!(name), "{page:?}");
        self.is_cached().await;
        assert_eq!(self.client.get("/products").await.json()[0]["name"], json!(name));
    }
}

const CACHES: [Option<Kind>; 2] = [None, Some(Kind::Redis)];

#[actix_rt::test]
async fn what_lost_its_answer_shows_at_once() {
    for cache in CACHES {
        let bench = Bench::start(cache).await;
        // The driver tries once more.
        bench.proxy.lose_replies("findAndModify", 2);
        assert_eq!(bench.replace("After").await.status, 503, "{cache:?}");
        bench.shows("After").await;
        bench.proxy.lose_replies("insert", 2);
        let added = bench.client.post("/products", json!({ "name": "Another", "price": 1 })).await;
        assert!(added.status >= 400, "{cache:?} {added:?}");
        let page = bench.client.get("/products").await;
        assert_eq!(page.json()[0]["name"], json!("Another"), "{cache:?}");
        let etag = bench.client.get(&bench.path).await.header("etag").to_owned();
        bench.is_cached().await;
        bench.proxy.lose_replies("findAndModify", 2);
        let headers = [("if-match", etag.as_str())];
        let gone = bench.client.send(Method::DELETE, &bench.path, &headers, "").await;
        assert_eq!(gone.status, 503, "{cache:?} {gone:?}");
        assert_eq!(bench.client.get(&bench.path).await.status, 404, "{cache:?}");
    }
}

/// Replies that say of a write which was done that it was not, or not surely.
fn doubtful() -> [Document; 3] {
    let concern = doc! { "code": 64, "codeName": "WriteConcernFailed", "errmsg": "waiting for replication timed out" };
    [
        doc! { "ok": 1.0, "value": null, "writeConcernError": concern },
        doc! { "ok": 0.0, "code": 11602, "codeName": "InterruptedDueToReplStateChange", "errmsg": "interrupted" },
        doc! { "ok": 0.0, "code": 189, "codeName": "PrimarySteppedDown", "errmsg": "stepped down" },
    ]
}

#[actix_rt::test]
async fn what_was_interrupted_after_it_was_done_shows_at_once() {
    for cache in CACHES {
        let bench = Bench::start(cache).await;
        for (number, reply) in doubtful().into_iter().enumerate() {
            bench.proxy.replace_replies("findAndModify", reply.clone(), 2);
            let answer = bench.replace(&format!("After {number}")).await;
            assert!(answer.status >= 400, "{cache:?} {reply} {answer:?}");
            bench.proxy.release();
            bench.shows(&format!("After {number}")).await;
        }
    }
}

#[actix_rt::test]
async fn what_was_answered_too_late_shows_at_once() {
    for cache in CACHES {
        let bench = Bench::start(cache).await;
        bench.proxy.hold_replies("findAndModify");
        // The role's own time, and a caller's that is shorter.
        for (number, time) in ["20000", "400"].into_iter().enumerate() {
            let name = format!("After {number}");
            let body = json!({ "name": name, "price": 1 }).to_string();
            let headers = [("content-type", "application/json"), ("x-request-timeout-ms", time)];
            let answer = bench.client.send(Method::PUT, &bench.path, &headers, body).await;
            assert!([503, 504].contains(&answer.status), "{cache:?} {answer:?}");
            bench.shows(&name).await;
        }
        bench.proxy.release();
        bench.shows("After 1").await;
    }
}

#[actix_rt::test]
async fn while_the_store_is_away_what_is_in_doubt_stands_in() {
    for cache in CACHES {
        let bench = Bench::start(cache).await;
        bench.proxy.lose_replies("findAndModify", 2);
        bench.proxy.hold("find");
        assert_eq!(bench.replace("After").await.status, 503, "{cache:?}");
        for _ in 0..3 {
            let page = bench.client.get("/products").await;
            assert_eq!((page.status, page.header("x-cache")), (200, "STALE"), "{cache:?}");
            assert_eq!(page.json()[0]["name"], json!("Before"));
        }
        bench.proxy.release();
        until("it shows", async || {
            let page = bench.client.get("/products").await;
            assert_eq!(page.status, 200, "{cache:?}");
            page.json()[0]["name"] == json!("After")
        })
        .await;
        bench.is_cached().await;
    }
}

#[actix_rt::test]
async fn a_write_that_nobody_could_be_asked_for_leaves_the_cache_as_it_is() {
    for cache in CACHES {
        let mongo = Server::start_own(Kind::Mongo);
        let servers = std::iter::once(mongo).chain(cache.map(Server::start)).collect();
        let mut shop = Shop::start_on(Topology::OneProcess, servers, &[]);
        let client = shop.gateway();
        client.add_product("Lamp", 1.0).await;
        until("it is cached", async || client.get("/products").await.header("x-cache") == "HIT")
            .await;
        shop.server(Kind::Mongo).signal(nix::sys::signal::Signal::SIGKILL);
        // One that found its connection broken would know nothing.
        let process = shop.process("gateway");
        until("it is missed", async || process.missing().await == json!(["product.database"]))
            .await;
        for _ in 0..2 {
            let add = client.post("/products", json!({ "name": "x", "price": 1 })).await;
            assert_eq!(add.status, 503, "{cache:?}");
            let page = client.get("/products").await;
            assert_eq!((page.status, page.header("x-cache")), (200, "HIT"), "{cache:?}");
        }
    }
}
