//! Many buyers for few pieces at two processes of the product role, while processes and servers die and hang.
//!
//! `make chaos` runs it long, with a new seed; CHAOS_ROUNDS and CHAOS_SEED set both.

#![expect(clippy::print_stderr, reason = "who repeats a run needs its seed")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use actix_rt::time::sleep;
use awc::http::Method;
use futures_util::future::join_all;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::{Answer, Client, Kind, Process, Server, Storage, blocking, free_port, until};

/// The buyers of a round, its products, and the pieces of each.
const BUYERS: usize = 50;
const PRODUCTS: usize = 3;
const PIECES: i64 = 10;
/// The longest reservation, in seconds.
const LONGEST: u64 = 3;
/// How often a buyer tries to get an answer.
const TRIES: usize = 60;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// Two processes of the product role at fixed addresses, and their servers.
struct Victims {
    processes: [Process; 2],
    ports: [u16; 2],
    servers: Vec<Server>,
    folder: TempDir,
}

impl Victims {
    fn start(storage: Storage) -> Self {
        let servers = match storage {
            Storage::Embedded => Vec::new(),
            _ => [Kind::Mongo, Kind::Redis].map(Server::start_own).into(),
        };
        let (folder, ports) = (TempDir::new().unwrap(), [free_port(), free_port()]);
        let processes = ports.map(|port| process(&folder, port, &servers));
        Self { processes, ports, servers, folder }
    }

    fn clients(&self) -> Vec<Client> {
        self.ports
            .iter()
            .map(|port| Client::impatient(format!("http://127.0.0.1:{port}")))
            .collect()
    }

    /// Kills or stops one of them after the other until `is_over`.
    fn suffer(mut self, seed: u64, is_over: &AtomicBool) -> Self {
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

/// A reservation that somebody asked for, and what is known of its end.
struct Bought {
    id: Uuid,
    lines: Vec<(String, i64)>,
    /// Whether it must be sold, or must not be, in the end.
    is_sold: Option<bool>,
}

struct Buyer {
    clients: Vec<Client>,
    dice: fastrand::Rng,
}

impl Buyer {
    /// Asks one of the processes until one answers with something else than that it cannot.
    async fn ask(&mut self, method: Method, path: &str, body: &str) -> Option<Answer> {
        for _ in 0..TRIES {
            let client = self.clients[self.dice.usize(0..self.clients.len())].clone();
            let json = [("content-type", "application/json")];
            let answer = client.try_send(method.clone(), path, &json, body).await;
            match answer {
                Ok(answer) if answer.status < 500 => return Some(answer),
                _ => sleep(Duration::from_millis(self.dice.u64(10..150))).await,
            }
        }
        None
    }

    async fn reserve(&mut self, id: Uuid, mut body: Value) -> Option<u16> {
        body["seconds"] = self.dice.u64(1..=LONGEST).into();
        let path = format!("/internal/reservations/{id}");
        let answer = self.ask(Method::PUT, &path, &body.to_string()).await?;
        assert!(matches!(answer.status, 200 | 409), "{answer:?}");
        Some(answer.status)
    }

    async fn commit(&mut self, id: Uuid) -> Option<bool> {
        let path = format!("/internal/reservations/{id}/commit");
        let answer = self.ask(Method::POST, &path, "").await?;
        assert!(matches!(answer.status, 200 | 404 | 409), "{answer:?}");
        Some(answer.status == 200)
    }

    async fn release(&mut self, id: Uuid) -> Option<bool> {
        let path = format!("/internal/reservations/{id}");
        let answer = self.ask(Method::DELETE, &path, "").await?;
        assert_eq!(answer.status, 204, "{answer:?}");
        Some(false)
    }

    /// Buys some of `products`, or tries to; returns every id that it used.
    async fn buy(mut self, products: &[String]) -> Vec<Bought> {
        let mut wanted = products.to_vec();
        self.dice.shuffle(&mut wanted);
        wanted.truncate(self.dice.usize(1..=PRODUCTS));
        let lines = wanted.into_iter().map(|id| (id, self.dice.i64(1..=2))).collect::<Vec<_>>();
        let body = lines.iter().map(|(id, n)| json!({ "productId": id, "quantity": n }));
        let body = json!({ "lines": body.collect::<Vec<_>>() });
        let bought = |id, is_sold| Bought { id, lines: lines.clone(), is_sold };
        let id = Uuid::from_u128(self.dice.u128(..));
        match self.reserve(id, body).await {
            Some(200) => {}
            Some(_) => return vec![bought(id, Some(false))],
            None => return vec![bought(id, None)],
        }
        match self.dice.u8(0..10) {
            0..4 => vec![bought(id, self.commit(id).await)],
            4..6 => vec![bought(id, self.release(id).await)],
            6 => {
                self.commit(id).await;
                vec![bought(id, self.release(id).await)]
            }
            7 => {
                self.commit(id).await;
                self.take_over(id, bought).await
            }
            8 => self.take_over(id, bought).await,
            _ => vec![bought(id, Some(false))],
        }
    }

    async fn take_over(
        &mut self,
        from: Uuid,
        bought: impl Fn(Uuid, Option<bool>) -> Bought,
    ) -> Vec<Bought> {
        let id = Uuid::from_u128(self.dice.u128(..));
        match self.reserve(id, json!({ "from": from })).await {
            Some(200) => vec![bought(from, Some(false)), bought(id, self.commit(id).await)],
            _ => vec![bought(from, None), bought(id, None)],
        }
    }
}

each_storage!(nothing_is_sold_twice_and_nothing_is_lost);
async fn nothing_is_sold_twice_and_nothing_is_lost(storage: Storage) {
    let rounds =
        setting("CHAOS_ROUNDS").unwrap_or(if storage == Storage::Embedded { 10 } else { 3 });
    let seed = setting("CHAOS_SEED").unwrap_or(17);
    eprintln!("CHAOS_SEED={seed} CHAOS_ROUNDS={rounds} {storage:?}");
    let victims = Victims::start(storage);
    let clients = victims.clients();
    let mut dice = fastrand::Rng::with_seed(seed);
    let is_over = Arc::new(AtomicBool::new(false));
    let (ends, chance) = (is_over.clone(), dice.u64(..));
    // The servers that a thread has started end with it.
    let (give, given_back) = mpsc::channel();
    let (_alive, ended) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        let _ = give.send(victims.suffer(chance, &ends));
        let _ = ended.recv();
    });

