//! Traces, as a collector gets them.

mod collector;
mod kept;
mod trees;

use awc::http::Method;
use serde_json::Value;
use uuid::Uuid;

use crate::support::{Answer, Client, Collector, Server, Shop, Topology};

/// A shop whose traces are all sampled and arrive soon, unless the `environment` says otherwise.
fn start(
    topology: Topology,
    servers: Vec<Server>,
    collector: &Collector,
    environment: &[(&str, &str)],
) -> Shop {
    let url = collector.url();
    let settings =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "50")];
    let settings = settings.into_iter().chain(environment.iter().copied());
    Shop::start_on(topology, servers, &settings.collect::<Vec<_>>())
}

/// A trace of a test's own.
struct Trace {
    id: String,
    /// The value of `traceparent`.
    parent: String,
}

impl Trace {
    /// One that its sender has not sampled.
    fn new() -> Self {
        Self::with_flags("00")
    }

    fn with_flags(flags: &str) -> Self {
        let id = Uuid::new_v4().simple().to_string();
        let parent = format!("00-{id}-00f067aa0ba902b7-{flags}");
        Self { id, parent }
    }

    /// Sends a request as a part of it.
    async fn send(&self, client: &Client, method: Method, path: &str, body: &Value) -> Answer {
        let headers = [
            ("traceparent", self.parent.as_str()),
            ("content-type", "application/json"),
            ("idempotency-key", self.id.as_str()),
        ];
        match body {
            Value::Null => client.send(method, path, &headers[..1], "").await,
            body => client.send(method, path, &headers, body.to_string()).await,
        }
    }
}
