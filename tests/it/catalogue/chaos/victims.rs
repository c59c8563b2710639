//! The processes and servers that die and hang, and what is in their stores in the end.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bson::{Document, doc, oid::ObjectId};
use diesel::sql_types::{BigInt, Text};
use diesel::{Connection as _, QueryableByName, RunQueryDsl as _, SqliteConnection, sql_query};
use futures_util::TryStreamExt as _;
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::support::{Client, Kind, Process, Server, Storage, free_port};

/// Two processes of the product role at fixed addresses, and their servers.
pub(super) struct Victims {
    processes: [Process; 2],
    ports: [u16; 2],
    servers: Vec<Server>,
    folder: TempDir,
}

impl Victims {
    pub(super) fn start(storage: Storage) -> Self {
        let servers = match storage {
            Storage::Embedded => Vec::new(),
            _ => [Kind::Mongo, Kind::Redis].map(Server::start_own).into(),
        };
        let (folder, ports) = (TempDir::new().unwrap(), [free_port(), free_port()]);
        let processes = ports.map(|port| process(&folder, port, &servers));
        Self { processes, ports, servers, folder }
    }

    pub(super) fn clients(&self) -> Vec<Client> {
        self.ports
            .iter()
            .map(|port| Client::impatient(format!("http://127.0.0.1:{port}")))
            .collect()
    }

    /// Kills or stops one of them after the other until `is_over`.
    pub(super) fn suffer(mut self, seed: u64, is_over: &AtomicBool) -> Self {
        let mut dice = fastrand::Rng::with_seed(seed);
        while !is_over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(dice.u64(50..300)));
            let pause = Duration::from_millis(dice.u64(50..600));
            let n = dice.usize(0..2);
            match dice.u8(0..4) {
                0 => {
                    self.processes[n].signal(Signal::SIGKILL);
                    self.processes[n].wait();
                    self.processes[n] = process(&self.folder, self.ports[n], &self.servers);
                }
                1 if !self.servers.is_empty() => {
                    let server = &mut self.servers[n];
                    server.signal(Signal::SIGSTOP);
                    std::thread::sleep(pause);
                    server.signal(Signal::SIGCONT);
                }
                2 if !self.servers.is_empty() => {
                    let server = &mut self.servers[n];
                    server.signal(Signal::SIGKILL);
                    server.resume();
                }
                _ => {
                    self.processes[n].signal(Signal::SIGSTOP);
                    std::thread::sleep(pause);
                    self.processes[n].signal(Signal::SIGCONT);
                }
            }
        }
        self
    }
}

fn process(folder: &TempDir, port: u16, servers: &[Server]) -> Process {
    let mut command = Process::command(folder.path());
    command.args(["--role", "product"]).env("RUST_LOG", "warn,access=off");
    command.env("APP__PRODUCT__LISTEN", format!("127.0.0.1:{port}"));
    command.envs(servers.iter().map(|server| (server.variable(), server.url())));
    Process::start(folder.path(), command)
}

/// What a store has of its products, also of those that were removed, by their ids.
#[derive(Debug, Default)]
pub(super) struct Stored {
    /// What is on hand and what is reserved.
    pub(super) stocks: HashMap<String, [i64; 2]>,
    /// The reservations that have not come to an end. The note of a move may stay at a product until the next one.
    pub(super) open: u64,
}

#[derive(QueryableByName)]
struct Stock {
    #[diesel(sql_type = Text)]
    id: String,
    #[diesel(sql_type = BigInt)]
    on_hand: i64,
    #[diesel(sql_type = BigInt)]
    reserved: i64,
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

impl Victims {
    pub(super) async fn stored(&self) -> Stored {
        match self.servers.first() {
            Some(mongo) => in_mongo(mongo).await,
            None => self.in_sqlite(),
        }
    }

    fn in_sqlite(&self) -> Stored {
        let path = self.folder.path().join("data/product.db");
        let mut file = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
        let stocks = sql_query("SELECT id, on_hand, reserved FROM products");
        let stocks = stocks.load::<Stock>(&mut file).unwrap().into_iter();
        let open = sql_query("SELECT count(*) AS count FROM reservations WHERE state = 'held'");
        let open = open.get_result::<Count>(&mut file).unwrap().count;
        Stored {
            stocks: stocks.map(|row| (row.id, [row.on_hand, row.reserved])).collect(),
            open: open.unsigned_abs(),
        }
    }
}

async fn in_mongo(server: &Server) -> Stored {
    let client = mongodb::Client::with_uri_str(server.url()).await.unwrap();
    let database = client.default_database().unwrap();
    let products = database.collection::<Document>("products");
    let rows = products.find(doc! {}).await.unwrap().try_collect::<Vec<_>>().await.unwrap();
    let ends = ["committed", "released", "lapsed", "moved"];
    let open = database.collection::<Document>("reservations");
    let open = open.count_documents(doc! { "phase": { "$nin": ends.to_vec() } }).await.unwrap();
    let stock = |row: Document| {
        let id: ObjectId = row.get_object_id("_id").unwrap();
        // One that nobody reserved has no such field.
        let number = |name| row.get_i64(name).unwrap_or_default();
        (id.to_hex(), [number("on_hand"), number("reserved")])
    };
    Stored { stocks: rows.into_iter().map(stock).collect(), open }
}
