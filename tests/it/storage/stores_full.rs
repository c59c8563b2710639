//! Stores that cannot be written, and what goes on meanwhile.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use bson::doc;
use futures_util::future::join_all;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{
    Answer, Client, Kind, MongoProxy, Process, RECOVERY, Server, Shop, Topology, account,
    free_port, until,
};

/// More than it takes to open the breaker, if they counted as failures of the role.
const MANY: usize = 40;

fn lamp() -> Value {
    json!({ "name": "Lamp".repeat(30), "price": 1 })
}

fn is_full(answer: &Answer) -> bool {
    assert!(answer.status == 507 || answer.status == 201, "{answer:?}");
    answer.status == 507 && answer.problem().0 == "/problems/insufficient-storage"
}

fn is_read_only(answer: &Answer) -> bool {
    let waits = answer.header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds > 0);
    assert!((answer.status == 503 && waits) || answer.status == 201, "{answer:?}");
    answer.status == 503
}

/// Keeps orders in a file, so that one role's store is all that a server has.
const ORDERS_APART: (&str, &str) = ("ORDER_DATABASE_URL", "sqlite://data/order.db");

/// How often the log says that `name` is missing, and whether it says so once a request.
fn complaints(process: &Process, name: &str) -> usize {
    let log = process.log();
    assert!(!log.contains("\"level\":\"error\""), "{log}");
    log.matches(&format!("{name} is missing")).count()
}

/// What a list is that is in the cache, and the breaker lets through.
async fn cached(client: &Client) -> (u16, String) {
    let answer = client.get("/products").await;
    (answer.status, answer.header("x-cache").to_owned())
}

async fn breakers(process: &Process) -> Vec<String> {
    let answer = process.client("management").get("/readyz").await.json();
    let upstreams = answer["upstreams"].as_array().unwrap().clone();
    upstreams.iter().map(|upstream| upstream["breaker"].as_str().unwrap().to_owned()).collect()
}

#[actix_rt::test]
async fn a_file_that_may_not_grow_is_507_and_reads_go_on() {
    let shop = Shop::start(Topology::OneProcess);
    let (client, process) = (shop.gateway(), shop.process("gateway"));
    let user = client.register("neo").await;
    client.add_product("Chair", 1.0).await;
    assert_eq!(client.get("/products").await.status, 200);
    process.limit_files(Some(300_000));
    until("products are refused", async || is_full(&client.post("/products", lamp()).await)).await;
    let mut n = 0;
    until("accounts are refused", async || {
        n += 1;
        is_full(&client.post("/auth/register", account(n)).await)
    })
    .await;
    assert_eq!(client.get("/products").await.status, 200);
    for n in 0..MANY {
        is_full(&client.post("/products", lamp()).await);
        is_full(&client.post("/auth/register", account(1000 + n)).await);
    }
    assert_eq!(breakers(process).await, ["closed"; 3]);
    assert_eq!(cached(&client).await.0, 200);
    assert_eq!(client.get(&format!("/auth/dashboard/{user}")).await.status, 200);
    until("/readyz names both", async || {
        process.missing().await == json!(["user.database", "product.database"])
    })
    .await;
    assert_eq!(process.client("management").get("/readyz").await.status, 200, "reads go on");
    process.limit_files(None);
    let back = Instant::now();
    client.add_product("Lamp", 1.0).await;
    client.register("trinity").await;
    until("/readyz names none", async || process.missing().await == json!([])).await;
    assert!(back.elapsed() < RECOVERY, "{:?}", back.elapsed());
    assert_eq!(complaints(process, "product.database"), 1);
    assert_eq!(complaints(process, "user.database"), 1);
}

/// `command` without root's right to write what nobody may.
fn without_rights(command: &Command) -> Command {
    let mut bound = Command::new("/usr/bin/setpriv");
    if nix::unistd::geteuid().is_root() {
        bound.args(["--bounding-set", "-dac_override,-dac_read_search"]);
    }
    bound.arg(command.get_program()).current_dir(command.get_current_dir().unwrap()).env_clear();
    bound.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    bound
}

#[actix_rt::test]
async fn a_file_that_takes_no_writes_is_503_until_it_does() {
    let folder = tempfile::TempDir::new().unwrap();
    let process = Process::start(folder.path(), without_rights(&Process::command(folder.path())));
    let client = process.client("gateway");
    client.add_product("Chair", 1.0).await;
    let allow = |mode: u32| {
        for entry in std::fs::read_dir(folder.path().join("data")).unwrap() {
            let path = entry.unwrap().path();
            std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        }
    };
    allow(0o400);
    // The connection that writes goes on while it is open. After a full disk another is opened.
    process.limit_files(Some(300_000));
    until("there is no room", async || is_full(&client.post("/products", lamp()).await)).await;
    process.limit_files(None);
    until("writes are refused", async || {
        let answers = join_all((0..MANY).map(|_| client.post("/products", lamp()))).await;
        answers.iter().filter(|answer| is_read_only(answer)).count() == MANY
    })
    .await;
    assert_eq!(breakers(&process).await, ["closed"; 3]);
    until("/readyz names it", async || process.missing().await == json!(["product.database"]))
        .await;
    allow(0o600);
    let back = Instant::now();
    until("/readyz names none", async || process.missing().await == json!([])).await;
    client.add_product("Lamp", 1.0).await;
    assert!(back.elapsed() < RECOVERY, "{:?}", back.elapsed());
    let log = process.log();
    assert!(!log.contains("\"level\":\"error\""), "{log}");
}

