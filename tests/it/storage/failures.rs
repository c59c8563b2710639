//! What breaks, and what then happens: each server stopped, killed and brought back under load.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::{Client, Kind, Process, Server, Shop, Topology, until};

/// The shop must be well again this soon after a server is back.
const RECOVERY: Duration = Duration::from_secs(5);

/// How a server fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// It takes connections, and never answers.
    Hangs,
    /// It is gone.
    Dies,
}

const FAILURES: [Failure; 2] = [Failure::Hangs, Failure::Dies];

fn break_down(server: &mut Server, failure: Failure) {
    server.signal(if failure == Failure::Hangs { Signal::SIGSTOP } else { Signal::SIGKILL });
}

fn bring_back(server: &mut Server, failure: Failure) {
    match failure {
        Failure::Hangs => server.signal(Signal::SIGCONT),
        Failure::Dies => server.resume(),
    }
}

/// Clients that write without pause, and what they were told.
struct Load {
    acknowledged: Rc<RefCell<Vec<String>>>,
    others: Rc<RefCell<Vec<u16>>>,
    clients: Vec<actix_rt::task::JoinHandle<()>>,
}

impl Load {
    /// `count` clients that POST what `body` makes of a number to `path`.
    fn start(
        client: &Client,
        count: usize,
        path: &'static str,
        body: fn(usize) -> serde_json::Value,
    ) -> Self {
        let (acknowledged, others) =
            (Rc::new(RefCell::new(Vec::new())), Rc::new(RefCell::new(Vec::new())));
        let clients = (0..count).map(|number| {
            let (client, acknowledged, others) =
                (Client::new(client.base.clone()), acknowledged.clone(), others.clone());
            actix_rt::spawn(async move {
                for n in 0.. {
                    let answer = client.post(path, body(number * 1_000_000 + n)).await;
                    match answer.status {
                        201 => acknowledged.borrow_mut().push(answer.header("location").to_owned()),
                        status => {
                            others.borrow_mut().push(status);
                            actix_rt::time::sleep(Duration::from_millis(10)).await;
                        }
                    }
                    actix_rt::time::sleep(Duration::from_millis(5)).await;
                }
            })
        });
        let clients = clients.collect();
        Self { acknowledged, others, clients }
    }

    /// Ends it; gives what was acknowledged, and the other statuses.
    fn end(self) -> (Vec<String>, Vec<u16>) {
        for client in &self.clients {
            client.abort();
        }
        (self.acknowledged.take(), self.others.take())
    }
}

fn account(n: usize) -> serde_json::Value {
    json!({ "username": "u", "email": format!("u{n}@example.com") })
}

fn product(n: usize) -> serde_json::Value {
    json!({ "name": format!("Product {n}"), "price": 1 })
}

fn polyglot(environment: &[(&str, &str)]) -> Shop {
    let servers = [Kind::Postgres, Kind::Mongo, Kind::Redis].map(Server::start_own);
    Shop::start_on(Topology::OneProcessARole, servers.into(), environment)
}

/// Asserts that `path` is answered `status` again soon after `since`.
async fn recovers(client: &Client, path: &str, since: Instant) {
    until(&format!("{path} is answered again"), async || client.get(path).await.status == 200)
        .await;
    assert!(since.elapsed() < RECOVERY, "{path} took {:?}", since.elapsed());
}

#[actix_rt::test]
async fn without_redis_reads_and_writes_go_on() {
    let mut shop = polyglot(&[]);
    let client = shop.gateway();
    let product_role = shop.process("product").client("management");
    for failure in FAILURES {
        let load = Load::start(&client, 4, "/products", product);
        until("there is load", async || load.acknowledged.borrow().len() >= 20).await;
        break_down(shop.server(Kind::Redis), failure);
        for n in 0..50 {
            let id = client.add_product(&format!("{failure:?} {n}"), 1.0).await;
            let page = client.get("/products?limit=100").await;
            assert_eq!(page.status, 200, "{failure:?}");
            let shown =
                page.json().as_array().unwrap().iter().any(|product| product["id"] == json!(id));
            assert!(shown, "{failure:?}: what was acknowledged shows");
        }
        until("/readyz names it", async || {
            let answer = product_role.get("/readyz").await;
            answer.status == 200 && answer.json()["missing"] == json!(["product.cache"])
        })
        .await;
        bring_back(shop.server(Kind::Redis), failure);
        let (acknowledged, others) = load.end();
        assert_eq!(others, [0_u16; 0], "{failure:?}: no 5xx");
        assert!(acknowledged.len() >= 20);
        let back = Instant::now();
        until("answers are cached again", async || {
            client.get("/products").await.header("x-cache") == "HIT"
        })
        .await;
        assert!(back.elapsed() < RECOVERY, "{failure:?}: {:?}", back.elapsed());
        let last = client.add_product("Last", 1.0).await;
        assert_eq!(
            client.get("/products").await.json()[0]["id"],
            json!(last),
            "{failure:?}: nothing old comes back"
        );
    }
}

