//! How long calls to stores take, by name, for `/metrics`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Instant;

use prometheus::core::Collector;
use prometheus::{Histogram, HistogramVec};

use super::StoreError;
use crate::metrics::histograms;
use crate::telemetry::{Span, Statement, watch_statement};

/// Those of OpenTelemetry for clients of databases, in seconds.
pub(super) const BUCKETS: [f64; 9] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

static ALL: LazyLock<HistogramVec> = LazyLock::new(|| {
    let about = "How long calls to stores took, with the wait for a connection, in seconds.";
    let labels = ["db_system_name", "db_operation_name", "error_type"];
    histograms("db_client_operation_duration_seconds", about, &labels, &BUCKETS)
});

thread_local! {
    /// By the address of the name of the call's type, the system and the error.
    static KNOWN: RefCell<HashMap<(usize, &'static str, &'static str), Histogram>> =
        RefCell::default();
}

/// For the registry.
pub(super) fn collector() -> Box<dyn Collector> {
    Box::new(ALL.clone())
}

/// A call to a store.
#[derive(Debug)]
pub(super) struct Operation {
    /// The name of the type of the call's future or closure, which has the function that makes it.
    kind: &'static str,
    system: &'static str,
    begun: Instant,
    span: Span,
}

impl Operation {
    /// One that begins now, whose future or closure has the type named `kind`, to a store of the kind `system`, as
    /// OpenTelemetry calls it.
    pub(super) fn begin(kind: &'static str, system: &'static str) -> Self {
        Self { kind, system, begun: Instant::now(), span: Span::statement(kind, system) }
    }

    /// Counts it, by its outcome.
    pub(super) fn end<T>(self, outcome: &Result<T, StoreError>) {
        self.end_with(match outcome {
            // Another row has the value: an answer like others.
            Ok(_) | Err(StoreError::Duplicate) => "",
            Err(StoreError::Unreachable(_)) => "unreachable",
            Err(StoreError::Connection(_)) => "connection",
            Err(StoreError::Full(_)) => "full",
            Err(StoreError::ReadOnly(_)) => "read_only",
            Err(StoreError::Failed(_)) => "failed",
        });
    }

    /// Counts it, with the kind of its error or an empty text.
    pub(super) fn end_with(mut self, error: &'static str) {
        if !error.is_empty() {
            self.span.fail(error);
        }
        let duration = self.begun.elapsed();
        // That a store is away, readiness tells.
        if !matches!(error, "unreachable" | "connection") {
            watch_statement(Statement(self.kind), duration);
        }
        KNOWN.with_borrow_mut(|known| {
            let key = (self.kind.as_ptr().addr(), self.system, error);
            let durations = known.entry(key).or_insert_with(|| {
                ALL.with_label_values(&[self.system, &Statement(self.kind).to_string(), error])
            });
            durations.observe(duration.as_secs_f64());
        });
    }
}
