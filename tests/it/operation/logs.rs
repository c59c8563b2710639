//! What is written to the log, and what operators can change about it while the program runs.

use std::collections::BTreeSet;
use std::process::{Child, Command};
use std::time::Duration;

use awc::http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Client, PASSWORD, Process, Shop, Topology, until};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// The lines that the processes of `roles` have written so far.
fn lines(shop: &Shop, roles: &[&str]) -> Vec<Value> {
    let logs = roles.iter().map(|role| shop.process(role).log()).collect::<String>();
    logs.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The processes of a shop, by a role that answers in each.
fn processes(topology: Topology) -> &'static [&'static str] {
    match topology {
        Topology::OneProcess => &["gateway"],
        Topology::OneProcessARole => &["gateway", "user", "product", "order"],
    }
}

/// The lines about the request with `id`, once there are those that `are_there`.
async fn about(shop: &Shop, id: &str, are_there: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let mut found = Vec::new();
    until("the lines of the request are there", async || {
        found = lines(shop, processes(shop.topology));
        found.retain(|line| line["requestId"] == id);
        are_there(&found)
    })
    .await;
    found
}

fn is_access(line: &Value, role: &str) -> bool {
    line["target"] == "access" && line["role"] == role
}

each_topology!(every_line_of_a_request_has_its_trace_and_the_span_of_its_role);
async fn every_line_of_a_request_has_its_trace_and_the_span_of_its_role(topology: Topology) {
    let shop = Shop::start_with(topology, &[("RUST_LOG", "debug,tracing::span=off")]);
    let parent = format!("00-{TRACE}-{CALLER}-00");
    let headers = [("traceparent", parent.as_str()), ("x-request-id", "mine")];
    let answer = shop.gateway().send(Method::GET, "/products", &headers, "").await;
    assert_eq!(answer.status, 200);
    let found = about(&shop, "mine", |lines| {
        ["gateway", "product"].iter().all(|role| lines.iter().any(|line| is_access(line, role)))
    })
    .await;
    assert!(found.iter().all(|line| line["traceId"] == TRACE), "{found:#?}");
    let span = |role: &str| {
        let spans = found.iter().filter(|line| line["role"] == role);
        let spans = spans.map(|line| line["spanId"].as_str().unwrap()).collect::<BTreeSet<_>>();
        assert_eq!(spans.len(), 1, "{role}: {found:#?}");
        spans.into_iter().next().unwrap().to_owned()
    };
    let spans = [CALLER.to_owned(), span("gateway"), span("product")];
    assert_eq!(spans.iter().collect::<BTreeSet<_>>().len(), 3, "{spans:?}");
    let asks = found.iter().find(|line| line["message"] == "asking the store for a page").unwrap();
    assert_eq!(asks["role"], "product", "a line of a handler that names no request itself");
}

