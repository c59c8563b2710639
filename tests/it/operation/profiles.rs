//! What the management port shows of a process to people who make it faster or smaller.

use std::collections::BTreeMap;

use awc::http::Method;
use tempfile::TempDir;

use crate::support::{PASSWORD, Process};

fn start(folder: &TempDir, debug: &str) -> Process {
    let mut command = Process::command(folder.path());
    command.env("APP__MANAGEMENT__DEBUG", debug);
    Process::start(folder.path(), command)
}

/// Keeps the shop busy until it is dropped.
struct Load(actix_rt::task::JoinHandle<()>);

impl Load {
    fn start(shop: &Process) -> Self {
        let client = shop.client("gateway");
        Self(actix_rt::spawn(async move {
            for n in 0.. {
                let body = serde_json::json!({ "username": format!("u{n}"), "password": PASSWORD,
                    "email": format!("u{n}@example.com") });
                let _ = client.try_send(Method::GET, "/products", &[], "").await;
                client.post("/auth/register", body).await;
            }
        }))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The fields of a message of protocol buffers, by number: the bytes of those that have a length, and numbers.
fn fields(mut message: &[u8]) -> BTreeMap<u64, Vec<(u64, &[u8])>> {
    fn varint(message: &mut &[u8]) -> u64 {
        let end = message.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
        let (bytes, rest) = message.split_at(end);
        *message = rest;
        bytes.iter().rev().fold(0, |number, byte| number << 7 | u64::from(byte & 0x7f))
    }
    let mut fields = BTreeMap::<_, Vec<_>>::new();
    while !message.is_empty() {
        let tag = varint(&mut message);
        let number = varint(&mut message);
        let bytes = match tag & 7 {
            0 => &[][..],
            2 => {
                let (bytes, rest) = message.split_at(usize::try_from(number).unwrap());
                message = rest;
                bytes
            }
            other => panic!("wire type {other}"),
        };
        fields.entry(tag >> 3).or_default().push((number, bytes));
    }
    fields
}

#[actix_rt::test]
async fn a_profile_shows_where_the_time_goes_as_a_picture_and_for_pprof() {
    let folder = TempDir::new().unwrap();
    let shop = start(&folder, "true");
    let _load = Load::start(&shop);
    let management = shop.client("management");

    let answer = management.get("/debug/profile?seconds=2").await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, "image/svg+xml; charset=utf-8")
    );
    let svg = answer.text();
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
    let (samples, _) = svg.split_once(" samples in 2 s").unwrap();
    let samples = samples.rsplit('>').next().unwrap().parse::<u64>().unwrap();
    assert!(samples >= 10, "{samples} samples of a busy process");
    // What hashes the passwords of those who register.
    assert!(svg.contains("argon2") && !svg.contains("perf_signal_handler"), "{svg}");

    let answer = management.get("/debug/profile?seconds=2&format=pprof").await;
    assert_eq!(answer.header("content-type"), "application/octet-stream");
    let profile = fields(&answer.body);
    let texts = profile[&6].iter().map(|(_, text)| str::from_utf8(text).unwrap());
    let texts = texts.collect::<Vec<_>>();
    assert!(texts[0].is_empty() && texts.iter().any(|text| text.contains("argon2")), "{texts:?}");
    let locations = profile[&4].iter().map(|(_, location)| fields(location)[&1][0].0);
    assert!(locations.eq(1..=profile[&4].len() as u64));
    assert!(!profile[&2].is_empty() && !profile[&3].is_empty() && !profile[&5].is_empty());
    assert_eq!(profile[&10][0].0, 2_000_000_000, "its duration");
    assert!(!shop.log().contains("slow request: GET /debug"), "it took what was asked for");
}

#[actix_rt::test]
async fn one_profile_is_made_at_a_time_and_a_client_that_leaves_ends_its_own() {
    let folder = TempDir::new().unwrap();
    let shop = start(&folder, "true");
    let (first, second) = (shop.client("management"), shop.client("management"));
    let long = actix_rt::spawn(async move {
        while first.get("/debug/profile?seconds=60").await.status == 409 {}
    });
    let conflict = async || second.get("/debug/profile?seconds=1").await.status == 409;
    crate::support::until("the first one is being made", conflict).await;
    long.abort();
    crate::support::until("it has ended", async || !conflict().await).await;
}

#[actix_rt::test]
async fn a_profile_that_cannot_be_made_is_refused_with_the_reason() {
    let folder = TempDir::new().unwrap();
    let shop = start(&folder, "true");
    let management = shop.client("management");
    for (query, field) in [
        ("seconds=0", "seconds"),
        ("seconds=61", "seconds"),
        ("seconds=soon", "seconds"),
        ("format=png", "format"),
        ("second=1", "second"),
    ] {
        let answer = management.get(&format!("/debug/profile?{query}")).await;
        assert_eq!(answer.status, 422, "{query}");
        assert_eq!(answer.json()["errors"][0]["field"], field);
    }
}

#[actix_rt::test]
async fn a_process_without_a_folder_for_temporary_files_says_that_it_needs_one() {
    let folder = TempDir::new().unwrap();
    let mut command = Process::command(folder.path());
    command.env("APP__MANAGEMENT__DEBUG", "true").env("TMPDIR", "/none");
    let shop = Process::start(folder.path(), command);
    let answer = shop.client("management").get("/debug/profile?seconds=1").await;
    assert_eq!(answer.status, 503);
    assert!(answer.json()["detail"].as_str().unwrap().contains("TMPDIR"), "{}", answer.text());
}

#[actix_rt::test]
async fn the_figures_of_memory_are_those_of_the_kernel_and_of_the_allocator() {
    let folder = TempDir::new().unwrap();
    let shop = start(&folder, "true");
    let heap = shop.client("management").get("/debug/heap").await.json();
    let figure = |name: &str| heap[name].as_u64().unwrap_or_else(|| panic!("{name}: {heap}"));
    let resident = shop.resident() as u64;
    let told = figure("residentBytes");
    assert!((resident / 2..resident * 2).contains(&told), "{told} of {resident}");
    assert!(figure("peakResidentBytes") >= told && figure("anonymousBytes") <= told, "{heap}");
    let committed = heap["mimalloc"]["committed"]["current"].as_u64();
    assert!(committed.is_some_and(|committed| committed > 1 << 20), "{heap}");
}

#[actix_rt::test]
async fn nothing_is_shown_unless_that_is_asked_for() {
    let folder = TempDir::new().unwrap();
    let shop = Process::start(folder.path(), Process::command(folder.path()));
    for path in ["/debug/profile?seconds=1", "/debug/heap"] {
        assert_eq!(shop.client("management").get(path).await.status, 404, "{path}");
        assert_eq!(shop.client("gateway").get(path).await.status, 404, "{path}");
    }
}
