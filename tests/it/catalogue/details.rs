//! What a product may have beside its name and price, and what changes it.

use awc::http::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Client, Shop, Storage, Topology};

const JSON: (&str, &str) = ("content-type", "application/json");
const MERGE: (&str, &str) = ("content-type", "application/merge-patch+json");

fn shop(storage: Storage) -> Shop {
    Shop::start_on(Topology::OneProcess, storage.servers(), &[])
}

/// A product with every field.
fn whole(sku: &str) -> Value {
    json!({
        "name": "Docker Super Computer",
        "price": 4999.5,
        "description": "Runs 25 containers.\nIn 6 GB: \"all\" of it.",
        "category": "Computers",
        "tags": ["docker", "größer", "🦊"],
        "sku": sku,
        "images": ["https://images.example.com/1.webp", "http://[::1]/ö?a=b#c"],
        "attributes": {
            "z": 1, "a": { "$gt": [1.5, true, "x"], "b.c": "d" }, "large": 9_007_199_254_740_993_i64
        },
        "stock": 3,
    })
}

/// `product` without what the shop adds.
fn given(product: &Value) -> Value {
    let mut given = product.clone();
    for name in ["id", "createdAt", "updatedAt", "inStock"] {
        assert!(given.as_object_mut().unwrap().shift_remove(name).is_some(), "{name}: {product}");
    }
    given
}

async fn patch(client: &Client, path: &str, body: Value) -> Answer {
    client.send(Method::PATCH, path, &[MERGE], body.to_string()).await
}

each_storage!(every_field_comes_back_as_it_was_given);
async fn every_field_comes_back_as_it_was_given(storage: Storage) {
    let shop = shop(storage);
    let client = shop.admin().await;
    let mut body = whole("DSC-1");
    let added = client.post("/products", &body).await;
    assert_eq!(added.status, 201, "{added:?}");
    body.as_object_mut().unwrap().shift_remove("stock");
    assert_eq!(given(&added.json()), body);
    assert_eq!(added.json()["inStock"], true);
    assert_eq!(added.json()["createdAt"], added.json()["updatedAt"]);
    let path = added.header("location").to_owned();
    let shown = client.get(&path).await;
    assert_eq!((shown.json(), shown.header("etag")), (added.json(), added.header("etag")));
    assert_eq!(shown.text(), added.text(), "in the same order, too");
    assert_eq!(client.get("/products").await.json(), json!([added.json()]));

    let least = json!({ "name": "Lamp", "price": 0, "stock": 0 });
    let put = client.send(Method::PUT, &path, &[JSON], least.to_string()).await;
    assert_eq!(put.status, 200, "{put:?}");
    let empty = json!({ "name": "Lamp", "price": 0, "tags": [], "images": [], "attributes": {} });
    assert_eq!(given(&put.json()), empty, "a replacement leaves nothing");
    assert_eq!(put.json()["inStock"], false);
    assert_eq!(put.json()["createdAt"], added.json()["createdAt"]);
    assert!(put.json()["updatedAt"].as_str() > added.json()["updatedAt"].as_str());
    assert_eq!(client.get(&path).await.text(), put.text());
}

