//! Background tasks, and what becomes of them when the process is told to stop.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use awc::http::Method;
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::support::{Kind, PASSWORD, Process, Server, blocking, postgres, until};

/// More sessions that have ended than a sweep deletes at a time.
const ENDED: usize = 20_000;
/// How many that is.
const BATCH: usize = 200;

/// A shop in one process, whose accounts are in a file or on a server.
struct Accounts {
    folder: TempDir,
    server: Option<Server>,
}

impl Accounts {
    fn new(kind: Option<Kind>) -> Self {
        Self { folder: TempDir::new().unwrap(), server: kind.map(Server::start_own) }
    }

    fn start(&self, environment: &[(&str, &str)]) -> Process {
        let mut command = Process::command(self.folder.path());
        if let Some(server) = &self.server {
            command.env(server.variable(), server.url());
        }
        command.envs(environment.iter().copied());
        Process::start(self.folder.path(), command)
    }

    /// What the store prints for `query`.
    fn query(&self, query: &str) -> String {
        let file = self.folder.path().join("data/user.db");
        let mut command = match &self.server {
            Some(server) => {
                let mut command = Command::new(postgres("psql"));
                command.args(["-qAt", "-d", &server.url(), "-c"]);
                command
            }
            None => {
                let mut command = Command::new("sqlite3");
                command.args(["-cmd", ".timeout 5000"]).arg(file);
                command
            }
        };
        let output = command.arg(query).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn sessions(&self) -> usize {
        self.query("SELECT count(*) FROM sessions").parse().unwrap()
    }

    /// Gives every account sessions that ended long ago.
    fn add_ended(&self) {
        let numbers = format!(
            "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {ENDED})"
        );
        let [begin, end] = ["2020-01-01", "2020-01-02"]
            .map(|day| format!("CAST('{day} 00:00:00' AS {})", self.timestamp()));
        self.query(&format!(
            "{numbers} INSERT INTO sessions SELECT 'e' || n, (SELECT min(id) FROM users), 'e' || n, 'e',
             {begin}, {begin}, {end} FROM c"
        ));
    }

    /// The type of a time; SQLite has none, and keeps texts.
    fn timestamp(&self) -> &'static str {
        if self.server.is_some() { "TIMESTAMP" } else { "TEXT" }
    }
}

async fn ends(mut process: Process) -> (Option<i32>, Duration, String) {
    process.signal(Signal::SIGTERM);
    let told = Instant::now();
    blocking(move || (process.wait().code(), told.elapsed(), process.log())).await
}

each_case!(sessions_that_have_ended_are_swept_behind_the_requests:
    sqlite(None),
    postgresql(Some(Kind::Postgres)),
);
async fn sessions_that_have_ended_are_swept_behind_the_requests(kind: Option<Kind>) {
    let accounts = Accounts::new(kind);
    let shop = accounts.start(&[]);
    let client = shop.client("gateway");
    client.sign_up("neo").await;
    client.sign_up("smith").await;
    let session = client.log_in("neo@example.com", PASSWORD).await.json();
    // The first sweep is within a second of the start, the next one a minute later.
    actix_rt::time::sleep(Duration::from_secs(2)).await;
    accounts.add_ended();
    let places = || kind.map(|_| accounts.query("SELECT ctid FROM users ORDER BY id"));
    let before = places();
    assert_eq!(client.log_in("smith@example.com", PASSWORD).await.status, 200);
    assert_eq!(accounts.sessions(), ENDED + 2, "a login sweeps no sessions of others");
    assert_eq!(places(), before, "and writes to no account");
    assert_eq!(ends(shop).await.0, Some(0));

    // In the middle of it, or before it has begun.
    let shop = accounts.start(&[]);
    let (code, _, log) = ends(shop).await;
    assert_eq!(code, Some(0));
    assert!(!log.contains("did not end"), "{log}");
    assert_eq!((accounts.sessions() - 2) % BATCH, 0, "each time all or nothing");

    // Two that do it at once.
    let shops = [accounts.start(&[]), accounts.start(&[])];
    until("all are gone", async || accounts.sessions() == 2).await;
    for shop in &shops {
        let client = shop.client("gateway");
        assert_eq!(client.log_in("smith@example.com", PASSWORD).await.status, 200);
        assert!(!shop.log().contains("not deleted yet"), "{}", shop.log());
    }
    let client = shops[0].client("gateway");
    assert_eq!(client.refresh(&session["refreshToken"]).await.status, 200);
}

