//! A collector of traces of the test's own: it decodes what it is sent by OTLP over HTTP, keeps it, and answers what the
//! test says.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::{Arc, Mutex, MutexGuard};

use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use opentelemetry_proto::tonic::trace::v1::Span as WireSpan;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message as _;

use super::upstream::Received;
use super::{Line, Upstream, until};

/// The path of the traces below the base of the collector's URL.
const TRACES: &str = "/v1/traces";

/// Names and values, as text: `true`, `200`, `0.5`, `GET`; those of an array with commas between.
pub(crate) type Attributes = BTreeMap<String, String>;

/// A span as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    /// 32 hexadecimal digits.
    pub(crate) trace_id: String,
    /// 16 hexadecimal digits.
    pub(crate) span_id: String,
    /// The same, or empty for a root.
    pub(crate) parent_span_id: String,
    /// The W3C trace flags, in the lowest 8 bits, and whether the parent is remote, above.
    pub(crate) flags: u32,
    pub(crate) name: String,
    pub(crate) kind: SpanKind,
    /// Nanoseconds since 1970.
    pub(crate) start: u64,
    /// Nanoseconds since 1970.
    pub(crate) end: u64,
    pub(crate) attributes: Attributes,
    /// The name of each event and its attributes.
    pub(crate) events: Vec<(String, Attributes)>,
    /// The trace and the span of each.
    pub(crate) links: Vec<(String, String)>,
    pub(crate) status: StatusCode,
    /// What the status says besides.
    pub(crate) message: String,
    /// The attributes of its resource: the process that made the span.
    pub(crate) resource: Attributes,
    /// The name of its instrumentation scope.
    pub(crate) scope: String,
}

/// What the collector does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// It takes the spans.
    Taken,
    /// It refuses them with this status and these headers, each with the end of its line.
    Refused(u16, &'static str),
    /// It never answers.
    Never,
}

#[derive(Debug)]
struct State {
    reply: Reply,
    spans: Vec<Span>,
    /// The spans in each request that was taken.
    batches: Vec<usize>,
    /// The head of each request, whatever it was answered.
    heads: Vec<String>,
}

/// Listens until the test ends.
pub(crate) struct Collector {
    upstream: Upstream,
    state: Arc<Mutex<State>>,
}

impl Collector {
    /// One that takes all spans.
    pub(crate) fn start() -> Self {
        let (spans, batches, heads) = (Vec::new(), Vec::new(), Vec::new());
        let state = Arc::new(Mutex::new(State { reply: Reply::Taken, spans, batches, heads }));
        let shared = state.clone();
        let upstream = Upstream::start(move |line| {
            while let Some(request) = line.request() {
                answer(&shared, line, &request);
            }
        });
        Self { upstream, state }
    }

    /// The base for `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub(crate) fn url(&self) -> String {
        self.upstream.url.clone()
    }

    /// Answers like this from now on.
    pub(crate) fn reply(&self, reply: Reply) {
        self.lock().reply = reply;
    }

    /// The spans that it has taken so far, in the order in which they came.
    pub(crate) fn spans(&self) -> Vec<Span> {
        self.lock().spans.clone()
    }

    /// The spans of one trace, by its id, in the order in which they came.
    pub(crate) fn trace(&self, id: &str) -> Vec<Span> {
        self.spans().into_iter().filter(|span| span.trace_id == id).collect()
    }

    /// How many spans came with each request that it has taken.
    pub(crate) fn batches(&self) -> Vec<usize> {
        self.lock().batches.clone()
    }

    /// The head of each request, whatever it was answered.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.lock().heads.clone()
    }

    /// Waits for at least `count` spans, and gives all.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<Span> {
        let what = format!("{count} spans have come");
        until(&what, async || self.lock().spans.len() >= count).await;
        self.spans()
    }

    /// Waits for a span with the name `name`, and gives the first.
    pub(crate) async fn wait_for_span(&self, name: &str) -> Span {
        let find = || self.spans().into_iter().find(|span| span.name == name);
        until(&format!("a span {name} has come"), async || find().is_some()).await;
        find().unwrap()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

fn answer(state: &Mutex<State>, line: &mut Line, request: &Received) {
    let reply = {
        let mut state = state.lock().unwrap();
        state.heads.push(request.head.clone());
        if matches!(state.reply, Reply::Taken) {
            let found = spans(request);
            state.batches.push(found.len());
            state.spans.extend(found);
        }
        state.reply.clone()
    };
    match reply {
        // An empty message: all spans were taken.
        Reply::Taken => line.send(
            "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n",
        ),
        Reply::Refused(status, headers) => {
            line.send(format!("HTTP/1.1 {status} No\r\n{headers}content-length: 0\r\n\r\n"));
        }
        Reply::Never => line.wait_for_end(),
    }
}

/// The spans in `request`, which must be one for them by OTLP.
fn spans(request: &Received) -> Vec<Span> {
    let head = request.head.to_ascii_lowercase();
    assert!(head.starts_with("post /") && head.contains(TRACES), "{head}");
    assert!(head.contains("\r\ncontent-type: application/x-protobuf"), "{head}");
    let body = if head.contains("\r\ncontent-encoding: gzip") {
        unzip(&request.body)
    } else {
        request.body.clone()
    };
    let message = ExportTraceServiceRequest::decode(&*body).unwrap();
    message.resource_spans.iter().flat_map(of_resource).collect()
}

fn unzip(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
    plain
}

fn of_resource(spans: &ResourceSpans) -> Vec<Span> {
    let resource = spans.resource.as_ref().map(|resource| attributes(&resource.attributes));
    let resource = resource.unwrap_or_default();
    let scoped = spans.scope_spans.iter().flat_map(|scoped| {
        let scope = scoped.scope.as_ref().map(|scope| scope.name.clone()).unwrap_or_default();
        scoped.spans.iter().map(move |span| (span, scope.clone()))
    });
    scoped.map(|(span, scope)| read(span, resource.clone(), scope)).collect()
}

fn read(span: &WireSpan, resource: Attributes, scope: String) -> Span {
    let events =
        span.events.iter().map(|event| (event.name.clone(), attributes(&event.attributes)));
    let links =
        span.links.iter().map(|link| (hex::encode(&link.trace_id), hex::encode(&link.span_id)));
    Span {
        trace_id: hex::encode(&span.trace_id),
        span_id: hex::encode(&span.span_id),
        parent_span_id: hex::encode(&span.parent_span_id),
        flags: span.flags,
        name: span.name.clone(),
        kind: span.kind(),
        start: span.start_time_unix_nano,
        end: span.end_time_unix_nano,
        attributes: attributes(&span.attributes),
        events: events.collect(),
        links: links.collect(),
        status: span.status.as_ref().map(|status| status.code()).unwrap_or(StatusCode::Unset),
        message: span.status.as_ref().map(|status| status.message.clone()).unwrap_or_default(),
        resource,
        scope,
    }
}

fn attributes(pairs: &[KeyValue]) -> Attributes {
    pairs.iter().map(|pair| (pair.key.clone(), text(pair.value.as_ref()))).collect()
}

fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        None => String::new(),
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::BoolValue(value)) => value.to_string(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::ArrayValue(all)) => {
            all.values.iter().map(|value| text(Some(value))).collect::<Vec<_>>().join(",")
        }
        Some(other) => format!("{other:?}"),
    }
}
