//! Spans as OpenTelemetry's exporters take them.

use std::time::Instant;

use opentelemetry::trace::{
    Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::super::TraceContext;
use super::about::{Kind, Value};
use super::recorder::Finished;
use super::span::Record;

/// The spans of `trace`, which is exported: from here on it counts as sampled.
pub(super) fn spans(trace: &Finished) -> impl Iterator<Item = SpanData> {
    trace.spans.iter().map(move |span| data(span, trace))
}

fn data(span: &Record, trace: &Finished) -> SpanData {
    let time = |at: Instant| trace.began_at + at.saturating_duration_since(trace.begun);
    let mut attributes = vec![KeyValue::new("shop.role", span.role)];
    attributes.extend(span.about.attributes().into_iter().map(|(name, value)| match value {
        Value::Text(text) => KeyValue::new(name, text),
        Value::Number(number) => KeyValue::new(name, number),
    }));
    if !span.error.is_empty() {
        attributes.push(KeyValue::new("error.type", span.error));
    }
    let links = span.links.iter().map(|link| Link::new(context(*link, true), Vec::new(), 0));
    let mut of_links = SpanLinks::default();
    of_links.links = links.collect();
    let (parent, is_remote) = span.parent.map_or((0, false), |(id, is_remote)| (id.0, is_remote));
    SpanData {
        span_context: context(span.context.with_sampled(true), false),
        parent_span_id: SpanId::from(parent),
        parent_span_is_remote: is_remote,
        span_kind: match span.about.kind() {
            Kind::Server => SpanKind::Server,
            Kind::Client => SpanKind::Client,
            Kind::Internal => SpanKind::Internal,
            Kind::Producer => SpanKind::Producer,
            Kind::Consumer => SpanKind::Consumer,
        },
        name: span.about.name().into(),
        start_time: time(span.begun),
        end_time: time(span.ended),
        attributes,
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: of_links,
        status: match span.error {
            "" => Status::Unset,
            error => Status::error(error),
        },
        instrumentation_scope: InstrumentationScope::builder("shop")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build(),
    }
}

fn context(of: TraceContext, is_remote: bool) -> SpanContext {
    SpanContext::new(
        TraceId::from(of.trace_id().0),
        SpanId::from(of.span_id().0),
        TraceFlags::new(of.flags()),
        is_remote,
        TraceState::NONE,
    )
}
