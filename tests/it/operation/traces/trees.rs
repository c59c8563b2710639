//! The spans of a request, from the gateway to the stores and beyond, are the same in one process as in four.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Instant;

use awc::http::Method;
use serde_json::json;
use uuid::Uuid;

use crate::support::{
    Client, Collector, Kind, PATIENCE, Server, Shop, Span, Storage, Topology, order_items, until,
};

/// Settings for traces that are all sampled and arrive soon.
fn traced(collector: &Collector) -> Vec<(&'static str, String)> {
    vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url()),
        ("OTEL_TRACES_SAMPLER", "always_on".to_owned()),
        ("OTEL_BSP_SCHEDULE_DELAY", "50".to_owned()),
    ]
}

fn start(topology: Topology, servers: Vec<Server>, collector: &Collector) -> Shop {
    let settings = traced(collector);
    let settings = settings.iter().map(|(name, value)| (*name, value.as_str()));
    Shop::start_on(topology, servers, &settings.collect::<Vec<_>>())
}

/// A trace of a test's own, and the header that names it.
struct Trace {
    id: String,
    header: String,
}

impl Trace {
    fn new() -> Self {
        let id = Uuid::new_v4().simple().to_string();
        let header = format!("00-{id}-00f067aa0ba902b7-00");
        Self { id, header }
    }

    async fn send(&self, client: &Client, method: Method, path: &str, body: &str) -> u16 {
        let headers = [
            ("traceparent", self.header.as_str()),
            ("content-type", "application/json"),
            ("idempotency-key", self.id.as_str()),
        ];
        client.send(method, path, &headers, body.to_owned()).await.status
    }

    /// Waits until the collector has the tree `expected`.
    async fn becomes(&self, collector: &Collector, expected: &str) {
        let start = Instant::now();
        loop {
            let found = tree(&collector.trace(&self.id));
            if found == expected {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "expected:\n{expected}\nfound:\n{found}");
            actix_rt::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}

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

each_case!(a_request_has_one_trace:
    one_process(Topology::OneProcess, Storage::Embedded),
    four_processes(Topology::OneProcessARole, Storage::Embedded),
    one_process_on_servers(Topology::OneProcess, Storage::Polyglot),
    four_processes_on_servers(Topology::OneProcessARole, Storage::Polyglot),
);
async fn a_request_has_one_trace(topology: Topology, storage: Storage) {
    let collector = Collector::start();
    let shop = start(topology, storage.servers(), &collector);
    let client = shop.gateway();
    let lamp = client.add_stocked("Lamp", 5).await;
    let user = client.register("trinity").await;

    let placing = Trace::new();
    let body = json!({ "items": order_items(&[(&lamp, 1)]), "userId": Uuid::now_v7() });
    assert_eq!(placing.send(&client, Method::POST, "/orders", &body.to_string()).await, 201);
    placing.becomes(&collector, "?").await;

    let dashboard = Trace::new();
    let path = format!("/auth/dashboard/{user}");
    assert_eq!(dashboard.send(&client, Method::GET, &path, "").await, 200);
    dashboard.becomes(&collector, "?").await;
}
