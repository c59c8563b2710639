//! What becomes of events, for `/metrics`.

use std::sync::LazyLock;

use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec};

use crate::metrics::{Collectors, counters, gauges, seconds_by};

static ALL: LazyLock<Counters> = LazyLock::new(Counters::new);

struct Counters {
    depth: IntGaugeVec,
    age: GaugeVec,
    published: IntCounterVec,
    consumed: IntCounterVec,
    retried: IntCounterVec,
    dead: IntCounterVec,
}

impl Counters {
    fn new() -> Self {
        let consumer = ["consumer"];
        Self {
            depth: gauges(
                "events_outbox_depth",
                "Events of a role that wait: for the broker, or without one for a consumer of this process.",
                &["role"],
            ),
            age: seconds_by(
                "events_outbox_age_seconds",
                "How long ago the oldest event happened that waits; 0 if none does.",
                &["role"],
            ),
            published: counters(
                "events_published_total",
                "Events of a role that were given a place in its log, or to the broker.",
                &["role", "to"],
            ),
            consumed: counters(
                "events_consumed_total",
                "Events that a consumer has taken, again too.",
                &consumer,
            ),
            retried: counters(
                "events_retried_total",
                "Events that a consumer could not take yet, each time, because its store was away.",
                &consumer,
            ),
            dead: counters(
                "events_dead_total",
                "Events that a consumer could never take, and that became dead letters.",
                &consumer,
            ),
        }
    }
}

/// For the registry.
pub(super) fn collectors() -> Collectors {
    let Counters { depth, age, published, consumed, retried, dead } = &*ALL;
    vec![
        Box::new(depth.clone()),
        Box::new(age.clone()),
        Box::new(published.clone()),
        Box::new(consumed.clone()),
        Box::new(retried.clone()),
        Box::new(dead.clone()),
    ]
}

/// How many events of `role` wait, and since how many seconds the oldest.
pub(super) fn waiting(role: &str, depth: i64, age: f64) {
    ALL.depth.with_label_values(&[role]).set(depth);
    ALL.age.with_label_values(&[role]).set(age);
}

/// Counts events of `role` that were given `to` the log or the broker.
pub(super) fn published(role: &str, to: &str, events: u64) {
    ALL.published.with_label_values(&[role, to]).inc_by(events);
}

/// Counts nothing of `consumer` yet.
pub(super) fn begin(consumer: &str) {
    for counters in [&ALL.consumed, &ALL.retried, &ALL.dead] {
        counters.with_label_values(&[consumer]);
    }
}

/// Counts events that `consumer` has taken.
pub(super) fn consumed(consumer: &str, events: usize) {
    ALL.consumed.with_label_values(&[consumer]).inc_by(events as u64);
}

/// Counts events that `consumer` is to be given again.
pub(super) fn retried(consumer: &str, events: usize) {
    ALL.retried.with_label_values(&[consumer]).inc_by(events as u64);
}

/// Counts an event that became a dead letter.
pub(super) fn dead(consumer: &str) {
    ALL.dead.with_label_values(&[consumer]).inc();
}
