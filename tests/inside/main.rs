//! Modules of the crate, driven from outside: for what no client of the program can bring about.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says why by panicking")]

mod bounds;
mod http2;
mod limits;
mod panics;
mod stuck;
#[expect(dead_code, unused_imports, reason = "the other binary needs the rest")]
#[path = "../it/support/mod.rs"]
mod support;
mod tasks;
mod traces;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use app::auth::{Guard, InternalAccess, Mode, Verifier};
use app::config::Settings;
use app::middleware::{Draining, HeadLimit, Middleware};
use app::peer::Trusted;
use app::telemetry::Metrics;

/// What stands around the routes of a test, which takes content of up to `body_limit` bytes.
fn middleware(settings: &Settings, body_limit: usize) -> Middleware {
    Middleware {
        role: "test",
        scheme: "http",
        request_timeout: Duration::from_secs(30),
        body_limit,
        body_timeout: Duration::from_secs(10),
        head_limit: HeadLimit::of_clients(settings.server.header_limit),
        draining: Draining::default(),
        access: log::Level::Info,
        guard: Guard::new(
            Arc::new(Verifier::new(&settings.auth)),
            Mode::Open,
            InternalAccess::Loopback,
        ),
        trusted: Trusted::Everybody,
        metrics: Metrics::new(Vec::new()).unwrap(),
        security: None,
        cors: None,
        uploads: &[],
    }
}