#[actix_rt::test]
async fn a_mongodb_that_cannot_write_says_so_once() {
    let server = Server::start(Kind::Mongo);
    let proxy = MongoProxy::start(&server);
    let shop = Shop::start_with(Topology::OneProcess, &[("MONGODB_URL", &proxy.url())]);
    let (client, process) = (shop.gateway(), shop.process("gateway"));
    client.add_product("Chair", 1.0).await;
    assert_eq!(client.get("/products").await.status, 200);
    let refusals = [
        (doc! { "ok": 0.0, "code": 14031, "errmsg": "no space left on device" }, true),
        (doc! { "n": 0, "writeErrors": [{ "index": 0, "code": 14031, "errmsg": "full" }] }, true),
        (doc! { "ok": 0.0, "code": 8000, "errmsg": "you are over your space quota" }, true),
        (doc! { "ok": 0.0, "code": 10107, "errmsg": "not primary" }, false),
    ];
    for (round, (reply, full)) in refusals.into_iter().enumerate() {
        proxy.refuse("insert", reply.clone());
        for answer in join_all((0..MANY).map(|_| client.post("/products", lamp()))).await {
            let refused = if full { is_full(&answer) } else { is_read_only(&answer) };
            assert!(refused, "{reply}: {answer:?}");
        }
        assert_eq!(breakers(process).await, ["closed"; 3]);
        // That another server takes writes may be the answer to a second attempt: the first may have been done. The entry
        // is in doubt then: it is read again, or served as stale while the driver looks for that server.
        let (status, label) = cached(&client).await;
        let expected: &[&str] = if full { &["HIT"] } else { &["MISS", "STALE"] };
        assert!(status == 200 && expected.contains(&label.as_str()), "{reply}: {status} {label}");
        until("/readyz names it", async || process.missing().await == json!(["product.database"]))
            .await;
        proxy.release();
        let back = Instant::now();
        until("it is written", async || client.post("/products", lamp()).await.status == 201).await;
        until("/readyz names none", async || process.missing().await == json!([])).await;
        assert!(back.elapsed() < RECOVERY, "{:?}", back.elapsed());
        assert_eq!(client.get("/products").await.status, 200);
        assert_eq!(complaints(process, "product.database"), round + 1);
    }
}

/// Says whether transactions of new connections are read-only, and ends those that there are.
async fn fail_over(shop: &Shop, read_only: bool) {
    let (other, connection) =
        tokio_postgres::connect(&shop.servers[0].url(), tokio_postgres::NoTls).await.unwrap();
    let driving = actix_rt::spawn(connection);
    let mode = if read_only { "on" } else { "off" };
    other.batch_execute("SET default_transaction_read_only = off").await.unwrap();
    let set = format!("ALTER DATABASE postgres SET default_transaction_read_only = {mode}");
    other.batch_execute(&set).await.unwrap();
    if read_only {
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'";
        other.batch_execute(end).await.unwrap();
    }
    drop(other);
    driving.await.unwrap().unwrap();
}

