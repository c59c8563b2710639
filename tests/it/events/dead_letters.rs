//! Events that a consumer cannot take, and what operators do with them.

use std::collections::BTreeSet;
use std::process::Output;

use awc::http::Method;
use futures_util::future::join_all;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use uuid::Uuid;

use super::broker::Customer;
use super::exchange::Exchange;
use crate::support::{Answer, Client, Kind, Process, Server, Shop, Storage, Topology, until};

const LETTERS: &str = "/events/dead-letters";
const QUEUE: &str = "shop.user.recent_orders";
const DEAD: &str = "shop.user.recent_orders.dead";

/// An event of the kind `status` with `data`.
fn event(subject: &str, status: &str, sequence: i64, data: Value) -> Value {
    json!({
        "specversion": "1.0", "id": Uuid::now_v7(), "source": "order", "type": format!("shop.order.{status}"),
        "subject": subject, "sequence": sequence, "time": "2026-11-01T00:00:00.000000Z",
        "datacontenttype": "application/json", "data": data,
    })
}

/// One that no consumer can take.
fn poison() -> Value {
    event("x", "paid", 1, json!({ "no": "order" }))
}

/// The data of an order of `user`.
fn order(id: Uuid, user: &str, status: &str, (product, quantity): (&str, i64)) -> Value {
    json!({
        "id": id, "userId": user, "status": status, "total": 1.0, "currency": "EUR",
        "createdAt": "2026-11-01T00:00:00.000000Z",
        "items": [{
            "productId": product, "name": "Lamp", "unitPrice": 1.0, "quantity": quantity, "lineTotal": 1.0,
        }],
    })
}

