//! The calls from place to place, and what has become of them since the process began.

use serde::Serialize;

use super::families::{Families, Series};
use super::topology::{RolePlace, Topology};
use crate::metrics::DURATIONS;
use crate::peer::{Counted, Position, Report};
use crate::server::Reports;

/// The route by which roles ask each other how they are.
const HEALTH: &str = "/internal/health";
/// Everybody outside of the process who calls its roles.
pub(super) const CLIENTS: &str = "clients";

/// Calls from one place to another.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Arrow {
    /// Who calls. Several roles of a process that share a breaker are counted together.
    pub(super) from: Vec<String>,
    pub(super) to: String,
    /// `requests`, `keys` to verify tokens with, `store`, `events` or `payments`.
    pub(super) what: &'static str,
    /// What was counted, if this process counts these calls.
    pub(super) tally: Option<Tally>,
    pub(super) callee: Option<Callee>,
    /// The names of `/readyz` that say whether its end is there.
    pub(super) checks: Vec<String>,
}

/// Numbers that only grow.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tally {
    pub(super) calls: u64,
    pub(super) errors: u64,
    /// The upper bounds of durations, in seconds; none where nobody measures them.
    pub(super) bounds: Vec<f64>,
    /// How many took up to each bound and longer than the one before; those that were longer than the last one are last.
    pub(super) buckets: Vec<u64>,
}

/// The resilience around the calls.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Callee {
    breaker: Position,
    in_flight: usize,
    concurrency: usize,
    waiting: usize,
    ejected: Vec<String>,
    retries: u64,
    refused: u64,
}

/// All arrows of the process.
pub(super) fn arrows(topology: &Topology, reports: &Reports, families: &Families) -> Vec<Arrow> {
    let entrances = topology.here().filter(|role| role.is_entrance);
    let entrances = entrances.map(|role| entrance(role, families));
    let upstreams = reports.upstreams.iter().flatten();
    let upstreams = upstreams.map(|report| callee(vec![report.caller], report));
    let peers = reports.peers.iter().map(|report| match report.caller {
        "auth" => Arrow { what: "keys", ..callee(everybody(topology), report) },
        _ => callee(topology.callers_of(&report.name), report),
    });
    let stores = super::stores::arrows(families);
    let events = events(topology, families);
    let payments = topology.payments.map(|_| payments(families));
    entrances.chain(upstreams).chain(peers).chain(stores).chain(events).chain(payments).collect()
}

fn everybody(topology: &Topology) -> Vec<&'static str> {
    topology.here().map(|role| role.name).collect()
}

/// Requests of clients, and of roles elsewhere.
fn entrance(role: &RolePlace, families: &Families) -> Arrow {
    let series = families.series("http_server_request_duration_seconds");
    // What pages like this one ask in other processes is no request of a client.
    let of_role = series
        .filter(|series| series.label("role") == role.name && series.label("http_route") != HEALTH);
    let mut tally = Tally::default();
    of_role.for_each(|series| {
        series.add_to(&mut tally, series.label("http_response_status_code").starts_with('5'));
    });
    Arrow {
        from: vec![CLIENTS.to_owned()],
        to: role.name.to_owned(),
        what: "requests",
        tally: Some(tally),
        callee: None,
        checks: Vec::new(),
    }
}

/// Calls of another role or an upstream.
fn callee(from: Vec<&'static str>, report: &Report) -> Arrow {
    let counted = &report.counted;
    let refused = counted.breaker + counted.bulkhead;
    Arrow {
        from: from.into_iter().map(str::to_owned).collect(),
        to: report.name.clone(),
        what: "requests",
        tally: Some(attempts(counted, refused)),
        callee: Some(Callee {
            breaker: report.breaker,
            in_flight: report.in_flight,
            concurrency: report.concurrency,
            waiting: report.waiting,
            ejected: report.ejected.clone(),
            retries: counted.retries,
            refused,
        }),
        checks: vec![format!("peers.{}", report.name)],
    }
}

/// A request that was not sent is an error that took no time.
fn attempts(counted: &Counted, refused: u64) -> Tally {
    let outcomes = counted.attempts.iter();
    let (mut calls, mut errors) = (refused, refused);
    for (outcome, attempts) in outcomes {
        calls += attempts;
        // Where the caller had too little time, the callee has not failed.
        errors += if matches!(*outcome, "good" | "unknown") { 0 } else { *attempts };
    }
    Tally { calls, errors, bounds: DURATIONS.to_vec(), buckets: counted.durations.to_vec() }
}

/// Events that roles of the process publish.
fn events(topology: &Topology, families: &Families) -> Option<Arrow> {
    let publishes = |role: &&RolePlace| {
        families.series("events_outbox_depth").any(|series| series.label("role") == role.name)
    };
    let from = topology.here().filter(publishes).map(|role| role.name.to_owned());
    let from = from.collect::<Vec<_>>();
    if from.is_empty() {
        return None;
    }
    let to = if topology.events == "rabbitmq" { "broker" } else { "log" };
    let published =
        families.series("events_published_total").filter(|series| series.label("to") == to);
    let tally = Tally { calls: published.map(whole).sum(), ..Tally::default() };
    Some(Arrow {
        from,
        to: "events".to_owned(),
        what: "events",
        tally: Some(tally),
        callee: None,
        checks: ["events", "events.url"].map(str::to_owned).to_vec(),
    })
}

/// Requests to the payment provider.
fn payments(families: &Families) -> Arrow {
    let mut tally = Tally::default();
    for series in families.series("payment_request_duration_seconds") {
        series.add_to(&mut tally, !series.label("error_type").is_empty());
    }
    Arrow {
        from: vec!["order".to_owned()],
        to: "payments".to_owned(),
        what: "payments",
        tally: Some(tally),
        callee: None,
        checks: Vec::new(),
    }
}

/// The value of a counter.
pub(super) fn whole(series: Series<'_>) -> u64 {
    // A counter of whole numbers below 2^53.
    series.value() as u64
}
