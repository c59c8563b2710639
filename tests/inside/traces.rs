//! Spans on their way to a collector: that they arrive as they are, and what becomes of them when it fails.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use app::config::{self, Sources};
use app::telemetry::Metrics;
use app::telemetry::traces::Pipeline;
use opentelemetry::trace::{
    Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::support::collector::{Collector, Reply, Span};
use crate::support::metrics::Samples;
use crate::support::tls::Certificates;
use crate::support::{Kind, Server, until};

const PROCESSED: &str = "otel_sdk_processor_span_processed_total";
const EXPORTED: &str = "otel_sdk_exporter_span_exported_total";
const WAITING: &str = "otel_sdk_processor_span_queue_size";

/// A pipeline, and what it counts.
struct Exporter {
    pipeline: Pipeline,
    metrics: Metrics,
}

impl Exporter {
    /// One of the order role, with these keys of `[traces]`.
    fn start(keys: &[(&str, &str)]) -> Self {
        Self::start_trusting(keys, None)
    }

    fn start_trusting(keys: &[(&str, &str)], tls: Option<Arc<rustls::ClientConfig>>) -> Self {
        let overrides = keys.iter().map(|(key, value)| (format!("traces.{key}"), (*value).into()));
        let sources = Sources { overrides: overrides.collect(), ..Sources::default() };
        let (settings, _) = config::load(&sources).unwrap();
        let pipeline = Pipeline::start(&settings.traces, &["order"], tls).unwrap();
        let metrics = Metrics::new(vec![pipeline.collector()]).unwrap();
        Self { pipeline, metrics }
    }

    /// One that sends spans to `collector` at once, with `more` keys.
    fn quick(collector: &Collector, more: &[(&str, &str)]) -> Self {
        let endpoint = format!("{}/v1/traces", collector.url());
        let mut keys = vec![("otlp.endpoint", &*endpoint), ("batch.schedule_delay", "10ms")];
        keys.extend(more);
        Self::start(&keys)
    }

    /// Offers spans with these numbers; gives how long that took.
    fn offer(&self, numbers: std::ops::Range<u64>) -> Duration {
        let begun = Instant::now();
        numbers.for_each(|number| self.pipeline.offer(1, || std::iter::once(span(number))));
        begun.elapsed()
    }

    fn count(&self, name: &str, error: &str) -> f64 {
        let samples = Samples::parse(str::from_utf8(&self.metrics.text().unwrap()).unwrap());
        samples.sum(name, &[("error_type", error)]).unwrap_or(0.0)
    }

    fn waiting(&self) -> f64 {
        Samples::parse(str::from_utf8(&self.metrics.text().unwrap()).unwrap()).value(WAITING, &[])
    }

    /// Waits until so many spans have ended in this way.
    async fn until(&self, name: &str, error: &str, spans: f64) {
        let what = format!("{name} of {error:?} is {spans}");
        until(&what, async || self.count(name, error) >= spans).await;
        assert_eq!(self.count(name, error), spans, "{name} {error:?}");
    }
}

/// A span called `GET /products/{number}`, with one of everything that a span can have.
fn span(number: u64) -> SpanData {
    let context = |span| {
        let flags = TraceFlags::SAMPLED;
        let (trace, span) = (TraceId::from(u128::from(number) + 1), SpanId::from(span));
        SpanContext::new(trace, span, flags, false, TraceState::default())
    };
    let mut links = SpanLinks::default();
    links.links.push(Link::new(context(7), Vec::new(), 0));
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    SpanData {
        span_context: context(2),
        parent_span_id: SpanId::from(3),
        parent_span_is_remote: true,
        span_kind: SpanKind::Server,
        name: format!("GET /products/{number}").into(),
        start_time: start,
        end_time: start + Duration::from_millis(250),
        attributes: vec![
            KeyValue::new("http.request.method", "GET"),
            KeyValue::new("http.response.status_code", 500),
        ],
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links,
        status: Status::error("no answer"),
        instrumentation_scope: InstrumentationScope::builder("shop").build(),
    }
}

#[actix_rt::test]
async fn a_span_arrives_with_all_that_it_says_and_with_what_made_it() {
    let collector = Collector::start();
    let attributes = "deployment.environment.name=a%20test";
    let headers = ("otlp.headers", "authorization=Bearer%20s3cret,x-tenant=shop");
    let exporter = Exporter::quick(&collector, &[("resource_attributes", attributes), headers]);
    exporter.offer(0..1);
    let found = collector.wait_for(1).await.remove(0);
    let Span { trace_id, span_id, parent_span_id, name, .. } = &found;
    assert_eq!(trace_id, &format!("{:032x}", 1));
    assert_eq!([span_id, parent_span_id], [&format!("{:016x}", 2), &format!("{:016x}", 3)]);
    assert_eq!((&**name, &*found.scope), ("GET /products/0", "shop"));
    assert_eq!(found.end - found.start, 250_000_000);
    assert_eq!(found.links, [(format!("{:032x}", 1), format!("{:016x}", 7))]);
    assert_eq!(found.attributes["http.response.status_code"], "500");
    assert_eq!((found.status as i32, &*found.message), (2, "no answer"));
    assert_eq!(found.resource["service.name"], "shop-order");
    assert_eq!(found.resource["deployment.environment.name"], "a test");
    assert!(!found.resource["service.instance.id"].is_empty());
    let head = collector.heads().remove(0).to_ascii_lowercase();
    assert!(head.starts_with("post /v1/traces http/1.1"), "{head}");
    for header in ["authorization: bearer s3cret", "x-tenant: shop", "user-agent: shop/"] {
        assert!(head.contains(header), "{head}");
    }
    exporter.until(EXPORTED, "", 1.0).await;
    exporter.until(PROCESSED, "", 1.0).await;
}

#[actix_rt::test]
async fn a_collector_that_is_a_program_of_its_own_reads_what_is_sent() {
    let rotel = Server::start(Kind::Rotel);
    let endpoint = format!("{}/v1/traces", rotel.url());
    for (n, compression) in ["none", "gzip"].into_iter().enumerate() {
        let exporter = Exporter::start(&[
            ("otlp.endpoint", &endpoint),
            ("otlp.compression", compression),
            ("batch.schedule_delay", "10ms"),
        ]);
        let number = n as u64 * 100;
        exporter.offer(number..number + 3);
        exporter.until(EXPORTED, "", 3.0).await;
        for number in number..number + 3 {
            let texts = [
                format!("GET /products/{number}\n"),
                format!("{:032x}", number + 1),
                "shop-order".to_owned(),
                "no answer".to_owned(),
            ];
            let has_all = async || texts.iter().all(|text| rotel.log().contains(text));
            until(&format!("{texts:?} are read of {compression}"), has_all).await;
        }
    }
}

#[actix_rt::test]
async fn spans_are_sent_in_batches_no_larger_than_the_setting_and_compressed_if_it_says_so() {
    let collector = Collector::start();
    let keys = [("batch.max_export_batch_size", "40"), ("otlp.compression", "gzip")];
    let exporter = Exporter::quick(&collector, &keys);
    exporter.offer(0..100);
    let names = collector.wait_for(100).await.into_iter().map(|span| span.name);
    let expected = (0..100).map(|number| format!("GET /products/{number}")).collect::<Vec<_>>();
    assert_eq!(names.collect::<Vec<_>>(), expected);
    let batches = collector.batches();
    assert!(batches.iter().all(|spans| *spans <= 40) && batches.len() < 20, "{batches:?}");
    assert!(collector.heads()[0].to_ascii_lowercase().contains("content-encoding: gzip"));
}

#[actix_rt::test]
async fn a_full_batch_does_not_wait_and_the_rest_does_until_the_end() {
    let collector = Collector::start();
    let keys = [("batch.schedule_delay", "1h"), ("batch.max_export_batch_size", "40")];
    let exporter = Exporter::quick(&collector, &keys);
    exporter.offer(0..40);
    assert_eq!(collector.wait_for(40).await.len(), 40);
    exporter.offer(40..50);
    until("they wait", async || exporter.waiting() == 10.0).await;
    assert_eq!(collector.spans().len(), 40);
    exporter.pipeline.stop(Duration::from_secs(20)).await;
    assert_eq!(collector.spans().len(), 50);
    exporter.offer(50..53);
    assert_eq!(exporter.count(PROCESSED, "already_shutdown"), 3.0);
}

#[actix_rt::test]
async fn a_collector_that_hangs_costs_what_fits_into_the_queue_and_nobody_time() {
    let collector = Collector::start();
    collector.reply(Reply::Never);
    let keys = [
        ("batch.max_queue_size", "100"),
        ("batch.max_export_batch_size", "10"),
        ("otlp.timeout", "1h"),
    ];
    let exporter = Exporter::quick(&collector, &keys);
    exporter.offer(0..10);
    until("it hangs", async || collector.heads().len() == 1).await;
    let took = exporter.offer(10..100_010);
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert_eq!(exporter.count(PROCESSED, "queue_full"), 99_900.0);
    assert_eq!((exporter.waiting(), exporter.count(EXPORTED, "")), (100.0, 0.0));
    let begun = Instant::now();
    exporter.pipeline.stop(Duration::from_millis(100)).await;
    assert!(begun.elapsed() < Duration::from_secs(20), "the end waits no longer than it is told");
}

#[actix_rt::test]
async fn an_answer_that_is_late_loses_its_batch_and_the_next_one_is_sent() {
    let collector = Collector::start();
    collector.reply(Reply::Never);
    let exporter = Exporter::quick(&collector, &[("otlp.timeout", "300")]);
    exporter.offer(0..5);
    exporter.until(EXPORTED, "timeout", 5.0).await;
    collector.reply(Reply::Taken);
    exporter.offer(5..8);
    exporter.until(EXPORTED, "", 3.0).await;
    assert_eq!(collector.spans().len(), 3);
}

#[actix_rt::test]
async fn a_collector_that_is_away_loses_spans_that_are_counted_and_gets_those_after_it() {
    let exporter = Exporter::start(&[
        ("otlp.endpoint", "http://127.0.0.1:1/v1/traces"),
        ("otlp.timeout", "1s"),
        ("batch.schedule_delay", "10ms"),
    ]);
    exporter.offer(0..7);
    exporter.until(EXPORTED, "unreachable", 7.0).await;
    let begun = Instant::now();
    exporter.offer(7..9);
    exporter.pipeline.stop(Duration::from_secs(20)).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "nothing is tried again at the end");
}

