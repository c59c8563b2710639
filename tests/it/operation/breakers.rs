//! A role that fails, and those that ask it: their breakers open, and close again.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use actix_rt::task::JoinHandle;
use awc::http::Method;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Client, Process, Shop, Topology, until};

/// One answer to a request for a dashboard.
struct Dashboard {
    at: Instant,
    took: Duration,
    is_degraded: bool,
}

/// Clients that ask for a dashboard again and again.
struct Load {
    answers: Rc<RefCell<Vec<Dashboard>>>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(shop: &Shop, path: &str) -> Self {
        let answers = Rc::new(RefCell::new(Vec::new()));
        let clients = (0..12).map(|_| {
            let (client, path, answers) = (shop.gateway(), path.to_owned(), answers.clone());
            actix_rt::spawn(async move {
                loop {
                    let asked = Instant::now();
                    let answer = client.get(&path).await;
                    assert_eq!(answer.status, 200, "{answer:?}");
                    let is_degraded = answer.json()["degraded"] == json!(["product"]);
                    let (at, took) = (Instant::now(), asked.elapsed());
                    answers.borrow_mut().push(Dashboard { at, took, is_degraded });
                    actix_rt::time::sleep(Duration::from_millis(40)).await;
                }
            })
        });
        let clients = clients.collect();
        Self { answers, clients }
    }

    /// Ends it.
    ///
    /// # Panics
    /// When a client has ended by itself: it got no answer, or another than it should.
    async fn end(self) {
        for client in self.clients {
            client.abort();
            let end = client.await.unwrap_err();
            assert!(end.is_cancelled(), "a client of the load ended: {end}");
        }
    }

    /// Whether the last of many answers since `then` were all whole.
    fn is_whole(&self, then: Instant) -> bool {
        self.last(then).is_some_and(|last| last.iter().all(|(is_degraded, _)| !is_degraded))
    }

    /// Whether they were all degraded, and most of them came in less than 5 ms.
    fn is_degraded_and_quick(&self, then: Instant) -> bool {
        let Some(mut last) = self.last(then) else { return false };
        last.sort();
        // Those that are whole come first.
        last[0].0 && last[25].1 < Duration::from_millis(5)
    }

    fn last(&self, then: Instant) -> Option<[(bool, Duration); 50]> {
        let answers = self.answers.borrow();
        let since = answers.iter().filter(|answer| answer.at > then);
        let since = since.map(|answer| (answer.is_degraded, answer.took)).collect::<Vec<_>>();
        since.last_chunk().copied()
    }
}

/// What `/readyz` of `process` says of the breaker of the peer `name`.
async fn breaker(process: &Process, name: &str) -> Value {
    process.callee("peers", name).await["breaker"].clone()
}

async fn dashboard(client: &Client) -> String {
    format!("/auth/dashboard/{}", client.register("neo").await)
}

#[actix_rt::test]
async fn dashboards_do_without_a_product_role_that_hangs_and_have_it_again_soon() {
    let shop = Shop::start(Topology::OneProcessARole);
    let path = dashboard(&shop.gateway()).await;
    let (user, product) = (shop.process("user"), shop.process("product"));
    let load = Load::start(&shop, &path);
    let start = Instant::now();
    until("dashboards are whole", async || load.is_whole(start)).await;
    assert_eq!(breaker(user, "product").await, "closed");
    product.signal(Signal::SIGSTOP);
    let stopped = Instant::now();
    until("dashboards go without", async || load.is_degraded_and_quick(stopped)).await;
    // The first calls wait a second, and a busy machine takes its time.
    assert!(stopped.elapsed() < Duration::from_secs(4), "{:?}", stopped.elapsed());
    assert_eq!(breaker(user, "product").await, "open");
    let open = "breaker_state{peer=\"product\",role=\"user\"} 2";
    assert!(user.metrics().await.contains(open), "{}", user.metrics().await);
    // Long enough for trials, which are in vain.
    actix_rt::time::sleep(Duration::from_secs(4)).await;
    let later = Instant::now();
    until("they still do", async || load.is_degraded_and_quick(later)).await;
    product.signal(Signal::SIGCONT);
    let resumed = Instant::now();
    until("dashboards are whole again", async || load.is_whole(resumed)).await;
    assert!(resumed.elapsed() < Duration::from_secs(5), "{:?}", resumed.elapsed());
    load.end().await;
    assert_eq!(breaker(user, "product").await, "closed");
    let closed = "breaker_state{peer=\"product\",role=\"user\"} 0";
    assert!(user.metrics().await.contains(closed), "{}", user.metrics().await);
    let gateway = shop.process("gateway").client("management").get("/readyz").await.json();
    assert_eq!(gateway["upstreams"][0]["name"], "user");
    assert_eq!(gateway["upstreams"][0]["breaker"], "closed", "it never failed");
}

#[actix_rt::test]
async fn clients_in_a_hurry_open_no_breaker_between_roles() {
    let shop = Shop::start(Topology::OneProcessARole);
    let client = shop.gateway();
    let path = dashboard(&client).await;
    let product = shop.process("product");
    product.signal(Signal::SIGSTOP);
    let hurried = [("x-request-timeout-ms", "100")];
    for _ in 0..25 {
        let answer = client.send(Method::GET, &path, &hurried, "").await;
        assert_ne!(answer.status, 503, "{answer:?}");
    }
    assert_eq!(breaker(shop.process("user"), "product").await, "closed");
    product.signal(Signal::SIGCONT);
}

