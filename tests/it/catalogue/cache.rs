//! The cache that processes share: what it saves, and that it never shows the past.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use actix_rt::task::JoinHandle;
use actix_rt::time::sleep;
use futures_util::future::join_all;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::{Client, Kind, Process, RECOVERY, Server, Shop, Storage, Topology, until};

/// Two processes of the product role on one store and one Redis.
struct Twins {
    processes: [Process; 2],
    redis: Server,
    _mongo: Option<Server>,
    _folder: tempfile::TempDir,
}

impl Twins {
    /// On one MongoDB.
    fn start(environment: &[(&str, &str)]) -> Self {
        Self::start_on(Storage::Polyglot, environment)
    }

    fn start_on(storage: Storage, environment: &[(&str, &str)]) -> Self {
        let mongo = (storage == Storage::Polyglot).then(|| Server::start(Kind::Mongo));
        let redis = Server::start(Kind::Redis);
        let folder = tempfile::TempDir::new().unwrap();
        let start = || {
            let mut command = Process::command(folder.path());
            command
                .args(["--role", "product"])
                .env("RUST_LOG", "info,access=off,app::product=debug");
            for server in mongo.iter().chain([&redis]) {
                command.env(server.variable(), server.url());
            }
            command.envs(environment.iter().copied());
            Process::start(folder.path(), command)
        };
        Self { processes: [start(), start()], redis, _mongo: mongo, _folder: folder }
    }

