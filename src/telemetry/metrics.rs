//! The metrics of a process, for Prometheus.

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{Encoder as _, HistogramVec, IntGaugeVec, Registry, TextEncoder};

use super::exemplars::Exemplars;
use super::logger::left_out_lines;
use super::panics;
use super::writer::dropped_lines;
use super::{open_metrics, process};
use crate::metrics::{DURATIONS, Family, Sampled, gauges, histograms};
use crate::tasks;

const REQUESTS: &str = "http_server_request_duration_seconds";
const DROPPED: &str = "log_lines_dropped_total";
const LEFT_OUT: &str = "log_lines_left_out_total";
const REQUEST_PANICS: &str = "request_panics_total";
const PANICS: &str = "task_panics_total";
const RUNNING: &str = "tasks_running";

/// What others count by themselves.
const FAMILIES: &[Family] = &[
    Family::counter(DROPPED, "Log lines that were dropped because the reader was too slow.", &[]),
    Family::counter(
        LEFT_OUT,
        "Warnings and errors that were left out of the log because one place wrote too many.",
        &[],
    ),
    Family::counter(
        REQUEST_PANICS,
        "Panics for requests, which got 500 unless their answer had begun, by role.",
        &["role"],
    ),
    Family::counter(
        PANICS,
        "Background tasks that panicked, by name; each that was spawned is there.",
        &["task"],
    ),
    Family::gauge(RUNNING, "Background tasks that have not ended, by name.", &["task"]),
];

/// The metrics of one process; cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    pub(super) requests: HistogramVec,
    pub(super) active: IntGaugeVec,
    pub(super) exemplars: Exemplars,
}

impl Metrics {
    /// All at zero, and the `collectors` of other layers. Names and labels of requests are those of OpenTelemetry's semantic
    /// conventions for HTTP.
    ///
    /// # Errors
    /// When a name is there twice, which none is.
    pub fn new(collectors: Vec<Box<dyn Collector>>) -> Result<Self, prometheus::Error> {
        let about = "How long requests took until their answer's head was ready, in seconds.";
        let labels = ["role", "http_route", "http_request_method", "http_response_status_code"];
        let requests = histograms(REQUESTS, about, &labels, &DURATIONS);
        let about = "Requests in flight: those whose answer's head is not ready.";
        let active = gauges("http_server_active_requests", about, &["role"]);
        let own: [Box<dyn Collector>; 4] = [
            Box::new(requests.clone()),
            Box::new(active.clone()),
            counted_elsewhere(),
            process::collector(),
        ];
        let metrics = Self {
            registry: Registry::new(),
            requests,
            active,
            exemplars: Exemplars::new(&DURATIONS),
        };
        own.into_iter().chain(collectors).try_for_each(|collector| metrics.add(collector))?;
        Ok(metrics)
    }

    /// Adds another collector.
    ///
    /// # Errors
    /// When one of its names is there already.
    pub fn add(&self, collector: Box<dyn Collector>) -> Result<(), prometheus::Error> {
        self.registry.register(collector)
    }

    /// All metrics, in Prometheus' text format 0.0.4.
    ///
    /// # Errors
    /// Never, as it writes to memory.
    pub fn text(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }

    /// All metrics as values.
    pub fn families(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }

    /// All metrics, in the text format of OpenMetrics 1.0, and the traces of sampled requests as exemplars.
    pub fn open_metrics(&self) -> String {
        open_metrics::encode(&self.registry.gather(), |family, labels| match family {
            REQUESTS => self.exemplars.of(labels),
            _ => Vec::new(),
        })
    }
}

fn counted_elsewhere() -> Box<dyn Collector> {
    Sampled::boxed(FAMILIES, |samples| {
        samples.count(DROPPED, &[], dropped_lines());
        samples.count(LEFT_OUT, &[], left_out_lines());
        for (role, panics) in panics::counts() {
            samples.count(REQUEST_PANICS, &[role], panics);
        }
        for (task, running, panics) in tasks::counts() {
            samples.count(PANICS, &[task], panics);
            samples.count(RUNNING, &[task], running);
        }
    })
}
