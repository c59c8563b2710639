//! Connections that go on with another protocol, such as WebSocket.

use std::time::{Duration, Instant};

use actix_rt::task::spawn_blocking;
use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::tls::{Certificates, open};
use crate::support::{PATIENCE, Process, Raw, Upstream, blocking};

const ASK: &str = "GET /up/chat HTTP/1.1\r\nhost: shop.example\r\nconnection: Upgrade, x-gone\r\n\
                   upgrade: websocket\r\nx-gone: 1\r\nsec-websocket-key: a2V5\r\n\r\n";
const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                      sec-websocket-accept: yes\r\n\r\n";

/// An upstream that agrees, says what it was asked for, and then says everything twice.
fn echo() -> Upstream {
    Upstream::start(|line| {
        let Some(head) = line.head() else { return };
        line.send(format!("{AGREED}early;"));
        assert!(head.ends_with("\r\n\r\n"));
        while let Some(bytes) = line.bytes() {
            if bytes == b"bye" {
                line.close();
                return;
            }
            line.send([&bytes[..], &bytes[..]].concat());
        }
    })
}

fn gateway(upstream: &Upstream, more: &[(&str, &str)]) -> (Process, TempDir) {
    upstream.gateway_at_up(&[("UPGRADE", "true")], more)
}