each_topology!(a_task_of_a_request_writes_its_trace_too);
async fn a_task_of_a_request_writes_its_trace_too(topology: Topology) {
    let shop = Shop::start(topology);
    shop.gateway().sign_up("neo").await;
    let body = json!({ "email": "neo@example.com", "password": PASSWORD }).to_string();
    let parent = format!("00-{TRACE}-{CALLER}-01");
    let headers = [
        ("traceparent", parent.as_str()),
        ("x-request-id", "login"),
        ("content-type", "application/json"),
    ];
    let answer = shop.gateway().send(Method::POST, "/auth/login", &headers, body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    // What may write runs in a task of its own.
    let is_audit = |line: &Value| line["target"] == "audit" && line["event"] == "login";
    let found = about(&shop, "login", |lines| lines.iter().any(is_audit)).await;
    let audit = found.iter().find(|line| is_audit(line)).unwrap();
    assert_eq!((&audit["traceId"], &audit["role"]), (&json!(TRACE), &json!("user")));
}

#[actix_rt::test]
async fn a_request_without_a_trace_gets_one_and_an_invalid_one_is_replaced() {
    let shop = Shop::start(Topology::OneProcess);
    let zero = format!("00-{}-{CALLER}-01", "0".repeat(32));
    let mut traces = BTreeSet::new();
    for (id, parent) in [("first", None), ("second", None), ("third", Some(zero.as_str()))] {
        let mut headers = vec![("x-request-id", id)];
        headers.extend(parent.map(|parent| ("traceparent", parent)));
        shop.gateway().send(Method::GET, "/products", &headers, "").await;
        let found = about(&shop, id, |lines| lines.len() == 2).await;
        assert_eq!(found[0]["traceId"], found[1]["traceId"], "{found:?}");
        let trace = found[0]["traceId"].as_str().unwrap().to_owned();
        let is_hex = trace.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        assert!(trace.len() == 32 && is_hex && trace != "0".repeat(32), "{trace}");
        traces.insert(trace);
    }
    assert_eq!(traces.len(), 3);
}

/// A shop whose lines of level debug are not written.
fn quiet() -> (TempDir, Process) {
    let folder = TempDir::new().unwrap();
    let mut command = Process::command(folder.path());
    command.env("RUST_LOG", "info");
    let shop = Process::start(folder.path(), command);
    (folder, shop)
}

/// Whether a request for a product, which nobody has asked for yet, leaves a line of level debug.
async fn tells_details(shop: &Process, number: usize) -> bool {
    let before = details(shop);
    let path = format!("/products/{number:024x}");
    assert_eq!(shop.client("gateway").get(&path).await.status, 404);
    details(shop) > before
}

fn details(shop: &Process) -> usize {
    shop.log().matches("asking the store for a product").count()
}

async fn put(management: &Client, body: &Value) -> (u16, Value) {
    let answer = management.write(Method::PUT, "/log/filter", body).await;
    (answer.status, answer.json())
}

#[actix_rt::test]
async fn the_log_filter_is_changed_for_a_time_and_goes_back_by_itself() {
    let (_folder, shop) = quiet();
    let management = shop.client("management");
    let setting = json!({ "filter": "info", "setting": "info" });
    assert_eq!(management.get("/log/filter").await.json(), setting);
    assert!(!tells_details(&shop, 1).await);

    let (status, state) = put(&management, &json!({ "filter": "debug", "seconds": 1 })).await;
    assert_eq!(
        (status, &state["filter"], &state["setting"]),
        (200, &json!("debug"), &json!("info"))
    );
    assert!(state["until"].as_str().unwrap().ends_with('Z'), "{state}");
    until("the setting holds again", async || {
        management.get("/log/filter").await.json() == setting
    })
    .await;
    assert!(!tells_details(&shop, 2).await);
    let log = shop.log();
    assert!(log.contains("the log filter is debug for 1s"), "{log}");
    assert!(log.contains("the log filter is that of the settings again"), "{log}");
}

#[actix_rt::test]
async fn another_log_filter_holds_until_it_is_taken_back() {
    let (_folder, shop) = quiet();
    let management = shop.client("management");
    let (status, _) = put(&management, &json!({ "filter": "debug" })).await;
    assert_eq!(status, 200);
    assert!(tells_details(&shop, 1).await);
    for _ in 0..2 {
        let answer = management.send(Method::DELETE, "/log/filter", &[], "").await;
        assert_eq!(answer.status, 204);
    }
    assert!(!tells_details(&shop, 2).await);
    assert_eq!(management.get("/log/filter").await.json()["filter"], "info");
}

#[actix_rt::test]
async fn a_bad_log_filter_is_refused_with_the_reason_and_changes_nothing() {
    let (_folder, shop) = quiet();
    let management = shop.client("management");
    for (body, field, reason) in [
        (json!({ "filter": "a=b=c" }), "filter", "a=b=c"),
        (json!({ "filter": "inof" }), "filter", "did you mean info?"),
        (json!({ "filter": "x".repeat(2000) }), "filter", "1024 bytes"),
        (json!({ "filter": "debug", "seconds": 0 }), "seconds", "from 1 to 86400"),
        (json!({ "filter": "debug", "seconds": 86_401 }), "seconds", "from 1 to 86400"),
        (json!({ "seconds": 1 }), "filter", "is required"),
        (json!({ "filter": "debug", "minutes": 1 }), "minutes", "unknown"),
    ] {
        let (status, problem) = put(&management, &body).await;
        assert_eq!(status, 422, "{body}: {problem}");
        let error = &problem["errors"][0];
        let told = error["detail"].as_str().unwrap();
        assert!(error["field"] == field && told.contains(reason), "{body}: {problem}");
    }
    let setting = json!({ "filter": "info", "setting": "info" });
    assert_eq!(management.get("/log/filter").await.json(), setting);
    assert!(!tells_details(&shop, 1).await);
}

/// Keeps others from writing to a file of SQLite for 600 ms, from its return on.
async fn lock(folder: &TempDir) -> Child {
    let mut command = Command::new("sqlite3");
    command.current_dir(folder).arg("data/product.db");
    command.args(["BEGIN IMMEDIATE;", ".system touch locked; sleep 0.6", "COMMIT;"]);
    let child = command.spawn().unwrap();
    until("it is locked", async || folder.path().join("locked").exists()).await;
    child
}

#[actix_rt::test]
async fn a_slow_request_and_its_slow_statement_are_warned_of_with_where_the_time_went() {
    let shop = Shop::start_with(Topology::OneProcess, &[("APP__LOG__SLOW_REQUEST", "200ms")]);
    shop.gateway().add_product("Fast", 1.0).await;
    let mut held = lock(&shop.folder).await;
    shop.gateway().add_product("Slow", 1.0).await;
    held.wait().unwrap();
    let slow = || {
        let lines = lines(&shop, &["gateway"]).into_iter();
        lines.filter(|line| line["target"] == "slow").collect::<Vec<_>>()
    };
    until("all are told", async || slow().len() >= 3).await;
    let (slow, number) = (slow(), |line: &Value, key: &str| line[key].as_f64().unwrap());
    assert!(slow.iter().all(|line| line["level"] == "warn"), "{slow:#?}");
    let statement = slow.iter().find(|line| line["statement"] == "product.insert").unwrap();
    assert!(number(statement, "durationMs") >= 250.0, "{statement}");
    for (role, part) in [("product", "storesMs"), ("gateway", "peersMs")] {
        let is_meant = |line: &&Value| line["role"] == role && line["status"] == 201;
        let line = slow.iter().find(is_meant).unwrap_or_else(|| panic!("{role}: {slow:#?}"));
        assert_eq!(line["traceId"], statement["traceId"]);
        assert!(number(line, part) >= 200.0, "{line}");
        let parts = ["queuesMs", "storesMs", "peersMs", "restMs"].map(|part| number(line, part));
        let sum = parts.iter().sum::<f64>();
        assert!((sum - number(line, "durationMs")).abs() < 1.0, "{line}");
    }
}

#[actix_rt::test]
async fn nothing_is_slow_where_that_is_turned_off() {
    let off = [("APP__LOG__SLOW_REQUEST", "0s"), ("APP__LOG__SLOW_STATEMENT", "0s")];
    let shop = Shop::start_with(Topology::OneProcess, &off);
    let mut held = lock(&shop.folder).await;
    shop.gateway().add_product("Slow", 1.0).await;
    held.wait().unwrap();
    until("the request is logged", async || {
        lines(&shop, &["gateway"]).iter().any(|line| line["method"] == "POST")
    })
    .await;
    assert!(!shop.process("gateway").log().contains("\"slow\""));
}

#[actix_rt::test]
async fn errors_of_one_place_are_limited_and_what_is_left_out_is_told_and_counted() {
    const FAILED: usize = 40;
    let folder = TempDir::new().unwrap();
    let mut command = Process::command(folder.path());
    command.args(["--role", "gateway"]).env("APP__GATEWAY__RESILIENCE__BREAKER_FAILURES", "0");
    command.env("APP__GATEWAY__RESILIENCE__BREAKER_CONSECUTIVE", "0");
    command.envs([("USER_URL", "http://127.0.0.1:1"), ("PRODUCT_URL", "http://127.0.0.1:1")]);
    let gateway = Process::start(folder.path(), command);
    let client = gateway.client("gateway");
    for _ in 0..FAILED {
        assert!(client.get("/products").await.status >= 500);
    }
    let read = || {
        let log = gateway.log();
        let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.collect::<Vec<_>>()
    };
    let is_error = |line: &&Value| line["level"] == "error" && line["requestId"].is_string();
    until("what was left out is told", async || {
        read().iter().any(|line| line["leftOut"].as_u64().is_some())
    })
    .await;
    let lines = read();
    let written = lines.iter().filter(is_error).count();
    let left_out = lines.iter().filter_map(|line| line["leftOut"].as_u64()).sum::<u64>() as usize;
    assert_eq!(written + left_out, FAILED, "{lines:#?}");
    assert!(left_out > 0 && written >= 10, "{written} and {left_out}");
    let accesses = lines.iter().filter(|line| line["target"] == "access").count();
    assert_eq!(accesses, FAILED, "access lines are not limited");
    let counted = format!("log_lines_left_out_total {left_out}\n");
    assert!(gateway.metrics().await.contains(&counted), "{}", gateway.metrics().await);
}

#[actix_rt::test]
async fn a_log_that_nobody_reads_keeps_no_client_waiting() {
    const CLIENTS: usize = 16;
    let folder = TempDir::new().unwrap();
    let (shop, _log) = Process::start_unread(Process::command(folder.path()));
    let long = format!("/products?q={}", "x".repeat(4000));
    let ask = async |times: usize| {
        let clients = (0..CLIENTS).map(|_| {
            let (client, path) = (shop.client("gateway"), long.clone());
            actix_rt::spawn(async move {
                for _ in 0..times {
                    let answer =
                        actix_rt::time::timeout(Duration::from_secs(10), client.get(&path));
                    assert!(answer.await.unwrap().status < 500);
                }
            })
        });
        futures_util::future::join_all(clients).await.into_iter().for_each(Result::unwrap);
    };
    let dropped = async || {
        let metrics = shop.metrics().await;
        let count = metrics.lines().find_map(|line| line.strip_prefix("log_lines_dropped_total "));
        count.unwrap().parse::<usize>().unwrap()
    };
    until("the queue is full", async || {
        ask(20).await;
        dropped().await > 0
    })
    .await;
    let before = dropped().await;
    ask(50).await;
    assert!(dropped().await >= before + CLIENTS * 50, "each line since then was dropped");
    assert_eq!(shop.client("management").get("/livez").await.status, 200);
}