#[actix_rt::test]
async fn a_busy_collector_gets_the_same_batch_again_after_the_pause_that_it_asks_for() {
    let collector = Collector::start();
    collector.reply(Reply::Refused(429, "retry-after: 1\r\n"));
    let exporter = Exporter::quick(&collector, &[]);
    let begun = Instant::now();
    exporter.offer(0..4);
    until("it is refused", async || collector.heads().len() == 1).await;
    collector.reply(Reply::Taken);
    collector.wait_for(4).await;
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    exporter.until(EXPORTED, "", 4.0).await;
    assert_eq!((collector.heads().len(), exporter.count(EXPORTED, "429")), (2, 0.0));
}

#[actix_rt::test]
async fn a_collector_that_stays_busy_is_asked_a_few_times_and_no_more() {
    let collector = Collector::start();
    collector.reply(Reply::Refused(503, ""));
    let exporter = Exporter::quick(&collector, &[]);
    exporter.offer(0..4);
    exporter.until(EXPORTED, "503", 4.0).await;
    assert_eq!(collector.heads().len(), 4);
}

#[actix_rt::test]
async fn what_a_collector_refuses_for_good_is_not_sent_again() {
    let collector = Collector::start();
    collector.reply(Reply::Refused(400, ""));
    let exporter = Exporter::quick(&collector, &[]);
    exporter.offer(0..4);
    exporter.until(EXPORTED, "400", 4.0).await;
    collector.reply(Reply::Taken);
    exporter.offer(4..5);
    collector.wait_for(1).await;
    assert_eq!(collector.heads().len(), 2);
}

