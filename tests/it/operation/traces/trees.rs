//! The spans of a request, from the gateway to the stores and beyond, are the same in one process as in four.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use actix_rt::time::sleep;
use awc::http::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Trace, start};
use crate::support::stripe::{STRIPE_KEY, Stripe};
use crate::support::{
    Client, Collector, Kind, PATIENCE, Server, Span, Storage, Topology, Upstream, order_items,
    until,
};

/// An order on its way.
const PLACING: &str = "\
server gateway: POST orders
  client gateway: POST order
    server order: POST /orders
      client order: order.claim
      client order: PUT product
        server product: PUT /internal/reservations/{id}
          client product: product.reserve
      producer order: create shop.order.placed
      client order: order.insert
";

/// `spans` as lines with their kinds and names, each below the one that it is a part of, in the order of time.
fn tree(spans: &[Span]) -> String {
    let known = spans.iter().map(|span| span.span_id.as_str()).collect::<BTreeSet<_>>();
    let mut spans = spans.iter().collect::<Vec<_>>();
    spans.sort_by_key(|span| span.start);
    let mut text = String::new();
    for root in spans.iter().filter(|span| !known.contains(span.parent_span_id.as_str())) {
        branch(root, &spans, 0, &mut text);
    }
    text
}

fn branch(span: &Span, all: &[&Span], depth: usize, text: &mut String) {
    let kind = format!("{:?}", span.kind).to_lowercase();
    let role = span.attributes.get("shop.role").map_or("", String::as_str);
    writeln!(text, "{:width$}{kind} {role}: {}", "", span.name, width = 2 * depth).unwrap();
    for part in all.iter().filter(|part| part.parent_span_id == span.span_id) {
        branch(part, all, depth + 1, text);
    }
}

/// Waits until the traces `ids`, one of each of `collectors`, have the same tree, and one that `is_done`; gives it.
async fn agreed(collectors: &[Collector], ids: &[&str], is_done: impl Fn(&str) -> bool) -> String {
    let start = Instant::now();
    loop {
        let trees = collectors.iter().zip(ids).map(|(collector, id)| tree(&collector.trace(id)));
        let trees = trees.collect::<Vec<_>>();
        if is_done(&trees[0]) && trees.iter().all(|tree| *tree == trees[0]) {
            return trees[0].clone();
        }
        assert!(start.elapsed() < PATIENCE, "{}", trees.join("\n"));
        sleep(Duration::from_millis(50)).await;
    }
}

each_case!(an_order_is_one_trace:
    one_process(Topology::OneProcess, Storage::Embedded),
    four_processes(Topology::OneProcessARole, Storage::Embedded),
    one_process_on_servers(Topology::OneProcess, Storage::Polyglot),
    four_processes_on_servers(Topology::OneProcessARole, Storage::Polyglot),
);
async fn an_order_is_one_trace(topology: Topology, storage: Storage) {
    let collector = Collector::start();
    let shop = start(topology, storage.servers(), &collector, &[]);
    let client = shop.gateway();
    let lamp = client.add_stocked("Lamp", 5).await;
    let trace = Trace::new();
    let body = json!({ "items": order_items(&[(&lamp, 1)]), "userId": Uuid::now_v7() });
    assert_eq!(trace.send(&client, Method::POST, "/orders", &body).await.status, 201);
    let collectors = [collector];
    agreed(&collectors, &[&trace.id], |tree| tree == PLACING).await;
    let [collector] = collectors;
    let names = collector.trace(&trace.id).into_iter();
    let services = names.map(|span| span.resource["service.name"].clone()).collect::<BTreeSet<_>>();
    let expected = match topology {
        Topology::OneProcess => vec!["shop"],
        Topology::OneProcessARole => vec!["shop-gateway", "shop-order", "shop-product"],
    };
    assert_eq!(services.into_iter().collect::<Vec<_>>(), expected);
}

