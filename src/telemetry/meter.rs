//! Counts requests, for one role on one worker thread.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use prometheus::{Histogram, IntGauge};

use super::exemplars::Series;
use super::{Metrics, TraceId, panics};

/// Counts the requests of a role on one worker thread.
pub struct Meter {
    metrics: Metrics,
    role: &'static str,
    active: IntGauge,
    /// Searched linearly: a role has some dozens at most, and few of them are frequent.
    known: RefCell<Vec<Counter>>,
}

struct Counter {
    route: Rc<str>,
    method: &'static str,
    status: u16,
    durations: Histogram,
    exemplars: Series,
}

/// A request in flight, until it is dropped.
#[derive(Debug)]
pub struct Active<'a>(&'a IntGauge);

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter").field("role", &self.role).finish_non_exhaustive()
    }
}

impl Meter {
    /// Counts for `role`.
    pub fn new(metrics: Metrics, role: &'static str) -> Self {
        panics::expect(role);
        let active = metrics.active.with_label_values(&[role]);
        Self { metrics, role, active, known: RefCell::default() }
    }

    /// Counts a request as in flight.
    pub fn begin(&self) -> Active<'_> {
        self.active.inc();
        Active(&self.active)
    }

    /// Counts a request with `method` to `route`, which got `status` after `duration`. `trace` is the id of its trace, if
    /// that is sampled.
    pub fn count(
        &self,
        route: &Rc<str>,
        method: &str,
        status: u16,
        duration: Duration,
        trace: Option<TraceId>,
    ) {
        let method = standard(method);
        let mut known = self.known.borrow_mut();
        let is = |counter: &Counter| {
            // Mostly the same string, because all requests of a route share its name until the gateway reads its settings anew.
            counter.status == status
                && counter.method == method
                && (Rc::ptr_eq(&counter.route, route) || counter.route == *route)
        };
        let place = known.iter().position(is).unwrap_or_else(|| {
            let code = status.to_string();
            let labels = [self.role, route, method, code.as_str()];
            let durations = self.metrics.requests.with_label_values(&labels);
            let exemplars = self.metrics.exemplars.series(&[method, &code, route, self.role]);
            known.push(Counter { route: route.clone(), method, status, durations, exemplars });
            known.len() - 1
        });
        let (counter, seconds) = (&known[place], duration.as_secs_f64());
        counter.durations.observe(seconds);
        if let Some(trace) = trace {
            counter.exemplars.keep(trace, seconds);
        }
    }
}

/// A method of RFC 9110 or 5789; all others, which clients can make up, count as one.
pub(super) fn standard(method: &str) -> &'static str {
    const KNOWN: [&str; 9] =
        ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT"];
    KNOWN.into_iter().find(|known| *known == method).unwrap_or("_OTHER")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(metrics: &Metrics) -> String {
        String::from_utf8(metrics.text().unwrap()).unwrap()
    }

    #[test]
    fn requests_are_counted_by_route_method_and_status() {
        let metrics = Metrics::new(Vec::new()).unwrap();
        let meters = [0, 1].map(|_| Meter::new(metrics.clone(), "gateway"));
        let route = Rc::from("/products");
        for meter in &meters {
            meter.count(&route, "GET", 200, Duration::from_millis(2), None);
            meter.count(&route, "BREW", 405, Duration::from_millis(2), None);
        }
        let text = lines(&metrics);
        for (method, status) in [("GET", 200), ("_OTHER", 405)] {
            let line = format!(
                "http_server_request_duration_seconds_count{{http_request_method=\"{method}\",\
                 http_response_status_code=\"{status}\",http_route=\"/products\",role=\"gateway\"}} 2"
            );
            assert!(text.contains(&line), "{text}");
        }
    }

    #[test]
    fn a_request_is_in_flight_until_it_has_an_answer_or_is_given_up() {
        let metrics = Metrics::new(Vec::new()).unwrap();
        let meter = Meter::new(metrics.clone(), "gateway");
        let (one, other) = (meter.begin(), meter.begin());
        let active = |count| format!("http_server_active_requests{{role=\"gateway\"}} {count}\n");
        assert!(lines(&metrics).contains(&active(2)));
        drop((one, other));
        assert!(lines(&metrics).contains(&active(0)));
    }

    #[test]
    fn open_metrics_have_the_trace_of_the_last_request_of_each_bucket() {
        let metrics = Metrics::new(Vec::new()).unwrap();
        let meter = Meter::new(metrics.clone(), "gateway");
        let route = Rc::from("/\"quoted\"");
        for (trace, millis) in [(0xaa, 1), (0xbb, 1), (0xcc, 30_000)] {
            let (trace, taken) = (Some(TraceId(trace)), Duration::from_millis(millis));
            meter.count(&route, "GET", 200, taken, trace);
        }
        meter.count(&route, "GET", 200, Duration::from_millis(1), None);
        let text = metrics.open_metrics();
        let bucket = |bound: &str, count: u32| {
            format!(
                "http_server_request_duration_seconds_bucket{{http_request_method=\"GET\",\
                 http_response_status_code=\"200\",http_route=\"/\\\"quoted\\\"\",role=\"gateway\",\
                 le=\"{bound}\"}} {count}"
            )
        };
        let first = format!("{} # {{trace_id=\"{:0>32}\"}} 0.001 ", bucket("0.001", 3), "bb");
        let last = format!("{} # {{trace_id=\"{:0>32}\"}} 30.0 ", bucket("+Inf", 4), "cc");
        let between = format!("{}\n", bucket("1.0", 3));
        assert!([first, last, between].iter().all(|line| text.contains(line)), "{text}");
        assert!(text.contains("# UNIT http_server_request_duration_seconds seconds\n"), "{text}");
        assert!(text.contains("# TYPE log_lines_dropped counter\n"), "{text}");
        assert!(text.ends_with("\n# EOF\n"), "{text}");
        assert_eq!(text.matches("# EOF").count(), 1);
    }
}
