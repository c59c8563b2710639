//! Who may see and change an order.

use awc::http::Method;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    Answer, Client, PASSWORD, SIGNING_KEY, Shop, Storage, Topology, order_items, until,
};

const ENFORCED: [(&str, &str); 2] =
    [("APP__AUTH__MODE", "enforced"), ("APP__AUTH__OPEN_BEYOND_LOOPBACK", "false")];

async fn order(client: &Client, key: &str, items: &[(&str, i64)]) -> Answer {
    let headers = [("content-type", "application/json"), ("idempotency-key", key)];
    let body = json!({ "items": order_items(items) }).to_string();
    client.send(Method::POST, "/orders", &headers, body).await
}

each_topology!(an_order_is_its_owners_and_the_admins);
async fn an_order_is_its_owners_and_the_admins(topology: Topology) {
    let shop = Shop::start_with(topology, &ENFORCED);
    let (nobody, admin) = (shop.gateway(), shop.admin().await);
    let (owner, stranger) = (nobody.customer("owner").await, nobody.customer("stranger").await);
    let lamp = admin.add_stocked("Lamp", 5).await;
    let placed = order(&owner, "k", &[(&lamp, 1)]).await;
    assert_eq!(placed.status, 201, "{placed:?}");
    let placed = placed.json();
    let id = placed["id"].as_str().unwrap();

    // At the gateway, and at the role itself.
    let mut doors = vec![nobody.clone()];
    if topology == Topology::OneProcessARole {
        doors.push(shop.client("order"));
    }
    for door in &doors {
        let as_ = |who: &Client| door.with_token(who.token());
        let (owner, stranger, admin) = (as_(&owner), as_(&stranger), as_(&admin));
        for (method, path, body) in [
            (Method::GET, "/orders".to_owned(), Value::Null),
            (Method::POST, "/orders".into(), json!({})),
            (Method::GET, format!("/orders/{id}"), Value::Null),
            (Method::POST, format!("/orders/{id}/pay"), json!({ "paymentMethod": "ok" })),
            (Method::POST, format!("/orders/{id}/cancel"), Value::Null),
            (Method::POST, format!("/orders/{id}/fulfil"), Value::Null),
            (Method::POST, format!("/orders/{id}/refund"), json!({ "restock": true })),
            (Method::GET, "/orders/summary".into(), Value::Null),
        ] {
            let text = if body.is_null() { String::new() } else { body.to_string() };
            let headers = [("content-type", "application/json"), ("idempotency-key", "x")];
            let headers = if body.is_null() { &[][..] } else { &headers[..] };
            let answer = door.send(method.clone(), &path, headers, text.clone()).await;
            assert_eq!(answer.status, 401, "nobody {method} {path}");
            let is_of_admins =
                ["fulfil", "refund", "summary"].iter().any(|end| path.ends_with(end));
            let answer = stranger.send(method.clone(), &path, headers, text).await;
            match path.as_str() {
                "/orders" if method == Method::GET => assert_eq!(answer.json(), json!([])),
                "/orders" => assert_eq!(answer.status, 422),
                _ if is_of_admins => assert_eq!(answer.status, 403, "stranger {method} {path}"),
                _ => assert_eq!(answer.status, 404, "stranger {method} {path}"),
            }
        }
        assert_eq!(owner.reread(&placed).await, placed);
        assert_eq!(admin.reread(&placed).await, placed);
        assert_eq!(owner.walk("/orders").await, [id]);
        assert_eq!(admin.walk("/orders").await, [id]);
        assert_eq!(owner.act(&placed, "fulfil", Value::Null).await.status, 403);
    }
    assert_eq!(owner.pay(&placed, "ok").await.status, 200);
    assert_eq!(admin.act(&placed, "fulfil", Value::Null).await.status, 200);
    assert_eq!(admin.act(&placed, "refund", json!({ "restock": false })).await.status, 200);
    assert_eq!(admin.stock(&lamp).await, [4, 0, 4].map(Value::from));
    assert_eq!(admin.get("/orders/summary").await.json()[0]["orders"], 1);
}