    let mut all = Vec::new();
    let mut sold_out = 0;
    for _ in 0..rounds {
        let mut shop = Buyer { clients: clients.clone(), dice: dice.fork() };
        let mut products = Vec::new();
        while products.len() < PRODUCTS {
            let new = json!({ "name": "Lamp", "price": 1, "stock": PIECES }).to_string();
            // One that was made without an answer stays, untouched.
            let Some(made) = shop.ask(Method::POST, "/products", &new).await else { continue };
            assert_eq!(made.status, 201, "{made:?}");
            products.push(made.json()["id"].as_str().unwrap().to_owned());
        }
        let mut buyer = || Buyer { clients: clients.clone(), dice: dice.fork() };
        let reads = buyer();
        let buyers = (0..BUYERS).map(|_| buyer()).collect::<Vec<_>>();
        let buying = join_all(buyers.into_iter().map(|buyer| buyer.buy(&products)));
        let (bought, short) = futures_util::join!(buying, adds_up(reads, &products));
        sold_out += short;
        all.extend(bought.into_iter().flatten());
    }
    is_over.store(true, Ordering::Relaxed);
    let victims = blocking(move || given_back.recv().unwrap()).await;

    // All is well again, and what nobody has committed lapses.
    let [a, b] = victims.clients().try_into().unwrap_or_else(|_| panic!("two"));
    let mut left = HashMap::<String, i64>::new();
    for Bought { lines, .. } in &all {
        left.extend(lines.iter().map(|(product, _)| (product.clone(), PIECES)));
    }
    for product in left.keys() {
        let path = format!("/products/{product}/stock");
        let lapsed = async || {
            let answer = b.get(&path).await;
            answer.status == 200 && answer.json()["reserved"] == 0
        };
        until("all has lapsed", lapsed).await;
    }
    let mut sales = 0;
    for Bought { id, lines, is_sold } in &all {
        let path = format!("/internal/reservations/{id}/commit");
        let status = a.send(Method::POST, &path, &[], "").await.status;
        assert!(matches!(status, 200 | 404 | 409), "{status}");
        assert!(is_sold.is_none_or(|is_sold| is_sold == (status == 200)), "{id}: {status}");
        if status == 200 {
            sales += 1;
            for (product, quantity) in lines {
                *left.get_mut(product).unwrap() -= quantity;
            }
        }
    }
    for (product, left) in &left {
        let stock = a.get(&format!("/products/{product}/stock")).await.json();
        assert_eq!(stock, json!({ "onHand": left, "reserved": 0, "available": left }), "{product}");
        assert!(*left >= 0, "sold twice: {left}");
    }
    eprintln!(
        "{} reservations, {sales} sold, {sold_out} reads of products without a piece",
        all.len()
    );
    assert!(sales > rounds && sold_out > 0, "{sales} {sold_out}");
}

/// Reads the stock of `products` for a while, and checks that it adds up; returns how often none was left.
async fn adds_up(mut reader: Buyer, products: &[String]) -> usize {
    let mut sold_out = 0;
    for _ in 0..20 {
        for product in products {
            let path = format!("/products/{product}/stock");
            let Some(answer) = reader.ask(Method::GET, &path, "").await else { continue };
            let stock = answer.json();
            let number = |name: &str| stock[name].as_i64().unwrap();
            let [on_hand, reserved, available] = ["onHand", "reserved", "available"].map(number);
            assert_eq!(on_hand - reserved, available, "{stock}");
            assert!(available >= 0 && reserved >= 0 && on_hand <= PIECES, "{stock}");
            sold_out += usize::from(available == 0);
        }
        sleep(Duration::from_millis(20)).await;
    }
    sold_out
}
