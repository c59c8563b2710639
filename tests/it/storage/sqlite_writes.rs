//! Many clients write to one SQLite file at once, and it is compared with what they were told.

use std::collections::{HashMap, HashSet};

use awc::http::Method;
use diesel::sql_types::Text;
use diesel::{Connection as _, RunQueryDsl as _, SqliteConnection};
use futures_util::future::join_all;
use nix::sys::signal::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::support::{Client, Process, Shop, Topology, until};

/// What clients were told of their writes, by a name that each has for itself.
#[derive(Debug, Default)]
struct Told {
    done: HashSet<String>,
    refused: HashSet<String>,
    in_doubt: HashSet<String>,
}

impl Told {
    fn note(&mut self, name: String, status: Option<u16>) {
        let told = match status {
            Some(201) => &mut self.done,
            Some(409) => &mut self.refused,
            // There was no answer in time, or no room, which may have shown only at the commit.
            Some(503 | 504) | None => &mut self.in_doubt,
            Some(status) => panic!("{status} {name}"),
        };
        told.insert(name);
    }

    fn gather(all: impl IntoIterator<Item = Self>) -> Self {
        let mut told = Self::default();
        for Self { done, refused, in_doubt } in all {
            told.done.extend(done);
            told.refused.extend(refused);
            told.in_doubt.extend(in_doubt);
        }
        told
    }

    /// Compares it with the names that are stored.
    fn assert_holds(&self, stored: &HashSet<String>) {
        let lost = self.done.difference(stored).collect::<Vec<_>>();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        let refused = self.refused.intersection(stored).collect::<Vec<_>>();
        assert!(refused.is_empty(), "refused and there: {refused:?}");
        let known = self.done.union(&self.in_doubt).cloned().collect::<HashSet<_>>();
        let unknown = stored.difference(&known).collect::<Vec<_>>();
        assert!(unknown.is_empty(), "there by nobody's word: {unknown:?}");
    }
}

/// Does two kinds of writes until there is no answer: products, and accounts whose addresses others want, too. Every
/// seventh has so little time that it may be too late.
async fn write_until_it_breaks(client: Client, writer: usize, most: usize) -> Told {
    let mut told = Told::default();
    for n in 0..most {
        let name = format!("w{writer}-{n}");
        let (path, body) = if n % 2 == 0 {
            ("/products", json!({ "name": name, "price": 1 }))
        } else {
            let email = format!("u{}@example.com", n / 2 * 2 + writer % 2);
            ("/auth/register", json!({ "username": name, "email": email }))
        };
        let mut headers = vec![("content-type", "application/json")];
        if n % 7 == 0 {
            headers.push(("x-request-timeout-ms", "3"));
        }
        let answer = client.try_send(Method::POST, path, &headers, body.to_string()).await;
        let ended = answer.is_err();
        told.note(name, answer.ok().map(|answer| answer.status));
        if ended {
            break;
        }
    }
    told
}

/// The names of products and accounts in the files of `folder`.
fn stored(folder: &TempDir) -> HashSet<String> {
    let names = |file: &str, query: &str| {
        let file = folder.path().join("data").join(file);
        let mut connection = SqliteConnection::establish(file.to_str().unwrap()).unwrap();
        diesel::dsl::sql::<Text>(query).load::<String>(&mut connection).unwrap()
    };
    let products = names("product.db", "SELECT name FROM products");
    let accounts = names("user.db", "SELECT username FROM users");
    let all = products.len() + accounts.len();
    let stored = products.into_iter().chain(accounts).collect::<HashSet<_>>();
    assert_eq!(stored.len(), all, "each is there once");
    stored
}

fn start(folder: &TempDir) -> Process {
    Process::start(folder.path(), Process::command(folder.path()))
}

#[actix_rt::test]
async fn kill_9_loses_no_acknowledged_write_and_keeps_no_refused_one() {
    let folder = TempDir::new().unwrap();
    let mut process = start(&folder);
    let writers = (0..32).map(|writer| {
        actix_rt::spawn(write_until_it_breaks(process.client("gateway"), writer, usize::MAX))
    });
    let writers = writers.collect::<Vec<_>>();
    until("there is a history", async || stored(&folder).len() > 600).await;
    process.signal(Signal::SIGKILL);
    process.wait();
    let told = Told::gather(join_all(writers).await.into_iter().map(Result::unwrap));
    assert!(told.done.len() > 500 && told.refused.len() > 100, "{}", told.done.len());
    let _again = start(&folder);
    told.assert_holds(&stored(&folder));
}

#[actix_rt::test]
async fn two_processes_write_to_one_file() {
    let folder = TempDir::new().unwrap();
    let mut processes = [start(&folder), start(&folder)];
    let writers = (0..32).map(|writer| {
        let client = processes[writer % 2].client("gateway");
        actix_rt::spawn(write_until_it_breaks(client, writer, 40))
    });
    let told = join_all(writers.collect::<Vec<_>>()).await.into_iter().map(Result::unwrap);
    let told = told.collect::<Vec<_>>();
    for of_one in &told {
        // None has waited for the other process in vain: two writes of seven products had no time.
        assert!(of_one.in_doubt.len() <= 6 && of_one.done.len() >= 14, "{of_one:?}");
    }
    let told = Told::gather(told);
    told.assert_holds(&stored(&folder));
    for process in &mut processes {
        process.signal(Signal::SIGTERM);
        assert!(process.wait().success());
    }
    // Before they are read, which empties the write-ahead log as well.
    let left = std::fs::read_dir(folder.path().join("data")).unwrap().map(Result::unwrap);
    let logs = left.filter(|entry| entry.file_name().to_str().unwrap().ends_with("-wal"));
    let full = logs.filter(|log| log.metadata().unwrap().len() > 0).collect::<Vec<_>>();
    assert!(full.is_empty(), "all is in the files themselves: {full:?}");
    told.assert_holds(&stored(&folder));
}

#[actix_rt::test]
async fn a_full_disk_takes_what_was_acknowledged_and_writing_goes_on_afterwards() {
    let shop = Shop::start(Topology::OneProcess);
    let (client, process) = (shop.gateway(), shop.process("gateway"));
    process.limit_files(Some(300_000));
    let mut statuses = HashMap::new();
    let mut n = 0;
    let mut add_some = async || {
        let names = (n..n + 40).map(|n| format!("n{n}-{}", "x".repeat(100)));
        n += 40;
        let posts = names.map(|name| {
            let client = client.clone();
            async move {
                let answer = client.post("/products", json!({ "name": name, "price": 1 })).await;
                (name, answer.status)
            }
        });
        let answers = join_all(posts).await;
        let done = answers.iter().filter(|(_, status)| *status == 201).count();
        statuses.extend(answers);
        done
    };
    until("there is no room", async || add_some().await == 0).await;
    process.limit_files(None);
    until("there is room", async || add_some().await == 40).await;
    assert!(statuses.values().all(|status| [201, 507].contains(status)), "{statuses:?}");
    let done = statuses.iter().filter(|(_, status)| **status == 201).map(|(name, _)| name.clone());
    assert_eq!(stored(&shop.folder), done.collect::<HashSet<_>>());
}
