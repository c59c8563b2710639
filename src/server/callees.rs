//! What is counted of those that the roles of a process call: other roles, and the gateway's upstreams.

use prometheus::core::Collector;

use super::{Reporter, Reports};
use crate::metrics::{Family, Sampled};

const BREAKER: &str = "breaker_state";

const LABELS: &[&str] = &["role", "peer"];
const FAMILIES: &[Family] = &[Family::gauge(
    BREAKER,
    "The breakers of those who are asked: 0 is closed, 1 half open, 2 open.",
    LABELS,
)];

/// The collector of what `report` gives.
pub fn collector(report: Reporter) -> Box<dyn Collector> {
    Sampled::boxed(FAMILIES, move |samples| {
        let Reports { upstreams, peers } = report();
        for report in upstreams.into_iter().flatten().chain(peers) {
            let labels = [report.caller, report.name.as_str()];
            samples.count(BREAKER, &labels, report.breaker as u64);
        }
    })
}