/// What a client does in a shop, each request in a trace of its own.
async fn tour(client: &Client) -> Vec<(&'static str, String)> {
    let lamp = client.add_stocked("Lamp", 5).await;
    let user = client.register("trinity").await;
    let mut taken = Vec::new();
    let mut ask = async |what, method: Method, path: &str, body: &Value, status: u16| {
        let trace = Trace::new();
        let answer = trace.send(client, method, path, body).await;
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        taken.push((what, trace.id));
        answer
    };
    let order = json!({ "items": order_items(&[(&lamp, 1)]), "userId": Uuid::now_v7() });
    let none = &Value::Null;
    ask("a list", Method::GET, "/products", none, 200).await;
    ask("a list again", Method::GET, "/products", none, 200).await;
    ask("a product", Method::GET, &format!("/products/{lamp}"), none, 200).await;
    ask("a dashboard", Method::GET, &format!("/auth/dashboard/{user}"), none, 200).await;
    let placed = ask("an order", Method::POST, "/orders", &order, 201).await;
    let id = placed.json()["id"].as_str().unwrap().to_owned();
    let pay = format!("/orders/{id}/pay");
    ask("no money", Method::POST, &pay, &json!({ "paymentMethod": "declined" }), 402).await;
    ask("a payment", Method::POST, &pay, &json!({ "paymentMethod": "ok" }), 200).await;
    ask("nothing", Method::GET, "/products/none", none, 404).await;
    taken
}

/// A process with all roles and one a role have the same spans for the same requests.
async fn are_the_same(one: Vec<Server>, four: Vec<Server>) {
    let collectors = [Collector::start(), Collector::start()];
    let one = start(Topology::OneProcess, one, &collectors[0], &[]);
    let four = start(Topology::OneProcessARole, four, &collectors[1], &[]);
    let (first, second) = (tour(&one.gateway()).await, tour(&four.gateway()).await);
    for ((what, one), (_, four)) in first.iter().zip(&second) {
        let tree = agreed(&collectors, &[one, four], |tree| !tree.is_empty()).await;
        assert!(tree.starts_with("server gateway: ") && tree.lines().count() > 2, "{what}: {tree}");
    }
}

#[actix_rt::test]
async fn traces_are_the_same_in_one_process_and_in_four_on_files() {
    are_the_same(Vec::new(), Vec::new()).await;
}

#[actix_rt::test]
async fn traces_are_the_same_in_one_process_and_in_four_on_servers() {
    are_the_same(Storage::Polyglot.servers(), Storage::Polyglot.servers()).await;
}

each_case!(consumers_are_linked_to_what_has_happened:
    in_memory(Topology::OneProcess, &[]),
    by_rabbitmq(Topology::OneProcessARole, &[Kind::Rabbit]),
);
async fn consumers_are_linked_to_what_has_happened(topology: Topology, servers: &[Kind]) {
    let collector = Collector::start();
    let servers = servers.iter().copied().map(Server::start).collect::<Vec<_>>();
    let by_rabbitmq = !servers.is_empty();
    let shop = start(topology, servers, &collector, &[]);
    let client = shop.gateway();
    let lamp = client.add_stocked("Lamp", 5).await;
    let trace = Trace::new();
    let body = json!({ "items": order_items(&[(&lamp, 1)]), "userId": Uuid::now_v7() });
    assert_eq!(trace.send(&client, Method::POST, "/orders", &body).await.status, 201);
    let linked = async |name: &str| {
        let find = || {
            let spans = collector.spans();
            let made = spans.iter().find(|span| {
                span.name == "create shop.order.placed" && span.trace_id == trace.id
            })?;
            let link = (made.trace_id.clone(), made.span_id.clone());
            spans.iter().find(|span| span.name == name && span.links.contains(&link)).cloned()
        };
        until(&format!("{name} is linked"), async || find().is_some()).await;
        find().unwrap()
    };
    let taken = linked("process user.recent_orders").await;
    assert!(taken.parent_span_id.is_empty() && taken.trace_id != trace.id, "{taken:?}");
    let parts = async || {
        let spans = collector.trace(&taken.trace_id);
        spans
            .iter()
            .any(|span| span.parent_span_id == taken.span_id && span.name.starts_with("user."))
    };
    until("its calls to the store are parts of it", parts).await;
    if by_rabbitmq {
        linked("send shop.events").await;
    }
}

