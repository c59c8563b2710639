//! What commands leave behind when they cannot do or say what they should: one line, and nothing half done.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{PATIENCE, Process, Shop, Topology, password_in, until};

fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Process::command(folder);
    command.args(args).stdin(Stdio::null());
    command
}

/// The one line that `command` fails with.
fn complaint(mut command: Command) -> String {
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code().is_some_and(|code| code == 1 || code == 2), "{text}");
    // What goes before are lines of the log, in JSON.
    let own = text.lines().filter(|line| !line.starts_with('{')).collect::<Vec<_>>();
    assert_eq!(own.len(), 1, "{text}");
    assert!(own[0].starts_with("app: ") && !text.contains("panicked"), "{text}");
    own[0].to_owned()
}

/// `command`, with a standard output on a full disk.
fn full(mut command: Command) -> Command {
    command.stdout(File::options().write(true).open("/dev/full").unwrap());
    command
}

#[actix_rt::test]
async fn no_delay_of_a_rotation_leaves_anything_in_the_way_of_the_next() {
    let folder = TempDir::new().unwrap();
    assert!(command(folder.path(), &["keys", "rotate"]).status().unwrap().success());
    let path = folder.path().join("data/signing-keys");
    let before = fs::read_to_string(&path).unwrap();
    for delay in ["200000000000y", "9999y", "366d", "-1s", "soon", "584542046090y", ""] {
        let delay = format!("--delay={delay}");
        complaint(command(folder.path(), &["keys", "rotate", &delay]));
        assert_eq!(fs::read_to_string(&path).unwrap(), before, "{delay}");
        assert_eq!(fs::read_dir(folder.path().join("data")).unwrap().count(), 1, "{delay}");
    }
    // What an earlier version left when it was cut off.
    fs::write(folder.path().join("data/signing-keys.new"), "half a k").unwrap();
    for delay in ["0s", "2m", "365d"] {
        let args = ["keys", "rotate", "--delay", delay];
        let output = command(folder.path(), &args).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 5);
}

#[actix_rt::test]
async fn a_rotation_that_cannot_say_which_key_it_is_makes_none() {
    let folder = TempDir::new().unwrap();
    assert!(command(folder.path(), &["keys", "rotate"]).status().unwrap().success());
    let path = folder.path().join("data/signing-keys");
    let before = fs::read_to_string(&path).unwrap();
    complaint(full(command(folder.path(), &["keys", "rotate"])));
    assert_eq!(fs::read_to_string(&path).unwrap(), before);
    assert_eq!(fs::read_dir(folder.path().join("data")).unwrap().count(), 1);
}

#[actix_rt::test]
async fn one_rotation_at_a_time_and_none_is_lost() {
    let folder = TempDir::new().unwrap();
    assert!(command(folder.path(), &["keys", "rotate"]).status().unwrap().success());
    let children = (0..8).map(|_| {
        command(folder.path(), &["keys", "rotate"]).stderr(Stdio::piped()).spawn().unwrap()
    });
    let outputs =
        children.collect::<Vec<_>>().into_iter().map(|child| child.wait_with_output().unwrap());
    let mut added = 0;
    for output in outputs {
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() || text.contains("another rotation is running"), "{text}");
        added += usize::from(output.status.success());
    }
    let keys = fs::read_to_string(folder.path().join("data/signing-keys")).unwrap();
    assert_eq!(keys.lines().count(), 2 + added, "{keys}");
}

#[actix_rt::test]
async fn an_account_whose_password_cannot_be_told_is_not_made() {
    let shop = Shop::start(Topology::OneProcess);
    let folder = shop.folder.path();
    let create = ["user", "create", "--username", "Neo", "--email", "neo@example.com"];
    let line = complaint(full(command(folder, &create)));
    assert!(line.contains("nothing has changed"), "{line}");
    // A reader that has gone.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut gone = command(folder, &create);
    gone.stdout(writer);
    complaint(gone);
    let output = command(folder, &create).output().unwrap();
    assert!(output.status.success(), "the address is free: {output:?}");
    let password = password_in(&output);
    // Neither is a password changed that nobody gets to know, nor told where there is no account.
    complaint(full(command(folder, &["user", "password", "neo@example.com"])));
    shop.gateway().signed_in("neo@example.com", &password).await;
    for args in [&create[..], &["user", "password", "nobody@example.com"]] {
        let output = command(folder, args).output().unwrap();
        assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    }
}

#[actix_rt::test]
async fn a_reader_that_has_seen_enough_is_no_failure() {
    let folder = TempDir::new().unwrap();
    for args in [&["check-config"][..], &["completions", "bash"], &["migrate"], &["--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = command(folder.path(), args);
        command.stdout(writer).stderr(Stdio::piped());
        let output = command.spawn().unwrap().wait_with_output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && text.is_empty(), "{args:?}: {text}");
    }
    for args in [&["check-config"][..], &["migrate"], &["--help"], &["user", "-h"], &["--version"]]
    {
        assert!(complaint(full(command(folder.path(), args))).contains("standard output"));
    }
}

#[actix_rt::test]
async fn a_command_that_lacks_its_subcommand_says_which_there_are() {
    let folder = TempDir::new().unwrap();
    for (name, action) in [("user", "promote"), ("keys", "rotate"), ("certs", "dev")] {
        let line = complaint(command(folder.path(), &[name]));
        let said = format!("'app {name}' requires a subcommand");
        assert!(line.contains(&said) && line.contains(action), "{line}");
    }
}

