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