#[actix_rt::test]
async fn an_enforced_shop_takes_the_user_from_the_token_and_asks_for_a_key() {
    let shop = Shop::start_with(Topology::OneProcess, &ENFORCED);
    let (admin, owner) = (shop.admin().await, shop.gateway().customer("owner").await);
    let lamp = admin.add_stocked("Lamp", 5).await;
    let items = order_items(&[(&lamp, 1)]);
    let unkeyed = owner.post("/orders", json!({ "items": items })).await;
    assert_eq!((unkeyed.status, unkeyed.problem().0), (400, "/problems/malformed".into()));
    let headers = [("content-type", "application/json"), ("idempotency-key", "k")];
    let body = json!({ "items": items, "userId": Uuid::now_v7() }).to_string();
    let named = owner.send(Method::POST, "/orders", &headers, body).await;
    assert_eq!((named.status, named.problem().1), (422, vec!["userId".into()]));
    assert_eq!(admin.stock(&lamp).await, [5, 0, 5].map(Value::from));
}

each_topology!(an_export_has_all_orders_and_where_they_went);
async fn an_export_has_all_orders_and_where_they_went(topology: Topology) {
    let keys = [("APP__USER__SIGNING_KEYS", SIGNING_KEY)];
    let settings = ENFORCED.into_iter().chain(keys).collect::<Vec<_>>();
    let mut shop = Shop::start_with(topology, &settings);
    let (admin, owner) = (shop.admin().await, shop.gateway().customer("owner").await);
    let stranger = shop.gateway().customer("stranger").await;
    let lamp = admin.add_stocked("Lamp", 500).await;
    let export = async |who: &Client| {
        let export = who.get("/auth/me/export").await;
        assert_eq!(export.status, 200, "{export:?}");
        export.json()
    };
    assert_eq!(export(&owner).await["orders"], json!([]));
    let headers = [("content-type", "application/json"), ("idempotency-key", "sent")];
    let body = json!({ "items": order_items(&[(&lamp, 1)]), "shipTo": { "city": "Zion" } });
    let first = owner.send(Method::POST, "/orders", &headers, body.to_string()).await.json();
    for n in 0..100 {
        assert_eq!(order(&owner, &n.to_string(), &[(&lamp, 1)]).await.status, 201);
    }
    let exported = export(&owner).await;
    let orders = exported["orders"].as_array().unwrap();
    let ids = orders.iter().map(|order| order["id"].as_str().unwrap().to_owned());
    assert_eq!(ids.collect::<Vec<_>>(), owner.walk("/orders").await);
    assert_eq!((orders.len(), &orders[100], &exported["degraded"]), (101, &first, &Value::Null));
    assert_eq!(export(&stranger).await["orders"], json!([]));
    let id = first["userId"].as_str().unwrap();
    let inner = format!("/internal/users/{id}/orders");
    assert_eq!(admin.get(&inner).await.status, 404);

    if topology == Topology::OneProcessARole {
        assert_eq!(shop.client("order").with_token(owner.token()).get(&inner).await.status, 200);
        let has_no_orders = async || {
            let exported = export(&owner).await;
            let seen = (&exported["orders"], &exported["degraded"]);
            assert_eq!(seen, (&json!([]), &json!(["order"])));
            exported
        };
        shop.process("order").signal(Signal::SIGSTOP);
        has_no_orders().await;
        shop.kill("order");
        let exported = has_no_orders().await;
        assert_eq!(exported["account"]["email"], owner.get("/auth/me").await.json()["email"]);
    }
}

each_case!(an_erased_user_leaves_orders_without_an_address:
    embedded(Storage::Embedded),
    polyglot(Storage::Polyglot),
);
async fn an_erased_user_leaves_orders_without_an_address(storage: Storage) {
    let keys = [("APP__USER__SIGNING_KEYS", SIGNING_KEY)];
    let settings = ENFORCED.into_iter().chain(keys).collect::<Vec<_>>();
    let shop = Shop::start_on(Topology::OneProcess, storage.servers(), &settings);
    let (admin, owner) = (shop.admin().await, shop.gateway().customer("owner").await);
    let lamp = admin.add_stocked("Lamp", 5).await;
    let headers = [("content-type", "application/json"), ("idempotency-key", "k")];
    let body = json!({
        "items": order_items(&[(&lamp, 1)]),
        "shipTo": { "city": "Zion" },
        "contact": "owner@example.com",
    });
    let placed = owner.send(Method::POST, "/orders", &headers, body.to_string()).await.json();
    assert_eq!(placed["contact"], "owner@example.com");
    let gone =
        owner.write(Method::DELETE, "/auth/me", json!({ "currentPassword": PASSWORD })).await;
    assert_eq!(gone.status, 204, "{gone:?}");
    let mut nameless = placed.clone();
    nameless.as_object_mut().unwrap().retain(|name, _| name != "shipTo" && name != "contact");
    until("nobody is told", async || admin.reread(&placed).await == nameless).await;
    assert_eq!(admin.pay(&placed, "ok").await.status, 200);
}
