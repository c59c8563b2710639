//! What a route and an upstream change on the way there and back.

use std::time::{Duration, Instant};

use awc::http::Method;
use serde_json::json;
use tempfile::TempDir;

use crate::support::{Process, Shop, Topology, Upstream, ask, blocking};

/// What a client gets for `target`, with more `lines` in its head.
fn get(gateway: &Process, target: &str, lines: &str) -> String {
    let head = "host: shop.example\r\nconnection: close\r\n";
    ask(gateway, &format!("GET {target} HTTP/1.1\r\n{head}{lines}\r\n"))
}

#[actix_rt::test]
async fn an_upstream_is_asked_for_the_host_that_it_goes_by() {
    blocking(|| {
        let upstream = Upstream::obliging();
        let of_upstream = ("APP__GATEWAY__UPSTREAMS__UP__HOST", "reviews.example:8443");
        for (keys, more, host) in [
            (vec![], vec![], "shop.example"),
            (vec![], vec![of_upstream], "reviews.example:8443"),
            (vec![("HOST", "other.example")], vec![of_upstream], "other.example"),
            (vec![("HOST", "other.example"), ("CACHE", "true")], vec![], "other.example"),
        ] {
            let (gateway, _folder) = upstream.gateway_at_up(&keys, &more);
            assert!(get(&gateway, "/up/x", "").starts_with("HTTP/1.1 200 "));
            let head = &upstream.take().0[0].head;
            assert!(head.contains(&format!("\r\nhost: {host}\r\n")), "{head}");
            assert!(head.contains("\r\nx-forwarded-host: shop.example\r\n"), "{head}");
        }
    })
    .await;
}

#[actix_rt::test]
async fn a_path_is_what_the_upstream_knows() {
    blocking(|| {
        let upstream = Upstream::obliging();
        for (keys, asked, target, prefix) in [
            (vec![], "/up/a", "/up/a", ""),
            (vec![("STRIP_PREFIX", "true")], "/up/a/b?c=/d", "/a/b?c=/d", "/up"),
            (vec![("STRIP_PREFIX", "true")], "/up", "/", "/up"),
            (vec![("STRIP_PREFIX", "true")], "/up?x", "/?x", "/up"),
            (vec![("STRIP_PREFIX", "true")], "//%75p//a;b/", "/a;b/", "/up"),
            (vec![("REWRITE", "/v2")], "/up/a?x", "/v2/a?x", ""),
            (vec![("REWRITE", "/v2/up")], "/up/a", "/v2/up/a", ""),
            (vec![("REWRITE", "/"), ("CACHE", "true")], "/up/a", "/a", "/up"),
            (vec![("PREFIX", ""), ("PATH", "/up/one"), ("REWRITE", "/two")], "/up/one", "/two", ""),
            (
                vec![("PREFIX", "/up/reviews"), ("STRIP_PREFIX", "/up")],
                "/up/reviews/1",
                "/reviews/1",
                "/up",
            ),
        ] {
            let trusts = ("APP__GATEWAY__TRUSTED_PROXIES", "127.0.0.1");
            let (gateway, _folder) = upstream.gateway_at_up(&keys, &[trusts]);
            for before in ["", "/shop"] {
                let said = format!("x-forwarded-prefix: {before}\r\n");
                let said = if before.is_empty() { "" } else { &said };
                assert!(get(&gateway, asked, said).starts_with("HTTP/1.1 200 "), "{keys:?}");
                let head = upstream.take().0.remove(0).head;
                assert!(head.starts_with(&format!("GET {target} HTTP/1.1\r\n")), "{keys:?} {head}");
                let line = format!("\r\nx-forwarded-prefix: {before}{prefix}\r\n");
                let is_said = !before.is_empty() || !prefix.is_empty();
                assert_eq!(head.contains("x-forwarded-prefix"), is_said, "{keys:?} {head}");
                assert!(!is_said || head.contains(&line), "{keys:?} {head}");
            }
        }
    })
    .await;
}

