//! How the limiters of the process decide, for `/metrics`.

use std::sync::LazyLock;

use prometheus::core::Collector;
use prometheus::{IntCounter, IntCounterVec};

use crate::metrics::counters;

static ALL: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let about = "Requests that a limiter has allowed or refused, by its name and by where it counted: in this process, \
                 also while its server is away, or on the server.";
    counters("limiter_decisions_total", about, &["limiter", "counted", "decision"])
});

/// For the registry.
pub(super) fn collector() -> Box<dyn Collector> {
    Box::new(ALL.clone())
}

/// The counters of one limiter.
#[derive(Clone, Debug)]
pub(super) struct Decisions {
    here: [IntCounter; 2],
    server: [IntCounter; 2],
}

impl Decisions {
    /// Those of the limiter `name`.
    pub(super) fn new(name: &str) -> Self {
        let of = |counted| {
            ["refused", "allowed"].map(|decision| ALL.with_label_values(&[name, counted, decision]))
        };
        Self { here: of("here"), server: of("server") }
    }

    /// Counts a decision of this process.
    pub(super) fn here(&self, allowed: bool) {
        self.here[usize::from(allowed)].inc();
    }

    /// Counts a decision by the server's counts.
    pub(super) fn server(&self, allowed: bool) {
        self.server[usize::from(allowed)].inc();
    }
}