async fn letters(admin: &Client) -> Vec<Value> {
    let answer = admin.get(&format!("{LETTERS}?limit=100")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json().as_array().unwrap().clone()
}

async fn redrive(admin: &Client, id: &str) -> Answer {
    admin.send(Method::POST, &format!("{LETTERS}/{id}/redrive"), &[], "").await
}

async fn discard(admin: &Client, id: &str) -> Answer {
    admin.send(Method::DELETE, &format!("{LETTERS}/{id}"), &[], "").await
}

fn printed(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Runs `app events dlq` with `args`; what it prints, and its log.
fn dlq(shop: &Shop, args: &[&str]) -> (String, String) {
    let (code, out, log) = printed(&shop.run(&[&["events", "dlq"], args].concat()));
    assert_eq!(code, Some(0), "{args:?}: {log}");
    (out, log)
}

/// The ids that `app events dlq list` prints.
fn listed(shop: &Shop) -> Vec<String> {
    let (out, _) = dlq(shop, &["list"]);
    let lines = out.lines().filter(|line| line.contains(':'));
    lines.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
}

/// The orders on the dashboard of `user`, and their states.
async fn recent(client: &Client, user: &str) -> Vec<(String, String)> {
    let dashboard = client.get(&format!("/auth/dashboard/{user}")).await.json();
    let orders = dashboard["recentOrders"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    orders.iter().map(|order| (text(&order["id"]), text(&order["status"]))).collect()
}

/// Writes `event` into the outbox, as the order role would.
fn publish(shop: &Shop, event: &Value) {
    let kind = event["type"].as_str().unwrap();
    let sql = format!("INSERT INTO order_outbox (kind, event) VALUES ('{kind}', '{event}')");
    shop.query("order", &sql);
}

/// Writes a dead letter of `consumer`, redriven or not.
fn bury(shop: &Shop, consumer: &str, event: &Value, redriven: bool) -> String {
    let id = format!("{consumer}:{}", event["id"].as_str().unwrap());
    shop.query(
        "order",
        &format!(
            "INSERT INTO order_dead_letters (id, consumer, event, reason, created_at, redriven) \
             VALUES ('{id}', '{consumer}', '{event}', 'an old release', CURRENT_TIMESTAMP, {redriven})"
        ),
    );
    id
}

async fn are_gone(shop: &Shop) {
    let count = "SELECT COUNT(*) FROM order_dead_letters";
    until("it was taken", async || shop.query("order", count) == "0").await;
}

each_storage!(what_nobody_can_take_in_memory_waits_for_a_decision);
async fn what_nobody_can_take_in_memory_waits_for_a_decision(storage: Storage) {
    let no_cache = [("APP__PRODUCT__CACHE_TTL", "10ms"), ("APP__PRODUCT__CACHE_STALE", "0s")];
    let shop = Shop::start_on(Topology::OneProcess, storage.servers(), &no_cache);
    let (client, admin) = (shop.gateway(), shop.admin().await);
    let user = client.register("buyer").await;
    let mut products = Vec::new();
    for (name, sold) in [("Lamp", 0), ("Chair", 4), ("Shelf", 2)] {
        let id = client.add_stocked(name, 10).await;
        if sold > 0 {
            let order = client.order(Uuid::now_v7(), &[(&id, sold)]).await.json();
            assert_eq!(client.pay(&order, "ok").await.status, 200);
        }
        products.push(id);
    }
    let [lamp, chair, shelf] = <[String; 3]>::try_from(products).unwrap();
    assert_eq!(letters(&admin).await, Vec::<Value>::new());
    assert_eq!(dlq(&shop, &["list"]).0, "there are no dead letters\n");

    let (bad, order_id) = (poison(), Uuid::now_v7());
    publish(&shop, &bad);
    until("both consumers have given it up", async || letters(&admin).await.len() == 2).await;
    let found = letters(&admin).await;
    let ids = ["product.popularity", "user.recent_orders"]
        .map(|consumer| format!("{consumer}:{}", bad["id"].as_str().unwrap()));
    for (letter, id) in found.iter().zip(&ids) {
        assert_eq!(letter["id"], json!(id));
        assert_eq!(letter["consumer"], json!(id.split(':').next()));
        assert_eq!((&letter["type"], &letter["subject"]), (&bad["type"], &bad["subject"]));
        assert_eq!((&letter["attempts"], &letter["message"]), (&json!(1), &bad));
        assert!(letter["reason"].as_str().unwrap().contains("missing field"), "{letter}");
    }
    assert_eq!(listed(&shop), ids);
    assert_eq!(admin.walk(&format!("{LETTERS}?limit=1")).await, ids);

    // The reason is still there: it comes back.
    assert_eq!(redrive(&admin, &ids[1]).await.status, 202);
    until("it is one again", async || {
        letters(&admin).await.get(1).is_some_and(|letter| letter["attempts"] == 2)
    })
    .await;

    // It is mended, and each consumer takes it by itself.
    let good = event(&order_id.to_string(), "paid", 2, order(order_id, &user, "paid", (&lamp, 3)));
    let good_text =
        good.to_string().replace(good["id"].as_str().unwrap(), bad["id"].as_str().unwrap());
    shop.query("order", &format!("UPDATE order_dead_letters SET event = '{good_text}'"));
    let paid = [(order_id.to_string(), "paid".to_owned())];
    assert_eq!(redrive(&admin, &ids[1]).await.status, 202);
    until("the dashboard shows it", async || recent(&client, &user).await == paid).await;
    until("the other consumer was not meant", async || listed(&shop) == ids[..1]).await;
    let popular = async || client.get("/products?sort=popular").await.ids();
    assert_eq!(popular().await[..2], [chair.clone(), shelf.clone()]);
    let (out, log) = dlq(&shop, &["redrive", &ids[0]]);
    assert_eq!(out, "1 dead letters go to their consumers again\n");
    assert!(log.contains("dead_letter_redriven"), "{log}");
    let order_of_three = [chair, lamp, shelf];
    until("lamps were sold", async || popular().await == order_of_three).await;
    are_gone(&shop).await;

    // A crash between effect and note: again, and without another effect.
    let good = serde_json::from_str::<Value>(&good_text).unwrap();
    for consumer in ["product.popularity", "user.recent_orders"] {
        bury(&shop, consumer, &good, true);
    }
    are_gone(&shop).await;
    assert_eq!(popular().await, order_of_three);
    // What happened before it says nothing new.
    let placed = order(order_id, &user, "placed", (&order_of_three[1], 3));
    bury(&shop, "user.recent_orders", &event(&order_id.to_string(), "placed", 1, placed), true);
    are_gone(&shop).await;
    assert_eq!(recent(&client, &user).await, paid);

    // Dropped, and what is not there.
    let [one, other, last] = [(); 3].map(|()| bury(&shop, "user.recent_orders", &poison(), false));
    // One whose text is no event has its place in the list, too.
    shop.query("order", &format!("UPDATE order_dead_letters SET event = 'x' WHERE id = '{one}'"));
    let all = [&one, &other, &last].map(String::clone);
    assert_eq!(admin.walk(&format!("{LETTERS}?limit=1")).await, all);
    assert_eq!(discard(&admin, &one).await.status, 204);
    for id in [&one, "user.recent_orders:", "x", "%00", "user.recent_orders%3Ax%27--"] {
        assert_eq!(discard(&admin, id).await.status, 404, "{id}");
        assert_eq!(redrive(&admin, id).await.status, 404, "{id}");
    }
    let (code, out, log) = printed(&shop.run(&["events", "dlq", "drop", &one, &other]));
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(log.contains(&format!("app: there is no dead letter {one}\n")), "{log}");
    assert_eq!(listed(&shop), [last]);
    assert_eq!(dlq(&shop, &["drop", "--all"]).0, "dropped 1 dead letters\n");
    assert_eq!(listed(&shop), [""; 0]);
    for args in [&["redrive"][..], &["drop"], &["drop", "--all", "x"]] {
        let usage = shop.run(&[&["events", "dlq"], args].concat());
        assert_eq!(usage.status.code(), Some(2), "{args:?}");
    }
    for query in ["limit=0", "limit=101", "cursor=x", "cursor=a%3A%00", "page=1"] {
        assert_eq!(admin.get(&format!("{LETTERS}?{query}")).await.status, 422, "{query}");
    }
    let log = shop.process("gateway").log();
    assert!(log.contains("dead_letter_redriven") && log.contains("dead_letter_dropped"), "audit");
}

#[actix_rt::test]
async fn a_shop_that_is_stopped_takes_what_was_redriven_when_it_starts() {
    let mut shop = Shop::start(Topology::OneProcess);
    let client = shop.gateway();
    let (user, lamp) = (client.register("buyer").await, client.add_stocked("Lamp", 1).await);
    shop.kill("gateway");
    let ids = [Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7()];
    let buried = ids.map(|id| {
        let paid = order(id, &user, "paid", (&lamp, 1));
        bury(&shop, "user.recent_orders", &event(&id.to_string(), "paid", 2, paid), false)
    });
    assert_eq!(listed(&shop), buried);
    assert!(dlq(&shop, &["redrive", "--all"]).0.starts_with("3 dead letters"));
    let (out, _) = dlq(&shop, &["list"]);
    assert_eq!(out.matches("(redriven) an old release\n").count(), 3, "{out}");
    // Who thinks better of it can still drop it.
    assert_eq!(dlq(&shop, &["drop", &buried[2]]).0, "dropped 1 dead letters\n");
    assert_eq!(listed(&shop), buried[..2]);
    assert_eq!(dlq(&shop, &["--role", "user", "list"]).0, "there are no dead letters\n");
    shop.add(&[], &[]);
    let expected = ids[..2].iter().map(|id| (id.to_string(), "paid".to_owned())).rev();
    let expected = expected.collect::<Vec<_>>();
    let client = shop.gateway();
    until("the dashboard shows them", async || recent(&client, &user).await == expected).await;
    are_gone(&shop).await;
}

#[actix_rt::test]
async fn a_dead_letter_that_the_store_refuses_to_change_holds_up_no_event() {
    let shop = Shop::start(Topology::OneProcess);
    let (client, admin) = (shop.gateway(), shop.admin().await);
    let (user, lamp) = (client.register("buyer").await, client.add_stocked("Lamp", 1).await);
    shop.query(
        "order",
        "CREATE TRIGGER stuck BEFORE DELETE ON order_dead_letters BEGIN SELECT RAISE(ABORT, 'stuck'); END",
    );
    let first = Uuid::now_v7();
    let paid = event(&first.to_string(), "paid", 2, order(first, &user, "paid", (&lamp, 1)));
    bury(&shop, "user.recent_orders", &paid, true);
    let mut expected = vec![(first.to_string(), "paid".to_owned())];
    until("it was taken", async || recent(&client, &user).await == expected).await;
    let second = Uuid::now_v7();
    let paid = order(second, &user, "paid", (&lamp, 1));
    publish(&shop, &event(&second.to_string(), "paid", 2, paid));
    expected.insert(0, (second.to_string(), "paid".to_owned()));
    until("the next one, too", async || recent(&client, &user).await == expected).await;
    assert_eq!(letters(&admin).await[0]["redriven"], true);
    assert!(shop.process("gateway").log().contains("dead letters wait: "));
}

each_topology!(dead_letters_are_the_admins);
async fn dead_letters_are_the_admins(topology: Topology) {
    let shop = Shop::start(topology);
    let (nobody, admin) = (shop.gateway(), shop.admin().await);
    let customer = nobody.customer("customer").await;
    let id = format!("user.recent_orders:{}", Uuid::now_v7());
    // Without a broker nobody takes the events of a role that runs by itself.
    let (doors, redriven) = match topology {
        Topology::OneProcess => (vec![nobody.clone()], 404),
        Topology::OneProcessARole => (vec![nobody.clone(), shop.client("order")], 409),
    };
    for door in doors {
        for (method, path, found) in [
            (Method::GET, LETTERS.to_owned(), 200),
            (Method::POST, format!("{LETTERS}/{id}/redrive"), redriven),
            (Method::DELETE, format!("{LETTERS}/{id}"), 404),
        ] {
            let ask = async |who: &Client| {
                let who = Client::new(door.base.clone()).with_token(who.token());
                who.send(method.clone(), &path, &[], "").await.status
            };
            assert_eq!(door.send(method.clone(), &path, &[], "").await.status, 401);
            assert_eq!((ask(&customer).await, ask(&admin).await), (403, found), "{method} {path}");
        }
    }
}

#[actix_rt::test]
async fn what_nobody_can_take_from_the_broker_waits_for_a_decision() {
    let mut customer = Customer::start().await;
    let first = customer.buy().await;
    customer.sees(std::slice::from_ref(&first)).await;
    let admin = customer.shop.admin().await;
    let exchange = Exchange::listen(customer.shop.server(Kind::Rabbit)).await;
    assert_eq!(letters(&admin).await, Vec::<Value>::new());
    let bad = poison();
    for message in ["no event".to_owned(), bad.to_string()] {
        exchange.put(QUEUE, &message).await;
    }
    until("they are dead letters", async || letters(&admin).await.len() == 2).await;
    let id = format!("user.recent_orders:{}", bad["id"].as_str().unwrap());
    let of = async |id: &str| {
        let found = letters(&admin).await;
        found.into_iter().find(|letter| letter["id"] == id)
    };
    let letter = of(&id).await.unwrap();
    assert_eq!(
        (&letter["consumer"], &letter["attempts"]),
        (&json!("user.recent_orders"), &json!(1))
    );
    assert_eq!((&letter["type"], &letter["message"]), (&bad["type"], &bad));
    assert!(letter["reason"].as_str().unwrap().contains("missing field"), "{letter}");
    assert!(letter["createdAt"].as_str().unwrap().starts_with("20"), "{letter}");
    let text = letters(&admin).await.into_iter().find(|letter| letter["id"] != id).unwrap();
    assert_eq!((&text["message"], &text["type"]), (&json!("no event"), &Value::Null));
    assert_eq!(listed(&customer.shop).len(), 2);

    assert_eq!(redrive(&admin, &id).await.status, 202);
    until("it is one again", async || of(&id).await.is_some_and(|letter| letter["attempts"] == 2))
        .await;
    for status in [204, 404] {
        assert_eq!(discard(&admin, &id).await.status, status);
    }
    assert_eq!(redrive(&admin, &id).await.status, 404);
    let other = text["id"].as_str().unwrap();
    assert_eq!(dlq(&customer.shop, &["drop", other]).0, "dropped 1 dead letters\n");
    assert_eq!(exchange.depth(DEAD).await, 0);

    // The reason quotes the message, which is longer than a header may be.
    let long = event("x", "paid", 1, json!("x".repeat(200_000)));
    exchange.put(QUEUE, &long.to_string()).await;
    until("it is one, too", async || letters(&admin).await.len() == 1).await;
    let letter = letters(&admin).await.remove(0);
    assert_eq!(letter["reason"].as_str().unwrap().len(), 1_000);
    assert_eq!(discard(&admin, letter["id"].as_str().unwrap()).await.status, 204);

    // One that an older release could not take; a crash has left it twice.
    let (placed, lamp) = (Uuid::now_v7(), customer.lamp.clone());
    let data = order(placed, &customer.id, "paid", (&lamp, 1));
    let good = event(&placed.to_string(), "paid", 2, data);
    for _ in 0..2 {
        exchange.put(DEAD, &good.to_string()).await;
    }
    until("it is listed once", async || letters(&admin).await.len() == 1).await;
    dlq(
        &customer.shop,
        &["redrive", &format!("user.recent_orders:{}", good["id"].as_str().unwrap())],
    );
    let second = json!({ "id": placed.to_string() });
    customer.sees(&[first, second]).await;
    until("all is taken", async || exchange.depth(QUEUE).await == 0).await;
    assert_eq!(exchange.depth(DEAD).await, 0);
}

#[actix_rt::test]
async fn dead_letters_of_the_broker_can_be_looked_at_without_end_and_by_many() {
    let mut customer = Customer::start().await;
    let shown = customer.buy().await;
    customer.sees(&[shown]).await;
    let admin = customer.shop.admin().await;
    let exchange = Exchange::listen(customer.shop.server(Kind::Rabbit)).await;
    let bad = (0..30).map(|_| poison()).collect::<Vec<_>>();
    for event in &bad {
        exchange.put(DEAD, &event.to_string()).await;
    }
    until("they are there", async || exchange.depth(DEAD).await == 30).await;
    let begun = std::time::Instant::now();
    for _ in 0..15 {
        assert_eq!(letters(&admin).await.len(), 30);
    }
    println!("a list of 30: {:?}", begun.elapsed() / 15);
    let client = customer.shop.client("order").with_token(admin.token());
    let lists = join_all([&admin, &client, &admin, &client].map(letters)).await;
    assert!(lists.iter().all(|found| found.len() == 30), "each sees all of them");
    assert_eq!(exchange.depth(DEAD).await, 30);
    are_all(&exchange, &bad).await;
}

/// Takes the dead letters, which are these `events`, and are put back too seldom for any broker to drop them.
async fn are_all(exchange: &Exchange, events: &[Value]) {
    let mut seen = BTreeSet::new();
    for _ in events {
        let letter = exchange.take(DEAD).await.unwrap();
        let headers = letter.properties.headers().as_ref();
        let count = headers.and_then(|headers| headers.inner().get("x-delivery-count").cloned());
        let count = count.and_then(|count| count.as_long_long_int()).unwrap_or(0);
        assert!(count < 20, "newer brokers drop it after {count}");
        seen.insert(serde_json::from_slice::<Value>(&letter.data).unwrap()["id"].to_string());
    }
    assert_eq!(seen, events.iter().map(|event| event["id"].to_string()).collect());
    assert_eq!(exchange.depth(DEAD).await, 0);
}

#[actix_rt::test]
async fn dead_letters_of_the_broker_can_be_dropped_one_by_one_without_losing_others() {
    let mut customer = Customer::start().await;
    let shown = customer.buy().await;
    customer.sees(&[shown]).await;
    let admin = customer.shop.admin().await;
    let exchange = Exchange::listen(customer.shop.server(Kind::Rabbit)).await;
    let bad = (0..30).map(|_| poison()).collect::<Vec<_>>();
    for event in &bad {
        exchange.put(DEAD, &event.to_string()).await;
    }
    until("they are there", async || exchange.depth(DEAD).await == 30).await;
    let id = |event: &Value| format!("user.recent_orders:{}", event["id"].as_str().unwrap());
    // The last ones: all before them are looked at each time.
    for event in bad[5..].iter().rev() {
        assert_eq!(discard(&admin, &id(event)).await.status, 204);
    }
    are_all(&exchange, &bad[..5]).await;
}

#[actix_rt::test]
async fn a_redrive_that_is_killed_loses_nothing() {
    let mut customer = Customer::start().await;
    let shown = customer.buy().await;
    customer.sees(&[shown]).await;
    customer.shop.kill("user");
    let exchange = Exchange::listen(customer.shop.server(Kind::Rabbit)).await;
    let bad = (0..400).map(|_| poison()).collect::<Vec<_>>();
    for event in &bad {
        exchange.put(DEAD, &event.to_string()).await;
    }
    until("they are there", async || exchange.depth(DEAD).await == 400).await;
    let mut kills = 0;
    while exchange.depth(DEAD).await > 0 {
        let mut command = Process::command(customer.shop.folder.path());
        command.env("AMQP_URL", customer.shop.server(Kind::Rabbit).url());
        let mut child = command.args(["events", "dlq", "redrive", "--all"]).spawn().unwrap();
        let before = exchange.depth(QUEUE).await;
        until("it moves some", async || {
            exchange.depth(QUEUE).await > before || child.try_wait().unwrap().is_some()
        })
        .await;
        if kills < 3 && child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            kills += 1;
        }
        child.wait().unwrap();
        // The broker gives back what the dead process had in hand.
        until("all are somewhere", async || {
            exchange.depth(DEAD).await + exchange.depth(QUEUE).await >= 400
        })
        .await;
    }
    assert!(kills > 0, "it was killed on the way");
    let mut seen = BTreeSet::new();
    let depth = exchange.depth(QUEUE).await;
    for message in exchange.consume(QUEUE, depth).await {
        seen.insert(serde_json::from_slice::<Value>(&message.data).unwrap()["id"].to_string());
    }
    assert_eq!(seen, bad.iter().map(|event| event["id"].to_string()).collect());
}

#[actix_rt::test]
async fn without_the_broker_its_dead_letters_are_not_to_be_had() {
    let mut customer = Customer::start_on(vec![Server::start(Kind::Rabbit)]).await;
    let admin = customer.shop.admin().await;
    until("it is there", async || admin.get(LETTERS).await.status == 200).await;
    customer.shop.server(Kind::Rabbit).signal(Signal::SIGKILL);
    until("it is away", async || admin.get(LETTERS).await.status == 503).await;
    let (code, out, log) = printed(&customer.shop.run(&["events", "dlq", "list"]));
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(log.contains("app: the broker of events: "), "{log}");
}
