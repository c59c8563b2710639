//! Warnings of requests and statements that take long.

use std::fmt::Display;
use std::sync::OnceLock;
use std::time::Duration;

use super::scope::{Part, Scope};
use crate::config::Log;

/// The log target of these warnings, for `log.filter`.
const SLOW: &str = "slow";

/// The role of the management port's requests.
pub const MANAGEMENT: &str = "management";

/// The status of a request for which something is away or full.
const UNAVAILABLE: u16 = 503;

static THRESHOLDS: OnceLock<Thresholds> = OnceLock::new();

/// What is slow; nothing is where it is zero.
#[derive(Clone, Copy, Debug, Default)]
struct Thresholds {
    request: Duration,
    statement: Duration,
}

/// Warns by `options` from now on. Later calls do nothing.
pub(super) fn start(options: &Log) {
    let &Log { slow_request: request, slow_statement: statement, .. } = options;
    let _ = THRESHOLDS.set(Thresholds { request, statement });
}

fn is_slow(duration: Duration, of: impl Fn(&Thresholds) -> Duration) -> bool {
    let threshold = THRESHOLDS.get().map_or(Duration::ZERO, of);
    !threshold.is_zero() && duration >= threshold
}

/// Warns if the request of `scope`, with `method` and to `route`, was slow, which got `status` after `duration`. The line
/// says where the time went.
pub fn watch_request(scope: &Scope, method: &str, route: &str, status: u16, duration: Duration) {
    // A profile takes as long as an operator wants it to; and that something is away or full is told once, by readiness or by
    // those who ask for it, not with each request.
    let is_meant = scope.role() == MANAGEMENT || status == UNAVAILABLE;
    if is_meant || !is_slow(duration, |thresholds| thresholds.request) {
        return;
    }
    let [queues, stores, peers] =
        [Part::Queues, Part::Stores, Part::Peers].map(|part| scope.waited(part));
    // Calls of others include the wait for their turn. Parts may overlap.
    let peers = peers.saturating_sub(queues);
    let rest = duration.saturating_sub(queues + stores + peers);
    let [total, queues, stores, peers, rest] = [duration, queues, stores, peers, rest].map(millis);
    log::warn!(
        target: SLOW,
        route,
        status,
        durationMs = total,
        queuesMs = queues,
        storesMs = stores,
        peersMs = peers,
        restMs = rest;
        "slow request: {method} {route} took {total} ms: {stores} in stores, {peers} in calls of others, \
         {queues} in queues, {rest} elsewhere"
    );
}

/// Warns if the call `name` of a store was slow, which took `duration`.
pub fn watch_statement(name: impl Display, duration: Duration) {
    if is_slow(duration, |thresholds| thresholds.statement) {
        let (name, duration) = (name.to_string(), millis(duration));
        log::warn!(
            target: SLOW,
            statement = name.as_str(),
            durationMs = duration;
            "slow statement: {name} took {duration} ms"
        );
    }
}

/// Milliseconds, with three decimals.
fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}
