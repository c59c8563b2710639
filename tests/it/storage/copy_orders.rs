//! `app copy` of orders, their idempotency keys and the sandbox's payments.

use awc::http::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::copy::{copy, copy_with, sides};
use crate::support::{Answer, Client, Kind, Process, Server, Shop, Topology, order_items};

async fn order(client: &Client, key: &str, body: &Value) -> Answer {
    let headers = [("content-type", "application/json"), ("idempotency-key", key)];
    client.send(Method::POST, "/orders", &headers, body.to_string()).await
}

#[actix_rt::test]
async fn orders_move_there_and_back_and_go_on() {
    let postgres = Server::start(Kind::Postgres);
    let shop = Shop::start(Topology::OneProcess);
    let (client, folder) = (shop.gateway(), shop.folder.path());
    client.register("neo").await;
    let lamp = client.add_stocked("Lamp", 9).await;
    let body =
        json!({ "items": order_items(&[(&lamp, 2)]), "userId": Uuid::now_v7(), "shipTo": "Zion" });
    let [paid, declined] = ["paid", "declined"].map(|key| order(&client, key, &body));
    let (paid, declined) = (paid.await, declined.await.json());
    assert_eq!(client.pay(&paid.json(), "ok").await.status, 200);
    assert_eq!(client.pay(&declined, "declined").await.status, 402);

    // Accounts and orders share a database.
    let server = postgres.url();
    assert!(copy(folder, "sqlite://data/user.db", &server).1.starts_with("wrote 1 accounts"));
    for count in [2, 0] {
        let (well, text) = copy(folder, "sqlite://data/order.db", &server);
        assert!(well && text.starts_with(&format!("wrote {count} orders")), "{text}");
        for others in ["idempotency keys", "sandbox payments"] {
            assert!(text.contains(&format!("wrote {count} {others}; ")), "{text}");
        }
        let [from, to] = sides(&text);
        assert_eq!(from, to);
    }
    let (well, text) = copy(folder, &server, "sqlite://back/user.db");
    assert!(well && text.starts_with("wrote 1 accounts"), "{text}");
    let orders = ["--what", "orders"];
    let (well, text) = copy_with(folder, &server, "sqlite://back/user.db", &orders);
    assert!(!well && text.contains("--to: back/user.db is no store of orders"), "{text}");
    let (well, text) = copy_with(folder, &server, "sqlite://back/order.db", &orders);
    assert!(well && text.starts_with("wrote 2 orders"), "{text}");
    let (well, text) = copy_with(folder, "sqlite://data/user.db", &server, &orders);
    assert!(!well && text.contains("has no tables that can be copied"), "{text}");

    // A shop on the copy goes on where the first one was.
    let mut command = Process::command(folder);
    command.env("ORDER_DATABASE_URL", "sqlite://back/order.db");
    let copied = Process::start(folder, command);
    let there = copied.client("gateway");
    assert_eq!(there.reread(&declined).await, declined);
    assert_eq!(order(&there, "paid", &body).await.text(), paid.text());
    assert_eq!(there.pay(&paid.json(), "ok").await.status, 409);
    assert_eq!(there.pay(&declined, "ok").await.status, 200);
    assert_eq!(there.stock(&lamp).await, [5, 0, 5].map(Value::from));

    // What was paid there differs from what the source has.
    let (well, text) = copy(folder, "sqlite://data/order.db", "sqlite://back/order.db");
    assert!(!well && text.starts_with("wrote 0 orders"), "{text}");
    assert!(text.contains("1 of them differ and stay as they are"), "{text}");
    drop(copied);
    let (from, to) = ("sqlite://data/order.db", "sqlite://back/order.db");
    let (well, text) = copy_with(folder, from, to, &["--overwrite"]);
    assert!(well && text.starts_with("wrote 1 orders"), "{text}");
}
