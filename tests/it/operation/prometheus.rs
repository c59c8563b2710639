//! Debian's Prometheus with the rules of deploy/observability, beside a shop that runs and then does not.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use awc::http::Method;
use diesel_async::{AsyncConnection as _, AsyncPgConnection, SimpleAsyncConnection as _};
use regex::Regex;
use serde_json::{Value, json};
use tempfile::TempDir;
use url::form_urlencoded::byte_serialize;

use crate::support::tls::Certificates;
use crate::support::{Client, Kind, Process, Shop, Storage, Topology, Upstream, free_port, until};

/// How long alerts wait before they fire, and how long they do here, where a look is a second instead of a quarter of a minute.
const WAITS: [(&str, &str); 4] = [
    ("for: 1m\n", "for: 2s\n"),
    ("for: 3m\n", "for: 5s\n"),
    ("for: 5m\n", "for: 10s\n"),
    ("for: 15m\n", "for: 60s\n"),
];
/// What `$role` can be in a dashboard.
const ROLES: [&str; 4] = ["gateway", "user", "product", "order"];

fn observability() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/observability")
}

/// A running Prometheus; killed when it goes out of scope.
struct Prometheus {
    child: Child,
    client: Client,
    _folder: TempDir,
}

impl Prometheus {
    /// Starts one that scrapes `processes`, which have names, and waits until it has.
    async fn start(processes: &[(&str, &Process)]) -> Self {
        let folder = TempDir::new().unwrap();
        for name in ["alerts.yaml", "recording.yaml"] {
            let mut rules = fs::read_to_string(observability().join("rules").join(name)).unwrap();
            for (there, here) in WAITS {
                rules = rules.replace(there, here);
            }
            fs::write(folder.path().join(name), rules).unwrap();
        }
        let targets = processes.iter().map(|(name, process)| {
            let address = process.urls["management"].trim_start_matches("http://").to_owned();
            json!({ "targets": [address], "labels": { "process": name } })
        });
        let config = json!({
            "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
            "rule_files": ["alerts.yaml", "recording.yaml"],
            "scrape_configs": [{ "job_name": "shop", "static_configs": targets.collect::<Vec<_>>() }],
        });
        // JSON is YAML.
        fs::write(folder.path().join("prometheus.yaml"), config.to_string()).unwrap();
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new("prometheus");
        command.current_dir(folder.path()).arg("--config.file=prometheus.yaml");
        command.args(["--storage.tsdb.path=data", "--log.level=error"]);
        command.arg(format!("--web.listen-address={address}"));
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let prometheus =
            Self { child, client: Client::new(format!("http://{address}")), _folder: folder };
        let count = processes.len();
        until("it has scraped all", async || {
            let up = prometheus.client.try_send(Method::GET, "/-/ready", &[], "").await;
            up.is_ok_and(|answer| answer.status == 200)
                && prometheus.query("up == 1").await.len() == count
                // Before its first look, nothing of the shop is there.
                && prometheus.firing().await.is_empty()
        })
        .await;
        prometheus
    }

    /// What it answers to `query`: the labels of each value.
    async fn query(&self, query: &str) -> Vec<Value> {
        let encoded = byte_serialize(query.as_bytes()).collect::<String>();
        let answer = self.client.get(&format!("/api/v1/query?query={encoded}")).await.json();
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        let result = answer["data"]["result"].as_array().unwrap();
        result.iter().map(|sample| sample["metric"].clone()).collect()
    }

