//! What becomes of spans, for `/metrics`: by the names of OpenTelemetry's semantic conventions for what an SDK observes of
//! itself (<https://opentelemetry.io/docs/specs/semconv/otel/sdk-metrics/>).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use prometheus::core::Collector;

use super::failure::Failure;
use super::queue::Queue;
use crate::metrics::{Family, Sampled};

const PROCESSED: &str = "otel_sdk_processor_span_processed_total";
const EXPORTED: &str = "otel_sdk_exporter_span_exported_total";
const QUEUE_SIZE: &str = "otel_sdk_processor_span_queue_size";
const QUEUE_CAPACITY: &str = "otel_sdk_processor_span_queue_capacity";

/// What mostly becomes of spans that are lost.
const USUAL: [Failure; 5] = [
    Failure::Unreachable,
    Failure::Timeout,
    Failure::Lost,
    Failure::Status(429),
    Failure::Status(503),
];

const FAMILIES: &[Family] = &[
    Family::counter(
        PROCESSED,
        "Spans that were given to the exporter, or by error_type dropped before it.",
        &["error_type"],
    ),
    Family::counter(
        EXPORTED,
        "Spans that the collector has taken, or by error_type not.",
        &["error_type"],
    ),
    Family::gauge(QUEUE_SIZE, "Spans that wait to be sent.", &[]),
    Family::gauge(QUEUE_CAPACITY, "The most spans that wait to be sent.", &[]),
];

/// The counters of a pipeline.
#[derive(Debug, Default)]
pub(super) struct Counters {
    given: AtomicU64,
    queue_full: AtomicU64,
    late: AtomicU64,
    taken: AtomicU64,
    /// The spans that the collector has not taken, by why.
    lost: Mutex<BTreeMap<&'static str, u64>>,
}

impl Counters {
    /// `spans` found no place in the queue.
    pub(super) fn count_full(&self, spans: u64) {
        self.queue_full.fetch_add(spans, Relaxed);
    }

    /// `spans` came, or were still there, when the pipeline had stopped.
    pub(super) fn count_late(&self, spans: usize) {
        self.late.fetch_add(spans as u64, Relaxed);
    }

    /// `spans` are given to the exporter.
    pub(super) fn count_given(&self, spans: u64) {
        self.given.fetch_add(spans, Relaxed);
    }

    /// The collector has taken `spans`.
    pub(super) fn count_taken(&self, spans: u64) {
        self.taken.fetch_add(spans, Relaxed);
    }

    /// The collector has not taken `spans`.
    pub(super) fn count_lost(&self, why: Failure, spans: u64) {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        *lost.entry(why.label()).or_default() += spans;
    }

    /// How many spans found no place in the queue so far.
    pub(super) fn full(&self) -> u64 {
        self.queue_full.load(Relaxed)
    }
}

/// The counters of a pipeline with this `queue`, for the registry.
pub(super) fn collector(queue: Queue) -> Box<dyn Collector> {
    Sampled::boxed(FAMILIES, move |samples| {
        let counters = queue.counters();
        for (error, counter) in [
            ("", &counters.given),
            ("queue_full", &counters.queue_full),
            ("already_shutdown", &counters.late),
        ] {
            samples.count(PROCESSED, &[error], counter.load(Relaxed));
        }
        samples.count(EXPORTED, &[""], counters.taken.load(Relaxed));
        let mut lost = counters.lost.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // The usual ones are there from the beginning, so that their first spans are seen as an increase.
        USUAL.into_iter().for_each(|why| _ = lost.entry(why.label()).or_default());
        for (error, spans) in lost {
            samples.count(EXPORTED, &[error], spans);
        }
        samples.count(QUEUE_SIZE, &[], queue.len() as u64);
        samples.count(QUEUE_CAPACITY, &[], queue.capacity() as u64);
    })
}
