//! What the gateway keeps of an upstream where a route says `cache = true`, and for how long (RFC 9111).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use awc::http::Method;
use nix::sys::signal::Signal;

use crate::support::{Answer, Client, Process, Upstream, until};

const FRESH: &str = "cache-control: max-age=60\r\n";

/// An upstream whose every answer is another number, with the lines that its path ends in.
fn counting() -> Upstream {
    let count = Arc::new(AtomicUsize::new(0));
    Upstream::start(move |line| {
        while let Some(request) = line.request() {
            let path = request.head.split(' ').nth(1).unwrap();
            let lines = match path.rsplit('/').next().unwrap() {
                "private" => "cache-control: private, max-age=60\r\n".to_owned(),
                "no-store" => "cache-control: no-store\r\n".to_owned(),
                "cookie" => format!("{FRESH}set-cookie: a=b\r\n"),
                "silent" => String::new(),
                "short" => "cache-control: max-age=1\r\n".to_owned(),
                "public" => "cache-control: public, max-age=60\r\n".to_owned(),
                _ => FRESH.to_owned(),
            };
            let body = count.fetch_add(1, Ordering::SeqCst).to_string();
            let length = body.len();
            line.send(format!("HTTP/1.1 200 OK\r\n{lines}content-length: {length}\r\n\r\n{body}"));
        }
    })
}

fn start(keys: &[(&str, &str)]) -> (Process, tempfile::TempDir) {
    counting().gateway_at_up(keys, &[])
}

/// Whether the answer is one that was kept, with what it says.
fn kept(answer: &Answer) -> (bool, String) {
    assert_eq!(answer.status, 200, "{answer:?}");
    let is_hit = answer.header("cache-status").starts_with("shop; hit");
    (is_hit, String::from_utf8(answer.body.clone()).unwrap())
}

async fn get(client: &Client, path: &str) -> (bool, String) {
    kept(&client.get(path).await)
}

#[actix_rt::test]
async fn an_answer_is_kept_until_a_write_to_its_path_succeeds() {
    let (gateway, _folder) = start(&[("CACHE", "true")]);
    let client = gateway.client("gateway");
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        let (path, other) = (format!("/up/{method}/a"), format!("/up/{method}/b"));
        let (hit, first) = get(&client, &path).await;
        assert!(!hit);
        assert_eq!(get(&client, &path).await, (true, first.clone()), "{method}");
        let (_, second) = get(&client, &other).await;
        assert_eq!(client.send(method.clone(), &path, &[], "").await.status, 200);
        let (hit, now) = get(&client, &path).await;
        assert!(!hit && now != first, "{method}: {now}");
        assert_eq!(get(&client, &other).await, (true, second), "{method} to another path");
    }
}

#[actix_rt::test]
async fn an_answer_is_kept_as_long_as_it_says_and_by_a_reload_no_longer() {
    let (gateway, _folder) = start(&[("CACHE", "true")]);
    let client = gateway.client("gateway");
    let (_, first) = get(&client, "/up/short").await;
    let begun = std::time::Instant::now();
    assert_eq!(get(&client, "/up/short").await, (true, first.clone()));
    until("it is over", async || !get(&client, "/up/short").await.0).await;
    assert!(begun.elapsed().as_millis() >= 900, "{:?}", begun.elapsed());
    get(&client, "/up/long").await;
    assert!(get(&client, "/up/long").await.0);
    gateway.signal(Signal::SIGHUP);
    until("it was read again", async || gateway.log().contains("read again")).await;
    assert!(!get(&client, "/up/long").await.0);
}

#[actix_rt::test]
async fn what_is_somebodys_or_not_said_to_be_good_is_not_kept() {
    let (gateway, _folder) = start(&[("CACHE", "true")]);
    let client = gateway.client("gateway");
    for path in ["/up/private", "/up/no-store", "/up/cookie", "/up/silent"] {
        for _ in 0..2 {
            assert!(!get(&client, path).await.0, "{path}");
        }
    }
    let token = [("authorization", "Bearer some.body.s")];
    for (path, hit) in [("/up/theirs", false), ("/up/public", true)] {
        for _ in 0..2 {
            client.send(Method::GET, path, &token, "").await;
        }
        let again = client.send(Method::GET, path, &token, "").await;
        assert_eq!(kept(&again).0, hit, "{path} with a token");
        assert_eq!(get(&client, path).await.0, hit, "{path}");
    }
}

#[actix_rt::test]
async fn nothing_is_kept_where_the_route_does_not_say_so() {
    let (gateway, _folder) = start(&[]);
    let client = gateway.client("gateway");
    for _ in 0..2 {
        let answer = client.get("/up/a").await;
        assert_eq!((kept(&answer).0, answer.header("cache-status")), (false, ""));
    }
}
