//! Which traces are kept, and where they go.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};

use super::super::TraceId;
use super::about::{About, Value};
use super::recent::{self, KeptSpan, KeptTrace};
use super::recorder::Finished;
use super::sampler::Sampler;
use super::span::Record;
use crate::config::Traces;

/// Whether anything may be recorded, which every request asks.
static RECORDS: AtomicBool = AtomicBool::new(false);

static TRACER: OnceLock<Tracer> = OnceLock::new();

/// What is done with traces.
#[derive(Debug)]
struct Tracer {
    sampler: Sampler,
    /// Slower traces are kept; if it is zero, none is slow.
    slow: Duration,
    /// How many are kept in memory.
    recent: usize,
    /// Whether they are recorded while nobody watches.
    always: bool,
}

/// Records traces as `options` say from now on. Later calls do nothing.
pub fn start_traces(options: &Traces) {
    if options.disabled {
        return;
    }
    let &Traces { slow, recent, always, .. } = options;
    let _ = TRACER.set(Tracer { sampler: Sampler::new(options), slow, recent, always });
    if always {
        record();
    }
}

/// Has traces recorded from now on, if there is a use for them.
pub(super) fn record() {
    RECORDS.store(TRACER.get().is_some(), Ordering::Relaxed);
}

/// Whether traces are recorded now.
pub(super) fn is_recording() -> bool {
    RECORDS.load(Ordering::Relaxed) && is_used()
}

#[cold]
fn is_used() -> bool {
    let is_used = TRACER.get().is_some_and(|tracer| tracer.always) || recent::is_watched();
    if !is_used {
        RECORDS.store(false, Ordering::Relaxed);
    }
    is_used
}

/// Whether the trace `id` is sampled; `parent` is the flag of a parent that is trusted.
pub(super) fn samples(id: TraceId, parent: Option<bool>) -> bool {
    TRACER.get().is_some_and(|tracer| tracer.sampler.samples(id.0, parent))
}

/// Keeps `trace` if it was sampled, has failed or was slow.
pub(super) fn finish(trace: Finished) {
    let Some(tracer) = TRACER.get() else { return };
    let failed = trace.spans.iter().any(|span| has_failed(span));
    let slow = !tracer.slow.is_zero() && duration(&trace) >= tracer.slow;
    if (failed || slow) && tracer.recent > 0 {
        recent::keep(kept(trace, failed), tracer.recent);
    }
}

/// Whether something went wrong that is not the caller's fault.
fn has_failed(span: &Record) -> bool {
    !span.error.is_empty() && !span.error.starts_with('4')
}

fn first(trace: &Finished) -> Option<&Record> {
    trace.spans.iter().map(Box::as_ref).min_by_key(|span| span.begun)
}

fn duration(trace: &Finished) -> Duration {
    first(trace).map_or(Duration::ZERO, |span| span.ended - span.begun)
}

/// A trace as people look at it.
fn kept(mut trace: Finished, failed: bool) -> KeptTrace {
    trace.spans.sort_by_key(|span| span.begun);
    let began_at = DateTime::<Utc>::from(trace.began_at);
    let served = trace.spans.first().and_then(|span| match &span.about {
        About::Served(served) => Some(served),
        _ => None,
    });
    let first = trace.spans.first();
    KeptTrace {
        trace_id: first.map(|span| span.context.trace_id().to_string()).unwrap_or_default(),
        request_id: served.map(|served| served.request_id.clone()).unwrap_or_default(),
        name: first.map(|span| span.about.name()).unwrap_or_default(),
        role: first.map_or("", |span| span.role),
        started_at: began_at.to_rfc3339_opts(SecondsFormat::Micros, true),
        duration_ms: millis(duration(&trace)),
        status: served.map_or(0, |served| served.status),
        failed,
        spans: trace.spans.iter().map(|span| kept_span(span, &trace)).collect(),
        dropped_spans: trace.dropped,
    }
}

fn kept_span(span: &Record, trace: &Finished) -> KeptSpan {
    let attributes = span.about.attributes().into_iter().map(|(name, value)| {
        let value = match value {
            Value::Text(text) => text.into_owned(),
            Value::Number(number) => number.to_string(),
        };
        (name.to_owned(), value)
    });
    KeptSpan {
        id: span.context.span_id().to_string(),
        parent: span.parent.filter(|(_, is_remote)| !is_remote).map(|(id, _)| id.to_string()),
        name: span.about.name(),
        kind: span.about.kind().name(),
        role: span.role,
        start_ms: millis(span.begun.saturating_duration_since(trace.begun)),
        duration_ms: millis(span.ended - span.begun),
        error: span.error.to_owned(),
        attributes: attributes.collect(),
    }
}

/// Milliseconds, with three decimals.
fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}