#[actix_rt::test]
async fn what_is_kept_of_one_upstream_is_not_anothers() {
    blocking(|| {
        let answer = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 2\r\n\r\n";
        let upstream = |word: &'static str| {
            Upstream::start(move |line| {
                while line.request().is_some() {
                    line.send(format!("{answer}{word}"));
                }
            })
        };
        let (one, two) = (upstream("up"), upstream("it"));
        let more = [
            ("APP__GATEWAY__ROUTES__OTHER__PREFIX", "/other"),
            ("APP__GATEWAY__ROUTES__OTHER__UPSTREAM", "other"),
            ("APP__GATEWAY__ROUTES__OTHER__STRIP_PREFIX", "true"),
            ("APP__GATEWAY__ROUTES__OTHER__CACHE", "true"),
            ("APP__GATEWAY__UPSTREAMS__OTHER__URLS", &*two.url),
        ];
        let (gateway, _folder) =
            one.gateway_at_up(&[("STRIP_PREFIX", "true"), ("CACHE", "true")], &more);
        for hit in [false, true] {
            for (path, word) in [("/up/x", "\r\n\r\nup"), ("/other/x", "\r\n\r\nit")] {
                let answer = get(&gateway, path, "");
                assert!(answer.ends_with(word), "{path}: {answer}");
                assert_eq!(answer.contains("cache-status: shop; hit"), hit, "{answer}");
            }
        }
    })
    .await;
}

each_topology!(links_of_a_role_lead_back_through_the_route);
async fn links_of_a_role_lead_back_through_the_route(topology: Topology) {
    let environment = [
        ("APP__GATEWAY__ROUTES__V1__PREFIX", "/api/v1/products"),
        ("APP__GATEWAY__ROUTES__V1__UPSTREAM", "product"),
        ("APP__GATEWAY__ROUTES__V1__REWRITE", "/products"),
    ];
    let shop = Shop::start_with(topology, &environment);
    let client = shop.gateway();
    for _ in 0..2 {
        let made = client.post("/api/v1/products", json!({ "name": "Lamp", "price": 5 })).await;
        let location = made.header("location");
        assert!(location.starts_with("/api/v1/products/"), "{made:?}");
        assert_eq!(client.get(location).await.status, 200);
    }
    assert_eq!(client.walk("/api/v1/products?limit=1").await.len(), 2, "{topology:?}");
}

#[actix_rt::test]
async fn slashes_by_percent_reach_the_upstream_where_they_may() {
    blocking(|| {
        let upstream = Upstream::obliging();
        let more = [
            ("APP__GATEWAY__ROUTES__ADMIN__PREFIX", "/up/admin"),
            ("APP__GATEWAY__ROUTES__ADMIN__UPSTREAM", "up"),
            ("APP__GATEWAY__ROUTES__ADMIN__TOKENS", "admin"),
            ("APP__GATEWAY__ROUTES__ADMIN__ENCODED_SLASHES", "true"),
        ];
        for (keys, asked, target) in [
            (vec![], "/up/@scope%2fname", None),
            (vec![("ENCODED_SLASHES", "true")], "/up/@scope%2fname", Some("/up/@scope%2fname")),
            (vec![("ENCODED_SLASHES", "true")], "/up/a%2Fb/c?d%2fe", Some("/up/a%2Fb/c?d%2fe")),
            (
                vec![("ENCODED_SLASHES", "true"), ("STRIP_PREFIX", "true")],
                "/up/@scope%2fname",
                Some("/@scope%2fname"),
            ),
            (vec![("ENCODED_SLASHES", "true")], "/up/x%2f..%2fadmin", None),
            (vec![("ENCODED_SLASHES", "true")], "/up/..%2f..%2fproducts", None),
            // Whoever reads a slash there reads a path that asks for more.
            (vec![("ENCODED_SLASHES", "true")], "/up/admin%2fx", None),
            (vec![("ENCODED_SLASHES", "true")], "/up%2fadmin/x", None),
            (vec![("ENCODED_SLASHES", "true")], "/up/%2fadmin/x", None),
            (vec![("ENCODED_SLASHES", "true")], "/%2fhealth", None),
            (vec![("ENCODED_SLASHES", "true")], "/products/a%2fb", None),
        ] {
            let (gateway, _folder) = upstream.gateway_at_up(&keys, &more);
            let answer = get(&gateway, asked, "");
            let received = upstream.take().0;
            match target {
                Some(target) => {
                    assert!(answer.starts_with("HTTP/1.1 200 "), "{asked}: {answer}");
                    let line = format!("GET {target} HTTP/1.1\r\n");
                    assert!(received[0].head.starts_with(&line), "{received:?}");
                }
                None => {
                    assert!(answer.starts_with("HTTP/1.1 404 "), "{asked}: {answer}");
                    assert!(received.is_empty(), "{asked}: {received:?}");
                }
            }
        }
    })
    .await;
}

