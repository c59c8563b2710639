//! The shop below a path of a proxy's own.

use awc::http::Method;
use serde_json::json;

use crate::support::{Answer, Client, PASSWORD, Shop, Topology, Upstream};

const TRUSTED: (&str, &str) = ("APP__GATEWAY__TRUSTED_PROXIES", "127.0.0.1");

async fn get(client: &Client, path: &str, prefix: &str) -> Answer {
    client.send(Method::GET, path, &[("x-forwarded-prefix", prefix)], "").await
}

each_topology!(links_lead_to_where_the_proxy_shows_the_shop);
async fn links_lead_to_where_the_proxy_shows_the_shop(topology: Topology) {
    let shop = Shop::start_with(topology, &[TRUSTED]);
    let client = shop.gateway();
    for name in ["Lamp", "Chair"] {
        client.add_product(name, 5.0).await;
    }
    let page = get(&client, "/products?limit=1", "/shop").await;
    let next = page.next().unwrap();
    assert!(next.starts_with("/shop/products?"), "{topology:?} {next}");
    let second = get(&client, next.strip_prefix("/shop").unwrap(), "/shop").await;
    assert_eq!((second.status, second.ids().len()), (200, 1));

    let json = ("content-type", "application/json");
    let headers = [json, ("x-forwarded-prefix", "/a/shop/")];
    let lamp = json!({ "name": "Lamp", "price": 5 }).to_string();
    let made = client.send(Method::POST, "/products", &headers, lamp).await;
    let location = format!("/a/shop/products/{}", made.json()["id"].as_str().unwrap());
    assert_eq!((made.status, made.header("location")), (201, &*location), "{topology:?}");
    let neo = json!({ "username": "neo", "email": "neo@example.com" }).to_string();
    let made = client.send(Method::POST, "/auth/register", &headers, neo).await;
    assert!(made.header("location").starts_with("/a/shop/auth/dashboard/"), "{made:?}");

    let login = json!({ "email": "trinity@example.com", "password": PASSWORD }).to_string();
    client.sign_up("trinity").await;
    let signed_in = client.send(Method::POST, "/auth/session", &headers, login).await;
    let cookie = signed_in.header("set-cookie");
    assert!(cookie.contains("; Path=/a/shop/auth/session; "), "{topology:?} {cookie}");

    for (said, server) in [("/shop", "/shop"), ("/shop/, /v1", "/shop/v1"), ("//evil", "/")] {
        let document = get(&client, "/openapi.json", said).await;
        assert_eq!(document.json()["servers"], json!([{ "url": server }]), "{topology:?} {said}");
    }

    for bad in ["//evil.example", "https://evil.example", "/../x", "/a%2fb", "shop", "/"] {
        let page = get(&client, "/products?limit=1", bad).await;
        assert!(page.next().unwrap().starts_with("/products?"), "{bad}: {page:?}");
    }
}

each_topology!(a_cookie_is_sent_back_to_where_a_route_has_put_its_role);
async fn a_cookie_is_sent_back_to_where_a_route_has_put_its_role(topology: Topology) {
    let routes = [
        ("APP__GATEWAY__ROUTES__API__PREFIX", "/api/auth"),
        ("APP__GATEWAY__ROUTES__API__UPSTREAM", "user"),
        ("APP__GATEWAY__ROUTES__API__STRIP_PREFIX", "/api"),
    ];
    let shop = Shop::start_with(topology, &routes);
    let client = shop.gateway();
    client.sign_up("trinity").await;
    let login = json!({ "email": "trinity@example.com", "password": PASSWORD });
    let signed_in = client.post("/api/auth/session", login).await;
    let cookie = signed_in.header("set-cookie");
    assert!(cookie.contains("; Path=/api/auth/session; "), "{topology:?} {cookie}");
    let sent = [("cookie", cookie.split(';').next().unwrap())];
    let renewed = client.send(Method::POST, "/api/auth/session/renew", &sent, "").await;
    assert_eq!(renewed.status, 200, "{topology:?} {renewed:?}");
    assert!(renewed.header("set-cookie").contains("; Path=/api/auth/session; "), "{renewed:?}");
}

#[actix_rt::test]
async fn nobody_else_says_where_links_lead() {
    let shop = Shop::start(Topology::OneProcess);
    let client = shop.gateway();
    for name in ["Lamp", "Chair"] {
        client.add_product(name, 5.0).await;
    }
    let page = get(&client, "/products?limit=1", "/shop").await;
    assert!(page.next().unwrap().starts_with("/products?"), "{page:?}");
    let document = get(&client, "/openapi.json", "/shop").await;
    assert_eq!(document.json()["servers"], json!([{ "url": "/" }]));
}

#[actix_rt::test]
async fn a_service_is_told_the_prefix_and_leads_its_links_itself() {
    let upstream = Upstream::start(|line| {
        while line.request().is_some() {
            line.send("HTTP/1.1 302 Found\r\nlocation: /shop/own/x\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let routes = [
        TRUSTED,
        ("APP__GATEWAY__ROUTES__OWN__PREFIX", "/own"),
        ("APP__GATEWAY__ROUTES__OWN__UPSTREAM", "own"),
        ("APP__GATEWAY__UPSTREAMS__OWN__URLS", &*upstream.url),
    ];
    let (gateway, _folder) = upstream.gateway(&routes);
    let client = gateway.client("gateway");
    for (said, passed_on) in [("/shop", true), ("//shop", false)] {
        let answer = get(&client, "/own", said).await;
        assert_eq!(answer.header("location"), "/shop/own/x");
        let head = &upstream.take().0[0].head;
        assert_eq!(head.contains("\r\nx-forwarded-prefix: /shop\r\n"), passed_on, "{head}");
        assert!(passed_on || !head.contains("x-forwarded-prefix"), "{head}");
    }
}
