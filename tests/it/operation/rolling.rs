//! A rolling update: two processes of every role behind load balancers, replaced one by one under load.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;
use tempfile::TempDir;
use tokio::task::spawn_blocking;

use crate::support::{Balancer, Client, Process, Server, Storage, until};

/// As many clients as a small shop has at once.
const CLIENTS: usize = 40;
const ROLES: [&str; 3] = ["product", "user", "gateway"];

/// Two processes of every role, each role behind a balancer of its own.
struct Cluster {
    processes: Vec<(&'static str, Process)>,
    balancers: Vec<(&'static str, Balancer)>,
    folder: TempDir,
    servers: Vec<Server>,
}

impl Cluster {
    async fn start() -> Self {
        let mut cluster = Self {
            processes: Vec::new(),
            balancers: Vec::new(),
            folder: TempDir::new().unwrap(),
            servers: Storage::Polyglot.servers(),
        };
        for role in ROLES {
            cluster.balancers.push((role, Balancer::start().await));
            for _ in 0..2 {
                cluster.add(role).await;
            }
        }
        cluster
    }

    fn balancer(&self, role: &str) -> &Balancer {
        &self.balancers.iter().find(|(name, _)| *name == role).unwrap().1
    }

    /// Starts a process of `role` and lets it have requests once it is ready.
    async fn add(&mut self, role: &'static str) {
        let mut command = Process::command(self.folder.path());
        command.args(["--role", role]);
        // What is lost shows as degraded; what is merely slow, on a busy machine, does not.
        command.env("APP__USER__RECOMMENDATIONS_TIMEOUT", "5s");
        command.envs(self.servers.iter().map(|server| (server.variable(), server.url())));
        for (role, balancer) in &self.balancers {
            command.env(format!("{}_URL", role.to_uppercase()), &balancer.url);
        }
        let folder = self.folder.path().to_owned();
        let process = spawn_blocking(move || Process::start(&folder, command)).await.unwrap();
        self.balancer(role).add(role, &process).await;
        self.processes.push((role, process));
    }

    /// Puts a new process of `role` in the place of the oldest, as a cluster does.
    async fn replace_one(&mut self, role: &'static str) {
        self.add(role).await;
        let oldest = self.processes.iter().position(|(name, _)| *name == role).unwrap();
        let (_, mut old) = self.processes.remove(oldest);
        old.signal(Signal::SIGTERM);
        let status = spawn_blocking(move || old.wait()).await.unwrap();
        assert_eq!(status.code(), Some(0), "{role}");
    }
}

/// What the clients have had answered.
#[derive(Default)]
struct Ledger {
    products: RefCell<Vec<String>>,
    accounts: RefCell<Vec<String>>,
    ended: Cell<bool>,
}

/// Buys and looks, one request after the other; every one must succeed.
async fn use_the_shop(client: Client, number: usize, ledger: Rc<Ledger>) {
    for n in 0.. {
        if ledger.ended.get() {
            return;
        }
        let body = json!({ "username": "u", "email": format!("u{number}-{n}@example.com") });
        let account = client.post("/auth/register", body).await;
        assert_eq!(account.status, 201, "{account:?}");
        ledger.accounts.borrow_mut().push(account.header("location").to_owned());
        let body = json!({ "name": format!("Product {number}-{n}"), "price": 1 });
        let product = client.post("/products", body).await;
        assert_eq!(product.status, 201, "{product:?}");
        ledger.products.borrow_mut().push(product.header("location").to_owned());
        let page = client.get("/products").await;
        assert_eq!(page.status, 200, "{page:?}");
        let dashboard = client.get(account.header("location")).await;
        assert_eq!(dashboard.status, 200, "{dashboard:?}");
        assert_eq!(dashboard.json()["degraded"], json!(null), "{dashboard:?}");
        // Some are in a hurry, and some leave their connections, and the shop's own, idle for a while.
        let pause = if number.is_multiple_of(4) { 5 } else { 500 + 40 * number };
        actix_rt::time::sleep(Duration::from_millis(pause as u64)).await;
    }
}

#[actix_rt::test]
async fn no_request_is_lost_while_every_process_is_replaced() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.balancer("gateway").url.clone();
    let ledger = Rc::<Ledger>::default();
    let clients = (0..CLIENTS).map(|number| {
        let client = Client::impatient(gateway.clone());
        actix_rt::spawn(use_the_shop(client, number, ledger.clone()))
    });
    let clients = clients.collect::<Vec<_>>();
    until("there is load", async || ledger.products.borrow().len() >= 50).await;

    for role in ROLES {
        for _ in 0..2 {
            let before = ledger.products.borrow().len();
            cluster.replace_one(role).await;
            until("the clients go on", async || ledger.products.borrow().len() > before + 20).await;
        }
    }
    ledger.ended.set(true);
    for client in clients {
        client.await.unwrap();
    }

    let client = Client::new(gateway);
    let mut written = ledger.products.take();
    let mut listed = client.walk("/products?limit=100").await;
    written.iter_mut().for_each(|path| *path = path.trim_start_matches("/products/").to_owned());
    written.sort();
    listed.sort();
    assert_eq!(listed, written, "what was acknowledged is there, once");
    for account in ledger.accounts.take() {
        assert_eq!(client.get(&account).await.status, 200, "{account}");
    }
}
