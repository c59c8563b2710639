//! `app demo`: what it tells, what there is in it, and what is left of it.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, PipeReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tempfile::TempDir;

use crate::support::{Client, Process, block_until, until};

/// The command with `args`, whose temporary directory is `folder`.
fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Process::command(folder);
    command.env("TMPDIR", folder).arg("demo").args(args).stdin(Stdio::null());
    command
}

/// The one line that the command with `args` fails with, which leaves no folder behind.
fn complaint(folder: &Path, args: &[&str]) -> String {
    let output = command(folder, args).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!((text.lines().count(), output.stdout.len()), (1, 0), "{text}");
    assert_eq!(left_in(folder), Vec::<PathBuf>::new());
    text.trim().to_owned()
}

/// The folders of demos in `folder`.
fn left_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_demo =
        |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("app-demo-");
    entries.filter(is_demo).collect()
}

/// A running demo; killed when it goes out of scope.
struct Demo {
    child: Child,
    lines: Vec<String>,
    /// Kept open, so that it can go on writing.
    _log: PipeReader,
}

impl Demo {
    /// Starts it and reads what it tells, to its last line.
    fn start(folder: &Path, args: &[&str]) -> Self {
        let (log, writer) = std::io::pipe().unwrap();
        let mut command = command(folder, args);
        let child = command.stdout(Stdio::piped()).stderr(writer).spawn().unwrap();
        let mut demo = Self { child, lines: Vec::new(), _log: log };
        let mut out = BufReader::new(demo.child.stdout.take().unwrap());
        while !demo.lines.last().is_some_and(|line| line.starts_with("Ctrl-C")) {
            let mut line = String::new();
            assert!(out.read_line(&mut line).unwrap() > 0, "it ended early: {:?}", demo.lines);
            demo.lines.push(line.trim().to_owned());
        }
        demo
    }

    /// The address that it tells of `what`.
    fn address(&self, what: &str) -> &str {
        let line = self.lines.iter().find(|line| line.starts_with(what)).unwrap();
        line.split_whitespace().last().unwrap()
    }

    fn gateway(&self) -> Client {
        Client::new(self.address("shop ").strip_suffix("/shop").unwrap())
    }

    /// Those who have signed in with the passwords that it tells, the admin first.
    async fn people(&self) -> Vec<Client> {
        let mut people = Vec::new();
        for line in self.lines.iter().filter(|line| line.contains(" password ")) {
            let words = line.split_whitespace().collect::<Vec<_>>();
            people.push(self.gateway().signed_in(words[1], words[3]).await);
        }
        people
    }

