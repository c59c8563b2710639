//! What breaks, and what then happens: each server stopped, killed and brought back under load.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::{Client, Kind, Process, RECOVERY, Server, Shop, Topology, account, until};

/// How a server fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// It takes connections, and never answers.
    Hangs,
    /// It is gone.
    Dies,
}

macro_rules! each_failure {
    ($test:ident) => {
        each_case!($test: when_it_hangs(Failure::Hangs), when_it_dies(Failure::Dies));
    };
}

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

    /// How many writes were acknowledged so far.
    fn count(&self) -> usize {
        self.acknowledged.borrow().len()
    }

    /// Waits until there is load, and nothing but successes.
    async fn begun(&self) {
        until("there is load", async || self.count() >= 20).await;
        assert_eq!(*self.others.borrow(), [0_u16; 0], "before anything is broken");
    }

    /// Waits until some more of it are acknowledged than are now.
    async fn goes_on(&self) {
        // Those that are on their way were begun before.
        let before = self.count() + self.clients.len();
        until("writes are taken", async || self.count() > before + 3).await;
    }

    /// Ends it; gives what was acknowledged, and the other statuses.
    ///
    /// # Panics
    /// When a client has ended by itself: it got no answer.
    async fn end(self) -> (Vec<String>, Vec<u16>) {
        for client in self.clients {
            client.abort();
            let end = client.await.unwrap_err();
            assert!(end.is_cancelled(), "a client of the load ended: {end}");
        }
        (self.acknowledged.take(), self.others.take())
    }
}

fn product(n: usize) -> serde_json::Value {
    json!({ "name": format!("Product {n}"), "price": 1 })
}

fn polyglot(environment: &[(&str, &str)]) -> Shop {
    let servers = [Kind::Postgres, Kind::Mongo, Kind::Redis].map(Server::start_own);
    Shop::start_on(Topology::OneProcessARole, servers.into(), environment)
}

/// Asserts that what was acknowledged is there.
async fn are_there(client: &Client, acknowledged: Vec<String>) {
    for path in acknowledged {
        assert_eq!(client.get(&path).await.status, 200, "{path}");
    }
}

/// Asserts that `path` is answered again soon after `since`.
async fn recovers(client: &Client, path: &str, since: Instant) {
    until(&format!("{path} is answered again"), async || client.get(path).await.status == 200)
        .await;
    assert!(since.elapsed() < RECOVERY, "{path} took {:?}", since.elapsed());
}

each_failure!(without_redis_reads_and_writes_go_on);
async fn without_redis_reads_and_writes_go_on(failure: Failure) {
    let mut shop = polyglot(&[]);
    let client = shop.gateway();
    let product_role = shop.process("product").client("management");
    let load = Load::start(&client, 4, "/products", product);
    load.begun().await;
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
    load.goes_on().await;
    bring_back(shop.server(Kind::Redis), failure);
    let (acknowledged, others) = load.end().await;
    assert_eq!(others, [0_u16; 0], "{failure:?}: no 5xx");
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
    are_there(&client, acknowledged).await;
}

each_failure!(without_mongodb_cached_reads_go_on);
async fn without_mongodb_cached_reads_go_on(failure: Failure) {
    let mut shop = polyglot(&[("APP__PRODUCT__CACHE_TTL", "200ms")]);
    let client = shop.gateway();
    let user = client.register("neo").await;
    let load = Load::start(&client, 4, "/products", product);
    load.begun().await;
    let (acknowledged, _) = load.end().await;
    // The last write may still be on its way.
    actix_rt::time::sleep(Duration::from_millis(200)).await;
    until("the list is cached", async || client.get("/products").await.header("x-cache") == "HIT")
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
    assert_eq!(load.count(), 0, "{failure:?}: nothing is written where there is nothing");
    let dashboard = client.get(&format!("/auth/dashboard/{user}")).await;
    assert_eq!(dashboard.status, 200, "{failure:?}");
    bring_back(shop.server(Kind::Mongo), failure);
    let back = Instant::now();
    load.goes_on().await;
    assert!(back.elapsed() < RECOVERY, "{failure:?}: {:?}", back.elapsed());
    let (more, others) = load.end().await;
    assert!(others.iter().all(|status| *status == 503), "{failure:?}: {others:?}");
    recovers(&client, "/products?limit=98", back).await;
    are_there(&client, [acknowledged, more].concat()).await;
}

each_failure!(without_postgresql_products_are_listed);
async fn without_postgresql_products_are_listed(failure: Failure) {
    let mut shop = polyglot(&[]);
    let client = shop.gateway();
    let load = Load::start(&client, 4, "/auth/register", account);
    load.begun().await;
    let path = load.acknowledged.borrow()[0].clone();
    break_down(shop.server(Kind::Postgres), failure);
    until("accounts are refused", async || !load.others.borrow().is_empty()).await;
    assert_eq!(client.get("/products").await.status, 200, "{failure:?}");
    let dashboard = client.get(&path).await;
    assert_eq!((dashboard.status, dashboard.header("retry-after")), (503, "1"), "{failure:?}");
    bring_back(shop.server(Kind::Postgres), failure);
    let back = Instant::now();
    load.goes_on().await;
    assert!(back.elapsed() < RECOVERY, "{failure:?}: {:?}", back.elapsed());
    recovers(&client, &path, back).await;
    let (acknowledged, others) = load.end().await;
    // 409: the account was taken in, and its answer lost when the server died.
    assert!(others.iter().all(|status| [503, 409].contains(status)), "{failure:?}: {others:?}");
    are_there(&client, acknowledged).await;
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
        let all = [
            "auth.keys",
            "order.database",
            "product.cache",
            "product.database",
            "user.database",
            "user.limits",
        ];
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
