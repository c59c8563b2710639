//! What every answer of the gateway says to browsers, and how it is coded.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use actix_http::encoding::Decoder;
use actix_web::error::PayloadError;
use actix_web::web::Bytes;
use awc::http::Method;
use awc::http::header::ContentEncoding;
use futures_util::{StreamExt as _, stream};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{Answer, Process, Shop, Topology};

const SECURITY: [(&str, &str); 3] = [
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
];

/// Whether `answer` has each of the headers once.
fn assert_secure(answer: &Answer, what: &str) {
    for (name, value) in SECURITY {
        let said = answer.headers.get_all(name).collect::<Vec<_>>();
        assert_eq!(said, [value], "{what}: {name} of {answer:?}");
    }
}

each_topology!(every_kind_of_answer_has_the_security_headers);
async fn every_kind_of_answer_has_the_security_headers(topology: Topology) {
    let environment = [("APP__USER__LOGINS_PER_ADDRESS", "1"), ("APP__SERVER__BODY_LIMIT", "1000")];
    let shop = Shop::start_with(topology, &environment);
    let client = shop.gateway();
    let product = "/products/6b03bc06a8104e0a5ab179df";
    let large = "x".repeat(1001);
    let json = ("content-type", "application/json");
    let cases = [
        (Method::GET, "/", vec![], "", 200),
        (Method::HEAD, "/", vec![], "", 200),
        (Method::GET, "/products", vec![], "", 200),
        (Method::OPTIONS, "/products", vec![], "", 204),
        (Method::POST, "/", vec![], "", 405),
        (Method::GET, "/nowhere", vec![], "", 404),
        (Method::GET, product, vec![], "", 404),
        (Method::GET, "/products", vec![("authorization", "Bearer nonsense")], "", 401),
        (Method::POST, "/products", vec![("content-type", "text/plain")], "x", 415),
        (Method::POST, "/products", vec![json], "{}", 422),
        (Method::POST, "/products", vec![], large.as_str(), 413),
        (Method::GET, "/products", vec![("x-request-timeout-ms", "0")], "", 504),
        (Method::GET, "/products?limit=0", vec![], "", 422),
    ];
    for (method, path, headers, body, status) in cases {
        let answer = client.send(method.clone(), path, &headers, body).await;
        let what = format!("{topology:?} {method} {path}");
        assert_eq!(answer.status, status, "{what}");
        assert_secure(&answer, &what);
        assert_eq!(answer.header("strict-transport-security"), "", "{what}");
    }
    for status in [401, 429] {
        let body = json!({ "email": "neo@example.com", "password": "follow the white rabbit" });
        let answer = client.post("/auth/login", body).await;
        assert_eq!(answer.status, status);
        assert_secure(&answer, &format!("{topology:?} login"));
    }
}

#[actix_rt::test]
async fn an_upstream_that_is_away_takes_no_header_along() {
    let mut shop = Shop::start(Topology::OneProcessARole);
    let itself = shop.client("product").get("/products").await;
    assert_eq!(itself.header("x-content-type-options"), "", "that is for the gateway to say");
    shop.kill("product");
    let answer = shop.gateway().get("/products").await;
    assert_eq!(answer.status, 503);
    assert_secure(&answer, "no upstream");
}

each_topology!(only_tls_is_only_asked_for_where_that_is_set);
async fn only_tls_is_only_asked_for_where_that_is_set(topology: Topology) {
    let shop = Shop::start_with(topology, &[("APP__GATEWAY__HSTS", "365d")]);
    for (path, headers) in [("/products", [].as_slice()), ("/", &[("x-request-timeout-ms", "0")])] {
        let answer = shop.gateway().send(Method::GET, path, headers, "").await;
        assert_eq!(answer.header("strict-transport-security"), "max-age=31536000", "{path}");
    }
}

#[actix_rt::test]
async fn what_an_upstream_says_itself_stays_but_for_its_name() {
    let upstream = answering(
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-security-policy: default-src 'self'\r\n\
         server: Software/1.2.3\r\nx-powered-by: Software\r\nconnection: close\r\n\r\nhi",
    );
    let folder = TempDir::new().unwrap();
    let mut command = Process::command(folder.path());
    command.args(["--role", "gateway"]).env("USER_URL", &upstream).env("PRODUCT_URL", &upstream);
    let gateway = Process::start(folder.path(), command);
    let answer = gateway.client("gateway").get("/products").await;
    assert_eq!((answer.status, answer.body.as_slice()), (200, b"hi".as_slice()));
    assert_eq!(answer.header("content-security-policy"), "default-src 'self'");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert_eq!((answer.header("server"), answer.header("x-powered-by")), ("", ""));
}

/// The URL of a server that answers every request with `answer`, until the tests end.
fn answering(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            let mut buffer = [0; 1024];
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read(&mut buffer) {
                    Ok(length @ 1..) => head.extend_from_slice(&buffer[..length]),
                    _ => break,
                }
            }
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    url
}

