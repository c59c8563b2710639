//! Where traces go: what the settings say of it, and that a shop runs whatever becomes of its collector.

use std::fs;
use std::process::Output;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::support::collector::{Collector, Reply};
use crate::support::{Kind, Process, Server};

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// What takes traces, as the shop is told of it.
enum Target {
    /// Nobody listens.
    Away,
    /// A collector that answers like this.
    Answering(Reply),
    /// A program of its own.
    Rotel,
}

each_case!(a_shop_is_ready_and_ends_whatever_its_collector_does:
    away(Target::Away),
    hanging(Target::Answering(Reply::Never)),
    busy(Target::Answering(Reply::Refused(429, "retry-after: 3600\r\n"))),
    well(Target::Rotel),
);
async fn a_shop_is_ready_and_ends_whatever_its_collector_does(target: Target) {
    let (mut collector, mut server) = (None, None);
    let url = match target {
        Target::Away => "http://127.0.0.1:1".to_owned(),
        Target::Answering(reply) => {
            let made = collector.insert(Collector::start());
            made.reply(reply);
            made.url()
        }
        Target::Rotel => server.insert(Server::start(Kind::Rotel)).url(),
    };
    let folder = TempDir::new().unwrap();
    let mut command = Process::command(folder.path());
    command.env(ENDPOINT, url).env("OTEL_BSP_MAX_QUEUE_SIZE", "64");
    command.env("OTEL_BSP_SCHEDULE_DELAY", "10").env("APP__SERVER__DRAIN_DELAY", "0s");
    let mut shop = Process::start(folder.path(), command);
    for _ in 0..100 {
        assert_eq!(shop.client("gateway").get("/products").await.status, 200);
    }
    let samples = shop.samples().await;
    assert_eq!(samples.value("otel_sdk_processor_span_queue_capacity", &[]), 64.0);
    assert!(samples.value("otel_sdk_processor_span_queue_size", &[]) <= 64.0);
    let begun = Instant::now();
    shop.signal(Signal::SIGTERM);
    assert!(shop.wait().success(), "{}", shop.log());
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[actix_rt::test]
async fn a_shop_without_a_collector_has_nothing_of_it() {
    let folder = TempDir::new().unwrap();
    let mut command = Process::command(folder.path());
    command.env(ENDPOINT, "http://127.0.0.1:1").env("OTEL_SDK_DISABLED", "true");
    let shop = Process::start(folder.path(), command);
    assert_eq!(shop.client("gateway").get("/products").await.status, 200);
    assert!(!shop.metrics().await.contains("otel_sdk_"));
}

/// What the program says of a configuration with `environment`.
fn check(folder: &TempDir, environment: &[(&str, &str)]) -> Output {
    let mut command = Process::command(folder.path());
    command.arg("check-config").envs(environment.iter().copied());
    Process::run(command)
}

#[actix_rt::test]
async fn the_configuration_shows_the_variables_of_opentelemetry_and_no_headers() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("headers");
    fs::write(&file, "authorization=Bearer%20s3cret\n").unwrap();
    let output = check(
        &folder,
        &[
            (ENDPOINT, "http://collector:4318"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=of-others"),
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS_FILE", file.to_str().unwrap()),
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
            ("OTEL_SERVICE_NAME", ""),
            ("OTEL_BSP_SCHEDULE_DELAY", "500"),
        ],
    );
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    for (key, value, origin) in [
        ("otlp.endpoint", "http://collector:4318/v1/traces", ENDPOINT),
        ("otlp.headers", "***", "OTEL_EXPORTER_OTLP_TRACES_HEADERS_FILE"),
        ("sampler", "parentbased_traceidratio", "OTEL_TRACES_SAMPLER"),
        ("sampler_arg", "0.25", "OTEL_TRACES_SAMPLER_ARG"),
        ("batch.schedule_delay", "500", "OTEL_BSP_SCHEDULE_DELAY"),
    ] {
        let beginning = format!("traces.{key} = {value} ");
        let line = text.lines().find(|line| line.starts_with(&beginning));
        let line = line.unwrap_or_else(|| panic!("no {beginning}: {text}"));
        assert!(line.ends_with(&format!("# environment {origin}")), "{line}");
    }
    assert!(text.lines().any(|line| line.starts_with("traces.service_name = ")));
    assert!(!text.contains("s3cret") && !text.contains("of-others"));
}

#[actix_rt::test]
async fn what_opentelemetry_is_told_and_the_shop_cannot_do_stops_the_start() {
    let folder = TempDir::new().unwrap();
    let broken = folder.path().join("ca.crt");
    fs::write(&broken, "no certificate").unwrap();
    let broken = broken.to_str().unwrap();
    let secure = (ENDPOINT, "https://localhost:1");
    let plain = (ENDPOINT, "http://localhost:1");
    for (endpoint, (name, value)) in [
        (plain, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")),
        (plain, ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "zstd")),
        (plain, ("OTEL_TRACES_EXPORTER", "jaeger")),
        (plain, ("OTEL_EXPORTER_OTLP_HEADERS", "s3cret")),
        (plain, ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "localhost:4317")),
        (secure, ("OTEL_EXPORTER_OTLP_CERTIFICATE", broken)),
        (secure, ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "/nowhere/ca.crt")),
    ] {
        let checked = check(&folder, &[endpoint, (name, value)]);
        let mut command = Process::command(folder.path());
        command.envs([endpoint, (name, value)]);
        for output in [checked, Process::run(command)] {
            let told = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{told}");
            assert!(told.starts_with("app: traces.") && told.contains(name), "{told}");
            assert!(told.lines().count() == 1 && !told.contains("s3cret"), "{told}");
        }
    }
}
