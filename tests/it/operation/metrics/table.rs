//! All metrics at once: that they are those of the table, that Prometheus finds no fault with them, and that clients
//! cannot make more of them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use awc::http::Method;
use futures_util::StreamExt as _;
use futures_util::stream;
use tempfile::TempDir;

use crate::support::metrics::Samples;
use crate::support::tls::Certificates;
use crate::support::{Process, Shop, Topology, until};

/// The kind of a metric, and the names of its labels.
type Row = (String, BTreeSet<String>);

/// The table of metrics, which is not the only one of its page.
fn table() -> BTreeMap<String, Row> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/telemetry/README.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, rows) = page.split_once("| metric | kind |").unwrap();
    let rows = rows.lines().skip(1).take_while(|line| line.starts_with('|'));
    let rows = rows.filter(|line| line.starts_with("| `"));
    let rows = rows.map(|line| {
        let cells = line.split('|').map(str::trim).collect::<Vec<_>>();
        let labels = cells[3].split(", ").filter(|label| !label.is_empty());
        let labels = labels.map(|label| label.trim_matches('`').to_owned()).collect();
        (cells[1].trim_matches('`').to_owned(), (cells[2].to_owned(), labels))
    });
    rows.collect()
}

/// The same of what a process says.
fn told(text: &str) -> BTreeMap<String, Row> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let types = types.map(|(name, kind)| (name.to_owned(), (kind.to_owned(), BTreeSet::new())));
    let mut told = types.collect::<BTreeMap<_, Row>>();
    for sample in Samples::parse(text).0 {
        let endings = ["_bucket", "_count", "_sum"].iter();
        let family = endings.filter_map(|ending| sample.name.strip_suffix(ending));
        let family = family.chain([sample.name.as_str()]).find(|name| told.contains_key(*name));
        let labels = sample.labels.into_keys().filter(|label| label != "le");
        told.get_mut(family.unwrap()).unwrap().1.extend(labels);
    }
    told
}

/// A shop in one process with everything that has metrics, after an order.
async fn shop(folder: &TempDir) -> Process {
    let certificates = Certificates::make(folder.path().join("certs"));
    let mut command = Process::command(folder.path());
    command.envs(certificates.environment("product"));
    command.env("APP__GATEWAY__ROUTES__PRODUCTS__LIMITS", "100000/1h by address");
    // Nobody listens there.
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1");
    let process = Process::start(folder.path(), command);
    let client = process.client("gateway");
    let user = client.register("neo").await.parse().unwrap();
    let lamp = client.add_product("Lamp", 1.0).await;
    assert_eq!(client.order(user, &[(&lamp, 1)]).await.status, 201);
    until("events were counted", async || {
        let metrics = process.metrics().await;
        let names = [
            "events_published_total{",
            "events_outbox_depth{role=\"user\"",
            "events_outbox_depth{role=\"order\"",
        ];
        names.iter().all(|name| metrics.contains(name))
    })
    .await;
    process
}

#[actix_rt::test]
async fn the_table_has_every_metric_with_its_labels_and_no_other() {
    let folder = TempDir::new().unwrap();
    let process = shop(&folder).await;
    let (table, told) = (table(), told(&process.metrics().await));
    let names = |of: &BTreeMap<String, Row>| of.keys().cloned().collect::<BTreeSet<_>>();
    let (in_table, at_metrics) = (names(&table), names(&told));
    let only = |one: &BTreeSet<String>, other| one.difference(other).cloned().collect::<Vec<_>>();
    assert_eq!(only(&in_table, &at_metrics), [""; 0], "only in the table");
    assert_eq!(only(&at_metrics, &in_table), [""; 0], "only at /metrics");
    for (name, row) in told {
        assert_eq!(table[&name], row, "{name}");
    }
}

#[actix_rt::test]
async fn promtool_finds_no_fault_with_the_metrics() {
    let folder = TempDir::new().unwrap();
    let process = shop(&folder).await;
    let check = |text: &str| {
        let mut promtool = Command::new("promtool");
        promtool.args(["check", "metrics"]).stdin(Stdio::piped());
        let mut child = promtool.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let output = check(&process.metrics().await);
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(output.status.success() && said.iter().all(String::is_empty), "{said:?}");
    // It does find some.
    let output = check("# TYPE shop_orders counter\nshop_orders 1\n");
    assert!(!output.status.success());
}

/// How many series a process has.
async fn series(process: &Process) -> usize {
    process.samples().await.0.len()
}

#[actix_rt::test]
async fn ten_thousand_paths_methods_and_hosts_make_no_more_series_than_a_few() {
    const MANY: usize = 10_000;
    const AT_ONCE: usize = 32;
    let shop = Shop::start(Topology::OneProcess);
    let (process, client) = (shop.process("gateway"), shop.gateway());
    let ask = async |kind: usize, n: usize| {
        let (method, path, host) = match kind {
            0 => ("GET".to_owned(), format!("/a{n}/b?c={n}"), "shop".to_owned()),
            1 => ("GET".to_owned(), format!("/products/{n:024x}"), "shop".to_owned()),
            2 => (format!("BREW{n}"), "/products".to_owned(), "shop".to_owned()),
            _ => ("GET".to_owned(), "/".to_owned(), format!("host-{n}.example")),
        };
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        client.send(method, &path, &[("host", &host)], "").await.status
    };
    for kind in 0..4 {
        // The first few have series.
        for n in 0..100 {
            ask(kind, n).await;
        }
    }
    let before = series(process).await;
    for kind in 0..4 {
        let all = stream::iter(100..MANY).map(|n| ask(kind, n)).buffer_unordered(AT_ONCE);
        all.for_each(async |_| {}).await;
    }
    let counted = process.samples().await;
    let requests =
        counted.value("http_server_request_duration_seconds_count", &[("role", "gateway")]);
    assert!(requests >= 4.0 * MANY as f64, "{requests}");
    // What goes on in the background may have begun meanwhile.
    let after = series(process).await;
    assert!(after <= before + 60, "{before} series became {after}");
    assert!(after < 2_500, "{after}");
    let methods = counted.0.iter().filter_map(|sample| sample.labels.get("http_request_method"));
    let methods = methods.collect::<BTreeSet<_>>();
    assert!(methods.len() <= 3, "{methods:?}");
}

#[actix_rt::test]
async fn work_that_waits_on_a_busy_thread_is_seen() {
    use nix::sys::signal::Signal;

    let shop = Shop::start(Topology::OneProcess);
    let process = shop.process("gateway");
    let late = async || {
        let samples = process.samples().await;
        let role = ("role", "gateway");
        let all = samples.value("worker_queue_time_seconds_count", &[role]);
        all - samples.value("worker_queue_time_seconds_bucket", &[role, ("le", "0.25")])
    };
    let before = late().await;
    process.signal(Signal::SIGSTOP);
    actix_rt::time::sleep(std::time::Duration::from_millis(600)).await;
    process.signal(Signal::SIGCONT);
    until("a timer was late", async || late().await > before).await;
}

#[actix_rt::test]
async fn each_process_tells_of_its_own_roles() {
    let shop = Shop::start(Topology::OneProcessARole);
    let client = shop.gateway();
    client.register("neo").await;
    for role in ["gateway", "user"] {
        let told = shop.process(role).samples().await;
        let roles = told.0.iter().filter(|sample| sample.name == "http_server_active_requests");
        let roles = roles.map(|sample| sample.labels["role"].as_str()).collect::<BTreeSet<_>>();
        assert_eq!(roles, BTreeSet::from(["management", role]));
    }
}
