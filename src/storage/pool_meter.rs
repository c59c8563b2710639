//! How many connections the pools of a process have, how many are in use, and who waits for one, for `/metrics`.

use std::sync::{Arc, LazyLock};
use std::time::Instant;

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::StoreName;
use super::operations::BUCKETS;
use crate::metrics::{Collectors, counters, gauges, histograms};

const LABELS: [&str; 2] = ["db_client_connection_pool_name", "db_system_name"];

static FAMILIES: LazyLock<Families> = LazyLock::new(Families::new);

/// The names are those of OpenTelemetry for clients of databases.
struct Families {
    max: IntGaugeVec,
    used: IntGaugeVec,
    waiting: IntGaugeVec,
    timeouts: IntCounterVec,
    waits: HistogramVec,
}

impl Families {
    fn new() -> Self {
        Self {
            max: gauges(
                "db_client_connection_max",
                "The most connections to a store, of all threads. To Redis, each thread has one, for all calls.",
                &LABELS,
            ),
            used: gauges(
                "db_client_connection_used",
                "Connections to a store that are in use; to Redis, calls under way.",
                &LABELS,
            ),
            waiting: gauges(
                "db_client_connection_pending_requests",
                "Calls that wait for a connection, and writes to a SQLite file until they are done: it has one writer.",
                &LABELS,
            ),
            timeouts: counters(
                "db_client_connection_timeouts_total",
                "Calls that got no connection in time.",
                &LABELS,
            ),
            waits: histograms(
                "db_client_connection_wait_time_seconds",
                "How long calls waited for a connection, in seconds.",
                &LABELS,
                &BUCKETS,
            ),
        }
    }
}

/// For the registry.
pub(super) fn collectors() -> Collectors {
    let Families { max, used, waiting, timeouts, waits } = &*FAMILIES;
    vec![
        Box::new(max.clone()),
        Box::new(used.clone()),
        Box::new(waiting.clone()),
        Box::new(timeouts.clone()),
        Box::new(waits.clone()),
    ]
}

/// Measures one pool; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct PoolMeter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    size: i64,
    max: IntGauge,
    used: IntGauge,
    waiting: IntGauge,
    timeouts: IntCounter,
    waits: Histogram,
}

impl PoolMeter {
    /// Measures a pool of at most `size` connections to the store `name`, until it is dropped.
    pub(super) fn new(name: StoreName, size: usize) -> Self {
        let labels = [name.setting, name.system];
        let inner = Inner {
            size: i64::try_from(size).unwrap_or(i64::MAX),
            max: FAMILIES.max.with_label_values(&labels),
            used: FAMILIES.used.with_label_values(&labels),
            waiting: FAMILIES.waiting.with_label_values(&labels),
            timeouts: FAMILIES.timeouts.with_label_values(&labels),
            waits: FAMILIES.waits.with_label_values(&labels),
        };
        inner.max.add(inner.size);
        Self(Arc::new(inner))
    }

    /// Begins to wait for a connection.
    pub(super) fn wait(&self) -> Waiting {
        self.0.waiting.inc();
        Waiting { meter: self.clone(), begun: Instant::now() }
    }

    /// Counts a connection as in use.
    pub(super) fn take(&self) -> Used {
        self.0.used.inc();
        Used(self.clone())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.max.sub(self.size);
    }
}

/// A call that waits, until it is dropped.
#[derive(Debug)]
pub(super) struct Waiting {
    meter: PoolMeter,
    begun: Instant,
}

impl Waiting {
    /// It has a connection.
    pub(super) fn succeed(self) -> Used {
        self.meter.0.waits.observe(self.begun.elapsed().as_secs_f64());
        self.meter.take()
    }

    /// It got none in time.
    pub(super) fn give_up(self) {
        self.meter.0.waits.observe(self.begun.elapsed().as_secs_f64());
        self.meter.0.timeouts.inc();
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.meter.0.waiting.dec();
    }
}

/// A connection in use, until it is dropped.
#[derive(Debug)]
pub(super) struct Used(PoolMeter);

impl Drop for Used {
    fn drop(&mut self) {
        self.0.0.used.dec();
    }
}