#[actix_rt::test]
async fn without_mongodb_cached_reads_go_on() {
    let mut shop = polyglot(&[("APP__PRODUCT__CACHE_TTL", "200ms")]);
    let client = shop.gateway();
    let user = client.register("neo").await;
    for failure in FAILURES {
        let load = Load::start(&client, 4, "/products", product);
        until("there is load", async || load.acknowledged.borrow().len() >= 20).await;
        let (mut acknowledged, _) = load.end();
        // The last write may still be on its way.
        actix_rt::time::sleep(Duration::from_millis(200)).await;
        until("the list is cached", async || {
            client.get("/products").await.header("x-cache") == "HIT"
        })
        .await;
        break_down(shop.server(Kind::Mongo), failure);
        until("the list is marked", async || {
            let page = client.get("/products").await;
            assert_eq!(page.status, 200, "{failure:?}");
            page.header("x-cache") == "STALE"
        })
        .await;
        let load = Load::start(&client, 4, "/products", product);
        let unseen = client.get("/products?limit=99").await;
        assert_eq!((unseen.status, unseen.header("retry-after")), (503, "1"), "{failure:?}");
        until("writes are refused", async || !load.others.borrow().is_empty()).await;
        let dashboard = client.get(&format!("/auth/dashboard/{user}")).await;
        assert_eq!(dashboard.status, 200, "{failure:?}");
        bring_back(shop.server(Kind::Mongo), failure);
        let back = Instant::now();
        let before = load.acknowledged.borrow().len();
        until("writes are taken again", async || load.acknowledged.borrow().len() > before + 3)
            .await;
        assert!(back.elapsed() < RECOVERY, "{failure:?}: {:?}", back.elapsed());
        let (more, others) = load.end();
        assert!(others.iter().all(|status| *status == 503), "{failure:?}: {others:?}");
        recovers(&client, "/products?limit=98", back).await;
        acknowledged.extend(more);
        for path in acknowledged {
            assert_eq!(client.get(&path).await.status, 200, "{failure:?} {path}");
        }
    }
}

#[actix_rt::test]
async fn without_postgresql_products_are_listed() {
    let mut shop = polyglot(&[]);
    let client = shop.gateway();
    for failure in FAILURES {
        let load = Load::start(&client, 4, "/auth/register", account);
        // Other accounts than in the round before.
        let load = if failure == Failure::Dies {
            load.end();
            Load::start(&client, 4, "/auth/register", |n| account(n + 10_000_000))
        } else {
            load
        };
        until("there is load", async || load.acknowledged.borrow().len() >= 20).await;
        let path = load.acknowledged.borrow()[0].clone();
        break_down(shop.server(Kind::Postgres), failure);
        until("accounts are refused", async || !load.others.borrow().is_empty()).await;
        assert_eq!(client.get("/products").await.status, 200, "{failure:?}");
        let dashboard = client.get(&path).await;
        assert_eq!((dashboard.status, dashboard.header("retry-after")), (503, "1"), "{failure:?}");
        bring_back(shop.server(Kind::Postgres), failure);
        let back = Instant::now();
        let before = load.acknowledged.borrow().len();
        until("accounts are taken again", async || load.acknowledged.borrow().len() > before + 3)
            .await;
        assert!(back.elapsed() < RECOVERY, "{failure:?}: {:?}", back.elapsed());
        recovers(&client, &path, back).await;
        let (acknowledged, others) = load.end();
        // 409: the account was taken in, and its answer lost when the server died.
        assert!(others.iter().all(|status| [503, 409].contains(status)), "{failure:?}: {others:?}");
        for path in acknowledged {
            assert_eq!(client.get(&path).await.status, 200, "{failure:?} {path}");
        }
    }
}

#[actix_rt::test]
async fn every_role_starts_without_its_servers_and_becomes_ready_when_they_come() {
    let mut servers = [Kind::Postgres, Kind::Mongo, Kind::Redis].map(Server::absent);
    let folder = tempfile::TempDir::new().unwrap();
    let mut command = Process::command(folder.path());
    command.envs(servers.iter().map(|server| (server.variable(), server.url())));
    // The ports have to be known before the program says that it is ready.
    let listeners = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let [gateway, management] =
        listeners.each_ref().map(|listener| listener.local_addr().unwrap().to_string());
    drop(listeners);
    command.env("APP__GATEWAY__LISTEN", &gateway).env("APP__GATEWAY__MANAGEMENT", &management);
    let path = folder.path().to_owned();
    let starting = std::thread::spawn(move || Process::start(&path, command));

    let management = Client::new(format!("http://{management}"));
    let ready = async || management.try_send(awc::http::Method::GET, "/readyz", &[], "").await;
    until("/readyz names all that is missing", async || {
        let Ok(answer) = ready().await else { return false };
        let mut missing = answer.json()["missing"].as_array().unwrap().clone();
        missing.sort_by_key(ToString::to_string);
        let all = ["auth.keys", "product.cache", "product.database", "user.database"];
        answer.status == 503 && missing == all
    })
    .await;
    let client = Client::new(format!("http://{gateway}"));
    assert_eq!(client.get("/").await.status, 200);
    for path in ["/products", "/auth/dashboard/01a20696-7a87-7338-917a-c39188f7cc7c"] {
        let answer = client.get(path).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, "1"), "{path}");
    }
    for server in &mut servers {
        server.resume();
    }
    let back = Instant::now();
    until("it is ready", async || ready().await.is_ok_and(|answer| answer.status == 200)).await;
    assert!(back.elapsed() < RECOVERY, "{:?}", back.elapsed());
    client.register("neo").await;
    client.add_product("Lamp", 1.0).await;
    drop(starting.join().unwrap());
}
