//! Our parser beside others, and whatever fuzzing has found: where two would read something in two ways, ours refuses.

#[expect(unreachable_pub, reason = "to the fuzz targets it is a crate")]
#[path = "../../fuzz/checks.rs"]
mod checks;

use std::fs::{self, File};
use std::io::Write as _;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::json;

use super::smuggling;
use checks::{Message, TARGETS, requests, response, with_root};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The names and contents of the seeds of a fuzz target.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(regressions().join(target)).unwrap().map(|file| file.unwrap().path());
    let seeds = files.map(|file| (file.display().to_string(), fs::read(&file).unwrap()));
    seeds.collect()
}

fn regressions() -> PathBuf {
    root().join("tests/fuzz/regressions")
}

#[test]
fn every_check_of_the_fuzz_targets_holds_for_their_seeds() {
    for folder in fs::read_dir(regressions()).unwrap() {
        let name = folder.unwrap().file_name();
        assert!(TARGETS.iter().any(|(target, _)| name == *target), "{name:?} is of no target");
    }
    for (target, check) in TARGETS {
        let seeds = seeds(target);
        assert!(seeds.len() >= 3, "{target} has seeds");
        for (name, bytes) in seeds {
            assert!(catch_unwind(|| check(&bytes)).is_ok(), "{name}");
        }
    }
}

/// What h11 reads.
#[derive(Debug, Deserialize)]
struct Reading {
    messages: Vec<Theirs>,
    end: String,
}

#[derive(Debug, Deserialize)]
struct Theirs {
    method: String,
    target: String,
    status: u16,
    headers: usize,
    body: Vec<u8>,
}

/// Has h11 read each of `inputs`, as a "server" or as a "client".
fn read_with_h11<'a>(role: &str, inputs: impl Iterator<Item = &'a [u8]>) -> Vec<Reading> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("inputs");
    let mut lines = File::create(&file).unwrap();
    for input in inputs {
        writeln!(lines, "{}", json!({ "role": role, "hex": hex::encode(input) })).unwrap();
    }
    let python = root().join("target/h11/bin/python");
    assert!(python.exists(), "run `make needs`, which installs h11");
    let script = root().join("tests/fuzz/h11_reads.py");
    let read =
        Command::new(python).arg("-B").arg(script).stdin(File::open(&file).unwrap()).output();
    let read = read.unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let lines = String::from_utf8(read.stdout).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn is_same(ours: &Message, theirs: &Theirs) -> bool {
    let target = theirs.target.split('#').next().unwrap_or_default();
    ours.method == theirs.method
        && ours.target.to_lowercase() == with_root(target)
        && ours.headers == theirs.headers
        && ours.body == theirs.body
}

/// What is wrong where `theirs` does not begin with each of `ours`.
fn difference(ours: &[Message], theirs: &Reading) -> Option<String> {
    let differs = ours.iter().enumerate().any(|(at, message)| match theirs.messages.get(at) {
        Some(theirs) => !is_same(message, theirs),
        // h11 keeps no connection of HTTP/1.0.
        None => at == 0 || !ours[at - 1].is_old,
    });
    differs.then(|| format!("ours: {ours:?}, theirs: {theirs:?}"))
}

/// What h11 alone refuses: blanks before the extension of a chunk, which a recipient has to take (RFC 9112, section
/// 7.1.1), and framing in a trailer, which ours drops with all trailers (RFC 9110, section 6.5.1).
const REFUSED_BY_H11: [&str; 2] = ["blank_before_extension", "a coding in a trailer"];

#[test]
fn httparse_and_h11_read_each_request_that_ours_reads() {
    let mut cases = smuggling::sent().collect::<Vec<_>>();
    let seeds = [seeds("request_head"), seeds("connection")].concat();
    cases.extend(seeds.into_iter().map(|(name, bytes)| (name, bytes, false)));
    for (name, chunks) in self::seeds("chunked") {
        let head = b"POST / HTTP/1.1\r\nhost: shop\r\ntransfer-encoding: chunked\r\n\r\n";
        cases.push((name, [&head[..], &chunks].concat(), false));
    }
    let readings = read_with_h11("server", cases.iter().map(|(_, bytes, _)| &bytes[..]));
    assert_eq!(readings.len(), cases.len());
    let (mut wrong, mut read) = (Vec::new(), 0);
    for ((name, bytes, is_refused), theirs) in cases.iter().zip(&readings) {
        if REFUSED_BY_H11.iter().any(|refused| name.ends_with(refused)) {
            assert!(theirs.end.starts_with("refused: ") && requests(bytes).len() == 1);
            continue;
        }
        let of_httparse = catch_unwind(|| checks::request_head(bytes));
        let ours = if *is_refused { Vec::new() } else { requests(bytes) };
        read += ours.len();
        let difference = difference(&ours, theirs);
        let difference = difference.or(of_httparse.is_err().then(|| "httparse differs".into()));
        wrong.extend(difference.map(|difference| format!("{name}: {difference}")));
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert!(read > 40 && cases.len() > 150, "{read} requests in {} cases", cases.len());
}

#[test]
fn httparse_and_h11_read_each_response_that_ours_reads() {
    let cases = seeds("response_head");
    let readings = read_with_h11("client", cases.iter().map(|(_, bytes)| &bytes[..]));
    let mut read = 0;
    for ((name, bytes), theirs) in cases.iter().zip(&readings) {
        checks::response_head(bytes);
        // What follows 101 is no content.
        let Some((status, body)) = response(bytes).filter(|(status, _)| *status != 101) else {
            continue;
        };
        let first = theirs.messages.first().map(|first| (first.status, first.body.clone()));
        assert_eq!(first, Some((status, body)), "{name}: {}", theirs.end);
        read += 1;
    }
    assert!(read >= 5, "{read} responses");
}

#[test]
fn a_reading_that_differs_is_found() {
    let reading = |bytes: &str| read_with_h11("server", [bytes.as_bytes()].into_iter()).remove(0);
    let (get, post) = (
        "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi",
    );
    let ours = requests([post, get].concat().as_bytes());
    assert_eq!(ours.len(), 2);
    assert_eq!(difference(&ours, &reading(&[post, get].concat())), None);
    for other in [
        post.to_owned(),
        get.to_owned(),
        [get, post].concat(),
        post.replace("hi", "ho") + get,
        post.to_owned() + &get.replace("host: a", "host: a\r\nx: y"),
        post.to_owned() + &get.replace("/ ", "/x "),
    ] {
        assert!(difference(&ours, &reading(&other)).is_some(), "{other:?}");
    }
}