    /// The names of the alerts that fire.
    async fn firing(&self) -> BTreeSet<String> {
        let alerts = self.client.get("/api/v1/alerts").await.json();
        let alerts = alerts["data"]["alerts"].as_array().unwrap();
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        firing.map(|alert| alert["labels"]["alertname"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until the alert `name` fires, while `goes_on`, and asserts that no other does, then or a few looks later.
    async fn expect_only(&self, name: &str, goes_on: impl AsyncFn()) {
        let mut looks_left = None;
        until(&format!("{name} fires, and nothing else"), async || {
            goes_on().await;
            let firing = self.firing().await;
            let others = firing.iter().filter(|firing| *firing != name).collect::<Vec<_>>();
            assert!(others.is_empty(), "{others:?}");
            if firing.contains(name) {
                let left = looks_left.get_or_insert(30_usize);
                *left = left.saturating_sub(1);
            }
            looks_left == Some(0)
        })
        .await;
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every query of every dashboard, with the file that has it.
fn dashboards() -> Vec<(String, String)> {
    let mut queries = Vec::new();
    for file in fs::read_dir(observability().join("dashboards")).unwrap() {
        let path = file.unwrap().path();
        let board = serde_json::from_slice::<Value>(&fs::read(&path).unwrap()).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        for panel in board["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let query = target["expr"].as_str().unwrap();
                queries.push((name.clone(), query.replace("$__rate_interval", "1m")));
            }
        }
    }
    queries
}

/// Every selector of every alert: what it looks at, without what it compares that with.
fn selectors() -> BTreeSet<String> {
    let alerts = fs::read_to_string(observability().join("rules/alerts.yaml")).unwrap();
    let lines = alerts.lines().filter(|line| {
        let words =
            ["alert:", "summary:", "runbook:", "labels:", "#", "- name:", "for:", "groups:"];
        !words.iter().any(|word| line.trim().trim_start_matches("- ").starts_with(word))
    });
    let lines = lines.collect::<Vec<_>>().join("\n");
    let selector = Regex::new(r"\b(role:\w+:\w+|(?:db|peer|events|worker|process|task|log|tls|breaker|otel)_\w+|up)(\{[^}]*\})?").unwrap();
    let found = selector.find_iter(&lines).map(|found| match found.as_str() {
        // Other stores than this shop's, and errors that it does not have.
        name if name.starts_with("db_") => name.split('{').next().unwrap_or_default().to_owned(),
        name => name.to_owned(),
    });
    // These are labels.
    found
        .filter(|name| {
            !name.starts_with("db_client_connection_pool_name") && name != "db_system_name"
        })
        .collect()
}

#[actix_rt::test]
async fn every_query_of_every_dashboard_and_alert_has_data() {
    let upstream = Upstream::start(|line| {
        while line.request().is_some() {
            line.send("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let folder = TempDir::new().unwrap();
    let certificates = Certificates::make(folder.path().join("certs"));
    let mut command = Process::command(folder.path());
    command.envs(certificates.environment("product"));
    command.env("APP__GATEWAY__UPSTREAMS__UP__URLS", &upstream.url);
    command.env("APP__GATEWAY__ROUTES__UP__PATH", "/up");
    command.env("APP__GATEWAY__ROUTES__UP__UPSTREAM", "up");
    command.env("APP__GATEWAY__ROUTES__PRODUCTS__LIMITS", "100000/1h by address");
    // Nobody listens there.
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1");
    let shop = Process::start(folder.path(), command);
    let prometheus = Prometheus::start(&[("shop", &shop)]).await;
    let client = shop.client("gateway");
    let lamp = client.add_product("Lamp", 1.0).await;
    let mut missing = dashboards();
    assert!(missing.len() > 40, "the dashboards are where they were");
    let selectors = selectors();
    assert!(selectors.len() > 15, "{selectors:?}");
    missing.extend(selectors.into_iter().map(|query| ("alerts.yaml".to_owned(), query)));
    let mut count = 0;
    let mut looks = 0;
    while !missing.is_empty() {
        looks += 1;
        assert!(looks < 60, "no data: {missing:#?}");
        count += 1;
        let user = client.register(&format!("neo{count}")).await.parse().unwrap();
        let order = client.order(user, &[(&lamp, 1)]).await.json();
        assert_eq!(client.pay(&order, "ok").await.status, 200);
        assert_eq!(client.get("/products").await.status, 200);
        client.get("/up").await;
        actix_rt::time::sleep(std::time::Duration::from_millis(500)).await;
        let mut still = Vec::new();
        for (file, query) in missing {
            let mut has_data = false;
            for role in ROLES {
                has_data =
                    has_data || !prometheus.query(&query.replace("$role", role)).await.is_empty();
            }
            if !has_data {
                still.push((file, query));
            }
        }
        missing = still;
    }
}

#[actix_rt::test]
async fn one_failed_request_in_twenty_fires_the_alert_on_errors_and_no_other() {
    let count = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let upstream = Upstream::start(move |line| {
        while line.request().is_some() {
            let fails = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) % 20 == 7;
            let status = if fails { "500 Oops" } else { "200 OK" };
            line.send(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n"));
        }
    });
    let settings = [
        ("APP__GATEWAY__UPSTREAMS__UP__URLS", upstream.url.as_str()),
        ("APP__GATEWAY__ROUTES__UP__PATH", "/up"),
        ("APP__GATEWAY__ROUTES__UP__UPSTREAM", "up"),
        // Else the gateway would ask again.
        ("APP__GATEWAY__RESILIENCE__RETRIES", "0"),
    ];
    let shop = Shop::start_with(Topology::OneProcess, &settings);
    let prometheus = Prometheus::start(&[("shop", shop.process("gateway"))]).await;
    let client = shop.gateway();
    let ask = async || {
        for _ in 0..20 {
            client.get("/up").await;
        }
    };
    prometheus.expect_only("ShopErrors", ask).await;
    let roles = prometheus.query("ALERTS{alertname=\"ShopErrors\", alertstate=\"firing\"}").await;
    assert_eq!(roles.len(), 1, "{roles:?}");
    assert_eq!(roles[0]["role"], "gateway");
}

#[actix_rt::test]
async fn a_dead_product_role_fires_the_alert_on_processes_and_no_other() {
    let mut shop = Shop::start(Topology::OneProcessARole);
    let client = shop.gateway();
    let path = format!("/auth/dashboard/{}", client.register("neo").await);
    let processes = ROLES.map(|role| (role, shop.process(role)));
    let prometheus = Prometheus::start(&processes).await;
    shop.kill("product");
    let ask = async || {
        for _ in 0..20 {
            assert_eq!(client.get(&path).await.status, 200, "it goes on without");
        }
    };
    prometheus.expect_only("ShopProcessDown", ask).await;
    let down = prometheus.query("ALERTS{alertstate=\"firing\"}").await;
    assert_eq!((down.len(), &down[0]["process"]), (1, &json!("product")));
    // It is open for that reason.
    assert_eq!(
        prometheus.query("breaker_state{role=\"user\", peer=\"product\"} == 2").await.len(),
        1
    );
}

#[actix_rt::test]
async fn a_full_pool_fires_the_alert_on_pools_and_no_other() {
    let patience = [
        ("APP__USER__POOL_SIZE", "2"),
        ("APP__USER__ACQUIRE_TIMEOUT", "60s"),
        ("APP__USER__STATEMENT_TIMEOUT", "60s"),
        ("APP__SERVER__REQUEST_TIMEOUT", "60s"),
        ("APP__GATEWAY__RESILIENCE__RESPONSE_TIMEOUT", "60s"),
    ];
    let mut shop = Shop::start_on(Topology::OneProcess, Storage::Polyglot.servers(), &patience);
    let client = shop.gateway();
    client.register("neo").await;
    let prometheus = Prometheus::start(&[("shop", shop.process("gateway"))]).await;
    let url = shop.server(Kind::Postgres).url();
    let mut other = AsyncPgConnection::establish(&url).await.unwrap();
    other.batch_execute("BEGIN; LOCK TABLE users IN EXCLUSIVE MODE").await.unwrap();
    let waiting = (0..12).map(|n| {
        let client = client.clone();
        let body = json!({ "username": "t", "email": format!("t{n}@example.com") });
        actix_rt::spawn(async move { client.post("/auth/register", body).await.status })
    });
    let waiting = waiting.collect::<Vec<_>>();
    let ask = async || assert_eq!(client.get("/products").await.status, 200);
    prometheus.expect_only("ShopPoolFull", ask).await;
    other.batch_execute("ROLLBACK").await.unwrap();
    for request in waiting {
        assert_eq!(request.await.unwrap(), 201);
    }
}
