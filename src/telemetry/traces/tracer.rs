//! Which traces are kept, and where they go.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};

use super::super::TraceId;
use super::about::{About, Value};
use super::export::Pipeline;
use super::recent::{self, KeptSpan, KeptTrace};
use super::recorder::Finished;
use super::sampler::Sampler;
use super::span::SpanRecord;
use super::wire;
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
    pipeline: Option<Pipeline>,
}

/// Records traces as `options` say from now on, and gives them to the `pipeline`. Later calls do nothing.
pub(super) fn start(options: &Traces, pipeline: Option<Pipeline>) {
    if options.disabled {
        return;
    }
    let &Traces { slow, recent, .. } = options;
    let always = options.always || pipeline.is_some();
    let _ = TRACER.set(Tracer { sampler: Sampler::new(options), slow, recent, always, pipeline });
    if always {
        record();
    }
}

/// Where traces are sent, if they are.
pub(super) fn pipeline() -> Option<&'static Pipeline> {
    TRACER.get()?.pipeline.as_ref()
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
        // Somebody may have begun to watch meanwhile.
        if recent::is_watched() {
            record();
        }
    }
    is_used
}

/// Whether the trace `id` is sampled; `parent` is the flag of a parent that is trusted.
pub(super) fn samples(id: TraceId, parent: Option<bool>) -> bool {
    let Some(tracer) = TRACER.get() else { return false };
    match &tracer.pipeline {
        Some(_) => tracer.sampler.samples(id.0, parent),
        // Nobody here keeps it for that.
        None => parent.unwrap_or_default(),
    }
}

/// Keeps `trace` if it was sampled, has failed or was slow, or what came before of it was kept. Returns whether it is kept.
pub(super) fn finish(trace: Finished) -> bool {
    let Some(tracer) = TRACER.get() else { return false };
    let failed = trace.spans.iter().any(|span| span.is_fault);
    let slow = !tracer.slow.is_zero() && duration(&trace) >= tracer.slow;
    let is_kept = trace.is_kept.unwrap_or(trace.is_sampled || failed || slow);
    if let Some(pipeline) = tracer.pipeline.as_ref().filter(|_| is_kept) {
        pipeline.offer(trace.spans.len(), || wire::spans(&trace));
    }
    if (failed || slow) && trace.is_kept.is_none() && tracer.recent > 0 {
        recent::keep(kept(trace, failed), tracer.recent);
    }
    is_kept
}

fn first(trace: &Finished) -> Option<&SpanRecord> {
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

fn kept_span(span: &SpanRecord, trace: &Finished) -> KeptSpan {
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
        error: span.error.to_string(),
        attributes: attributes.collect(),
    }
}

/// Milliseconds, with three decimals.
fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use actix_web::http::{Method, Uri};

    use super::super::super::{Scope, TraceContext};
    use super::super::{
        Messages, Operation, Recorder, Served, Span, Work, recent_traces, trace_of,
    };
    use super::*;
    use crate::config::{Sources, load};

    /// Records from now on, and keeps `traces.recent` traces.
    fn record(recent: usize) {
        let recent = ("traces.recent".to_owned(), recent.to_string());
        let overrides = vec![("traces.always".to_owned(), "true".to_owned()), recent];
        let sources = Sources { overrides, ..Sources::default() };
        start(&load(&sources).unwrap().0.traces, None);
    }

    fn served(id: &str) -> Served {
        Served {
            request_id: id.to_owned(),
            method: Method::GET,
            route: Rc::from("-"),
            scheme: "http",
            target: Uri::from_static("/lamps"),
            status: 0,
        }
    }

    /// A request with this id, which does `work` and is answered `status`.
    fn request(id: &str, status: u16, work: impl FnOnce()) {
        let trace = TraceContext::new();
        let recorder = Recorder::begin(trace.trace_id(), None);
        let mut span = Span::server(recorder.as_ref(), "product", trace, None, || served(id));
        let scope = Scope::new("product", id.parse().unwrap(), trace, recorder);
        scope.enter(work);
        span.served(&Rc::from("/lamps"), status, status >= 500);
    }

    #[test]
    fn nothing_is_recorded_where_nobody_wants_it() {
        request("quiet", 500, || {
            assert!(Span::statement("app::product::find", "sqlite").context().is_none());
            assert!(
                Work::begin("order", [None::<String>].into_iter(), || unreachable!())
                    .header()
                    .is_none()
            );
        });
        assert!(recent_traces().is_empty());
    }

    #[test]
    fn a_trace_that_has_failed_is_kept_with_what_it_did() {
        record(10);
        request("good", 404, || drop(Span::statement("app::product::find", "sqlite")));
        request("bad", 503, || {
            let mut call = Span::statement("app::product::find", "sqlite");
            call.fail("unreachable", true);
        });
        assert!(trace_of("good").is_none());
        let kept = trace_of("bad").unwrap();
        assert_eq!((kept.name.as_str(), kept.role, kept.status), ("GET /lamps", "product", 503));
        let names = kept.spans.iter().map(|span| span.name.as_str()).collect::<Vec<_>>();
        assert_eq!(names, ["GET /lamps", "product.find"]);
        assert_eq!(kept.spans[1].parent.as_deref(), Some(kept.spans[0].id.as_str()));
        assert_eq!(
            (kept.spans[0].error.as_str(), kept.spans[1].error.as_str()),
            ("503", "unreachable")
        );
        assert_eq!(trace_of(&kept.trace_id).unwrap().request_id, "bad");
    }

    #[test]
    fn traces_and_their_spans_are_bounded() {
        record(2);
        for id in ["one", "two", "three"] {
            request(id, 500, || {
                (0..600).for_each(|_| drop(Span::statement("app::product::find", "sqlite")));
            });
        }
        let kept = recent_traces();
        let ids = kept.iter().map(|trace| trace.request_id.as_str()).collect::<Vec<_>>();
        assert_eq!(ids, ["three", "two"]);
        assert_eq!((kept[0].spans.len(), kept[0].dropped_spans), (512, 89));
    }

    #[test]
    fn an_event_is_made_once_its_transaction_has_succeeded() {
        record(10);
        let making = || {
            Span::messages(|| Messages {
                operation: Operation::Create,
                system: "outbox",
                destination: "shop.order.placed".into(),
                count: 1,
            })
        };
        request("failed", 503, || drop(making()));
        request("none", 503, || making().discard());
        request("made", 503, || making().succeed());
        let errors = |id: &str| {
            let spans = trace_of(id).unwrap().spans.clone();
            let made = spans.into_iter().filter(|span| span.kind == "producer");
            made.map(|span| span.error).collect::<Vec<_>>()
        };
        assert_eq!(errors("failed"), ["cancelled"]);
        assert_eq!(errors("none"), [""; 0]);
        assert_eq!(errors("made"), [""]);
    }

    #[test]
    fn work_with_messages_is_a_trace_of_its_own() {
        record(10);
        let parent = TraceContext::new().with_sampled(true).to_string();
        let messages = || Messages {
            operation: Operation::Process,
            system: "memory",
            destination: "user.recent_orders".into(),
            count: 1,
        };
        let mut work = Work::begin("user", [Some(parent.as_str())].into_iter(), messages);
        let header = work.header().unwrap();
        assert!(TraceContext::parse(header.as_bytes()).unwrap().is_sampled());
        work.fail("store", true);
        drop(work);
        let kept = recent_traces();
        assert_eq!(
            (kept[0].name.as_str(), kept[0].spans[0].kind),
            ("process user.recent_orders", "consumer")
        );
    }
}
