//! A backup of a shop that runs, and what comes of it when it is restored.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::support::{Client, Kind, PASSWORD, Process, Server, postgres, run};

/// What `.backup` of the sqlite3 shell does, by the same function of SQLite.
fn back_up(from: &Path, to: &Path) {
    let script = "import sqlite3, sys\na, b = map(sqlite3.connect, sys.argv[1:])\na.backup(b)";
    run(Command::new("python3").args(["-c", script]).args([from, to]));
}

fn start(folder: &Path, more: &[(&str, &str)]) -> Process {
    let mut command = Process::command(folder);
    command.env("APP__AUTH__MODE", "enforced").env("APP__AUTH__REFRESH_INTERVAL", "100ms");
    Process::start(folder, {
        command.envs(more.iter().copied());
        command
    })
}

async fn logs_in(client: &Client, name: &str) -> u16 {
    client.log_in(&format!("{name}@example.com"), PASSWORD).await.status
}

/// Asserts that `client` has what there was when the backup was made, and nothing of later.
async fn is_as_before(client: &Client) {
    assert_eq!(logs_in(client, "before").await, 200);
    assert_eq!(logs_in(client, "after").await, 401);
}

#[actix_rt::test]
async fn files_of_a_shop_that_runs_are_backed_up_and_restored() {
    let folder = tempfile::TempDir::new().unwrap();
    let (data, backup) = (folder.path().join("data"), folder.path().join("backup"));
    let open = [("APP__AUTH__MODE", "open")];
    let mut shop = start(folder.path(), &open);
    let client = shop.client("gateway");
    let before = client.customer("before").await;
    let lamp = client.add_product("Lamp", 1.0).await;
    fs::create_dir(&backup).unwrap();
    let writing = actix_rt::spawn({
        let client = client.clone();
        async move {
            let mut ids = Vec::new();
            for n in 0..200 {
                ids.push(client.add_product(&format!("Product {n}"), 1.0).await);
            }
            ids
        }
    });
    for file in ["user.db", "product.db"] {
        let (from, to) = (data.join(file), backup.join(file));
        actix_rt::task::spawn_blocking(move || back_up(&from, &to)).await.unwrap();
    }
    fs::copy(data.join("signing-keys"), backup.join("signing-keys")).unwrap();
    let written = writing.await.unwrap();
    client.customer("after").await;
    let chair = client.add_product("Chair", 1.0).await;
    shop.signal(Signal::SIGKILL);
    shop.wait();
    drop(shop);

    fs::remove_dir_all(&data).unwrap();
    fs::rename(&backup, &data).unwrap();
    let shop = start(folder.path(), &open);
    let client = shop.client("gateway");
    is_as_before(&client).await;
    assert_eq!(client.get(&format!("/products/{lamp}")).await.status, 200);
    assert_eq!(client.get(&format!("/products/{chair}")).await.status, 404);
    // It is that of one moment: the first of those that were written meanwhile, and no other.
    let mut there = client.walk("/products?limit=100").await;
    there.reverse();
    let mut expected = [vec![lamp], written].concat();
    expected.truncate(there.len());
    assert_eq!(there, expected);
    // The keys are those of back then, and so tokens are good on.
    let before = Client::new(client.base.clone()).with_token(before.token());
    assert_eq!(before.get("/auth/me").await.status, 200);
    client.add_product("Table", 1.0).await;
    client.customer("later").await;
}

#[actix_rt::test]
async fn postgresql_of_a_shop_that_runs_is_backed_up_and_restored() {
    let server = Server::start(Kind::Postgres);
    let url = server.url();
    let folder = tempfile::TempDir::new().unwrap();
    let environment = [("DATABASE_URL", url.as_str())];
    let mut create = Process::command(folder.path());
    create.envs(environment).args(["keys", "rotate"]);
    assert!(Process::run(create).status.success());
    let mut shop = start(folder.path(), &environment);
    let client = shop.client("gateway");
    client.sign_up("before").await;
    let dump = folder.path().join("shop.dump");
    let from = format!("--dbname={url}");
    run(Command::new(postgres("pg_dump")).args(["--format=custom", &from, "--file"]).arg(&dump));
    client.sign_up("after").await;
    assert_eq!(logs_in(&client, "after").await, 200);
    shop.signal(Signal::SIGTERM);
    actix_rt::task::spawn_blocking(move || shop.wait()).await.unwrap();

    run(Command::new(postgres("pg_restore")).args(["--clean", &from]).arg(&dump));
    let shop = start(folder.path(), &environment);
    let client = shop.client("gateway");
    is_as_before(&client).await;
    client.sign_up("after").await;
    assert_eq!(logs_in(&client, "after").await, 200);
}

