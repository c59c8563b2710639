//! What the cache keeps, and what it says about that.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use serde_json::json;

use crate::support::{Client, Kind, Server, Shop, Topology, until};

/// A shop in one process that caches in memory, or on a server, with a product.
async fn shop(cache: Option<Kind>, environment: &[(&str, &str)]) -> Shop {
    let servers = cache.into_iter().map(Server::start).collect();
    let shop = Shop::start_on(Topology::OneProcess, servers, environment);
    let lamp = json!({ "name": "Lamp", "price": 1, "category": "Home", "tags": ["new"] });
    assert_eq!(shop.gateway().post("/products", lamp).await.status, 201);
    shop
}

/// Reads by their kinds.
const READS: [(&str, &str); 4] = [
    ("list", "/products?sort=price&limit=1"),
    ("search", "/products?q=lamp&sort=price&limit=1"),
    ("filtered", "/products?category=Home&limit=1"),
    ("categories", "/categories"),
];

/// The values of the metric `name`, by their labels.
async fn metric(shop: &Shop, name: &str) -> BTreeMap<String, usize> {
    let text = shop.process("gateway").metrics().await;
    let values = text.lines().filter_map(|line| {
        let (labels, value) = line.strip_prefix(name)?.strip_prefix('{')?.split_once("} ")?;
        Some((labels.to_owned(), value.parse().unwrap()))
    });
    values.collect()
}

each_case!(what_the_cache_does_is_counted_by_kind_of_read: memory(None), redis(Some(Kind::Redis)));
async fn what_the_cache_does_is_counted_by_kind_of_read(cache: Option<Kind>) {
    let environment =
        [("APP__PRODUCT__CACHE_TTL", "1s"), ("APP__PRODUCT__CACHE_ENTRY_LIMIT", "2000")];
    let shop = shop(cache, &environment).await;
    let client = shop.gateway();
    let mut reads = BTreeMap::new();
    for kind in ["product", "list", "search", "filtered", "categories"] {
        for result in ["hit", "miss", "stale"] {
            reads.insert(format!("kind=\"{kind}\",result=\"{result}\""), 0);
        }
    }
    assert_eq!(metric(&shop, "product_cache_reads_total").await, reads);
    let small = format!("/products/{}", client.add_product("Lamp", 1.0).await);
    let description = "x".repeat(3_000);
    let large = json!({ "name": "Lamp", "price": 2, "description": description });
    let large = client.post("/products", large).await.header("location").to_owned();

    let paths = READS.into_iter().chain([("product", small.as_str())]).collect::<Vec<_>>();
    let mut ask = async |kind: &str, path: &str| {
        let result = client.get(path).await.header("x-cache").to_lowercase();
        *reads.get_mut(&format!("kind=\"{kind}\",result=\"{result}\"")).unwrap() += 1;
        result
    };
    for (kind, path) in &paths {
        until("it is cached", async || ask(kind, path).await == "hit").await;
    }
    for (kind, path) in &paths {
        until("it is stale", async || ask(kind, path).await == "stale").await;
        until("it is refreshed", async || ask(kind, path).await == "hit").await;
    }
    for _ in 0..2 {
        assert_eq!(ask("product", &large).await, "miss");
    }
    assert_eq!(metric(&shop, "product_cache_reads_total").await, reads);
    let fills = metric(&shop, "product_cache_fills_total").await;
    for (kind, _) in paths {
        let count = |admitted: bool| fills[&format!("admitted=\"{admitted}\",kind=\"{kind}\"")];
        let refused = match kind {
            "product" => 2,
            // Once is not enough for a place in Redis.
            "search" | "filtered" if cache.is_some() => 1,
            _ => 0,
        };
        assert_eq!(count(false), refused, "{kind}: {fills:?}");
        assert!(count(true) >= 2, "{kind} was filled and refreshed: {fills:?}");
    }
}

#[actix_rt::test]
async fn searches_that_are_asked_for_once_take_no_place_in_redis() {
    let shop = shop(Some(Kind::Redis), &[]).await;
    let client = shop.gateway();
    let entries = || shop.servers[0].redis(&["KEYS", "*page:*"]).matches("page:").count();
    for number in 0..50 {
        for query in [format!("q=lamp{number}"), format!("maxPrice={number}&limit=7")] {
            assert_eq!(client.get(&format!("/products?{query}")).await.header("x-cache"), "MISS");
        }
    }
    assert_eq!(entries(), 0);
    for label in ["MISS", "HIT"] {
        assert_eq!(client.get("/products?q=lamp7").await.header("x-cache"), label);
    }
    assert_eq!(entries(), 1);
    // A list is worth a place at once, in any order.
    client.get("/products?sort=name").await;
    assert_eq!(entries(), 2);
}

#[actix_rt::test]
async fn a_search_that_many_ask_for_at_once_is_two_queries_at_most() {
    let shop = shop(Some(Kind::Redis), &[("RUST_LOG", "info,access=off,app::product=debug")]).await;
    let client = shop.gateway();
    let queries = || shop.process("gateway").log().matches("asking the store").count();
    let before = queries();
    let asking = (0..200).map(|_| {
        // Each over a connection of its own.
        let client = Client::new(client.base.clone());
        async move { client.get("/products?q=lamp").await }
    });
    for answer in join_all(asking).await {
        assert_eq!((answer.status, answer.json().as_array().unwrap().len()), (200, 1));
    }
    // What the first has found is shared, and kept if others have asked for it meanwhile; else the second's is.
    assert!((1..=2).contains(&(queries() - before)));
    until("it is cached", async || client.get("/products?q=lamp").await.header("x-cache") == "HIT")
        .await;
}
