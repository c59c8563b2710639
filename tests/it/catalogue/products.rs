//! `/products`: the catalogue and its cache.

use awc::http::Method;
use serde_json::{Value, json};

use crate::support::{Process, Shop, Topology};

each_topology!(a_product_that_is_added_shows_at_once);
async fn a_product_that_is_added_shows_at_once(topology: Topology) {
    let shop = Shop::start(topology);
    let client = shop.gateway();
    assert_eq!(client.get("/products").await.json(), json!([]));
    let body = json!({ "name": "Docker Super Computer", "price": 5000 });
    let added = client.post("/products", body).await;
    assert_eq!(added.status, 201);
    let product = added.json();
    let id = product["id"].as_str().unwrap();
    assert!(id.len() == 24 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    assert_eq!(added.header("location"), format!("/products/{id}"));
    assert_eq!(client.get("/products").await.json(), json!([product]));
    assert_eq!(client.get(added.header("location")).await.json(), product);
    assert_eq!(product["price"].to_string(), "5000");
}

each_topology!(reads_are_cached_until_a_write);
async fn reads_are_cached_until_a_write(topology: Topology) {
    let shop = Shop::start(topology);
    let client = shop.gateway();
    let id = client.add_product("Lamp", 49.99).await;
    for path in ["/products".to_owned(), format!("/products/{id}")] {
        let miss = client.get(&path).await;
        let hit = client.get(&path).await;
        assert_eq!((miss.header("x-cache"), hit.header("x-cache")), ("MISS", "HIT"), "{path}");
        assert_eq!(miss.body, hit.body);
    }
    client.add_product("Kettle", 39.0).await;
    assert_eq!(client.get("/products").await.header("x-cache"), "MISS");
}

#[actix_rt::test]
async fn whoever_has_the_answer_to_a_write_sees_it_while_others_read() {
    let shop = Shop::start(Topology::OneProcess);
    let client = shop.gateway();
    let readers = (0..4).map(|_| {
        let client = client.clone();
        async move {
            for _ in 0..100 {
                assert_eq!(client.get("/products").await.status, 200);
            }
        }
    });
    let writer = async {
        for n in 0..50 {
            let id = client.add_product(&format!("Product {n}"), 1.0).await;
            assert_eq!(client.get("/products").await.ids()[0], id);
        }
    };
    futures_util::future::join(futures_util::future::join_all(readers), writer).await;
}

#[actix_rt::test]
async fn pages_neither_skip_nor_repeat_while_others_write() {
    let shop = Shop::start(Topology::OneProcess);
    let client = shop.gateway();
    let mut added = Vec::new();
    for n in 0..25 {
        added.push(client.add_product(&format!("Product {n}"), 1.0).await);
    }
    added.reverse();
    let first = client.get("/products").await;
    assert_eq!(first.ids(), added[..20], "twenty, the newest first");
    assert_eq!(client.walk("/products?limit=7").await, added);
    assert_eq!(client.walk("/products?limit=25").await, added);
    client.add_product("Newcomer", 1.0).await;
    let second = client.get(&first.next().unwrap()).await;
    assert_eq!(second.ids(), added[20..], "a newcomer moves nothing");
    assert_eq!(second.next(), None);
}

#[actix_rt::test]
async fn a_page_is_asked_for_properly() {
    let shop = Shop::start(Topology::OneProcess);
    let client = shop.gateway();
    for (query, fields) in [
        ("limit=0", vec!["limit"]),
        ("limit=101", vec!["limit"]),
        ("limit=ten&cursor=!", vec!["limit", "cursor"]),
        ("cursor=AAAA", vec!["cursor"]),
        ("limit=1&limit=2", vec!["limit"]),
    ] {
        let answer = client.get(&format!("/products?{query}")).await;
        assert_eq!(answer.status, 422, "{query}");
        let fields = fields.into_iter().map(String::from).collect();
        assert_eq!(answer.problem(), ("/problems/invalid".to_owned(), fields), "{query}");
    }
}

#[actix_rt::test]
async fn what_cannot_be_a_product_changes_nothing() {
    let shop = Shop::start(Topology::OneProcess);
    let client = shop.gateway();
    let long = "x".repeat(201);
    for (body, fields) in [
        (json!({}), vec!["name", "price"]),
        (json!({ "name": "Lamp", "price": "5" }), vec!["price"]),
        (json!({ "name": "Lamp", "price": -1 }), vec!["price"]),
        (json!({ "name": "Lamp", "price": 1.005 }), vec!["price"]),
        (json!({ "name": "Lamp", "price": 1e18 }), vec!["price"]),
        (json!({ "name": long, "price": 1 }), vec!["name"]),
        (json!({ "name": " ", "price": null }), vec!["name", "price"]),
    ] {
        let answer = client.post("/products", &body).await;
        assert_eq!(answer.status, 422, "{body}");
        let fields = fields.into_iter().map(String::from).collect();
        assert_eq!(answer.problem(), ("/problems/invalid".to_owned(), fields), "{body}");
    }
    assert_eq!(client.get("/products").await.json(), json!([]));
}

#[actix_rt::test]
async fn an_id_that_is_not_there_is_404() {
    let shop = Shop::start(Topology::OneProcess);
    for id in ["6b03bc06a8104e0a5ab179df", "1", "zzzzzzzzzzzzzzzzzzzzzzzz", "%24gt"] {
        let answer = shop.gateway().get(&format!("/products/{id}")).await;
        assert_eq!(
            (answer.status, answer.problem().0.as_str()),
            (404, "/problems/not-found"),
            "{id}"
        );
    }
}

each_topology!(head_tells_what_get_would);
async fn head_tells_what_get_would(topology: Topology) {
    let shop = Shop::start(topology);
    let client = shop.gateway();
    client.add_product("Lamp", 49.99).await;
    let get = client.get("/products").await;
    let head = client.send(Method::HEAD, "/products", &[], "").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    for name in ["content-length", "content-type"] {
        assert_eq!(head.header(name), get.header(name), "{topology:?}");
    }
    assert_eq!(head.header("content-length"), get.body.len().to_string());
}

#[actix_rt::test]
async fn a_deadline_in_the_middle_of_a_query_is_an_answer() {
    let shop = Shop::start(Topology::OneProcessARole);
    let mut seed = Process::command(shop.folder.path());
    seed.args(["seed", "--products", "500"]);
    assert!(Process::run(seed).status.success());
    let client = shop.client("product");
    let mut cut_off = 0;
    for round in 0..5 {
        // Each is another page, so that none is in the cache.
        for limit in 1..=100 {
            let left = (round + limit) % 4;
            let headers = [("x-request-timeout-ms", left.to_string())];
            let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
            let path = format!("/products?limit={limit}");
            let answer = client.send(Method::GET, &path, &headers, "").await;
            assert!([200, 504].contains(&answer.status), "{answer:?}");
            cut_off += usize::from(answer.status == 504);
        }
        client.add_product("Newcomer", 1.0).await;
    }
    assert!(cut_off > 10, "{cut_off}");
    assert_eq!(client.get("/products").await.status, 200);
    assert!(!shop.process("product").log().contains("panicked"));
}

#[actix_rt::test]
async fn the_seeded_catalogue_is_the_same_every_time() {
    let shop = Shop::start(Topology::OneProcess);
    let seed = |count: &str| {
        let mut command = Process::command(shop.folder.path());
        command.args(["seed", "--products", count]);
        let output = Process::run(command);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(seed("30").starts_with("added 30 of 30"));
    assert!(seed("30").starts_with("added 0 of 30"));
    assert!(seed("2500").starts_with("added 2470 of 2500"));
    let client = shop.gateway();
    let all = client.walk("/products?limit=100").await;
    assert_eq!(all.len(), 2500);
    let last: Value = client.get(&format!("/products/{}", all[2499])).await.json();
    assert_eq!(last["createdAt"], "2024-01-01T00:00:00.000000Z");
}