    /// Ends it as a terminal or a supervisor would.
    fn stop(mut self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
        let child = &mut self.child;
        block_until(|| "it did not end".into(), || child.try_wait().unwrap().is_some());
        assert!(child.wait().unwrap().success());
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How many orders `client` sees that match `query`.
async fn count(client: &Client, query: &str) -> usize {
    client.walk(&format!("/orders?limit=100&{query}")).await.len()
}

/// What `app check-stock` says in the folder of a demo.
fn check_stock(folder: &Path) -> String {
    let mut command = Process::command(folder);
    let output = command.arg("check-stock").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[actix_rt::test]
async fn a_demo_tells_how_to_look_around_and_is_gone_at_the_end() {
    let folder = TempDir::new().unwrap();
    let demo = Demo::start(folder.path(), &["--no-load"]);
    assert!(demo.address("admin ").ends_with("/admin"), "{:?}", demo.lines);
    let management = demo.address("operations").strip_suffix("/ops").unwrap();
    assert_eq!(Client::new(management).get("/ops").await.status, 200);

    let people = demo.people().await;
    let [admin, first, second] = &people[..] else { panic!("{:?}", demo.lines) };
    let users = admin.get("/auth/users").await;
    assert_eq!((users.status, users.json().as_array().unwrap().len()), (200, 3));
    for state in ["placed", "paid", "fulfilled", "cancelled", "expired", "refunded"] {
        assert!(count(admin, &format!("status={state}")).await > 0, "none is {state}");
    }
    let both = [count(first, "").await, count(second, "").await];
    assert!(both.iter().all(|orders| *orders > 10), "{both:?}");
    assert_eq!(both.iter().sum::<usize>(), count(admin, "").await);
    let summary = admin.get("/orders/summary?days=31").await.json();
    let days = summary.as_array().unwrap().iter().map(|row| row["day"].as_str().unwrap());
    assert!(days.collect::<BTreeSet<_>>().len() >= 30, "{summary}");

    assert_eq!(demo.gateway().walk("/products?limit=100").await.len(), 120);
    let newest = demo.gateway().get("/products?limit=1").await.json();
    let image = newest[0]["images"][0].as_str().unwrap();
    let image = demo.gateway().get(image.strip_prefix(&demo.gateway().base).unwrap()).await;
    assert_eq!((image.status, image.header("content-type")), (200, "image/svg+xml"));
    assert!(
        image.text().contains(&format!("<title>{}</title>", newest[0]["name"].as_str().unwrap()))
    );
    // It is the real thing: nobody changes the catalogue without a token.
    let new = json!({ "name": "Lamp", "price": 1 });
    assert_eq!(demo.gateway().post("/products", new).await.status, 401);
    let [data] = &left_in(folder.path())[..] else { panic!("one folder") };
    assert!(data.join("data/order.db").is_file());
    demo.stop(Signal::SIGTERM);
    assert_eq!(left_in(folder.path()), Vec::<PathBuf>::new());
}

#[actix_rt::test]
async fn money_of_a_past_order_is_given_back() {
    let folder = TempDir::new().unwrap();
    let demo = Demo::start(folder.path(), &["--no-load"]);
    let admin = &demo.people().await[0];
    for state in ["paid", "fulfilled"] {
        let orders = admin.get(&format!("/orders?status={state}&limit=1")).await.json();
        let refunded = admin.act(&orders[0], "refund", json!({ "restock": true })).await;
        assert_eq!((refunded.status, &refunded.json()["status"]), (200, &json!("refunded")));
    }
}

#[actix_rt::test]
async fn what_a_demo_keeps_agrees_and_the_next_one_goes_on_with_it() {
    let folder = TempDir::new().unwrap();
    let demo = Demo::start(folder.path(), &["--keep", "--no-load"]);
    let [data] = &left_in(folder.path())[..] else { panic!("one folder") };
    let place = data.canonicalize().unwrap();
    let place = place.to_str().unwrap();
    assert!(demo.lines.last().unwrap().contains(place), "{:?}", demo.lines);
    let orders = count(&demo.people().await[0], "").await;
    demo.stop(Signal::SIGINT);
    assert!(check_stock(data).contains(&format!("compared {orders} orders")));

    let again = Demo::start(folder.path(), &["--folder", place, "--no-load"]);
    let admin = &again.people().await[0];
    assert_eq!(count(admin, "").await, orders);
    let products = again.gateway().get("/products?limit=100").await.json();
    let images = products.as_array().unwrap().iter().map(|product| &product["images"][0]);
    let own = format!("{}/shop/pictures/", again.gateway().base);
    assert!(images.clone().all(|image| image.as_str().unwrap().starts_with(&own)), "{own}");
    assert_eq!(again.gateway().walk("/products?limit=100").await.len(), 120);
    let refused = command(folder.path(), &["--folder", place]).output().unwrap();
    assert!(String::from_utf8(refused.stderr).unwrap().contains("another demo runs in it"));
    again.stop(Signal::SIGTERM);
    assert!(check_stock(data).contains(&format!("compared {orders} orders")));
}

#[actix_rt::test]
async fn visitors_order_as_long_as_it_runs() {
    let folder = TempDir::new().unwrap();
    let demo = Demo::start(folder.path(), &["--keep"]);
    let admin = demo.people().await.remove(0);
    let before = count(&admin, "").await;
    until("somebody has ordered", async || count(&admin, "").await > before).await;
    let [data] = &left_in(folder.path())[..] else { panic!("one folder") };
    demo.stop(Signal::SIGTERM);
    check_stock(data);
}

#[actix_rt::test]
async fn a_demo_that_cannot_be_says_why_in_a_line() {
    let folder = TempDir::new().unwrap();
    let line = complaint(folder.path(), &["--role", "user"]);
    assert_eq!(line, "app: --role: a demo runs all roles in one process");
    let other = folder.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("file"), "somebody's").unwrap();
    let line = complaint(folder.path(), &["--folder", other.to_str().unwrap()]);
    assert!(line.ends_with("other: is not empty, and no demo's folder"), "{line}");
    let line = complaint(folder.path(), &["--set", "user.database_url=sqlite://mine.db"]);
    assert!(line.starts_with("app: user.database_url: cannot be set here"), "{line}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("gateway.listen={}", taken.local_addr().unwrap());
    let line = complaint(folder.path(), &["--set", &listen]);
    assert!(line.contains("is in use by another process"), "{line}");
}
