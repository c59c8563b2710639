//! The cache that processes share: what it saves, and that it never shows the past.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use crate::support::{Client, Kind, Process, Server, Shop, Topology, until};

/// Two processes of the product role on one MongoDB and one Redis.
struct Twins {
    processes: [Process; 2],
    redis: Server,
    _mongo: Server,
    _folder: tempfile::TempDir,
}

impl Twins {
    fn start(environment: &[(&str, &str)]) -> Self {
        let (mongo, redis) = (Server::start(Kind::Mongo), Server::start(Kind::Redis));
        let folder = tempfile::TempDir::new().unwrap();
        let start = || {
            let mut command = Process::command(folder.path());
            command
                .args(["--role", "product"])
                .env("RUST_LOG", "info,access=off,app::product=debug");
            for server in [&mongo, &redis] {
                command.env(server.variable(), server.url());
            }
            command.envs(environment.iter().copied());
            Process::start(folder.path(), command)
        };
        Self { processes: [start(), start()], redis, _mongo: mongo, _folder: folder }
    }

    fn clients(&self) -> [Client; 2] {
        self.processes.each_ref().map(|process| process.client("product"))
    }

    /// How often the store was asked for a page or a product.
    fn queries(&self) -> usize {
        let logs = self.processes.each_ref().map(Process::log);
        logs.iter().map(|log| log.matches("asking the store").count()).sum()
    }
}

#[actix_rt::test]
async fn two_hundred_misses_at_once_are_one_query() {
    let twins = Twins::start(&[]);
    let [one, two] = twins.clients();
    one.add_product("Lamp", 1.0).await;
    let before = twins.queries();
    let asking = (0..200).map(|n| {
        // Each over a connection of its own.
        let client = Client::new(if n % 2 == 0 { one.base.clone() } else { two.base.clone() });
        async move { client.get("/products").await }
    });
    for answer in join_all(asking).await {
        assert_eq!((answer.status, answer.json().as_array().unwrap().len()), (200, 1));
    }
    assert_eq!(twins.queries() - before, 1);
    assert_eq!(
        two.get("/products").await.header("x-cache"),
        "HIT",
        "what one has filled, both have"
    );
}

#[actix_rt::test]
async fn no_page_is_older_than_the_last_acknowledged_write() {
    let twins = Twins::start(&[]);
    let clients = twins.clients();
    let done = Arc::new(AtomicBool::new(false));
    let readers = (0..4).map(|n| {
        let (client, done) = (Client::new(clients[n % 2].base.clone()), done.clone());
        actix_rt::spawn(async move {
            while !done.load(Ordering::Relaxed) {
                assert_eq!(client.get("/products").await.status, 200);
            }
        })
    });
    let readers = readers.collect::<Vec<_>>();
    for n in 0..1000 {
        let (writer, reader) = (&clients[n % 2], &clients[(n + 1) % 2]);
        let id = writer.add_product(&format!("Product {n}"), 1.0).await;
        let page = reader.get("/products").await.json();
        assert_eq!(page[0]["id"], json!(id), "write {n}");
    }
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.unwrap();
    }
}

#[actix_rt::test]
async fn a_redis_that_loses_its_memory_loses_nothing_of_ours() {
    let twins = Twins::start(&[]);
    let clients = twins.clients();
    for n in 0..150 {
        if n % 10 == 5 {
            assert_eq!(twins.redis.redis(&["FLUSHALL"]).trim(), "OK");
        }
        let (writer, reader) = (&clients[n % 2], &clients[(n + 1) % 2]);
        let id = writer.add_product(&format!("Product {n}"), 1.0).await;
        for client in [reader, writer] {
            let page = client.get("/products").await;
            assert_eq!(page.status, 200);
            assert_eq!(page.json()[0]["id"], json!(id), "write {n}");
        }
    }
}

#[actix_rt::test]
async fn an_answer_past_its_time_is_served_while_one_asks_again() {
    let twins = Twins::start(&[("APP__PRODUCT__CACHE_TTL", "300ms")]);
    let [one, two] = twins.clients();
    one.add_product("Lamp", 1.0).await;
    assert_eq!(one.get("/products").await.header("x-cache"), "MISS");
    let before = twins.queries();
    until("it is past its time", async || two.get("/products").await.header("x-cache") == "STALE")
        .await;
    until("it is fresh again", async || one.get("/products").await.header("x-cache") == "HIT")
        .await;
    assert_eq!(twins.queries() - before, 1, "one asked for both");
}

#[actix_rt::test]
async fn what_is_too_large_is_not_cached() {
    let twins = Twins::start(&[("APP__PRODUCT__CACHE_ENTRY_LIMIT", "600")]);
    let [one, _] = twins.clients();
    one.add_product("Lamp", 1.0).await;
    assert_eq!(one.get("/products").await.header("x-cache"), "MISS");
    assert_eq!(one.get("/products").await.header("x-cache"), "HIT");
    for n in 0..5 {
        one.add_product(&format!("Product {n}"), 1.0).await;
    }
    for _ in 0..2 {
        assert_eq!(one.get("/products").await.header("x-cache"), "MISS");
    }
}

#[actix_rt::test]
async fn a_cached_list_costs_one_round_trip() {
    let shop = Shop::start_on(Topology::OneProcess, vec![Server::start(Kind::Redis)], &[]);
    let client = shop.gateway();
    client.add_product("Lamp", 1.0).await;
    client.get("/products").await;
    let redis = &shop.servers[0];
    let commands = || {
        let info = redis.redis(&["INFO", "commandstats"]);
        let calls = info.lines().filter_map(|line| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            let calls = rest.split(',').next()?.parse::<u64>().ok()?;
            // What the test and the readiness check ask.
            (!["info", "ping"].contains(&name)).then_some(calls)
        });
        calls.sum::<u64>()
    };
    let before = commands();
    for _ in 0..100 {
        assert_eq!(client.get("/products").await.header("x-cache"), "HIT");
    }
    assert_eq!(commands() - before, 100);
    actix_rt::time::sleep(Duration::ZERO).await;
}
