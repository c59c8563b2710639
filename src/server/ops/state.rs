//! What the page shows, in one answer.

use std::time::Duration;

use chrono::{SecondsFormat, Utc};
use serde::Serialize;

use super::arrows::{Arrow, arrows};
use super::families::Families;
use super::neighbours::Neighbour;
use super::stores::{Cache, Pool, caches, pools};
use super::topology::{RolePlace, Topology};
use crate::server::{Reports, Span, State};
use crate::telemetry::{KeptSpan, KeptTrace, recent_traces};

/// The most traces of the list.
const TRACES: usize = 50;

/// How the process is. Counters only grow; rates are for the reader to make of two answers.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OpsState {
    /// When it was, RFC 3339 in UTC.
    time: String,
    /// Milliseconds since the page was first asked for, by a clock that nobody sets.
    millis: u64,
    version: &'static str,
    status: State,
    missing: Vec<&'static str>,
    /// What roles elsewhere say of themselves.
    neighbours: Vec<Neighbour>,
    /// The last hour.
    history: Vec<Span>,
    /// The threads that have been stuck for ten seconds.
    stuck: Vec<String>,
    roles: Vec<RolePlace>,
    events: &'static str,
    payments: Option<&'static str>,
    arrows: Vec<Arrow>,
    pools: Vec<Pool>,
    caches: Vec<Cache>,
    outbox: Vec<Outbox>,
    process: Process,
    /// The last slow and failed requests, the newest first.
    traces: Vec<Trace>,
}

/// Events of a role that wait.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Outbox {
    role: String,
    depth: f64,
    age_seconds: f64,
}

/// The process itself.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Process {
    cpu_seconds: f64,
    resident_bytes: f64,
    open_files: f64,
    most_files: f64,
    started_seconds: f64,
    active_requests: f64,
    tasks: f64,
    task_panics: f64,
    request_panics: f64,
    dropped_lines: f64,
    dead_letters: f64,
}

/// A trace without its spans.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Trace {
    trace_id: String,
    request_id: String,
    name: String,
    /// What another role got for it first, as in `POST /orders/{id}/pay`.
    inner: Option<String>,
    role: &'static str,
    started_at: String,
    duration_ms: f64,
    status: u16,
    failed: bool,
}

impl From<&KeptTrace> for Trace {
    fn from(trace: &KeptTrace) -> Self {
        Self {
            trace_id: trace.trace_id.clone(),
            request_id: trace.request_id.clone(),
            name: trace.name.clone(),
            inner: inner(trace),
            role: trace.role,
            started_at: trace.started_at.clone(),
            duration_ms: trace.duration_ms,
            status: trace.status,
            failed: trace.failed,
        }
    }
}

fn inner(trace: &KeptTrace) -> Option<String> {
    let is_other = |span: &&KeptSpan| span.kind == "server" && span.role != trace.role;
    trace.spans.iter().find(is_other).map(|span| span.name.clone())
}

/// What is known of the process beside its metrics.
#[derive(Debug)]
pub(super) struct Condition {
    pub(super) status: State,
    pub(super) missing: Vec<&'static str>,
    pub(super) neighbours: Vec<Neighbour>,
    /// The last hour.
    pub(super) history: Vec<Span>,
    /// The names of stuck threads.
    pub(super) stuck: Vec<String>,
}

impl OpsState {
    /// The state `since` the first one.
    pub(super) fn new(
        since: Duration,
        topology: &Topology,
        Condition { status, missing, neighbours, history, stuck }: Condition,
        reports: &Reports,
        families: &Families,
    ) -> Self {
        let traces = recent_traces();
        Self {
            time: Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
            millis: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            version: env!("CARGO_PKG_VERSION"),
            status,
            missing,
            neighbours,
            history,
            stuck,
            roles: topology.roles.clone(),
            events: topology.events,
            payments: topology.payments,
            arrows: arrows(topology, reports, families),
            pools: pools(families),
            caches: caches(families),
            outbox: outbox(families),
            process: process(families),
            traces: traces.iter().take(TRACES).map(|trace| Trace::from(&**trace)).collect(),
        }
    }
}

fn outbox(families: &Families) -> Vec<Outbox> {
    let waiting = families.series("events_outbox_depth").map(|series| {
        let role = series.label("role");
        let age_seconds = families.sum("events_outbox_age_seconds", &[("role", role)]);
        Outbox { role: role.to_owned(), depth: series.value(), age_seconds }
    });
    waiting.collect()
}

fn process(families: &Families) -> Process {
    let of = |name| families.sum(name, &[]);
    // The request for the page is one of them.
    let management = [("role", "management")];
    let active = "http_server_active_requests";
    Process {
        cpu_seconds: of("process_cpu_seconds_total"),
        resident_bytes: of("process_resident_memory_bytes"),
        open_files: of("process_open_fds"),
        most_files: of("process_max_fds"),
        started_seconds: of("process_start_time_seconds"),
        active_requests: of(active) - families.sum(active, &management),
        tasks: of("tasks_running"),
        task_panics: of("task_panics_total"),
        request_panics: of("request_panics_total"),
        dropped_lines: of("log_lines_dropped_total"),
        dead_letters: of("events_dead_total"),
    }
}