each_storage!(numbers_come_back_to_the_last_digit);
async fn numbers_come_back_to_the_last_digit(storage: Storage) {
    let shop = shop(storage);
    let client = shop.admin().await;
    let numbers =
        "[6.626e-34,1.7976931348623157e308,2.2250738585072014e-308,0.1,51.24817837550540]";
    let body = format!(r#"{{"name":"Planck","price":1,"attributes":{{"n":{numbers}}}}}"#);
    let added = client.post("/products", &body).await;
    assert_eq!(added.status, 201, "{added:?}");
    let read = |answer: &Answer| {
        let answer = answer.json();
        let numbers = answer["attributes"]["n"].as_array().unwrap().iter();
        numbers.map(|number| number.as_f64().unwrap()).collect::<Vec<_>>()
    };
    let expected = vec![
        6.626e-34,
        1.797_693_134_862_315_7e308,
        2.225_073_858_507_201_4e-308,
        0.1,
        51.248_178_375_505_4,
    ];
    assert_eq!(read(&added), expected);
    let shown = client.get(added.header("location")).await;
    assert_eq!((shown.text(), shown.header("etag")), (added.text(), added.header("etag")));
}

each_storage!(a_merge_patch_changes_what_it_names);
async fn a_merge_patch_changes_what_it_names(storage: Storage) {
    let shop = shop(storage);
    let client = shop.admin().await;
    let added = client.post("/products", whole("DSC-1")).await;
    let path = added.header("location").to_owned();
    let mut expected = given(&added.json());
    for (change, result) in [
        (json!({}), json!({})),
        (json!({ "price": 1 }), json!({ "price": 1 })),
        (json!({ "name": " Lamp ", "tags": ["new"] }), json!({ "name": "Lamp", "tags": ["new"] })),
        (
            json!({ "attributes": { "z": null, "a": { "b.c": null, "e": {} } } }),
            json!({ "attributes": {
                "a": { "$gt": [1.5, true, "x"], "e": {} }, "large": 9_007_199_254_740_993_i64
            } }),
        ),
        (json!({ "sku": "other" }), json!({ "sku": "other" })),
        (
            json!({ "description": null, "category": null, "sku": null }),
            json!({ "description": null, "category": null, "sku": null }),
        ),
        (
            json!({ "tags": null, "images": null, "attributes": null }),
            json!({ "tags": [], "images": [], "attributes": {} }),
        ),
    ] {
        let answer = patch(&client, &path, change.clone()).await;
        assert_eq!(answer.status, 200, "{change}: {answer:?}");
        for (name, value) in result.as_object().unwrap() {
            expected[name] = value.clone();
        }
        expected.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        assert_eq!(given(&answer.json()), expected, "{change}");
        assert_eq!(client.get(&path).await.text(), answer.text(), "{change}");
        assert_eq!(answer.json()["inStock"], true, "its pieces stay");
    }
    for (change, field) in [
        (json!({ "name": null }), "name"),
        (json!({ "price": null }), "price"),
        (json!({ "price": -1 }), "price"),
        (json!({ "attributes": 5 }), "attributes"),
        (json!({ "attributes": { "a": [[[[]]]] } }), "attributes"),
        (json!({ "id": "659200807365656400000000" }), "id"),
        (json!({ "inStock": true }), "inStock"),
        (json!({ "createdAt": "2026-01-01T00:00:00Z" }), "createdAt"),
        (json!({ "stock": 5 }), "stock"),
    ] {
        let answer = patch(&client, &path, change.clone()).await;
        assert_eq!(answer.status, 422, "{change}: {answer:?}");
        assert_eq!(answer.problem().1, [field], "{change}");
    }
    assert_eq!(given(&client.get(&path).await.json()), expected, "nothing has changed");
    let text = client.send(Method::PATCH, &path, &[("content-type", "text/plain")], "{}").await;
    assert_eq!(text.status, 415);
    assert!(text.header("accept-patch").contains("application/merge-patch+json"));
    assert_eq!(patch(&client, "/products/659200807365656400000000", json!({})).await.status, 404);
}

each_storage!(a_patch_may_say_which_version_it_is_for);
async fn a_patch_may_say_which_version_it_is_for(storage: Storage) {
    let shop = shop(storage);
    let client = shop.admin().await;
    let added = client.post("/products", whole("DSC-1")).await;
    let (path, etag) = (added.header("location").to_owned(), added.header("etag").to_owned());
    let headers = [MERGE, ("if-match", etag.as_str())];
    let first = client.send(Method::PATCH, &path, &headers, r#"{"price":1}"#).await;
    assert_eq!(first.status, 200, "{first:?}");
    let second = client.send(Method::PATCH, &path, &headers, r#"{"price":2}"#).await;
    assert_eq!(second.status, 412, "{second:?}");
    assert_eq!(client.get(&path).await.json()["price"], 1);
}

each_storage!(patches_of_many_at_once_lose_none);
async fn patches_of_many_at_once_lose_none(storage: Storage) {
    let shop = shop(storage);
    let client = shop.admin().await;
    let path = client.post("/products", whole("DSC-1")).await.header("location").to_owned();
    let changes = (0..8).map(|n| {
        let (client, path) = (client.clone(), path.clone());
        async move {
            loop {
                let body = json!({ "attributes": { format!("n{n}"): n } });
                let answer = patch(&client, &path, body).await;
                match answer.status {
                    200 => return,
                    status => assert_eq!(status, 409, "{answer:?}"),
                }
            }
        }
    });
    futures_util::future::join_all(changes).await;
    let product = client.get(&path).await.json();
    for n in 0..8 {
        assert_eq!(product["attributes"][format!("n{n}")], n, "{product}");
    }
}

each_storage!(a_sku_is_of_one_product_without_regard_to_case);
async fn a_sku_is_of_one_product_without_regard_to_case(storage: Storage) {
    let shop = shop(storage);
    let client = shop.admin().await;
    let first = client.post("/products", whole(" Straße-1 ")).await;
    assert_eq!((first.status, &first.json()["sku"]), (201, &json!("Straße-1")));
    let path = first.header("location").to_owned();
    for sku in ["Straße-1", "STRASSE-1", "straße-1"] {
        let taken = client.post("/products", whole(sku)).await;
        assert_eq!((taken.status, taken.problem().0), (409, "/problems/conflict".to_owned()));
        assert!(taken.json()["detail"].as_str().unwrap().contains(sku), "{taken:?}");
    }
    let other = client.post("/products", whole("other")).await.header("location").to_owned();
    let change = json!({ "sku": "STRASSE-1" });
    assert_eq!(patch(&client, &other, change.clone()).await.status, 409);
    let put = whole("strasse-1").to_string();
    assert_eq!(client.send(Method::PUT, &other, &[JSON], put).await.status, 409);
    assert_eq!(client.get(&other).await.json()["sku"], "other");
    let own = patch(&client, &path, change.clone()).await;
    assert_eq!((own.status, &own.json()["sku"]), (200, &json!("STRASSE-1")), "its own");
    let twins = (0..20).map(|_| client.post("/products", whole("twin")));
    let statuses = futures_util::future::join_all(twins).await;
    assert_eq!(statuses.iter().filter(|answer| answer.status == 201).count(), 1);

    assert_eq!(client.send(Method::DELETE, &path, &[], "").await.status, 204);
    assert_eq!(client.get(&path).await.status, 404);
    assert_eq!(client.send(Method::DELETE, &path, &[], "").await.status, 404);
    assert_eq!(patch(&client, &path, json!({})).await.status, 404);
    assert_eq!(patch(&client, &other, change).await.status, 200, "it is free again");
    assert_eq!(client.get("/products").await.ids().len(), 2);
}

#[actix_rt::test]
async fn what_a_field_says_twice_or_too_large_is_refused_by_its_name() {
    let shop = Shop::start(Topology::OneProcess);
    let client = shop.admin().await;
    let path = client.post("/products", whole("S")).await.header("location").to_owned();
    let twice = r#"{"name":"Lamp","price":1,"attributes":{"a":{"b":1,"b":2}}}"#;
    let large = r#"{"name":"Lamp","price":1e400}"#;
    for (method, path) in
        [(Method::POST, "/products"), (Method::PUT, &*path), (Method::PATCH, &*path)]
    {
        for (body, field) in [(twice, "attributes"), (large, "price")] {
            let answer = client.write(method.clone(), path, body).await;
            assert_eq!((answer.status, answer.problem().1), (422, vec![field.to_owned()]));
        }
    }
    assert_eq!(client.get(&path).await.json()["sku"], "S");
}

#[actix_rt::test]
async fn each_field_has_its_bounds() {
    let shop = Shop::start(Topology::OneProcess);
    let client = shop.admin().await;
    let tags = |count: usize| (0..count).map(|n| format!("t{n}")).collect::<Vec<_>>();
    let images = |count: usize| (0..count).map(|n| format!("http://a/{n}")).collect::<Vec<_>>();
    for (field, good, bad) in [
        ("description", json!("ö".repeat(5000)), json!("ö".repeat(5001))),
        ("description", json!("a\tb\r\nc"), json!("a\u{0}b")),
        ("description", json!("\u{200b}x"), json!("\u{200b}")),
        ("category", json!("ö".repeat(100)), json!("ö".repeat(101))),
        ("category", json!("a b"), json!("a\nb")),
        ("sku", json!("ö".repeat(64)), json!("ö".repeat(65))),
        ("sku", json!("a"), json!("")),
        ("tags", json!(tags(20)), json!(tags(21))),
        ("tags", json!(["ö".repeat(50)]), json!(["ö".repeat(51)])),
        ("tags", json!([]), json!(["a", "a"])),
        ("images", json!(images(10)), json!(images(11))),
        ("images", json!(["https://a.example"]), json!(["ftp://a.example"])),
        ("images", json!(["https://a.example"]), json!("https://a.example")),
        ("attributes", json!({ "a": "x".repeat(8184) }), json!({ "a": "x".repeat(8185) })),
        ("attributes", json!({ "a": [[[1]]] }), json!({ "a": [[[[]]]] })),
        ("attributes", json!({}), json!([])),
        ("stock", json!(0), json!(-1)),
        ("stock", json!(1_000_000_000), json!(1_000_000_001)),
        ("stock", json!(1), json!(1.5)),
        ("stock", json!(1), json!(null)),
        ("description", json!("x"), json!(null)),
    ] {
        for (value, status) in [(good, 201), (bad, 422)] {
            let body = json!({ "name": "Lamp", "price": 1, field: value });
            let answer = client.post("/products", &body).await;
            assert_eq!(answer.status, status, "{body}: {answer:?}");
            if status == 422 {
                assert_eq!(answer.problem().1, [field], "{body}");
            }
            // Each has its SKU for itself.
            if let (201, Some("sku")) = (status, Some(field)) {
                let path = answer.header("location").to_owned();
                assert_eq!(client.send(Method::DELETE, &path, &[], "").await.status, 204);
            }
        }
    }
}

each_topology!(a_customer_changes_no_product);
async fn a_customer_changes_no_product(topology: Topology) {
    let shop = Shop::start_with(topology, &[("APP__AUTH__MODE", "enforced")]);
    let path = format!("/products/{}", shop.admin().await.add_product("Lamp", 1.0).await);
    let customer = shop.gateway().customer("neo").await;
    assert_eq!(patch(&shop.gateway(), &path, json!({ "price": 2 })).await.status, 401);
    assert_eq!(patch(&customer, &path, json!({ "price": 2 })).await.status, 403);
    let direct = shop.client(if topology == Topology::OneProcess { "gateway" } else { "product" });
    assert_eq!(patch(&direct, &path, json!({ "price": 2 })).await.status, 401);
    assert_eq!(patch(&shop.admin().await, &path, json!({ "price": 2 })).await.status, 200);
}

each_storage!(pieces_come_and_go);
async fn pieces_come_and_go(storage: Storage) {
    let shop = shop(storage);
    let client = shop.admin().await;
    let path = format!("/products/{}", client.add_product("Lamp", 1.0).await);
    let stock = format!("{path}/stock");
    let uncounted = json!({ "onHand": null, "reserved": 0, "available": null });
    assert_eq!(client.get(&stock).await.json(), uncounted);
    let counted = |n: i64| json!({ "onHand": n, "reserved": 0, "available": n });
    for (change, status, after, in_stock) in [
        (json!({ "change": 1 }), 409, uncounted.clone(), true),
        (json!({ "onHand": 0 }), 200, counted(0), false),
        (json!({ "change": 5 }), 200, counted(5), true),
        (json!({ "change": -6 }), 409, counted(5), true),
        (json!({ "change": -5 }), 200, counted(0), false),
        (json!({ "change": 0 }), 200, counted(0), false),
        (json!({ "onHand": 1_000_000_000 }), 200, counted(1_000_000_000), true),
        (json!({ "change": 1 }), 409, counted(1_000_000_000), true),
        (json!({ "onHand": null }), 200, uncounted.clone(), true),
        (json!({ "onHand": 7 }), 200, counted(7), true),
        (json!({}), 422, counted(7), true),
        (json!({ "onHand": 1, "change": 1 }), 422, counted(7), true),
        (json!({ "onHand": -1 }), 422, counted(7), true),
        (json!({ "onHand": 1.5 }), 422, counted(7), true),
        (json!({ "change": 1_000_000_001 }), 422, counted(7), true),
        (json!({ "change": null }), 422, counted(7), true),
        (json!({ "reserved": 1 }), 422, counted(7), true),
    ] {
        let answer = patch(&client, &stock, change.clone()).await;
        assert_eq!(answer.status, status, "{change}: {answer:?}");
        if status == 200 {
            assert_eq!(answer.json(), after, "{change}");
        }
        assert_eq!(client.get(&stock).await.json(), after, "{change}");
        // It shows at once, in what is cached, too.
        assert_eq!(client.get(&path).await.json()["inStock"], in_stock, "{change}");
        assert_eq!(client.get("/products").await.json()[0]["inStock"], in_stock, "{change}");
        let listed = client.get("/products?inStock=true").await.ids().len();
        assert_eq!(listed, usize::from(in_stock), "{change}");
    }
    let nobody = "/products/659200807365656400000000/stock";
    assert_eq!(client.get(nobody).await.status, 404);
    assert_eq!(patch(&client, nobody, json!({ "change": 1 })).await.status, 404);
}

each_storage!(a_piece_that_goes_forgets_nothing_that_is_cached);
async fn a_piece_that_goes_forgets_nothing_that_is_cached(storage: Storage) {
    let shop = shop(storage);
    let client = shop.admin().await;
    let added = client.post("/products", json!({ "name": "Lamp", "price": 1, "stock": 2 })).await;
    let path = added.header("location").to_owned();
    let stock = format!("{path}/stock");
    for (change, label) in [(-1, "HIT"), (-1, "MISS"), (3, "MISS"), (1, "HIT")] {
        client.get(&path).await;
        assert_eq!(client.get(&path).await.header("x-cache"), "HIT");
        assert_eq!(patch(&client, &stock, json!({ "change": change })).await.status, 200);
        assert_eq!(client.get(&path).await.header("x-cache"), label, "{change}");
    }
}

each_storage!(changes_of_many_at_once_add_up);
async fn changes_of_many_at_once_add_up(storage: Storage) {
    let shop = shop(storage);
    let client = shop.admin().await;
    let added = client.post("/products", json!({ "name": "Lamp", "price": 1, "stock": 10 })).await;
    let stock = format!("{}/stock", added.header("location"));
    let changes = (0..30).map(|_| patch(&client, &stock, json!({ "change": -1 })));
    let answers = futures_util::future::join_all(changes).await;
    let taken = answers.iter().filter(|answer| answer.status == 200).count();
    let refused = answers.iter().filter(|answer| answer.status == 409).count();
    assert_eq!((taken, refused), (10, 20), "{answers:?}");
    let none = json!({ "onHand": 0, "reserved": 0, "available": 0 });
    assert_eq!(client.get(&stock).await.json(), none);
}

each_topology!(a_customer_sees_and_changes_no_stock);
async fn a_customer_sees_and_changes_no_stock(topology: Topology) {
    let enforced = [("APP__AUTH__MODE", "enforced")];
    let shop = Shop::start_with(topology, &enforced);
    let admin = shop.admin().await;
    let added = admin.post("/products", json!({ "name": "Lamp", "price": 1, "stock": 1 })).await;
    let stock = format!("{}/stock", added.header("location"));
    let customer = shop.gateway().customer("neo").await;
    let direct = shop.client(if topology == Topology::OneProcess { "gateway" } else { "product" });
    for (client, status) in
        [(&shop.gateway(), 401), (&customer, 403), (&direct, 401), (&admin, 200)]
    {
        assert_eq!(client.get(&stock).await.status, status);
        assert_eq!(patch(client, &stock, json!({ "change": 1 })).await.status, status);
    }
}

each_storage!(what_is_low_is_listed_the_fewest_first);
async fn what_is_low_is_listed_the_fewest_first(storage: Storage) {
    let shop = shop(storage);
    let client = shop.admin().await;
    let mut low = Vec::new();
    for stock in [3, 0, 12, 9, 0, 4, 10] {
        let new = json!({ "name": format!("Lamp {stock}"), "price": 1, "stock": stock });
        let added = client.post("/products", new).await.json();
        low.push((stock, added["id"].as_str().unwrap().to_owned()));
    }
    client.add_product("Song", 1.0).await;
    let gone = client.post("/products", json!({ "name": "Gone", "price": 1, "stock": 1 })).await;
    client.send(Method::DELETE, gone.header("location"), &[], "").await;
    low.sort();
    let ids = |below: i64| {
        let few = low.iter().filter(|(stock, _)| *stock < below);
        few.map(|(_, id)| id.clone()).collect::<Vec<_>>()
    };
    assert_eq!(client.get("/products/stock").await.ids(), ids(10));
    for below in [1, 4, 11, 1_000_000_000] {
        let target = format!("/products/stock?below={below}");
        assert_eq!(client.get(&target).await.ids(), ids(below), "{below}");
        assert_eq!(client.walk(&format!("{target}&limit=2")).await, ids(below), "{below}");
    }
    let first = client.get("/products/stock").await.json()[0].clone();
    let told =
        json!({ "id": low[0].1, "name": "Lamp 0", "onHand": 0, "reserved": 0, "available": 0 });
    assert_eq!(first, told);
    // It follows every change.
    let stock = |n: usize| format!("/products/{}/stock", low[n].1);
    assert_eq!(patch(&client, &stock(0), json!({ "change": 20 })).await.status, 200);
    assert_eq!(patch(&client, &stock(1), json!({ "onHand": null })).await.status, 200);
    let put = json!({ "name": "Lamp", "price": 1, "stock": 1 }).to_string();
    let path = format!("/products/{}", low[6].1);
    assert_eq!(client.send(Method::PUT, &path, &[JSON], put).await.status, 200);
    let changed = [&low[6].1, &low[2].1, &low[3].1, &low[4].1];
    assert_eq!(client.get("/products/stock").await.ids(), changed.map(String::clone));
    for bad in ["below=0", "below=x", "limit=101", "cursor=x", "q=lamp", "below=1&below=2"] {
        assert_eq!(client.get(&format!("/products/stock?{bad}")).await.status, 422, "{bad}");
    }
}

#[actix_rt::test]
async fn a_patch_that_is_not_valid_is_422_whatever_it_expects() {
    let shop = shop(Storage::Embedded);
    let client = shop.admin().await;
    let path = format!("/products/{}", client.add_product("Lamp", 1.0).await);
    for attributes in [json!([null]), json!(1), json!("a")] {
        let body = json!({ "attributes": attributes }).to_string();
        let headers = [MERGE, ("if-match", "\"another\"")];
        let answer = client.send(Method::PATCH, &path, &headers, body).await;
        assert_eq!((answer.status, &*answer.problem().1), (422, &["attributes".to_owned()][..]));
    }
}

#[actix_rt::test]
async fn a_currency_without_decimals_has_no_fractions_of_prices() {
    let servers = Storage::Embedded.servers();
    let shop = Shop::start_on(Topology::OneProcess, servers, &[("APP__SHOP__CURRENCY", "JPY")]);
    let client = shop.gateway();
    let refused = |answer: Answer| {
        let wrong = json!([{ "field": "price", "detail": "must have no decimals: it is in JPY" }]);
        assert_eq!((answer.status, &answer.json()["errors"]), (422, &wrong), "{answer:?}");
    };
    refused(client.post("/products", json!({ "name": "Lamp", "price": 12.5 })).await);
    let lamp = client.post("/products", json!({ "name": "Lamp", "price": 12.0 })).await;
    assert_eq!((lamp.status, &lamp.json()["price"]), (201, &json!(12)), "{lamp:?}");
    let path = lamp.header("location");
    let replaced = json!({ "name": "Lamp", "price": 0.01 }).to_string();
    refused(client.send(Method::PUT, path, &[JSON], replaced).await);
    refused(patch(&client, path, json!({ "price": 1.5 })).await);
    assert_eq!(client.get(path).await.json(), lamp.json());
    for (kind, file) in [
        ("text/csv", "name,price\nRug,7.50\nMat,7.00\n"),
        (
            "application/x-ndjson",
            "{\"name\":\"Rug\",\"price\":7.5}\n{\"name\":\"Mat\",\"price\":7}\n",
        ),
    ] {
        let headers = [("content-type", kind)];
        let report = client.send(Method::POST, "/products/import", &headers, file).await.json();
        assert_eq!((&report["created"], &report["failed"]), (&json!(1), &json!(1)), "{report}");
        let detail = "price: must have no decimals: it is in JPY";
        assert_eq!(report["errors"][0]["detail"], detail, "{report}");
    }
}
