//! Which traces arrive, and what goes on to others.

use std::sync::{Arc, Mutex};

use awc::http::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Trace, start};
use crate::support::{Collector, Process, Topology, Upstream, order_items, until};

/// Waits until a trace that was sent last has arrived, which those before would have done sooner.
async fn arrives(collector: &Collector, trace: &Trace) {
    until("a trace arrives", async || !collector.trace(&trace.id).is_empty()).await;
}

#[actix_rt::test]
async fn what_fails_or_is_slow_is_kept_whatever_the_sampler_says() {
    let collector = Collector::start();
    let sampler = [("OTEL_TRACES_SAMPLER", "always_off"), ("APP__TRACES__SLOW", "1500ms")];
    let mut shop = start(Topology::OneProcessARole, Vec::new(), &collector, &sampler);
    let client = shop.gateway();
    let lamp = client.add_stocked("Lamp", 5).await;
    let order = client.order(Uuid::now_v7(), &[(&lamp, 1)]).await.json();

    let [good, missing, slow, failed] = [(); 4].map(|()| Trace::new());
    assert_eq!(good.send(&client, Method::GET, "/products", &Value::Null).await.status, 200);
    assert_eq!(missing.send(&client, Method::GET, "/products/no", &Value::Null).await.status, 404);
    let pay = format!("/orders/{}/pay", order["id"].as_str().unwrap());
    let paid = slow.send(&client, Method::POST, &pay, &json!({ "paymentMethod": "slow" })).await;
    assert_eq!(paid.status, 200);
    arrives(&collector, &slow).await;
    until("the payment arrives", async || {
        collector.trace(&slow.id).iter().any(|span| span.name == "payments.confirm")
    })
    .await;
    shop.kill("product");
    let body = json!({ "items": order_items(&[(&lamp, 1)]), "userId": Uuid::now_v7() });
    assert_eq!(failed.send(&client, Method::POST, "/orders", &body).await.status, 503);
    arrives(&collector, &failed).await;
    let spans = collector.trace(&failed.id);
    let error = spans.iter().find_map(|span| span.attributes.get("error.type"));
    assert!(error.is_some(), "{spans:?}");
    assert!(collector.trace(&good.id).is_empty() && collector.trace(&missing.id).is_empty());
}

#[actix_rt::test]
async fn nobody_else_than_a_trusted_proxy_says_what_is_sampled() {
    assert!(!samples_what_its_caller_has("").await);
    assert!(samples_what_its_caller_has("127.0.0.1").await);
}

/// Whether a shop that trusts these `proxies` samples what its caller has sampled.
async fn samples_what_its_caller_has(proxies: &str) -> bool {
    let collector = Collector::start();
    let settings = [
        ("OTEL_TRACES_SAMPLER", "parentbased_always_off"),
        ("APP__GATEWAY__TRUSTED_PROXIES", proxies),
        ("APP__AUTH__MODE", "open"),
    ];
    let shop = start(Topology::OneProcess, Vec::new(), &collector, &settings);
    let client = shop.gateway();
    let lamp = client.add_stocked("Lamp", 5).await;
    let order = client.order(Uuid::now_v7(), &[(&lamp, 1)]).await.json();
    let (sampled, slow) = (Trace::with_flags("01"), Trace::new());
    assert_eq!(sampled.send(&client, Method::GET, "/products", &Value::Null).await.status, 200);
    // This one is kept in any case, and later.
    let pay = format!("/orders/{}/pay", order["id"].as_str().unwrap());
    let paid = slow.send(&client, Method::POST, &pay, &json!({ "paymentMethod": "slow" })).await;
    assert_eq!(paid.status, 200);
    arrives(&collector, &slow).await;
    !collector.trace(&sampled.id).is_empty()
}

#[actix_rt::test]
async fn state_and_baggage_go_on_from_role_to_role() {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = heads.clone();
    let product = Upstream::start(move |line| {
        while let Some(request) = line.request() {
            seen.lock().unwrap().push(request.head.to_ascii_lowercase());
            line.send("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let folder = tempfile::TempDir::new().unwrap();
    let mut command = Process::command(folder.path());
    command.args(["--role", "order"]).env("PRODUCT_URL", &product.url);
    let order = Process::start(folder.path(), command);
    let trace = Trace::new();
    let body = json!({ "items": [{ "productId": "0".repeat(24), "quantity": 1 }], "userId": Uuid::now_v7() });
    let headers = [
        ("traceparent", trace.parent.as_str()),
        ("tracestate", "vendor=1"),
        ("baggage", "plan=gold"),
        ("idempotency-key", "k"),
        ("content-type", "application/json"),
    ];
    order.client("order").send(Method::POST, "/orders", &headers, body.to_string()).await;
    let heads = heads.lock().unwrap();
    let put = heads.iter().find(|head| head.starts_with("put ")).unwrap();
    assert!(put.contains(&format!("\r\ntraceparent: 00-{}-", trace.id)), "{put}");
    assert!(put.contains("\r\ntracestate: vendor=1\r\n"), "{put}");
    assert!(put.contains("\r\nbaggage: plan=gold\r\n"), "{put}");
}