    /// Asserts that `name` is the newest product that anybody sees, on any thread, and is so still when it is cached.
    async fn shows(&self, name: &str) {
        for client in self.clients() {
            // Each over a connection of its own.
            let asking = (0..16).map(|_| {
                let client = Client::new(client.base.clone());
                async move { client.get("/products").await }
            });
            for page in join_all(asking).await {
                assert_eq!(page.json()[0]["name"], json!(name), "{page:?}");
            }
            until("it is cached", async || {
                let page = client.get("/products").await;
                assert_eq!(page.json()[0]["name"], json!(name), "{page:?}");
                page.header("x-cache") == "HIT"
            })
            .await;
        }
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

/// Readers that go on until the test ends: none may see a page older than the last write that was
/// acknowledged before it asked. Products are called by their numbers.
fn read_along(clients: &[Client; 2], acknowledged: &Rc<Cell<usize>>) -> Vec<JoinHandle<()>> {
    let readers = (0..4).map(|n| {
        let (client, acknowledged) =
            (Client::new(clients[n % 2].base.clone()), acknowledged.clone());
        actix_rt::spawn(async move {
            while acknowledged.get() != usize::MAX {
                let before = acknowledged.get();
                let page = client.get("/products").await;
                assert_eq!(page.status, 200);
                let newest = page.json()[0]["name"].as_str().unwrap().parse::<usize>().unwrap();
                assert!(
                    newest >= before,
                    "{newest} was shown after {before} had been acknowledged"
                );
            }
        })
    });
    readers.collect()
}

// What is tried is the cache: a file is written ten times as fast as what stands in for MongoDB here.
each_case!(no_page_is_older_than_the_last_acknowledged_write:
    embedded(Storage::Embedded, true, 1000),
    embedded_without_redis(Storage::Embedded, false, 500),
    polyglot(Storage::Polyglot, true, 200),
);
async fn no_page_is_older_than_the_last_acknowledged_write(
    storage: Storage,
    has_redis: bool,
    writes: usize,
) {
    let mut twins = Twins::start_on(storage, &[]);
    if !has_redis {
        twins.redis.signal(Signal::SIGKILL);
    }
    let clients = twins.clients();
    clients[0].add_product("0", 1.0).await;
    let acknowledged = Rc::new(Cell::new(0));
    let readers = read_along(&clients, &acknowledged);
    for n in 1..writes {
        clients[n % 2].add_product(&n.to_string(), 1.0).await;
        acknowledged.set(n);
        let page = clients[(n + 1) % 2].get("/products").await;
        assert_eq!(page.json()[0]["name"], json!(n.to_string()), "{page:?}");
    }
    acknowledged.set(usize::MAX);
    for reader in readers {
        reader.await.unwrap();
    }
    for process in &twins.processes {
        assert!(!process.log().contains("older data than before"), "the generation went back");
    }
}

#[actix_rt::test]
async fn a_redis_that_loses_its_memory_loses_nothing_of_ours() {
    let twins = Twins::start(&[]);
    let clients = twins.clients();
    clients[0].add_product("0", 1.0).await;
    let acknowledged = Rc::new(Cell::new(0));
    let readers = read_along(&clients, &acknowledged);
    let flushing = actix_rt::task::spawn_blocking(move || {
        for _ in 0..40 {
            std::thread::sleep(Duration::from_millis(50));
            assert_eq!(twins.redis.redis(&["FLUSHALL"]).trim(), "OK");
        }
        twins
    });
    let mut n = 0;
    while !flushing.is_finished() {
        n += 1;
        clients[n % 2].add_product(&n.to_string(), 1.0).await;
        acknowledged.set(n);
    }
    acknowledged.set(usize::MAX);
    for reader in readers {
        reader.await.unwrap();
    }
    drop(flushing.await.unwrap());
}

/// A page is cached, and Redis takes a snapshot. Then a write is acknowledged.
async fn write_after_a_snapshot(twins: &Twins) {
    let [one, _] = twins.clients();
    one.add_product("Before", 1.0).await;
    twins.shows("Before").await;
    assert_eq!(twins.redis.redis(&["SAVE"]).trim(), "OK");
    one.add_product("After", 1.0).await;
}

#[actix_rt::test]
async fn a_redis_that_hung_and_comes_back_older_shows_nothing_old() {
    let mut twins = Twins::start(&[]);
    write_after_a_snapshot(&twins).await;
    twins.redis.signal(Signal::SIGSTOP);
    for client in twins.clients() {
        // Nobody learns of the end: the calls that time out are all there is to tell.
        assert_eq!(client.get("/products").await.json()[0]["name"], json!("After"));
    }
    twins.redis.signal(Signal::SIGKILL);
    twins.redis.resume();
    twins.shows("After").await;
}

#[actix_rt::test]
async fn a_redis_that_dies_and_comes_back_older_shows_nothing_old() {
    let mut twins = Twins::start(&[]);
    write_after_a_snapshot(&twins).await;
    twins.redis.signal(Signal::SIGKILL);
    twins.redis.resume();
    twins.shows("After").await;
}

#[actix_rt::test]
async fn a_generation_that_is_older_than_one_that_is_known_is_not_believed() {
    let twins = Twins::start(&[]);
    let [one, two] = twins.clients();
    one.add_product("Before", 1.0).await;
    twins.shows("Before").await;
    let generation = "shop:products:generation";
    let copy = |from: &str, to: &str| {
        // Over a connection that goes on, as through a proxy that has changed its server.
        assert_eq!(twins.redis.redis(&["COPY", from, to, "REPLACE"]).trim(), "1");
    };
    copy(generation, "saved");
    two.add_product("After", 1.0).await;
    copy("saved", generation);
    assert_eq!(two.get("/products").await.json()[0]["name"], json!("After"));
    // Only this process knows of it, until the new generation that it owes has begun.
    let get = |name: &str| twins.redis.redis(&["--no-raw", "GET", name]);
    until("another generation begins", async || get(generation) != get("saved")).await;
    twins.shows("After").await;
}

#[actix_rt::test]
async fn a_redis_that_refuses_writes_hides_none_for_long() {
    let twins = Twins::start(&[]);
    let [one, two] = twins.clients();
    for refuses in
        [["CONFIG", "SET", "maxmemory", "1"].as_slice(), &["REPLICAOF", "127.0.0.1", "1"]]
    {
        one.add_product("Before", 1.0).await;
        twins.shows("Before").await;
        let complaints = || {
            let logs = twins.processes.each_ref().map(Process::log);
            logs.map(|log| log.matches("\"level\":\"warn\"").count())
        };
        let before = complaints();
        assert_eq!(twins.redis.redis(refuses).trim(), "OK");
        one.add_product("After", 1.0).await;
        let written = Instant::now();
        until("the other process shows it", async || {
            two.get("/products").await.json()[0]["name"] == json!("After")
        })
        .await;
        assert!(written.elapsed() < Duration::from_secs(3), "{:?}", written.elapsed());
        let connections = twins.redis.connections();
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(4) {
            for client in twins.clients() {
                assert_eq!(client.get("/products").await.json()[0]["name"], json!("After"));
            }
            sleep(Duration::from_millis(20)).await;
        }
        let opened = twins.redis.connections() - connections;
        assert!((1..=60).contains(&opened), "{opened} connections in four seconds");
        let said = complaints();
        assert_eq!([said[0] - before[0], said[1] - before[1]], [1, 1], "each says it once");
        twins.redis.redis(&["CONFIG", "SET", "maxmemory", "0"]);
        twins.redis.redis(&["REPLICAOF", "NO", "ONE"]);
        twins.shows("After").await;
        for process in &twins.processes {
            until("/readyz names it no more", async || process.missing().await == json!([])).await;
        }
    }
}

#[actix_rt::test]
async fn a_process_that_starts_believes_nothing_from_before() {
    let servers = vec![Server::start(Kind::Redis)];
    let mut shop = Shop::start_on(Topology::OneProcessARole, servers, &[]);
    let client = shop.client("product");
    client.add_product("Before", 1.0).await;
    until("it is cached", async || client.get("/products").await.header("x-cache") == "HIT").await;
    shop.kill("product");
    // A write that Redis was not told of, as by a process that died with a debt.
    assert!(shop.run(&["seed", "--products", "1"]).status.success());
    let redis = shop.servers[0].url();
    shop.add(&["--role", "product"], &[("REDIS_URL", &redis)]);
    assert_eq!(shop.client("product").get("/products").await.json().as_array().unwrap().len(), 2);
}

#[actix_rt::test]
async fn a_process_that_stops_tells_the_others_first() {
    let mut twins = Twins::start(&[("APP__SERVER__DRAIN_DELAY", "0s")]);
    let [one, two] = twins.clients();
    one.add_product("Before", 1.0).await;
    twins.shows("Before").await;
    // Reads are answered meanwhile, so that the other process notices nothing.
    assert_eq!(twins.redis.redis(&["CLIENT", "PAUSE", "3000", "WRITE"]).trim(), "OK");
    one.add_product("After", 1.0).await;
    twins.processes[0].signal(Signal::SIGTERM);
    assert!(twins.processes[0].wait().success());
    assert_eq!(two.get("/products").await.json()[0]["name"], json!("After"));
}

#[actix_rt::test]
async fn a_redis_cluster_is_a_cache() {
    let redis = vec![Server::start_cluster(true)];
    let shop = Shop::start_on(Topology::OneProcess, redis, &[]);
    let client = shop.gateway();
    let id = client.add_product("Lamp", 1.0).await;
    for path in ["/products".to_owned(), "/products?limit=7".to_owned(), format!("/products/{id}")]
    {
        let labels = [client.get(&path).await, client.get(&path).await];
        assert_eq!(labels.each_ref().map(|answer| answer.header("x-cache")), ["MISS", "HIT"]);
    }
    client.add_product("Kettle", 1.0).await;
    assert_eq!(client.get("/products").await.json()[0]["name"], json!("Kettle"));
}

#[actix_rt::test]
async fn a_redis_that_answers_and_keeps_nothing_is_named() {
    let redis = vec![Server::start_cluster(false)];
    let shop = Shop::start_on(Topology::OneProcess, redis, &[]);
    let management = shop.process("gateway").client("management");
    until("/readyz names it", async || {
        let answer = management.get("/readyz").await;
        answer.status == 200 && answer.json()["missing"] == json!(["user.limits", "product.cache"])
    })
    .await;
    let log = shop.process("gateway").log();
    assert!(log.contains("Hash slot not served"), "and the log says why: {log}");
    assert_eq!(shop.gateway().get("/products").await.status, 200);
}

/// Where a cache is.
#[derive(Clone, Copy, Debug)]
enum Cache {
    Memory,
    Redis,
}

impl Cache {
    /// A shop in one process with such a cache.
    fn shop(self, environment: &[(&str, &str)]) -> Shop {
        let servers = match self {
            Self::Memory => Vec::new(),
            Self::Redis => vec![Server::start(Kind::Redis)],
        };
        Shop::start_on(Topology::OneProcess, servers, environment)
    }
}

macro_rules! each_cache {
    ($test:ident) => {
        each_case!($test: memory(Cache::Memory), redis(Cache::Redis));
    };
}

each_cache!(an_answer_past_its_time_is_served_while_one_asks_again);
async fn an_answer_past_its_time_is_served_while_one_asks_again(cache: Cache) {
    let shop =
        cache.shop(&[("APP__PRODUCT__CACHE_TTL", "1s"), ("RUST_LOG", "info,app::product=debug")]);
    let client = shop.gateway();
    let queries = || shop.process("gateway").log().matches("asking the store").count();
    let path = format!("/products/{}", client.add_product("Lamp", 1.0).await);
    assert_eq!(client.get(&path).await.header("x-cache"), "MISS");
    let before = queries();
    until("it is past its time", async || client.get(&path).await.header("x-cache") == "STALE")
        .await;
    until("it is fresh again", async || client.get(&path).await.header("x-cache") == "HIT").await;
    assert_eq!(queries() - before, 1, "one asked for all");
}

each_cache!(an_answer_past_its_time_stands_in_for_a_store_that_is_away_and_not_for_ever);
async fn an_answer_past_its_time_stands_in_for_a_store_that_is_away_and_not_for_ever(cache: Cache) {
    // Each answer lives a tenth less or more, so that those that were filled together do not end together.
    let (ttl, stale) = (Duration::from_millis(900), Duration::from_secs(2));
    let mut mongo = Server::start_own(Kind::Mongo);
    let url = mongo.url();
    let shop = cache.shop(&[
        ("MONGODB_URL", url.as_str()),
        ("APP__PRODUCT__CACHE_TTL", "1s"),
        ("APP__PRODUCT__CACHE_STALE", "2s"),
    ]);
    let client = shop.gateway();
    client.add_product("Lamp", 1.0).await;
    let filled = Instant::now();
    until("the list is cached", async || client.get("/products").await.header("x-cache") == "HIT")
        .await;
    mongo.signal(Signal::SIGKILL);
    until("it is marked", async || {
        let page = client.get("/products").await;
        assert_eq!(page.status, 200, "{page:?}");
        page.header("x-cache") == "STALE"
    })
    .await;
    assert!(filled.elapsed() >= ttl, "{:?}", filled.elapsed());
    let mut last = filled.elapsed();
    until("it is too old", async || {
        let page = client.get("/products").await;
        if page.status == 200 {
            last = filled.elapsed();
        }
        assert!([(200, "STALE"), (503, "")].contains(&(page.status, page.header("x-cache"))));
        page.status == 503
    })
    .await;
    let over = filled.elapsed();
    // The first without an answer has waited for the store.
    let time = ttl + stale - Duration::from_millis(300);
    assert!(last >= time && over >= ttl + stale, "from {last:?} to {over:?}");
    assert!(over < ttl + stale + RECOVERY, "{over:?}");
    assert_eq!(client.get("/products").await.header("retry-after"), "1");
}

each_cache!(what_is_too_large_is_not_cached);
async fn what_is_too_large_is_not_cached(cache: Cache) {
    let shop = cache.shop(&[("APP__PRODUCT__CACHE_ENTRY_LIMIT", "600")]);
    let client = shop.gateway();
    client.add_product("Lamp", 1.0).await;
    assert_eq!(client.get("/products").await.header("x-cache"), "MISS");
    assert_eq!(client.get("/products").await.header("x-cache"), "HIT");
    for n in 0..5 {
        client.add_product(&format!("Product {n}"), 1.0).await;
    }
    for _ in 0..2 {
        assert_eq!(client.get("/products").await.header("x-cache"), "MISS");
    }
}

/// The bound of a cache, and what the process may have grown by when it is full: that, and what a heap leaves between.
const BOUND: usize = 4 << 20;
const GROWN: usize = BOUND + BOUND / 4;

/// Asks for what is `wanted` by each number of `count`, each of which is remembered.
async fn ask_for(client: &Client, wanted: fn(usize) -> String, from: usize, count: usize) {
    let asking = (0..16).map(|n| {
        let client = Client::new(client.base.clone());
        async move {
            for number in (from + n..from + count).step_by(16) {
                assert!([200, 404].contains(&client.get(&wanted(number)).await.status));
            }
        }
    });
    join_all(asking).await;
}

// Small answers: what the cache writes about each is most of it, or what is asked for.
each_case!(a_cache_in_memory_keeps_to_its_bound:
    products_that_are_not_there(|number| format!("/products/{number:024x}"), BOUND / 200),
    searches(|number| format!("/products?q={}w{number}", "abcdefgh+".repeat(20)), BOUND / 500),
);
async fn a_cache_in_memory_keeps_to_its_bound(wanted: fn(usize) -> String, count: usize) {
    let bound = BOUND.to_string();
    let environment = [
        ("APP__PRODUCT__CACHE_SIZE", bound.as_str()),
        ("APP__SERVER__WORKERS", "1"),
        ("RUST_LOG", "warn,access=off"),
    ];
    // Alone: what other roles do in the background takes memory by and by.
    let folder = tempfile::TempDir::new().unwrap();
    let mut command = Process::command(folder.path());
    command.args(["--role", "product"]).envs(environment);
    let process = Process::start(folder.path(), command);
    let client = process.client("product");
    ask_for(&client, wanted, 0, 1_000).await;
    let before = process.resident();
    ask_for(&client, wanted, 1_000, count).await;
    let grown = process.resident().saturating_sub(before);
    assert!(grown > BOUND / 2, "it is used: {grown}");
    assert!(grown < GROWN, "{grown} bytes for {BOUND}");
}

each_cache!(that_there_is_none_is_remembered_until_a_write_or_for_a_moment);
async fn that_there_is_none_is_remembered_until_a_write_or_for_a_moment(cache: Cache) {
    let environment =
        [("APP__PRODUCT__CACHE_ABSENT_TTL", "2s"), ("RUST_LOG", "info,app::product=debug")];
    let shop = cache.shop(&environment);
    let client = shop.gateway();
    let queries = || shop.process("gateway").log().matches("asking the store").count();
    // A Redis that has just been found is tried before it is trusted.
    until("the cache is in use", async || client.get("/products").await.header("x-cache") == "HIT")
        .await;
    let (path, before) = ("/products/6b03bc06a8104e0a5ab179df", queries());
    for _ in 0..3 {
        assert_eq!(client.get(path).await.status, 404);
    }
    assert_eq!(queries() - before, 1);
    client.add_product("Lamp", 1.0).await;
    assert_eq!(client.get(path).await.status, 404);
    assert_eq!(queries() - before, 2, "a write may have changed it");
    until("it is asked for again", async || {
        assert_eq!(client.get(path).await.status, 404);
        queries() - before == 3
    })
    .await;
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
}
