//! `/auth`: accounts and the dashboard.

use serde_json::json;

use crate::support::{Shop, Topology};

each_topology!(registering_gives_the_account_and_where_it_is);
async fn registering_gives_the_account_and_where_it_is(topology: Topology) {
    let shop = Shop::start(topology);
    let client = shop.gateway();
    let neo = json!({ "username": "Neo", "email": "neo@matrix.com" });
    let answer = client.post("/auth/register", neo).await;
    assert_eq!(answer.status, 201);
    let user = answer.json();
    assert_eq!((&user["username"], &user["email"]), (&json!("Neo"), &json!("neo@matrix.com")));
    let id = user["id"].as_str().unwrap();
    assert_eq!(id.as_bytes()[14], b'7', "a UUID of version 7: {id}");
    assert_eq!(answer.header("location"), format!("/auth/dashboard/{id}"));
    let dashboard = client.get(answer.header("location")).await;
    assert_eq!(dashboard.status, 200);
    assert_eq!(dashboard.json(), json!({ "user": user, "recommendedProducts": [] }));
}

#[actix_rt::test]
async fn an_address_is_taken_in_any_mix_of_cases() {
    let shop = Shop::start(Topology::OneProcess);
    let client = shop.gateway();
    client.register("neo").await;
    for email in ["neo@example.com", "NEO@Example.Com", " neo@example.com "] {
        let again = client.post("/auth/register", json!({ "username": "x", "email": email })).await;
        assert_eq!(again.status, 409, "{email}");
        assert_eq!(again.problem().0, "/problems/conflict");
    }
    client.register("trinity").await;
}

#[actix_rt::test]
async fn of_twenty_who_want_one_address_one_gets_it() {
    let shop = Shop::start(Topology::OneProcess);
    let client = shop.gateway();
    let tries = (0..20).map(|n| {
        let client = client.clone();
        async move {
            let body = json!({ "username": format!("u{n}"), "email": "one@example.com" });
            client.post("/auth/register", body).await.status
        }
    });
    let mut statuses = futures_util::future::join_all(tries).await;
    statuses.sort_unstable();
    assert_eq!(statuses[0], 201);
    assert_eq!(statuses[1..], [409; 19]);
}

#[actix_rt::test]
async fn a_name_keeps_every_letter() {
    let shop = Shop::start(Topology::OneProcess);
    let client = shop.gateway();
    for (n, name) in ["Zoë 🦊 \u{202e}x", "名前", "O'Hara; DROP TABLE users--"].iter().enumerate()
    {
        let email = format!("u{n}@example.com");
        let user =
            client.post("/auth/register", json!({ "username": name, "email": email })).await.json();
        assert_eq!(user["username"], *name);
        let path = format!("/auth/dashboard/{}", user["id"].as_str().unwrap());
        assert_eq!(client.get(&path).await.json()["user"], user);
    }
}

#[actix_rt::test]
async fn what_is_wrong_is_said_field_by_field() {
    let shop = Shop::start(Topology::OneProcess);
    let client = shop.gateway();
    for (body, fields) in [
        ("{}", vec!["username", "email"]),
        (r#"{"username":7,"email":[]}"#, vec!["username", "email"]),
        (r#"{"username":"","email":"neo@matrix.com"}"#, vec!["username"]),
        (r#"{"username":"Neo","email":"neo"}"#, vec!["email"]),
        (r#"{"username":null,"email":"neo@matrix.com"}"#, vec!["username"]),
        ("[]", vec![]),
    ] {
        let answer = client.post("/auth/register", body).await;
        assert_eq!(answer.status, 422, "{body}");
        let fields = fields.into_iter().map(String::from).collect();
        assert_eq!(answer.problem(), ("/problems/invalid".to_owned(), fields), "{body}");
    }
}

#[actix_rt::test]
async fn nobody_has_a_dashboard_but_users() {
    let shop = Shop::start(Topology::OneProcess);
    for id in ["01a20696-7a87-7338-917a-c39188f7cc7c", "neo", "1", "%00", "..%2f..%2fetc"] {
        let answer = shop.gateway().get(&format!("/auth/dashboard/{id}")).await;
        assert_eq!(answer.status, 404, "{id}");
        assert_eq!(answer.problem().0, "/problems/not-found");
    }
}

each_topology!(the_dashboard_recommends_the_newest_products);
async fn the_dashboard_recommends_the_newest_products(topology: Topology) {
    let shop = Shop::start(topology);
    let client = shop.gateway();
    let id = client.register("neo").await;
    let mut products = Vec::new();
    for n in 0..7 {
        products.push(client.add_product(&format!("Product {n}"), 1.5).await);
    }
    let dashboard = client.get(&format!("/auth/dashboard/{id}")).await.json();
    let shown = dashboard["recommendedProducts"].as_array().unwrap();
    let shown = shown.iter().map(|product| product["id"].as_str().unwrap());
    assert!(shown.eq(products.iter().rev().take(5)), "{dashboard}");
    assert_eq!(dashboard.get("degraded"), None);
}

#[actix_rt::test]
async fn the_dashboard_does_without_the_product_role() {
    let mut shop = Shop::start(Topology::OneProcessARole);
    let client = shop.gateway();
    let path = format!("/auth/dashboard/{}", client.register("neo").await);
    shop.kill("product");
    let dashboard = client.get(&path).await;
    assert_eq!(dashboard.status, 200);
    assert_eq!(dashboard.json()["recommendedProducts"], json!([]));
    assert_eq!(dashboard.json()["degraded"], json!(["product"]));
    let products = client.get("/products").await;
    assert_eq!((products.status, products.header("retry-after")), (503, "1"));
    assert_eq!(products.problem().0, "/problems/unavailable");
    assert!(
        !String::from_utf8_lossy(&products.body).contains("refused"),
        "the cause is for the log"
    );
    let id = products.header("x-request-id");
    let log = shop.process("gateway").log();
    assert!(log.lines().any(|line| line.contains(id) && line.contains("refused")), "{log}");
}
