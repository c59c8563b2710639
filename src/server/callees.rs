//! What is counted of those that the roles of a process call: other roles, and the gateway's upstreams.

use prometheus::core::Collector;

use super::{Reporter, Reports};
use crate::metrics::{Family, Sampled, Samples};
use crate::peer::Report;

const BREAKER: &str = "breaker_state";
const ATTEMPTS: &str = "peer_attempts_total";
const RETRIES: &str = "peer_retries_total";
const REFUSED: &str = "peer_refused_total";
const EJECTIONS: &str = "peer_ejections_total";
const EJECTED: &str = "peer_ejected_addresses";
const IN_USE: &str = "peer_bulkhead_in_use";
const SIZE: &str = "peer_bulkhead_size";
const WAITING: &str = "peer_bulkhead_waiting";

const LABELS: &[&str] = &["role", "peer"];
const FAMILIES: &[Family] = &[
    Family::gauge(
        BREAKER,
        "The breakers of those who are asked: 0 is closed, 1 half open, 2 open.",
        LABELS,
    ),
    Family::counter(
        ATTEMPTS,
        "Attempts at requests to those who are asked, by outcome: good; declined, by a 503; unreachable; failed, by a 500, \
         a 502, a lost answer or a timeout; unknown, where the caller had too little time.",
        &["role", "peer", "outcome"],
    ),
    Family::counter(RETRIES, "Attempts after the first one of a request.", LABELS),
    Family::counter(
        REFUSED,
        "Requests that were not sent, because the breaker was open or the bulkhead full.",
        &["role", "peer", "reason"],
    ),
    Family::counter(EJECTIONS, "How often an address was left out because it failed.", LABELS),
    Family::gauge(EJECTED, "Addresses that are left out.", LABELS),
    Family::gauge(IN_USE, "Requests under way, until the end of their answers.", LABELS),
    Family::gauge(SIZE, "The most requests that may be under way.", LABELS),
    Family::gauge(WAITING, "Requests that wait for others to end.", LABELS),
];

/// The collector of what `report` gives.
pub fn collector(report: Reporter) -> Box<dyn Collector> {
    Sampled::boxed(FAMILIES, move |samples| {
        let Reports { upstreams, peers } = report();
        let reports = upstreams.into_iter().flatten().chain(peers);
        reports.for_each(|report| sample(&report, samples));
    })
}

fn sample(report: &Report, samples: &mut Samples) {
    let (role, peer, counted) = (report.caller, report.name.as_str(), &report.counted);
    let labels = [role, peer];
    for (outcome, attempts) in counted.attempts {
        samples.count(ATTEMPTS, &[role, peer, outcome], attempts);
    }
    for (reason, requests) in [("breaker", counted.breaker), ("bulkhead", counted.bulkhead)] {
        samples.count(REFUSED, &[role, peer, reason], requests);
    }
    samples.count(BREAKER, &labels, report.breaker as u64);
    samples.count(RETRIES, &labels, counted.retries);
    samples.count(EJECTIONS, &labels, counted.ejections);
    samples.count(EJECTED, &labels, report.ejected.len() as u64);
    samples.count(IN_USE, &labels, report.in_flight as u64);
    samples.count(SIZE, &labels, report.concurrency as u64);
    samples.count(WAITING, &labels, report.waiting as u64);
}