#[actix_rt::test]
async fn one_failure_opens_a_breaker_where_that_is_said_for_all_roles_or_for_one() {
    for key in [
        "APP__RESILIENCE__BREAKER_CONSECUTIVE",
        "APP__PEERS__RESILIENCE__PRODUCT__BREAKER_CONSECUTIVE",
    ] {
        let settings = [(key, "1"), ("APP__USER__RECOMMENDATIONS_TIMEOUT", "100ms")];
        let shop = Shop::start_with(Topology::OneProcessARole, &settings);
        let path = dashboard(&shop.gateway()).await;
        shop.process("product").signal(Signal::SIGSTOP);
        assert_eq!(breaker(shop.process("user"), "product").await, "closed", "{key}");
        let answer = shop.gateway().get(&path).await;
        assert_eq!((answer.status, &answer.json()["degraded"]), (200, &json!(["product"])));
        assert_eq!(breaker(shop.process("user"), "product").await, "open", "{key}");
        shop.process("product").signal(Signal::SIGCONT);
        until("it closes", async || {
            shop.gateway().get(&path).await;
            breaker(shop.process("user"), "product").await == "closed"
        })
        .await;
    }
}

#[actix_rt::test]
async fn calls_for_keys_have_a_breaker_too() {
    let interval = ("APP__AUTH__REFRESH_INTERVAL", "100ms");
    let mut shop = Shop::start_with(Topology::OneProcessARole, &[interval]);
    for role in ["product", "gateway"] {
        // The product role starts before the one that it asks.
        until("it closes", async || breaker(shop.process(role), "user").await == "closed").await;
    }
    shop.kill("user");
    for role in ["product", "gateway"] {
        until("it opens", async || breaker(shop.process(role), "user").await == "open").await;
    }
}

#[actix_rt::test]
async fn roles_of_one_process_have_breakers_too() {
    let shop = Shop::start(Topology::OneProcess);
    let path = dashboard(&shop.gateway()).await;
    assert_eq!(shop.gateway().get(&path).await.json()["degraded"], Value::Null);
    let ready = shop.process("gateway").client("management").get("/readyz").await.json();
    let peer = |name| json!({ "name": name, "breaker": "closed", "inFlight": 0, "waiting": 0, "ejected": [] });
    assert_eq!(ready["peers"], json!([peer("product"), peer("order")]));
    let metrics = shop.process("gateway").metrics().await;
    for labels in ["peer=\"product\",role=\"gateway\"", "peer=\"product\",role=\"user\""] {
        assert!(metrics.contains(&format!("breaker_state{{{labels}}} 0")), "{metrics}");
    }
}

/// Starts a process of `role` that keeps its data in `folder`.
fn start(folder: &TempDir, role: &str, environment: &[(&str, &str)]) -> Process {
    let mut command = Process::command(folder.path());
    command.args(["--role", role]).envs(environment.iter().copied());
    Process::start(folder.path(), command)
}

/// How many requests for the list `process` has answered.
async fn lists(process: &Process) -> u64 {
    let metrics = process.metrics().await;
    let line = metrics.lines().find(|line| {
        line.starts_with("http_server_request_duration_seconds_count{")
            && line.contains("\"/products\"")
    });
    line.map_or(0, |line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
}

#[actix_rt::test]
async fn a_role_at_two_addresses_goes_on_with_one_for_the_gateway_and_for_other_roles() {
    let folder = TempDir::new().unwrap();
    let mut products = [start(&folder, "product", &[]), start(&folder, "product", &[])];
    let addresses = products.each_ref().map(|process| process.urls["product"].clone());
    let product_urls = addresses.join(", ");
    let user = start(&folder, "user", &[("PRODUCT_URL", &product_urls)]);
    let urls = [("PRODUCT_URL", &*product_urls), ("USER_URL", &*user.urls["user"])];
    let gateway = start(&folder, "gateway", &urls);
    let client = gateway.client("gateway");
    client.add_product("Chair", 1.0).await;
    let path = dashboard(&client).await;
    for _ in 0..20 {
        assert_eq!(client.get("/products").await.status, 200);
        assert_eq!(client.get(&path).await.json()["recommendedProducts"][0]["name"], "Chair");
    }
    for process in &products {
        assert!(lists(process).await >= 10, "{}", process.metrics().await);
    }
    products[0].signal(Signal::SIGKILL);
    products[0].wait();
    for _ in 0..50 {
        assert_eq!(client.get("/products").await.status, 200);
        let answer = client.get(&path).await;
        assert_eq!((answer.status, &answer.json()["degraded"]), (200, &Value::Null));
    }
    for (process, kind) in [(&gateway, "upstreams"), (&user, "peers")] {
        let callee = process.callee(kind, "product").await;
        assert_eq!(callee["breaker"], "closed");
        assert_eq!(callee["ejected"][0].as_str().unwrap().trim_end_matches('/'), addresses[0]);
        let missing = process.missing().await;
        let of_product = |name: &Value| name == "peers.product";
        assert!(!missing.as_array().unwrap().iter().any(of_product), "one of them answers");
    }
    assert_eq!(client.get("/health").await.json()["roles"]["product"]["status"], "ready");
    products[1].signal(Signal::SIGKILL);
    let is_missed =
        async || user.missing().await.as_array().unwrap().contains(&json!("peers.product"));
    until("both are missed", is_missed).await;
    assert_eq!(client.get("/health").await.json()["roles"]["product"]["status"], "away");
}
