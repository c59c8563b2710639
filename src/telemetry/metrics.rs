//! The metrics of a process, for Prometheus.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Encoder as _, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

use super::writer::dropped_lines;
use crate::tasks;

/// The upper bounds of the histogram's buckets, in seconds: those of OpenTelemetry, and finer ones below.
const BUCKETS: [f64; 17] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75,
    1.0, 2.5, 10.0,
];

/// The counters of one process; cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    requests: HistogramVec,
    dropped: IntCounter,
    breakers: IntGaugeVec,
    panics: IntCounterVec,
}

impl Metrics {
    /// All at zero, and the `collectors` of the roles. Names and labels of requests are those of OpenTelemetry's semantic
    /// conventions for HTTP.
    ///
    /// # Errors
    /// When a name is invalid or there twice, which none is.
    pub fn new(collectors: Vec<Box<dyn Collector>>) -> Result<Self, prometheus::Error> {
        let about = "How long requests took until their answer's head was ready, in seconds.";
        let options = HistogramOpts::new("http_server_request_duration_seconds", about);
        let labels = ["role", "http_route", "http_request_method", "http_response_status_code"];
        let requests = HistogramVec::new(options.buckets(BUCKETS.to_vec()), &labels)?;
        let about = "Log lines that were dropped because the reader was too slow.";
        let dropped = IntCounter::new("log_lines_dropped_total", about)?;
        let about = "The breakers of those who are asked: 0 is closed, 1 half open, 2 open.";
        let breakers = IntGaugeVec::new(Opts::new("breaker_state", about), &["role", "peer"])?;
        let about = "Background tasks that panicked, by name; each that was spawned is there.";
        let panics = IntCounterVec::new(Opts::new("task_panics_total", about), &["task"])?;
        let registry = Registry::new();
        registry.register(Box::new(panics.clone()))?;
        registry.register(Box::new(breakers.clone()))?;
        registry.register(Box::new(dropped.clone()))?;
        registry.register(Box::new(requests.clone()))?;
        for collector in collectors {
            registry.register(collector)?;
        }
        Ok(Self { registry, requests, dropped, breakers, panics })
    }

    /// Sets the state of the breakers: caller, callee, and closed (0), half open (1) or open (2).
    pub fn set_breakers(&self, breakers: impl Iterator<Item = (&'static str, String, i64)>) {
        self.breakers.reset();
        for (role, peer, state) in breakers {
            self.breakers.with_label_values(&[role, peer.as_str()]).set(state);
        }
    }

    /// All metrics, in Prometheus' text format 0.0.4.
    ///
    /// # Errors
    /// Never, as it writes to memory.
    pub fn text(&self) -> Result<Vec<u8>, prometheus::Error> {
        self.dropped.inc_by(dropped_lines().saturating_sub(self.dropped.get()));
        for (task, panics) in tasks::panics() {
            let counter = self.panics.with_label_values(&[task]);
            counter.inc_by(panics.saturating_sub(counter.get()));
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

/// Counts the requests of a role on one worker thread.
pub struct Meter {
    metrics: Metrics,
    role: &'static str,
    /// Searched linearly: a role has some dozens at most, and few of them are frequent.
    known: RefCell<Vec<Counter>>,
}

struct Counter {
    route: Rc<str>,
    method: &'static str,
    status: u16,
    durations: Histogram,
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter").field("role", &self.role).finish_non_exhaustive()
    }
}

impl Meter {
    /// Counts for `role`.
    pub fn new(metrics: Metrics, role: &'static str) -> Self {
        Self { metrics, role, known: RefCell::default() }
    }

    /// Counts a request with `method` to `route`, which got `status` after `duration`.
    pub fn count(&self, route: &Rc<str>, method: &str, status: u16, duration: Duration) {
        let method = standard(method);
        let mut known = self.known.borrow_mut();
        let is = |counter: &Counter| {
            // The same string, because all requests of a route share its name.
            Rc::ptr_eq(&counter.route, route)
                && counter.status == status
                && counter.method == method
        };
        let place = known.iter().position(is).unwrap_or_else(|| {
            let code = status.to_string();
            let labels = [self.role, route, method, code.as_str()];
            let durations = self.metrics.requests.with_label_values(&labels);
            known.push(Counter { route: route.clone(), method, status, durations });
            known.len() - 1
        });
        known[place].durations.observe(duration.as_secs_f64());
    }
}

/// A method of RFC 9110 or 5789; all others, which clients can make up, count as one.
fn standard(method: &str) -> &'static str {
    const KNOWN: [&str; 9] =
        ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT"];
    KNOWN.into_iter().find(|known| *known == method).unwrap_or("_OTHER")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_route_method_and_status() {
        let metrics = Metrics::new(Vec::new()).unwrap();
        let meters = [0, 1].map(|_| Meter::new(metrics.clone(), "gateway"));
        let route = Rc::from("/products");
        for meter in &meters {
            meter.count(&route, "GET", 200, Duration::from_millis(2));
            meter.count(&route, "BREW", 405, Duration::from_millis(2));
        }
        let text = String::from_utf8(metrics.text().unwrap()).unwrap();
        for (method, status) in [("GET", 200), ("_OTHER", 405)] {
            let line = format!(
                "http_server_request_duration_seconds_count{{http_request_method=\"{method}\",\
                 http_response_status_code=\"{status}\",http_route=\"/products\",role=\"gateway\"}} 2"
            );
            assert!(text.contains(&line), "{text}");
        }
    }
}