#[actix_rt::test]
async fn an_answer_may_pause_as_long_as_its_route_says() {
    blocking(|| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        let upstream = Upstream::start(move |line| {
            let pause = line.request().unwrap().number();
            line.send(format!("{head}5\r\nfirst\r\n"));
            std::thread::sleep(Duration::from_millis(pause as u64));
            line.send("4\r\nlast\r\n0\r\n\r\n");
        });
        let short = ("APP__TRANSPORT__READ_TIMEOUT", "300ms");
        let long = ("APP__GATEWAY__UPSTREAMS__UP__READ_TIMEOUT", "20s");
        for (keys, more, pause, whole) in [
            (vec![], vec![short], 1_500, false),
            (vec![("READ_TIMEOUT", "20s")], vec![short], 1_000, true),
            (vec![], vec![short, long], 1_000, true),
            (vec![("READ_TIMEOUT", "300ms")], vec![long], 5_000, false),
        ] {
            let (gateway, _folder) = upstream.gateway_at_up(&keys, &more);
            let start = Instant::now();
            let answer = get(&gateway, &format!("/up/{pause}"), "");
            assert!(answer.contains("5\r\nfirst\r\n"), "{keys:?} {answer}");
            assert_eq!(answer.ends_with("4\r\nlast\r\n0\r\n\r\n"), whole, "{keys:?} {answer}");
            let after = start.elapsed().as_millis();
            assert!(whole || (250..pause).contains(&after), "{keys:?}: {after} ms");
        }
    })
    .await;
}

#[actix_rt::test]
async fn answers_say_what_the_route_has_them_say() {
    blocking(|| {
        let upstream = Upstream::start(|line| {
            while line.request().is_some() {
                line.send(
                    "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-debug: 1\r\nx-debug: 2\r\nx-own: theirs\r\n\
                     cache-control: max-age=60\r\n\r\nok",
                );
            }
        });
        let keys = [
            ("RESPONSE_HEADERS__X_DEBUG", ""),
            ("RESPONSE_HEADERS__X_OWN", "ours, and more"),
            ("RESPONSE_HEADERS__CONTENT_SECURITY_POLICY", "default-src 'self'"),
            ("CACHE", "true"),
        ];
        let (gateway, _folder) = upstream.gateway_at_up(&keys, &[]);
        for _ in 0..2 {
            let answer = get(&gateway, "/up", "");
            assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.contains("x-debug"), "{answer}");
            for line in ["x-own: ours, and more", "content-security-policy: default-src 'self'"] {
                assert_eq!(answer.matches(&format!("\r\n{line}\r\n")).count(), 1, "{answer}");
            }
            assert_eq!(answer.matches("x-own").count(), 1, "{answer}");
        }
    })
    .await;
}

#[actix_rt::test]
async fn what_does_not_work_stops_the_start() {
    let folder = TempDir::new().unwrap();
    for (key, value) in [
        ("routes.products.host", "http://x"),
        ("upstreams.product.host", "a b"),
        ("routes.products.strip_prefix", "products"),
        ("routes.products.strip_prefix", "/prod"),
        ("routes.products.rewrite", "/a/../b"),
        ("routes.products.encoded_slashes", "some"),
        ("routes.products.read_timeout", "long"),
        ("routes.products.response_headers.content-length", "1"),
        ("routes.products.response_headers.x-a", "b\r\nc"),
        ("upstreams.product.hosts", "x"),
    ] {
        let mut command = Process::command(folder.path());
        command.args(["--set", &format!("gateway.{key}={value}")]);
        let output = Process::run(command);
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && text.lines().count() == 1, "{key}: {text}");
        let (named, _) = key.split_once(".x-a").unwrap_or((key, ""));
        let (named, _) = named.split_once(".content-length").unwrap_or((named, ""));
        assert!(text.contains(&format!("gateway.{named}")), "{key}: {text}");
    }
    let mut command = Process::command(folder.path());
    command.args(["--set", "gateway.routes.products.response_headers.x-frame-options=DENY"]);
    let shop = Process::start(folder.path(), command);
    let client = shop.client("gateway");
    let answer = client.send(Method::GET, "/products", &[], "").await;
    assert_eq!(answer.header("x-frame-options"), "DENY");
}