#[actix_rt::test]
async fn a_password_that_is_no_text_is_said_to_come_from_standard_input() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("password");
    fs::write(&path, b"\xff\xfe follow the white rabbit\n").unwrap();
    let mut set =
        command(folder.path(), &["user", "password", "neo@example.com", "--password-stdin"]);
    set.stdin(File::open(&path).unwrap());
    let line = complaint(set);
    assert!(line.contains("cannot read the password from standard input"), "{line}");
}

/// A server that answers each connection with `bytes`, and then holds it open or not.
fn answering(bytes: &'static str, holds: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            stream.write_all(bytes.as_bytes()).unwrap();
            if holds {
                held.push(stream);
            } else {
                // Read to the end, so that no reset overtakes the answer.
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let _ = stream.read_to_end(&mut Vec::new());
            }
        }
    });
    address
}

#[actix_rt::test]
async fn a_health_check_waits_for_no_body_for_ever_and_takes_none_that_is_cut_for_well() {
    let folder = TempDir::new().unwrap();
    for (answer, holds) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"status\":\"ready\"", true),
        ("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"status\":\"ready\"}", false),
        ("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"status\":\"re", false),
        ("HTTP/1.1 200 OK\r\n\r\n{\"status\":\"ready\",\"miss", false),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n12\r\n{\"status\":\"ready\"}\r\n",
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n12\r\n{\"status\":\"ready\"}\r\n",
            true,
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", false),
        ("HTTP/1.1 200 OK\r\ncontent-length: 21\r\n\r\n{\"status\":\"draining\"}", false),
        ("HTTP/1.1 503 Oh\r\ncontent-length: 5\r\n\r\na\nb\nc", false),
        ("HTTP/1.1 2", true),
        ("", true),
    ] {
        let address = answering(answer, holds);
        let begun = Instant::now();
        let line = complaint(command(folder.path(), &["healthcheck", "--address", &address]));
        assert!(begun.elapsed() < Duration::from_secs(10), "{answer:?}");
        assert!(line.contains(&address), "{line}");
    }
    let whole =
        answering("HTTP/1.1 200 OK\r\ncontent-length: 18\r\n\r\n{\"status\":\"ready\"}", true);
    assert!(
        command(folder.path(), &["healthcheck", "--address", &whole]).status().unwrap().success()
    );
}

#[actix_rt::test]
async fn what_is_no_host_gets_no_certificate() {
    let folder = TempDir::new().unwrap();
    for host in ["a b", "", "https://shop.example", "shop:443"] {
        let line = complaint(command(folder.path(), &["certs", "dev", "--host", host]));
        assert!(line.contains("is not a host name or address"), "{line}");
        assert!(!folder.path().join("data").exists(), "{host:?}");
    }
}

#[actix_rt::test]
async fn a_file_that_cannot_be_read_is_named() {
    let folder = TempDir::new().unwrap();
    fs::create_dir_all(folder.path().join("data/signing-keys")).unwrap();
    for args in [&["run"][..], &["check-config"], &["keys", "rotate"]] {
        assert!(complaint(command(folder.path(), args)).contains("data/signing-keys"), "{args:?}");
    }
}

#[actix_rt::test]
async fn no_line_of_the_log_is_longer_than_what_collects_it_takes() {
    let folder = TempDir::new().unwrap();
    for format in ["json", "human"] {
        let mut start = Process::command(folder.path());
        start.env("LOG_FORMAT", format);
        let shop = Process::start(folder.path(), start);
        let mut stream =
            std::net::TcpStream::connect(shop.urls["gateway"].trim_start_matches("http://"))
                .unwrap();
        let method = "M".repeat(16_200);
        write!(stream, "{method} / HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = stream.read(&mut [0; 100]).unwrap();
        let path = format!("/{}", "%01\"".repeat(1500));
        shop.client("gateway").get(&path.replace('"', "%22")).await;
        until("both are logged", async || shop.log().matches("/%01").count() > 0).await;
        for line in shop.log().lines() {
            assert!(line.len() < 10_000, "{} bytes: {}", line.len(), &line[..200]);
            assert!(format == "human" || serde_json::from_str::<Value>(line).is_ok(), "{line}");
        }
    }
}

#[actix_rt::test]
async fn a_store_that_is_away_is_told_of_now_and_then() {
    let folder = TempDir::new().unwrap();
    let log = folder.path().join("log");
    let mut start = Process::command(folder.path());
    start.env("DATABASE_URL", "postgres://shop:s3cret@127.0.0.1:1/shop");
    start.stdout(Stdio::null()).stderr(File::create(&log).unwrap());
    let mut child = start.spawn().unwrap();
    let lines = || fs::read_to_string(&log).unwrap();
    until("it is missed", async || lines().contains("user.database is missing")).await;
    actix_rt::time::sleep(Duration::from_secs(3)).await;
    let before = lines().lines().count();
    actix_rt::time::sleep(Duration::from_secs(4)).await;
    let after = lines();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(after.lines().count() <= before + 1, "{after}");
    assert!(!after.contains("s3cret"), "{after}");
}