each_topology!(a_304_has_the_tag_and_the_vary_of_its_200);
/// A 304 has what its 200 says of itself (RFC 9110, section 15.4.5).
async fn a_304_has_the_tag_and_the_vary_of_its_200(topology: Topology) {
    let shop = Shop::start(topology);
    let client = shop.gateway();
    let one = client.add_product("Lamp", 5.0).await;
    for n in 0..30 {
        client.add_product(&format!("A rather long name of product number {n}"), 5.0).await;
    }
    for target in ["/products".to_owned(), format!("/products/{one}")] {
        for accept in ["gzip", "zstd, gzip;q=0.5", "identity", ""] {
            let accept = ("accept-encoding", accept);
            let full = client.send(Method::GET, &target, &[accept], "").await;
            let known = ("if-none-match", full.header("etag"));
            let same = client.send(Method::GET, &target, &[accept, known], "").await;
            assert_eq!((full.status, same.status), (200, 304), "{target} {accept:?}");
            assert!(full.header("etag").len() > 2, "{full:?}");
            for name in ["etag", "vary"] {
                assert_eq!(same.header(name), full.header(name), "{target} {accept:?} {name}");
            }
        }
    }
}

/// What gzip makes of `bytes`.
fn unpacked(bytes: &[u8]) -> Vec<u8> {
    let mut command = Command::new("gzip");
    command.arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let bytes = bytes.to_owned();
    let writing = std::thread::spawn(move || input.write_all(&bytes).unwrap());
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    assert!(output.status.success());
    output.stdout
}

/// What `bytes` are in the coding zstd.
async fn decoded(bytes: Vec<u8>) -> Vec<u8> {
    let chunks = stream::iter([Ok::<_, PayloadError>(Bytes::from(bytes))]);
    let pieces = Decoder::new(chunks, ContentEncoding::Zstd).map(|piece| piece.unwrap().to_vec());
    pieces.collect::<Vec<_>>().await.concat()
}

each_topology!(text_of_a_kilobyte_is_compressed_for_who_takes_it);
async fn text_of_a_kilobyte_is_compressed_for_who_takes_it(topology: Topology) {
    let shop = Shop::start(topology);
    let client = shop.gateway();
    let one = format!("/products/{}", client.add_product("Lamp", 5.0).await);
    for n in 0..30 {
        client.add_product(&format!("A rather long name of product number {n}"), 5.0).await;
    }
    let get = async |path: &str, accept: &str| {
        client.send(Method::GET, path, &[("accept-encoding", accept)], "").await
    };
    let plain = get("/products", "identity").await;
    assert!(plain.body.len() > 2000 && plain.header("etag").starts_with('"'));
    for (accept, coding) in [("gzip", "gzip"), ("zstd", "zstd"), ("zstd;q=0.5, gzip", "gzip")] {
        let packed = get("/products", accept).await;
        assert_eq!(packed.header("content-encoding"), coding, "{accept}");
        assert_eq!(packed.header("etag"), format!("W/{}", plain.header("etag")));
        assert!(packed.header("vary").to_lowercase().contains("accept-encoding"), "{packed:?}");
        assert!(packed.body.len() < plain.body.len() / 2, "{accept}: {}", packed.body.len());
        let content = match coding {
            "gzip" => unpacked(&packed.body),
            _ => decoded(packed.body).await,
        };
        assert_eq!(content, plain.body, "{accept}");
    }
    for (path, accept) in [("/products", "br"), ("/products", ""), (&*one, "gzip")] {
        let answer = get(path, accept).await;
        assert_eq!(answer.header("content-encoding"), "", "{path} {accept:?}");
        assert!(answer.header("etag").starts_with('"'), "{path} {accept:?}");
    }
}

each_topology!(a_weak_tag_is_good_for_one_write);
async fn a_weak_tag_is_good_for_one_write(topology: Topology) {
    let shop = Shop::start(topology);
    let admin = shop.admin().await;
    let one = format!("/products/{}", admin.add_product("Lamp", 5.0).await);
    let weak = format!("W/{}", admin.get(&one).await.header("etag"));
    let headers = [("content-type", "application/json"), ("if-match", weak.as_str())];
    let body = r#"{"name":"Chair","price":7}"#;
    for status in [200, 412] {
        assert_eq!(admin.send(Method::PUT, &one, &headers, body).await.status, status);
    }
}

#[actix_rt::test]
async fn nothing_is_compressed_where_that_is_switched_off() {
    let shop = Shop::start_with(Topology::OneProcess, &[("APP__GATEWAY__COMPRESS", "false")]);
    let client = shop.gateway();
    for n in 0..30 {
        client.add_product(&format!("A rather long name of product number {n}"), 5.0).await;
    }
    let answer = client.send(Method::GET, "/products", &[("accept-encoding", "gzip")], "").await;
    assert_eq!((answer.status, answer.header("content-encoding")), (200, ""));
    assert!(answer.header("etag").starts_with('"'), "{answer:?}");
}