#[actix_rt::test]
async fn spans_that_a_collector_rejects_of_a_batch_are_lost() {
    let collector = Collector::start();
    collector.reply(Reply::Rejected(3));
    let exporter = Exporter::quick(&collector, &[]);
    exporter.offer(0..1);
    exporter.until(EXPORTED, "rejected", 1.0).await;
    assert_eq!(exporter.count(EXPORTED, ""), 0.0);
    collector.reply(Reply::Rejected(0));
    exporter.offer(1..6);
    exporter.until(EXPORTED, "", 5.0).await;
}

#[actix_rt::test]
async fn a_collector_over_tls_is_known_by_the_authority_of_the_setting() {
    let folder = tempfile::TempDir::new().unwrap();
    let certificates = Certificates::make(folder.path().join("certs"));
    let collector = Collector::start();
    let url = tls_in_front_of(&collector, &certificates).await;
    let authority = certificates.path("ca.crt");
    let trusting = app::tls::platform_client_and(&authority).unwrap();
    let keys = [("otlp.endpoint", &*url), ("batch.schedule_delay", "10ms")];
    let exporter = Exporter::start_trusting(&keys, Some(trusting));
    exporter.offer(0..1);
    collector.wait_for(1).await;
    // One that trusts the machine's authorities alone is sure to have one, which is not this one.
    let other = Certificates::make(folder.path().join("others"));
    let trusting = app::tls::platform_client_and(&other.path("ca.crt")).unwrap();
    let keys = [keys[0], keys[1], ("otlp.timeout", "1s")];
    let stranger = Exporter::start_trusting(&keys, Some(trusting));
    stranger.offer(0..1);
    stranger.until(EXPORTED, "unreachable", 1.0).await;
    assert_eq!(collector.spans().len(), 1);
}

/// Where `collector` takes traces over TLS, with a certificate for this machine.
async fn tls_in_front_of(collector: &Collector, certificates: &Certificates) -> String {
    let (chain, key) = certificates.of("gateway");
    let chain = rustls_chain(&chain);
    let key = rustls::pki_types::pem::PemObject::from_pem_slice(key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(crate::support::tls::provider());
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let acceptor = TlsAcceptor::from(Arc::new(config.with_single_cert(chain, key).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let behind = collector.url().trim_start_matches("http://").to_owned();
    actix_rt::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut behind = TcpStream::connect(&behind).await.unwrap();
            actix_rt::spawn(async move {
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut behind).await;
            });
        }
    });
    format!("https://localhost:{port}/v1/traces")
}

fn rustls_chain(pem: &str) -> Vec<rustls::pki_types::CertificateDer<'static>> {
    use rustls::pki_types::pem::PemObject as _;
    rustls::pki_types::CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
}
