//! What the page for operators is made of: its routes, and the state of a process in one answer.

use awc::http::Method;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Answer, Client, Kind, Process, Server, Shop, Topology, until};

const PARTS: [&str; 8] = [
    "/ops/ops.css",
    "/ops/ops.js",
    "/ops/dom.js",
    "/ops/health.js",
    "/ops/map.js",
    "/ops/numbers.js",
    "/ops/requests.js",
    "/ops/tables.js",
];

async fn state(process: &Process) -> Value {
    let answer = process.client("management").get("/ops/state").await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, "no-store"), "{answer:?}");
    answer.json()
}

/// The arrow from `from` to `to`.
fn arrow(state: &Value, from: &str, to: &str) -> Value {
    let mut arrows = state["arrows"].as_array().unwrap().iter();
    let is_meant = |arrow: &&Value| {
        arrow["to"] == to && arrow["from"].as_array().unwrap().contains(&json!(from))
    };
    arrows.find(is_meant).unwrap_or_else(|| panic!("no arrow from {from} to {to}: {state}")).clone()
}

fn names(list: &Value, key: &str) -> Vec<String> {
    let named = list.as_array().unwrap().iter();
    named.map(|one| one[key].as_str().unwrap().to_owned()).collect()
}

/// A page of another site whose name now resolves to this machine sends its own name.
#[actix_rt::test]
async fn a_management_port_of_this_machine_answers_to_its_names_alone() {
    const TRIED: [(Method, &str); 4] = [
        (Method::GET, "/ops/state"),
        (Method::GET, "/metrics"),
        (Method::GET, "/readyz"),
        (Method::PUT, "/log/filter"),
    ];
    let enforced = ("APP__AUTH__MODE", "enforced");
    let shop = Shop::start_with(Topology::OneProcess, &[enforced]);
    let management = shop.process("gateway").client("management");
    for (method, path) in TRIED {
        for host in ["evil.example:9000", "shop", "127.0.0.1.evil.example", "10.0.0.1"] {
            let answer = management.send(method.clone(), path, &[("host", host)], "").await;
            assert_eq!(answer.status, 403, "{path} {host}");
            let detail = answer.json()["detail"].as_str().unwrap().to_owned();
            assert!(detail.contains("localhost"), "{detail}");
        }
    }
    for host in ["localhost", "LOCALHOST:9000", "127.0.0.1:1", "[::1]:9000"] {
        let answer = management.send(Method::GET, "/ops/state", &[("host", host)], "").await;
        assert_eq!(answer.status, 200, "{host}: {answer:?}");
    }
    // Monitoring from elsewhere may know it by any name.
    let folder = TempDir::new().unwrap();
    let mut command = Process::command(folder.path());
    command.env("APP__GATEWAY__MANAGEMENT", "0.0.0.0:0");
    let shop = Process::start(folder.path(), command);
    let client = Client::new(shop.urls["management"].replace("0.0.0.0", "127.0.0.1"));
    let answer = client.send(Method::GET, "/metrics", &[("host", "shop-gateway:9000")], "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[actix_rt::test]
async fn the_page_loads_nothing_from_elsewhere_and_cannot_be_framed() {
    let shop = Shop::start(Topology::OneProcess);
    let management = shop.process("gateway").client("management");
    for (path, kind) in
        std::iter::once(("/ops", "text/html; charset=utf-8")).chain(PARTS.map(|path| {
            (
                path,
                if path.ends_with("css") {
                    "text/css; charset=utf-8"
                } else {
                    "text/javascript; charset=utf-8"
                },
            )
        }))
    {
        let answer = management.get(path).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, kind), "{path}");
        let policy = answer.header("content-security-policy");
        for part in
            ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"]
        {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        assert!(!answer.text().contains("innerHTML"), "{path}");
    }
    for path in ["/ops", "/ops/state", "/ops/requests/x", "/ops/ops.js"] {
        assert_eq!(shop.gateway().get(path).await.status, 404, "clients have no {path}");
    }
    let written = management.send(Method::POST, "/ops/state", &[], "").await;
    assert_eq!(written.status, 405);
}

#[actix_rt::test]
async fn one_process_tells_of_all_its_roles_and_of_what_they_call() {
    let shop = Shop::start(Topology::OneProcess);
    let process = shop.process("gateway");
    shop.gateway().add_product("Lamp", 5.0).await;
    for _ in 0..3 {
        assert_eq!(shop.gateway().get("/products").await.status, 200);
    }
    assert_eq!(shop.gateway().get("/products/none").await.status, 404);
    let state = state(process).await;
    assert_eq!((&state["status"], &state["missing"]), (&json!("ready"), &json!([])));
    assert_eq!(names(&state["roles"], "name"), ["gateway", "user", "product", "order"]);
    assert_eq!((&state["events"], &state["payments"]), (&json!("memory"), &json!("sandbox")));
    for (from, to) in [("clients", "gateway"), ("gateway", "product")] {
        let tally = &arrow(&state, from, to)["tally"];
        assert_eq!((&tally["calls"], &tally["errors"]), (&json!(5), &json!(0)), "{from} {to}");
        let bounds = tally["bounds"].as_array().unwrap().len();
        let buckets = tally["buckets"].as_array().unwrap();
        let counted = buckets.iter().map(|count| count.as_u64().unwrap()).sum::<u64>();
        assert_eq!((buckets.len(), counted), (bounds + 1, 5), "{from} {to}");
    }
    let stored = &arrow(&state, "product", "product.database")["tally"];
    assert!(stored["calls"].as_u64() >= Some(2), "{stored}");
    assert_eq!(arrow(&state, "order", "payments")["tally"]["calls"], 0);
    assert_eq!(arrow(&state, "gateway", "product")["callee"]["breaker"], "closed");
    assert_eq!(arrow(&state, "user", "product"), arrow(&state, "order", "product"));
    let pools = names(&state["pools"], "name");
    assert!(pools.contains(&"order.database".to_owned()), "{pools:?}");
    let mut roles = names(&state["outbox"], "role");
    roles.sort();
    assert_eq!(roles, ["order", "user"]);
    let hour = state["history"].as_array().unwrap();
    assert_eq!(hour.last().unwrap()["status"], "ready", "{hour:?}");
}

#[actix_rt::test]
async fn one_role_tells_of_itself_and_of_roles_elsewhere() {
    let shop = Shop::start(Topology::OneProcessARole);
    let product = state(shop.process("product")).await;
    assert_eq!(names(&product["roles"], "name"), ["product"]);
    assert_eq!(arrow(&product, "clients", "product")["what"], "requests");
    let gateway = state(shop.process("gateway")).await;
    let elsewhere = gateway["roles"].as_array().unwrap();
    let elsewhere = elsewhere.iter().find(|role| role["name"] == "product").unwrap();
    let url = &shop.process("product").urls["product"];
    assert_eq!(elsewhere["isHere"], false);
    assert!(elsewhere["addresses"][0].as_str().unwrap().starts_with(url), "{elsewhere}");
    assert_eq!(arrow(&gateway, "gateway", "product")["checks"], json!(["peers.product"]));
    assert_eq!(gateway["payments"], Value::Null);
    let mut neighbours = names(&gateway["neighbours"], "role");
    neighbours.sort();
    assert_eq!(neighbours, ["order", "product", "user"]);
    // Without a broker, theirs waits for consumers in other processes. Keys come a moment after the start.
    until("they say how they are", async || {
        let now = state(shop.process("gateway")).await;
        let told = |role: &str| {
            let mut neighbours = now["neighbours"].as_array().unwrap().iter();
            let told = neighbours.find(|told| told["role"] == role).unwrap();
            (told["status"].clone(), told["missing"].clone())
        };
        told("product") == (json!("ready"), json!([]))
            && told("order") == (json!("degraded"), json!(["events"]))
    })
    .await;
}

#[actix_rt::test]
async fn what_is_gone_is_missing_in_the_next_answer() {
    let shop = Shop::start(Topology::OneProcessARole);
    let gateway = shop.process("gateway");
    assert_eq!(state(gateway).await["missing"], json!([]));
    shop.process("product").signal(Signal::SIGKILL);
    until("the gateway misses it", async || {
        state(gateway).await["missing"] == json!(["peers.product"])
    })
    .await;
    let told = state(gateway).await["history"].clone();
    let last = told.as_array().unwrap().last().unwrap();
    // It tells the worst of ten seconds, in which the start may have been.
    assert_ne!(last["status"], "ready", "{last}");
    assert!(names(&told, "status").contains(&last["status"].as_str().unwrap().to_owned()));
    assert!(last["missing"].as_array().unwrap().contains(&json!("peers.product")), "{last}");
}

#[actix_rt::test]
async fn a_store_on_a_server_has_an_arrow_and_a_pool_and_is_missing_when_it_is_gone() {
    let servers = vec![
        Server::start(Kind::Postgres),
        Server::start(Kind::Mongo),
        Server::start_own(Kind::Redis),
    ];
    let mut shop = Shop::start_on(Topology::OneProcess, servers, &[]);
    shop.gateway().register("neo").await;
    shop.gateway().add_product("Lamp", 5.0).await;
    for path in ["/products", "/orders"] {
        assert_eq!(shop.gateway().get(path).await.status, 200, "{path}");
    }
    let before = state(shop.process("gateway")).await;
    for (role, store, system) in [
        ("user", "user.database", "postgresql"),
        ("order", "order.database", "postgresql"),
        ("product", "product.database", "mongodb"),
        ("product", "product.cache", "redis"),
    ] {
        let arrow = arrow(&before, role, store);
        assert!(arrow["tally"]["calls"].as_u64() > Some(0), "{arrow}");
        let mut pools = before["pools"].as_array().unwrap().iter();
        let pool = pools.find(|pool| pool["name"] == store).unwrap();
        assert_eq!(pool["system"], system);
        assert!(pool["max"].as_f64() > Some(0.0), "{pool}");
    }
    shop.server(Kind::Redis).signal(Signal::SIGKILL);
    until("the cache is missing", async || {
        let now = state(shop.process("gateway")).await;
        let missing = now["missing"].as_array().unwrap().clone();
        arrow(&now, "product", "product.cache")["checks"]
            .as_array()
            .unwrap()
            .iter()
            .any(|check| missing.contains(check))
    })
    .await;
}

/// The lines of the log that the management port has of the request `id`.
async fn lines(process: &Process, id: &str) -> (Answer, Vec<String>) {
    let answer = process.client("management").get(&format!("/ops/requests/{id}")).await;
    let lines = if answer.status == 200 { answer.json()["lines"].clone() } else { json!([]) };
    let lines = lines.as_array().unwrap().iter().map(|line| line.as_str().unwrap().to_owned());
    let lines = lines.collect();
    (answer, lines)
}

/// A format of the log, and how its lines name a request.
const JSON: [&str; 2] = ["json", "\"requestId\":\"mine\""];
const HUMAN: [&str; 2] = ["human", " requestId=mine "];

each_case!(a_request_is_found_by_its_id_with_its_lines_of_the_log:
    json(JSON),
    human(HUMAN),
);
async fn a_request_is_found_by_its_id_with_its_lines_of_the_log([format, mark]: [&str; 2]) {
    let folder = TempDir::new().unwrap();
    let mut command = Process::command(folder.path());
    command.env("LOG_FORMAT", format);
    let process = Process::start(folder.path(), command);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let headers = [("x-request-id", "mine"), ("traceparent", parent.as_str())];
    for path in ["/products", "/products?q=lamp"] {
        process.client("gateway").send(Method::GET, path, &headers, "").await;
    }
    process.client("gateway").get("/products").await;
    until("both roles have written theirs", async || lines(&process, "mine").await.1.len() == 4)
        .await;
    let (answer, by_request) = lines(&process, "mine").await;
    assert_eq!(answer.header("cache-control"), "no-store");
    assert!(by_request.iter().all(|line| line.contains(mark)), "{by_request:?}");
    assert_eq!(lines(&process, trace).await.1, by_request);
    let (answer, _) = lines(&process, "another").await;
    assert_eq!((answer.status, answer.problem().0.as_str()), (404, "/problems/not-found"));
}