/// A client whose connection has gone on, behind the head of the answer.
fn upgraded(gateway: &Process) -> (Raw, String) {
    let mut client = Raw::connect(gateway);
    client.send(ASK);
    let head = client.until("\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    assert_eq!(client.until("early;"), "early;");
    (client, head)
}

#[actix_rt::test]
async fn bytes_go_both_ways_once_the_upstream_has_agreed() {
    blocking(|| {
        let upstream = echo();
        let settings = [
            ("APP__GATEWAY__ROUTES__UP__CACHE", "true"),
            ("APP__GATEWAY__ROUTES__UP__STRIP_PREFIX", "true"),
        ];
        let (gateway, _folder) = gateway(&upstream, &settings);
        let (mut client, head) = upgraded(&gateway);
        for line in ["connection: upgrade", "upgrade: websocket", "sec-websocket-accept: yes"] {
            assert_eq!(head.matches(&format!("\r\n{line}\r\n")).count(), 1, "{head}");
        }
        assert!(head.contains("\r\nx-request-id: ") && !head.contains("content-length"), "{head}");
        for _ in 0..3 {
            client.send("ab\0\r\n\r\n");
            assert_eq!(client.until("ab\0\r\n\r\nab\0\r\n\r\n"), "ab\0\r\n\r\nab\0\r\n\r\n");
        }
        let large = "x".repeat(300_000);
        client.send(&large);
        let mut came = 0;
        while came < 600_000 {
            let more = client.some(65_536);
            assert!(more > 0, "{came}");
            came += more;
        }
        client.send("bye");
        assert_eq!(client.rest(), "", "the upstream's end is the client's");
        let (asked, protocol) = upstream.bytes();
        assert!(asked.starts_with("GET /chat HTTP/1.1\r\n"), "{asked}");
        for line in ["connection: upgrade", "upgrade: websocket", "sec-websocket-key: a2V5"] {
            assert_eq!(asked.matches(&format!("\r\n{line}\r\n")).count(), 1, "{asked}");
        }
        assert!(!asked.contains("x-gone") && protocol > 300_000, "{asked}");
    })
    .await;
}

#[actix_rt::test]
async fn other_routes_refuse_it_and_other_requests_stay_what_they_are() {
    blocking(|| {
        let upstream = Upstream::obliging();
        let (gateway, _folder) = gateway(&upstream, &[]);
        let close = "connection: close, upgrade";
        for protocols in ["websocket", "h2c, IRC/6.9", "h2c\r\nupgrade: websocket"] {
            let mut client = Raw::connect(&gateway);
            client.send(format!(
                "GET /products HTTP/1.1\r\nhost: shop\r\n{close}\r\nupgrade: {protocols}\r\n\r\n"
            ));
            let answer = client.rest();
            assert!(answer.starts_with("HTTP/1.1 501 "), "{protocols}: {answer}");
            assert!(answer.contains("/problems/not-implemented"), "{protocols}: {answer}");
        }
        for (path, version, lines) in [
            // HTTP itself: curl and Java's client ask for it wherever they go.
            ("/products", "1.1", format!("{close}\r\nupgrade: h2c")),
            ("/up/chat", "1.1", format!("{close}\r\nupgrade: h2c, HTTP/2.0, TLS/1.3")),
            ("/products", "1.1", "connection: close\r\nupgrade: websocket".to_owned()),
            ("/up/chat", "1.0", format!("{close}\r\nupgrade: websocket")),
            ("/up/chat", "1.1", "connection: close\r\nupgrade: websocket".to_owned()),
            ("/up/chat", "1.1", close.to_owned()),
        ] {
            let mut client = Raw::connect(&gateway);
            client.send(format!("GET {path} HTTP/{version}\r\nhost: shop\r\n{lines}\r\n\r\n"));
            let answer = client.rest();
            assert!(answer.starts_with("HTTP/1.1 200 "), "{path} {lines}: {answer}");
            // Fails when an upgrade was passed on.
            assert_eq!(upstream.take().0.len(), 1);
        }
        let unasked = Upstream::start(|line| {
            let _ = line.request();
            line.send(AGREED);
            line.wait_for_end();
        });
        let (gateway, _folder) = self::gateway(&unasked, &[]);
        let mut client = Raw::connect(&gateway);
        client.send("GET /up/chat HTTP/1.1\r\nhost: shop.example\r\n\r\n");
        let answer = client.until("\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    })
    .await;
}

#[actix_rt::test]
async fn an_upstream_that_does_not_agree_answers_as_ever() {
    blocking(|| {
        let upstream = Upstream::start(|line| {
            while line.head().is_some() {
                line.send("HTTP/1.1 426 Upgrade Required\r\ncontent-length: 2\r\n\r\nno");
            }
        });
        let (gateway, _folder) = gateway(&upstream, &[]);
        let mut client = Raw::connect(&gateway);
        for _ in 0..2 {
            client.send(ASK);
            let answer = client.until("\r\n\r\nno");
            assert!(answer.starts_with("HTTP/1.1 426 "), "{answer}");
        }
    })
    .await;
}

/// How many requests the upstream `up` has under way.
async fn in_flight(gateway: &Process) -> u64 {
    gateway.callee("upstreams", "up").await["inFlight"].as_u64().unwrap()
}

#[actix_rt::test]
async fn it_counts_as_under_way_until_the_client_is_gone() {
    let upstream = echo();
    let (gateway, _folder) = gateway(&upstream, &[]);
    let (gateway, client) = spawn_blocking(move || {
        let client = upgraded(&gateway).0;
        (gateway, client)
    })
    .await
    .unwrap();
    assert_eq!(in_flight(&gateway).await, 1);
    drop(client);
    crate::support::until("it is over", async || in_flight(&gateway).await == 0).await;
    let metrics = gateway.metrics().await;
    assert!(metrics.contains("http_response_status_code=\"101\",http_route=\"up\""), "{metrics}");
}

#[actix_rt::test]
async fn silence_and_time_end_it() {
    blocking(|| {
        let upstream = echo();
        // It ends so long after the last word, or after all.
        for (key, value, talk, least) in [
            ("APP__GATEWAY__ROUTES__UP__READ_TIMEOUT", "500ms", 8, 1250),
            ("APP__GATEWAY__ROUTES__UP__UPGRADE_TIMEOUT", "1s", 0, 950),
        ] {
            let (gateway, _folder) = gateway(&upstream, &[(key, value)]);
            let (mut client, _) = upgraded(&gateway);
            let start = Instant::now();
            // Longer than silence may be.
            for _ in 0..talk {
                std::thread::sleep(Duration::from_millis(100));
                client.send("x");
                assert_eq!(client.until("xx"), "xx");
            }
            assert!(client.everything().1, "{key}: it ends");
            let after = start.elapsed();
            assert!(after.as_millis() >= least && after < PATIENCE / 2, "{key} {after:?}");
        }
    })
    .await;
}

#[actix_rt::test]
async fn a_process_that_stops_ends_it() {
    blocking(|| {
        let upstream = echo();
        let settings =
            [("APP__SERVER__DRAIN_DELAY", "100ms"), ("APP__SERVER__DRAIN_TIMEOUT", "10s")];
        let (mut gateway, _folder) = gateway(&upstream, &settings);
        let (mut client, _) = upgraded(&gateway);
        let start = Instant::now();
        gateway.signal(Signal::SIGTERM);
        assert!(client.everything().1, "it ends");
        assert!(gateway.wait().success());
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    })
    .await;
}

#[actix_rt::test]
async fn it_goes_over_tls_from_clients_and_to_upstreams() {
    let folder = TempDir::new().unwrap();
    let certificates = Certificates::make(folder.path().join("certs"));
    let upstream = echo();
    let environment = certificates.environment("gateway");
    let environment = environment.iter().filter(|(name, _)| !name.contains("MTLS"));
    let environment = environment.map(|(name, value)| (name.as_str(), value.as_str()));
    let (inner, _inner) = gateway(&upstream, &environment.collect::<Vec<_>>());
    let url = inner.urls["gateway"].clone();
    let mut stream = open(&url, certificates.client(None)).await.unwrap();
    stream.write_all(ASK.as_bytes()).await.unwrap();
    stream.write_all(b"ab").await.unwrap();
    let mut came = String::new();
    while !came.ends_with("abab") {
        let mut some = [0; 1024];
        let length = stream.read(&mut some).await.unwrap();
        assert!(length > 0, "{came}");
        came.push_str(str::from_utf8(&some[..length]).unwrap());
    }
    assert!(came.starts_with("HTTP/1.1 101 ") && came.ends_with("early;abab"), "{came}");
    stream.write_all(b"bye").await.unwrap();
    assert_eq!(stream.read(&mut [0; 1024]).await.unwrap(), 0, "the upstream's end is the client's");

    let port = url.rsplit_once(':').unwrap().1;
    let secure = format!("https://localhost:{port}");
    let authority = certificates.path("ca.crt");
    let settings = [
        ("APP__GATEWAY__UPSTREAMS__UP__URLS", secure.as_str()),
        ("SSL_CERT_FILE", authority.to_str().unwrap()),
    ];
    let (outer, _outer) = gateway(&upstream, &settings);
    blocking(move || {
        let (mut client, _) = upgraded(&outer);
        client.send("ab");
        assert_eq!(client.until("abab"), "abab");
        client.send("bye");
        assert_eq!(client.rest(), "");
    })
    .await;
}