#[actix_rt::test]
async fn requests_to_services_elsewhere_say_where_they_went_and_how_they_were_answered() {
    let (collector, provider) = (Collector::start(), Stripe::start());
    let receiver = Upstream::start(|line| {
        line.head();
        line.bytes();
        line.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    });
    let environment = [
        ("PAYMENTS_URL", provider.url.as_str()),
        ("APP__ORDER__PAYMENTS_KEY", STRIPE_KEY),
        ("APP__ORDER__WEBHOOKS_ALLOW_PRIVATE", "true"),
    ];
    let shop = start(Topology::OneProcess, Vec::new(), &collector, &environment);
    let admin = shop.admin().await;
    let webhook = admin.post("/webhooks", json!({ "url": receiver.url })).await;
    assert_eq!(webhook.status, 201, "{webhook:?}");
    let lamp = admin.add_stocked("Lamp", 5).await;
    let order = admin.order(Uuid::now_v7(), &[(&lamp, 1)]).await.json();
    assert_eq!(admin.pay(&order, "pm_ok").await.status, 200);
    for (name, parent, url) in [
        ("POST stripe", "confirm", &provider.url),
        ("POST webhook", "send shop.order.paid", &receiver.url),
    ] {
        let find = || {
            let spans = collector.spans();
            let requests = spans.iter().filter(|span| span.name == name).cloned();
            let is_part = |span: &Span| {
                let of = spans.iter().find(|of| of.span_id == span.parent_span_id);
                of.is_some_and(|of| of.name.contains(parent))
            };
            requests.filter(is_part).collect::<Vec<_>>()
        };
        until(&format!("{name} has arrived"), async || !find().is_empty()).await;
        for span in find() {
            let attribute = |name: &str| span.attributes[name].as_str();
            assert_eq!(attribute("http.request.method"), "POST");
            assert_eq!(attribute("http.response.status_code"), "200");
            let address = (attribute("server.address"), attribute("server.port"));
            assert_eq!(format!("http://{}:{}", address.0, address.1), **url);
            let path = attribute("url.full").strip_prefix(&**url).unwrap();
            match name {
                "POST stripe" => assert!(path.starts_with("/v1/payment_intents/"), "{path}"),
                _ => assert_eq!(path, "/REDACTED", "a webhook's path is often its secret"),
            }
        }
    }
}

each_topology!(requests_say_what_was_asked_and_no_values);
async fn requests_say_what_was_asked_and_no_values(topology: Topology) {
    let collector = Collector::start();
    let shop = start(topology, Vec::new(), &collector, &[]);
    let client = shop.gateway();
    let trace = Trace::new();
    let asked = trace.send(&client, Method::GET, "/products?q=secret&sort", &Value::Null).await;
    assert_eq!(asked.status, 422, "{asked:?}");
    let spans = async || {
        let names = ["GET products", "GET product", "GET /products"];
        let has = |spans: &[Span], name: &str| spans.iter().any(|span| span.name == name);
        let is_whole = |spans: &[Span]| names.iter().all(|name| has(spans, name));
        until("the trace has arrived", async || is_whole(&collector.trace(&trace.id))).await;
        collector.trace(&trace.id)
    };
    for span in spans().await {
        let attribute = |name: &str| span.attributes.get(name).map(String::as_str);
        assert_eq!(attribute("http.request.method"), Some("GET"), "{span:?}");
        assert_eq!(attribute("http.response.status_code"), Some("422"), "{span:?}");
        let query = "q=REDACTED&REDACTED";
        if span.name == "GET product" {
            let url = (topology == Topology::OneProcessARole)
                .then(|| format!("{}/products?{query}", shop.process("product").urls["product"]));
            assert_eq!(attribute("url.full"), url.as_deref(), "{span:?}");
            assert_eq!(attribute("server.port").is_some(), url.is_some(), "{span:?}");
        } else {
            let said = ["url.scheme", "url.path", "url.query"].map(attribute);
            assert_eq!(said, [Some("http"), Some("/products"), Some(query)], "{span:?}");
        }
    }
    let trace = Trace::new();
    let odd = Method::from_bytes(b"BREW").unwrap();
    assert_eq!(trace.send(&client, odd, "/products", &Value::Null).await.status, 405);
    until("it has arrived", async || !collector.trace(&trace.id).is_empty()).await;
    for span in collector.trace(&trace.id) {
        assert_eq!(span.attributes["http.request.method"], "_OTHER");
        assert_eq!(span.attributes["http.request.method_original"], "BREW");
    }
}
