//! Panics: each is a line of the log, and those that happen for a request are counted.

use std::collections::BTreeMap;
use std::panic::{Location, PanicHookInfo};
use std::sync::{Mutex, PoisonError};

use log::{Level, Record};

use super::scope::Scope;

/// How often requests have panicked in each role.
static COUNTS: Mutex<BTreeMap<&'static str, u64>> = Mutex::new(BTreeMap::new());

/// Reports all panics of the process from now on, wherever they are caught.
pub(super) fn start() {
    std::panic::set_hook(Box::new(report));
}

/// Logs a panic as a line of the place where it happened.
fn report(panic: &PanicHookInfo<'_>) {
    if let Some(scope) = Scope::current() {
        let mut counts = COUNTS.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(scope.role()).or_default() += 1;
    }
    let place = panic.location();
    let mut line = Record::builder();
    line.level(Level::Error).target("panic").file(place.map(Location::file));
    line.line(place.map(Location::line));
    log::logger().log(&line.args(format_args!("{panic}")).build());
}

/// Counts the panics of `role` from now on, so that it is there before its first one.
pub(super) fn expect(role: &'static str) {
    COUNTS.lock().unwrap_or_else(PoisonError::into_inner).entry(role).or_default();
}

/// The number of panics for requests in each role.
pub(super) fn counts() -> Vec<(&'static str, u64)> {
    let counts = COUNTS.lock().unwrap_or_else(PoisonError::into_inner);
    counts.iter().map(|(role, count)| (*role, *count)).collect()
}
