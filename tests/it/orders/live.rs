//! The live stream of events.

use awc::http::Method;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Process, Shop, Storage, Topology, order_items};

/// The kind of an event, and the id of its order.
fn about(event: &Value) -> (&str, &str) {
    (event["type"].as_str().unwrap(), event["subject"].as_str().unwrap())
}

each_storage!(who_listens_hears_what_happens_and_after_a_break_what_was_missed);
async fn who_listens_hears_what_happens_and_after_a_break_what_was_missed(storage: Storage) {
    let shop = Shop::start_on(Topology::OneProcess, storage.servers(), &[]);
    let client = shop.gateway();
    let chair = client.add_product("Chair", 2.5).await;
    let early = client.order(Uuid::now_v7(), &[(&chair, 1)]).await.json();
    let mut first = client.listen("/events", Some("0")).await;
    let (id, event) = first.next().await.unwrap();
    assert_eq!(about(&event), ("shop.order.placed", early["id"].as_str().unwrap()));
    assert_eq!((&event["specversion"], &event["sequence"]), (&json!("1.0"), &json!(1)));
    assert_eq!((&event["source"], &event["data"]["total"]), (&json!("order"), &json!(2.5)));

    assert_eq!(client.pay(&early, "ok").await.status, 200);
    let (paid, event) = first.next().await.unwrap();
    assert_eq!(about(&event).0, "shop.order.paid");
    assert_eq!(event["sequence"], 2);
    // Who comes back hears the same again, and who comes anew does not.
    let mut again = client.listen("/events", Some(&id)).await;
    assert_eq!(again.next().await.unwrap(), (paid, event));
    let mut anew = client.listen("/events", None).await;
    let late = client.order(Uuid::now_v7(), &[(&chair, 1)]).await.json();
    for listening in [&mut first, &mut again, &mut anew] {
        let (_, event) = listening.next().await.unwrap();
        assert_eq!(about(&event), ("shop.order.placed", late["id"].as_str().unwrap()));
    }
    for bad in ["x", "-1", "1.5"] {
        let answer = client.send(Method::GET, "/events", &[("last-event-id", bad)], "").await;
        assert_eq!(answer.status, 400, "{bad}");
    }
}

#[actix_rt::test]
async fn everybody_hears_of_their_own_orders_and_admins_of_all() {
    let enforced = [("APP__AUTH__MODE", "enforced"), ("APP__AUTH__OPEN_BEYOND_LOOPBACK", "false")];
    let shop = Shop::start_with(Topology::OneProcess, &enforced);
    let (admin, nobody) = (shop.admin().await, shop.gateway());
    assert_eq!(nobody.get("/events").await.status, 401);
    let (one, other) = (nobody.customer("one").await, nobody.customer("other").await);
    let lamp = admin.add_stocked("Lamp", 5).await;
    let mut streams = Vec::new();
    for client in [&one, &other, &admin] {
        streams.push(client.listen("/events", None).await);
    }
    let mut ids = Vec::new();
    for client in [&other, &one] {
        let headers = [("content-type", "application/json"), ("idempotency-key", "k")];
        let body = json!({ "items": order_items(&[(&lamp, 1)]), "contact": "secret" }).to_string();
        let order = client.send(Method::POST, "/orders", &headers, body).await.json();
        ids.push(order["id"].as_str().unwrap().to_owned());
    }
    let mut heard = Vec::new();
    for (listening, count) in streams.iter_mut().zip([1, 1, 2]) {
        for _ in 0..count {
            let (_, event) = listening.next().await.unwrap();
            assert!(!event.to_string().contains("secret"), "{event}");
            heard.push(about(&event).1.to_owned());
        }
    }
    assert_eq!(heard, [&ids[1], &ids[0], &ids[0], &ids[1]].map(String::clone));
}

#[actix_rt::test]
async fn streams_have_a_limit_of_their_own_and_end_with_the_process() {
    let folder = tempfile::TempDir::new().unwrap();
    let mut command = Process::command(folder.path());
    command.envs([("APP__ORDER__LISTENERS", "3"), ("APP__SERVER__WORKERS", "1")]);
    // Fewer than listen: a stream keeps no place that other requests need.
    command.envs([
        ("APP__RESILIENCE__CONCURRENCY", "2"),
        ("APP__TRANSPORT__MAILBOX_CONCURRENCY", "2"),
    ]);
    let mut process = Process::start(folder.path(), command);
    let client = process.client("gateway");
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(client.listen("/events", None).await);
    }
    let refused = client.get("/events").await;
    assert_eq!((refused.status, refused.problem().0), (503, "/problems/unavailable".into()));
    assert_eq!(client.get("/orders").await.status, 200);
    process.signal(Signal::SIGTERM);
    for listening in &mut streams {
        assert_eq!(listening.next().await, None);
    }
    assert_eq!(process.wait().code(), Some(0));
    assert!(!process.log().contains("cut off"), "{}", process.log());
}
