//! What a process tells of its events, of orders and of money.

use serde_json::{Value, json};

use crate::support::{Kind, Server, Shop, Topology, until};

each_case!(events_are_counted_on_their_way: memory(None), broker(Some(Kind::Rabbit)));
async fn events_are_counted_on_their_way(broker: Option<Kind>) {
    let servers = broker.into_iter().map(Server::start).collect();
    let shop = Shop::start_on(Topology::OneProcess, servers, &[]);
    let client = shop.gateway();
    let user = client.register("neo").await.parse().unwrap();
    let lamp = client.add_product("Lamp", 1.0).await;
    for _ in 0..3 {
        assert_eq!(client.order(user, &[(&lamp, 1)]).await.status, 201);
    }
    let process = shop.process("gateway");
    let counted =
        async |name: &str, label: (&str, &str)| process.samples().await.value(name, &[label]);
    let published = async |to| {
        let labels = [("role", "order"), ("to", to)];
        process.samples().await.sum("events_published_total", &labels).unwrap_or(0.0)
    };
    until("they are in the log", async || published("log").await == 3.0).await;
    if broker.is_some() {
        until("the broker has them", async || published("broker").await == 3.0).await;
    }
    let consumer = ("consumer", "user.recent_orders");
    until("they are taken", async || counted("events_consumed_total", consumer).await >= 3.0).await;
    until("none waits", async || counted("events_outbox_depth", ("role", "order")).await == 0.0)
        .await;
    assert_eq!(counted("events_outbox_age_seconds", ("role", "order")).await, 0.0);
    assert_eq!(counted("events_dead_total", consumer).await, 0.0);
}

#[actix_rt::test]
async fn events_that_no_process_takes_are_seen_to_wait_and_to_grow_old() {
    let shop = Shop::start(Topology::OneProcessARole);
    let client = shop.gateway();
    let user = client.register("neo").await.parse().unwrap();
    let lamp = client.add_product("Lamp", 1.0).await;
    for _ in 0..2 {
        assert_eq!(client.order(user, &[(&lamp, 1)]).await.status, 201);
    }
    let waiting =
        async |name| shop.process("order").samples().await.value(name, &[("role", "order")]);
    until("they wait", async || waiting("events_outbox_depth").await == 2.0).await;
    let age = waiting("events_outbox_age_seconds").await;
    until("they grow old", async || waiting("events_outbox_age_seconds").await > age).await;
}

#[actix_rt::test]
async fn a_consumer_that_cannot_take_an_event_is_seen_to_try_again_or_to_give_up() {
    let shop = Shop::start(Topology::OneProcess);
    let client = shop.gateway();
    let user = client.register("neo").await.parse().unwrap();
    let lamp = client.add_product("Lamp", 1.0).await;
    assert_eq!(client.order(user, &[(&lamp, 1)]).await.status, 201);
    let consumer = [("consumer", "user.recent_orders")];
    let counted = async |name| shop.process("gateway").samples().await.value(name, &consumer);
    until("it is taken", async || counted("events_consumed_total").await == 1.0).await;
    // An order without a currency, say.
    shop.query(
        "order",
        "INSERT INTO order_outbox (kind, event) SELECT kind, \
         json_remove(json_set(event, '$.id', '0190b6f0-0000-7000-8000-000000000001'), '$.data.currency') \
         FROM order_outbox LIMIT 1",
    );
    until("it is a dead letter", async || counted("events_dead_total").await == 1.0).await;
    assert_eq!(counted("events_retried_total").await, 0.0);
    shop.query("user", "ALTER TABLE recent_orders RENAME TO gone");
    assert_eq!(client.order(user, &[(&lamp, 1)]).await.status, 201);
    until("it is tried again", async || counted("events_retried_total").await >= 2.0).await;
    shop.query("user", "ALTER TABLE gone RENAME TO recent_orders");
    until("it is taken", async || counted("events_consumed_total").await >= 2.0).await;
}

#[actix_rt::test]
async fn orders_are_counted_by_state_and_money_in_the_main_unit() {
    let shop = Shop::start(Topology::OneProcess);
    let client = shop.gateway();
    let user = client.register("neo").await.parse().unwrap();
    let lamp = client.add_product("Lamp", 12.34).await;
    let order = async |pieces| {
        let answer = client.order(user, &[(&lamp, pieces)]).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()
    };
    let (paid, refunded, cancelled) = (order(1).await, order(2).await, order(3).await);
    for order in [&paid, &refunded] {
        assert_eq!(client.pay(order, "ok").await.status, 200);
    }
    assert_eq!(client.act(&cancelled, "cancel", Value::Null).await.status, 200);
    assert_eq!(client.act(&paid, "fulfil", Value::Null).await.status, 200);
    assert_eq!(client.act(&refunded, "refund", json!({ "restock": true })).await.status, 200);
    let samples = shop.process("gateway").samples().await;
    for (status, count) in [
        ("placed", 3.0),
        ("paid", 2.0),
        ("fulfilled", 1.0),
        ("cancelled", 1.0),
        ("expired", 0.0),
        ("refunded", 1.0),
    ] {
        assert_eq!(samples.value("shop_orders_total", &[("status", status)]), count, "{status}");
    }
    let money = |name| samples.value(name, &[("currency", "EUR")]);
    assert!((money("shop_money_taken_total") - 3.0 * 12.34).abs() < 1e-9);
    assert!((money("shop_money_refunded_total") - 2.0 * 12.34).abs() < 1e-9);
}