#[actix_rt::test]
async fn a_task_that_waits_for_a_store_ends_at_once_with_the_process() {
    let mut accounts = Accounts::new(Some(Kind::Postgres));
    let shop = accounts.start(&[]);
    let management = shop.client("management");
    accounts.server.as_mut().unwrap().signal(Signal::SIGSTOP);
    until("readiness asks in vain", async || {
        management.get("/readyz").await.json()["missing"][0] == "user.database"
    })
    .await;
    let (code, after, log) = ends(shop).await;
    accounts.server.as_mut().unwrap().signal(Signal::SIGCONT);
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("\"stopped\"") && !log.contains("did not end"), "{log}");
    assert!(after < Duration::from_secs(5), "{after:?}");
}

/// A process whose file of keys, once it is read again, never ends.
struct Stuck {
    folder: TempDir,
    shop: Process,
}

impl Stuck {
    /// One that asks for the keys every `interval` by itself.
    fn start(interval: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let mut command = Process::command(folder.path());
        command.env("APP__SERVER__DRAIN_DELAY", "0s").env("APP__SERVER__DRAIN_TIMEOUT", "1s");
        command.env("APP__SERVER__WORKERS", "1").env("APP__AUTH__REFRESH_INTERVAL", interval);
        let shop = Process::start(folder.path(), command);
        Self { folder, shop }
    }

    fn replace_keys(&self) {
        let [pipe, keys] = ["pipe", "signing-keys"].map(|name| self.at(name));
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        fs::rename(&pipe, &keys).unwrap();
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join("data").join(name)
    }

    /// Waits until somebody reads; what it is to be told comes when this goes.
    async fn reads(&self) -> File {
        const O_NONBLOCK: i32 = 0o4000;
        let open = || {
            let mut options = OpenOptions::new();
            options.write(true).custom_flags(O_NONBLOCK).open(self.at("signing-keys")).ok()
        };
        let mut held = None;
        until("somebody reads", async || {
            held = open();
            held.is_some()
        })
        .await;
        held.unwrap()
    }
}

#[actix_rt::test]
async fn a_task_that_hangs_with_its_thread_is_named_and_left() {
    let stuck = Stuck::start("30s");
    let client = stuck.shop.client("gateway");
    stuck.replace_keys();
    // Until the worker hangs, and is gone with the process.
    let asking = actix_rt::spawn(async move {
        let keys = "/auth/.well-known/jwks.json";
        while client.try_send(Method::GET, keys, &[], "").await.is_ok() {}
    });
    let held = stuck.reads().await;
    let (code, after, log) = ends(stuck.shop).await;
    drop(held);
    asking.await.unwrap();
    assert_eq!(code, Some(0), "{log}");
    let named = log.lines().find(|line| line.contains("background tasks did not end in time"));
    assert!(named.unwrap().contains("pulse") && log.contains("\"stopped\""), "{log}");
    assert!((1..5).contains(&after.as_secs()), "{after:?}");
}

#[actix_rt::test]
async fn a_task_that_hangs_with_the_main_thread_holds_up_nobody_for_ever() {
    let stuck = Stuck::start("100ms");
    stuck.replace_keys();
    let held = stuck.reads().await;
    assert_eq!(stuck.shop.client("gateway").get("/products").await.status, 200);
    let (code, after, log) = ends(stuck.shop).await;
    drop(held);
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("did not stop in time"), "{log}");
    assert!((1..5).contains(&after.as_secs()), "{after:?}");
}
