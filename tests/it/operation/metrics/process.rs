//! What a process tells of itself.

use std::time::{SystemTime, UNIX_EPOCH};

use awc::http::Method;
use tempfile::TempDir;

use crate::support::tls::{Certificates, open};
use crate::support::{Client, Process, Shop, Topology, Upstream, until};

#[actix_rt::test]
async fn the_process_tells_what_it_takes_of_its_machine() {
    let shop = Shop::start(Topology::OneProcess);
    let process = shop.process("gateway");
    let samples = process.samples().await;
    let value = |name: &str| samples.value(name, &[]);
    let resident = process.resident() as f64;
    let told = value("process_resident_memory_bytes");
    assert!((told / resident - 1.0).abs() < 0.5, "{told} of {resident}");
    assert!(value("process_anonymous_memory_bytes") > 0.0);
    assert!(value("process_anonymous_memory_bytes") < value("process_virtual_memory_bytes"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((now - value("process_start_time_seconds")).abs() < 60.0);
    assert!(value("process_max_fds") >= value("process_open_fds"));
    let before = value("process_open_fds");
    // Each is open until it has an answer.
    let lines = [(); 20].map(|()| {
        let address = shop.gateway().base.trim_start_matches("http://").to_owned();
        std::net::TcpStream::connect(address).unwrap()
    });
    let more = async || process.samples().await.value("process_open_fds", &[]) >= before + 20.0;
    until("they are counted", more).await;
    drop(lines);
    let cpu = value("process_cpu_seconds_total");
    until("it has worked", async || {
        shop.gateway().get("/products").await;
        process.samples().await.value("process_cpu_seconds_total", &[]) > cpu
    })
    .await;
}

#[actix_rt::test]
async fn a_request_is_in_flight_until_it_is_answered() {
    let (asked, go) = (std::sync::mpsc::channel::<()>(), std::sync::mpsc::channel::<()>());
    let go_on = std::sync::Arc::new(std::sync::Mutex::new(go.1));
    let upstream = Upstream::start(move |line| {
        while line.request().is_some() {
            asked.0.send(()).unwrap();
            go_on.lock().unwrap().recv().unwrap();
            line.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
    });
    let settings = [
        ("APP__GATEWAY__UPSTREAMS__SLOW__URLS", upstream.url.as_str()),
        ("APP__GATEWAY__ROUTES__SLOW__PATH", "/slow"),
        ("APP__GATEWAY__ROUTES__SLOW__UPSTREAM", "slow"),
    ];
    let shop = Shop::start_with(Topology::OneProcess, &settings);
    let active = async || {
        let samples = shop.process("gateway").samples().await;
        samples.value("http_server_active_requests", &[("role", "gateway")])
    };
    assert_eq!(active().await, 0.0);
    let client = shop.gateway();
    let request = actix_rt::spawn(async move { client.get("/slow").await.status });
    until("it is in flight", async || active().await == 1.0).await;
    asked.1.recv().unwrap();
    go.0.send(()).unwrap();
    assert_eq!(request.await.unwrap(), 200);
    assert_eq!(active().await, 0.0);
}

#[actix_rt::test]
async fn tasks_are_counted_while_they_run() {
    let shop = Shop::start(Topology::OneProcess);
    let samples = shop.process("gateway").samples().await;
    for task in ["keys", "management", "pulse"] {
        let labels = [("task", task)];
        assert!(samples.value("tasks_running", &labels) >= 1.0, "{task}");
        assert_eq!(samples.value("task_panics_total", &labels), 0.0, "{task}");
    }
}

#[actix_rt::test]
async fn handshakes_are_counted_and_certificates_have_an_end() {
    let folder = TempDir::new().unwrap();
    let certificates = Certificates::make(folder.path().join("certs"));
    let mut command = Process::command(folder.path());
    command.envs(certificates.environment("gateway"));
    let process = Process::start(folder.path(), command);
    let handshakes =
        async |result| process.samples().await.value("tls_handshakes_total", &[("result", result)]);
    assert_eq!((handshakes("done").await, handshakes("failed").await), (0.0, 0.0));
    open(&process.urls["gateway"], certificates.client(None)).await.unwrap();
    until("it is counted", async || handshakes("done").await == 1.0).await;
    let plain = process.urls["gateway"].replace("https://", "http://");
    Client::new(plain).try_send(Method::GET, "/", &[], "").await.unwrap_err();
    until("a failure is counted", async || handshakes("failed").await >= 1.0).await;

    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let end = async |setting| {
        let samples = process.samples().await;
        samples.value("tls_certificate_not_after_timestamp_seconds", &[("setting", setting)])
    };
    let first = end("gateway.tls_certificate").await;
    assert_eq!(first, end("mtls.certificate").await, "it is the same file");
    assert!(first > now && end("mtls.authority").await >= first);
}

#[actix_rt::test]
async fn a_scraper_that_prefers_open_metrics_gets_them_with_the_traces_of_sampled_requests() {
    // Nobody else's flag counts.
    let trusted = [("APP__GATEWAY__TRUSTED_PROXIES", "127.0.0.1")];
    let shop = Shop::start_with(Topology::OneProcess, &trusted);
    let client = shop.gateway();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    for (trace, flags) in [(trace, "01"), ("0af7651916cd43dd8448eb211c80319c", "00"), ("<b>", "01")]
    {
        let parent = format!("00-{trace}-00f067aa0ba902b7-{flags}");
        let answer = client.send(Method::GET, "/products", &[("traceparent", &parent)], "").await;
        assert_eq!(answer.status, 200);
    }
    let management = shop.process("gateway").client("management");
    // As Prometheus asks.
    let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    let accept = async |accept: &str| {
        management.send(Method::GET, "/metrics", &[("accept", accept)], "").await
    };
    let answer = accept(prometheus).await;
    assert_eq!(
        answer.header("content-type"),
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    let text = answer.text();
    assert!(text.ends_with("\n# EOF\n"), "{text}");
    assert!(text.contains("# TYPE task_panics counter\n"), "{text}");
    assert!(text.contains("\ntask_panics_total{"), "{text}");
    let exemplars = text.lines().filter(|line| line.contains(" # {")).collect::<Vec<_>>();
    assert!(!exemplars.is_empty(), "{text}");
    for line in exemplars {
        assert!(line.starts_with("http_server_request_duration_seconds_bucket{"), "{line}");
        assert!(line.contains(&format!("trace_id=\"{trace}\"")), "{line}");
    }
    for other in ["*/*", "text/plain", "text/plain, application/openmetrics-text;q=0.5"] {
        let answer = accept(other).await;
        assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4", "{other}");
        assert!(!answer.text().contains(" # {"), "{}", answer.text());
    }
}
