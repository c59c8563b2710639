//! How long work waits on the threads that serve requests, for `/metrics`.

use std::sync::LazyLock;
use std::time::Duration;

use prometheus::HistogramVec;
use prometheus::core::Collector;
use tokio::time::{Instant, sleep_until};

use crate::metrics::histograms;
use crate::tasks;

/// How often it is measured.
const INTERVAL: Duration = Duration::from_millis(100);
/// A timer is up to a millisecond late by itself.
const BUCKETS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

static ALL: LazyLock<HistogramVec> = LazyLock::new(|| {
    let about = "How late a timer fires on the threads that serve a role, in seconds: how long other work waits there, too.";
    histograms("worker_queue_time_seconds", about, &["role"], &BUCKETS)
});

/// For the registry.
pub(super) fn collector() -> Box<dyn Collector> {
    Box::new(ALL.clone())
}

/// Measures it on this thread, which serves `role`, from now on.
pub fn measure_queue_time(role: &str) {
    let times = ALL.with_label_values(&[role]);
    tasks::supervise("queue_time", move || {
        let times = times.clone();
        async move {
            loop {
                let due = Instant::now() + INTERVAL;
                sleep_until(due).await;
                times.observe(due.elapsed().as_secs_f64());
            }
        }
    });
}
