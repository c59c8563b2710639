//! The last slow and failed traces of this process, for people who look at it while it runs.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

static RECENT: Mutex<VecDeque<Arc<KeptTrace>>> = Mutex::new(VecDeque::new());
/// Until when somebody watches, in milliseconds since [`START`].
static WATCHED_UNTIL: AtomicU64 = AtomicU64::new(0);
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// What one request did in this process, in all roles that run in it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeptTrace {
    /// 32 hexadecimal digits.
    pub trace_id: String,
    pub request_id: String,
    /// As in `GET /products`.
    pub name: String,
    /// The role that got the request first.
    pub role: &'static str,
    /// RFC 3339, UTC.
    pub started_at: String,
    pub duration_ms: f64,
    pub status: u16,
    pub failed: bool,
    /// In the order in which they began.
    pub spans: Vec<KeptSpan>,
    /// How many spans there were no places for.
    pub dropped_spans: u32,
}

/// A part of a trace.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeptSpan {
    /// 16 hexadecimal digits.
    pub id: String,
    /// The span that it is a part of; the first one's is in another process, if anywhere.
    pub parent: Option<String>,
    pub name: String,
    /// `server`, `client`, `internal`, `producer` or `consumer`.
    pub kind: &'static str,
    pub role: &'static str,
    /// When it began, from the trace's beginning.
    pub start_ms: f64,
    pub duration_ms: f64,
    /// What went wrong, or an empty text.
    pub error: String,
    pub attributes: Vec<(String, String)>,
}

/// The traces that are kept, the newest first.
pub fn recent_traces() -> Vec<Arc<KeptTrace>> {
    lock().iter().rev().cloned().collect()
}

/// The newest trace of the request or the trace with this id, if it is kept.
pub fn trace_of(id: &str) -> Option<Arc<KeptTrace>> {
    let is_meant = |trace: &&Arc<KeptTrace>| trace.request_id == id || trace.trace_id == id;
    lock().iter().rev().find(is_meant).cloned()
}

/// Has slow and failed traces kept for `time` from now, for somebody who looks at them.
pub fn watch_traces(time: Duration) {
    WATCHED_UNTIL.fetch_max(millis(START.elapsed() + time), Ordering::Relaxed);
}

fn lock() -> MutexGuard<'static, VecDeque<Arc<KeptTrace>>> {
    RECENT.lock().unwrap_or_else(PoisonError::into_inner)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
