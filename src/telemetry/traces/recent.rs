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
    /// The request's id; empty for work in the background.
    pub request_id: String,
    /// As in `GET /products`.
    pub name: String,
    /// The role that got the request first.
    pub role: &'static str,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// How long it took, in milliseconds.
    pub duration_ms: f64,
    /// The status of the answer; 0 when there was none.
    pub status: u16,
    /// Whether something went wrong.
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
    /// As in `order.insert`.
    pub name: String,
    /// `server`, `client`, `internal`, `producer` or `consumer`.
    pub kind: &'static str,
    /// The role that did it.
    pub role: &'static str,
    /// When it began, in milliseconds from the trace's beginning.
    pub start_ms: f64,
    /// How long it took, in milliseconds.
    pub duration_ms: f64,
    /// What went wrong, or an empty text.
    pub error: String,
    /// What else is known of it.
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
    super::tracer::record();
}

/// Whether somebody watches now.
pub(super) fn is_watched() -> bool {
    millis(START.elapsed()) < WATCHED_UNTIL.load(Ordering::Relaxed)
}

/// Keeps `trace` as the newest, among `most`.
pub(super) fn keep(trace: KeptTrace, most: usize) {
    let mut recent = lock();
    recent.push_back(Arc::new(trace));
    let over = recent.len().saturating_sub(most);
    recent.drain(..over);
}

fn lock() -> MutexGuard<'static, VecDeque<Arc<KeptTrace>>> {
    RECENT.lock().unwrap_or_else(PoisonError::into_inner)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