#[actix_rt::test]
async fn postgresql_that_is_read_only_for_a_while_is_written_again_soon() {
    let servers = vec![Server::start(Kind::Postgres)];
    let shop = Shop::start_on(Topology::OneProcess, servers, &[ORDERS_APART]);
    let (client, process) = (shop.gateway(), shop.process("gateway"));
    let user = client.register("neo").await;
    let dashboard = format!("/auth/dashboard/{user}");
    fail_over(&shop, true).await;
    until("it is read-only", async || process.missing().await == json!(["user.database"])).await;
    for n in 0..MANY {
        assert!(is_read_only(&client.post("/auth/register", account(n)).await));
        assert_eq!(client.get(&dashboard).await.status, 200);
    }
    assert_eq!(breakers(process).await, ["closed"; 3]);
    assert_eq!(process.missing().await, json!(["user.database"]));
    fail_over(&shop, false).await;
    let back = Instant::now();
    until("/readyz names none", async || process.missing().await == json!([])).await;
    for answer in join_all((100..110).map(|n| client.post("/auth/register", account(n)))).await {
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    assert!(back.elapsed() < RECOVERY, "{:?}", back.elapsed());
    assert_eq!(complaints(process, "user.database"), 1);
}

/// The lines of `level` in the log but for those that say who may use the shop, that no money moves, and that a server which
/// has just started is slow.
fn lines(process: &Process, level: &str) -> Vec<String> {
    let log = process.log();
    let of_level = format!("\"level\":\"{level}\"");
    let is_of_start =
        |line: &str| ["auth_open", "sandbox://", "\"slow\""].iter().any(|told| line.contains(told));
    let lines = log.lines().filter(|line| line.contains(&of_level) && !is_of_start(line));
    lines.filter(|line| !line.contains("\"access\"")).map(ToOwned::to_owned).collect()
}

#[actix_rt::test]
async fn postgresql_that_goes_and_comes_back_is_told_once() {
    let servers = vec![Server::start_own(Kind::Postgres)];
    let mut shop = Shop::start_on(Topology::OneProcess, servers, &[ORDERS_APART]);
    let client = shop.gateway();
    client.register("neo").await;
    let none = [""; 0];
    assert_eq!(lines(shop.process("gateway"), "warn"), none, "nothing is wrong at first");
    assert_eq!(lines(shop.process("gateway"), "error"), none);
    shop.server(Kind::Postgres).signal(Signal::SIGKILL);
    let gone = Instant::now();
    let mut n = 0;
    // For longer than whoever asks for keys and revocations waits.
    while gone.elapsed() < Duration::from_secs(15) {
        n += 10;
        let answers = (n..n + 10).map(|n| client.post("/auth/register", account(n)));
        for answer in join_all(answers).await {
            assert_eq!((answer.status, answer.header("retry-after")), (503, "1"), "{answer:?}");
        }
    }
    shop.server(Kind::Postgres).resume();
    let process = shop.process("gateway");
    until("/readyz names none", async || process.missing().await == json!([])).await;
    let warned = lines(process, "warn");
    assert!(warned.len() == 1 && warned[0].contains("user.database is missing: "), "{warned:#?}");
    assert!(warned[0].contains("onnection refused"), "{warned:#?}");
    assert_eq!(lines(process, "error"), none);
    let told = lines(process, "info");
    let back = told.iter().filter(|line| line.contains("is back"));
    assert_eq!(back.count(), 1, "{told:#?}");
}

#[actix_rt::test]
async fn requests_that_come_before_postgresql_wait_for_it() {
    let mut server = Server::absent(Kind::Postgres);
    let folder = tempfile::TempDir::new().unwrap();
    let mut command = Process::command(folder.path());
    let gateway = format!("127.0.0.1:{}", free_port());
    command.env("DATABASE_URL", server.url()).env("APP__GATEWAY__LISTEN", &gateway);
    command.env("APP__USER__ACQUIRE_TIMEOUT", "4s");
    let path = folder.path().to_owned();
    let starting = std::thread::spawn(move || Process::start(&path, command));
    let client = Client::new(format!("http://{gateway}"));
    until("it listens", async || {
        client.try_send(awc::http::Method::GET, "/", &[], "").await.is_ok()
    })
    .await;
    let resuming = actix_rt::task::spawn_blocking(move || {
        std::thread::sleep(Duration::from_millis(200));
        server.resume();
        server
    });
    for answer in join_all((0..5).map(|n| client.post("/auth/register", account(n)))).await {
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    let process = starting.join().unwrap();
    assert_eq!(lines(&process, "error"), [""; 0]);
    let _server = resuming.await.unwrap();
}

#[actix_rt::test]
async fn a_redis_that_cannot_write_is_named_and_missed_once() {
    let mut shop = Shop::start_on(
        Topology::OneProcess,
        vec![Server::start(Kind::Redis)],
        &[("APP__GATEWAY__ROUTES__PRODUCTS__LIMITS", "50000/1s by address")],
    );
    let client = shop.gateway();
    assert_eq!(client.get("/products").await.status, 200);
    for (broken, mended) in [
        (["CONFIG", "SET", "maxmemory", "1"], ["CONFIG", "SET", "maxmemory", "0"]),
        (["REPLICAOF", "127.0.0.1", "1", ""], ["REPLICAOF", "NO", "ONE", ""]),
    ] {
        let run = |shop: &mut Shop, command: [&str; 4]| {
            let words = command.iter().copied().filter(|word| !word.is_empty());
            shop.server(Kind::Redis).redis(&words.collect::<Vec<_>>())
        };
        assert_eq!(run(&mut shop, broken).trim(), "OK");
        until("/readyz names it", async || {
            shop.process("gateway").missing().await
                == json!(["gateway.limits", "user.limits", "product.cache"])
        })
        .await;
        for _ in 0..MANY {
            client.add_product("Lamp", 1.0).await;
            assert_eq!(client.get("/products").await.status, 200);
        }
        let process = shop.process("gateway");
        let away = "gateway.limits is away";
        let complained = process.log().matches(away).count();
        for _ in 0..MANY {
            assert_eq!(client.get("/products").await.status, 200);
            actix_rt::time::sleep(Duration::from_millis(30)).await;
        }
        assert_eq!(process.log().matches(away).count(), complained, "it is not said again");
        assert_eq!(run(&mut shop, mended).trim(), "OK");
        let back = Instant::now();
        let process = shop.process("gateway");
        until("/readyz names none", async || process.missing().await == json!([])).await;
        assert!(back.elapsed() < RECOVERY, "{:?}", back.elapsed());
    }
}