/// Runs the program with these arguments in `folder`; what it prints, and its status.
fn command(folder: &Path, args: &[&str]) -> (String, Option<i32>) {
    let mut command = Process::command(folder);
    command.args(args);
    let output = Process::run(command);
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8(text).unwrap(), output.status.code())
}

#[actix_rt::test]
async fn one_archive_has_all_of_a_shop_that_runs() {
    let (folder, other) = (tempfile::TempDir::new().unwrap(), tempfile::TempDir::new().unwrap());
    let process = start(folder.path(), &[("APP__AUTH__MODE", "open")]);
    let client = process.client("gateway");
    client.sign_up("before").await;
    let lamp = client.add_stocked("Lamp", 5).await;
    let paid = client.order(uuid::Uuid::now_v7(), &[(&lamp, 2)]).await.json();
    assert_eq!(client.pay(&paid, "ok").await.status, 200);
    let archive = folder.path().join("shop.tar");
    let archive = archive.to_str().unwrap();
    // While others write.
    let ended = std::rc::Rc::new(std::cell::Cell::new(false));
    let writing = {
        let (client, ended, lamp) = (client.clone(), ended.clone(), lamp.clone());
        actix_rt::spawn(async move {
            while !ended.get() {
                client.add_product("Chair", 1.0).await;
                let path = format!("/products/{lamp}/stock");
                client.write(awc::http::Method::PATCH, &path, r#"{"change":1}"#).await;
            }
        })
    };
    let (at, to) = (folder.path().to_owned(), archive.to_owned());
    let backed = crate::support::blocking(move || command(&at, &["backup", &to])).await;
    ended.set(true);
    writing.await.unwrap();
    assert_eq!(backed.1, Some(0), "{backed:?}");
    for name in ["order.db", "product.db", "user.db", "signing-keys"] {
        assert!(backed.0.contains(name), "{backed:?}");
    }
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(archive).unwrap().permissions());
    assert_eq!(mode & 0o077, 0, "it has keys");

    client.sign_up("after").await;
    // A shop that runs keeps its files.
    let (text, status) = command(folder.path(), &["restore", archive, "--overwrite"]);
    assert!(status == Some(1) && text.contains("stop the shop"), "{text}");
    let (text, status) = command(other.path(), &["restore", archive]);
    assert_eq!(status, Some(0), "{text}");
    let (text, status) = command(other.path(), &["restore", archive]);
    assert!(status == Some(1) && text.contains("--overwrite"), "{text}");
    let restored = start(other.path(), &[("APP__AUTH__MODE", "open")]);
    let client = restored.client("gateway");
    is_as_before(&client).await;
    assert_eq!(client.reread(&paid).await["status"], "paid");
    let on_hand = client.stock(&lamp).await[0].as_i64().unwrap();
    assert!(on_hand >= 3, "{on_hand}");
    assert_eq!(
        client.act(&paid, "refund", serde_json::json!({ "restock": true })).await.status,
        200
    );
}

#[actix_rt::test]
async fn a_damaged_archive_is_refused_and_changes_nothing() {
    let folder = tempfile::TempDir::new().unwrap();
    let mut process = start(folder.path(), &[("APP__AUTH__MODE", "open")]);
    process.client("gateway").sign_up("before").await;
    process.signal(Signal::SIGTERM);
    process.wait();
    let archive = folder.path().join("shop.tar");
    let path = archive.to_str().unwrap();
    assert_eq!(command(folder.path(), &["backup", path]).1, Some(0));
    let whole = fs::read(&archive).unwrap();
    let before = fs::read(folder.path().join("data/user.db")).unwrap();
    let mut bent = whole.clone();
    let middle = bent.len() / 2;
    bent[middle] ^= 1;
    for (what, bytes) in
        [("bent", bent), ("cut", whole[..middle].to_vec()), ("other", b"hello".to_vec())]
    {
        fs::write(&archive, bytes).unwrap();
        let (text, status) = command(folder.path(), &["restore", path, "--overwrite"]);
        assert!(status == Some(1) && text.lines().count() == 1, "{what}: {text}");
        assert_eq!(fs::read(folder.path().join("data/user.db")).unwrap(), before, "{what}");
    }
    let (text, status) = command(folder.path(), &["backup", "/nowhere/shop.tar"]);
    assert!(status == Some(1) && text.contains("/nowhere"), "{text}");
}
