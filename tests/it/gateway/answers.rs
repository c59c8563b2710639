//! The gateway's own answers, and what holds for every answer.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use awc::http::Method;
use serde_json::json;

use crate::support::{Shop, Topology};

each_topology!(the_gateway_says_that_it_runs);
async fn the_gateway_says_that_it_runs(topology: Topology) {
    let answer = Shop::start(topology).gateway().get("/").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body, br#"{"message":"API Gateway is Running"}"#);
}

each_topology!(what_is_not_there_says_so);
async fn what_is_not_there_says_so(topology: Topology) {
    let shop = Shop::start(topology);
    let unknown =
        ["/nowhere", "/auth", "/authentic", "/auth/nowhere", "/products/", "/products/1/2"];
    // Some that no id is: they are not looked for.
    let no_ids =
        ["/products/%C3%A4", "/products/a%20b", "/products/a%2Fb", "/orders/%E2%82%AC/pay"];
    for path in unknown.into_iter().chain(no_ids) {
        let answer = shop.gateway().get(path).await;
        assert_eq!(
            (answer.status, answer.problem().0.as_str()),
            (404, "/problems/not-found"),
            "{path}"
        );
    }
}

each_topology!(a_wrong_method_is_told_the_right_ones);
async fn a_wrong_method_is_told_the_right_ones(topology: Topology) {
    let shop = Shop::start(topology);
    for (method, path, allow) in [
        (Method::POST, "/", "GET, HEAD, OPTIONS"),
        (Method::DELETE, "/products", "GET, HEAD, POST, OPTIONS"),
        (
            Method::POST,
            "/products/6b03bc06a8104e0a5ab179df",
            "GET, HEAD, PUT, PATCH, DELETE, OPTIONS",
        ),
        (Method::GET, "/auth/register", "POST, OPTIONS"),
        (Method::GET, "/auth/session", "POST, DELETE, OPTIONS"),
    ] {
        let answer = shop.gateway().send(method, path, &[], "").await;
        assert_eq!((answer.status, answer.header("allow")), (405, allow), "{path}");
        assert_eq!(answer.problem().0, "/problems/method-not-allowed");
    }
}

each_topology!(a_body_must_be_json_and_not_too_large);
async fn a_body_must_be_json_and_not_too_large(topology: Topology) {
    let shop = Shop::start(topology);
    let client = shop.gateway();
    for bad in ["", "{", "{\"name\":}", "\u{0}", "nul", "{\"a\":1}x"] {
        let headers =
            [("content-type", "application/json"), ("content-length", &bad.len().to_string())];
        let answer = client.send(Method::POST, "/products", &headers, bad).await;
        assert_eq!(
            (answer.status, answer.problem().0.as_str()),
            (400, "/problems/malformed"),
            "{bad:?}"
        );
    }
    let deep = "[".repeat(100_000);
    assert_eq!(client.post("/products", format!("{{\"name\":{deep}")).await.status, 400);
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let answer = client.send(Method::POST, "/products", &form, "name=Lamp").await;
    assert_eq!(
        (answer.status, answer.problem().0.as_str()),
        (415, "/problems/unsupported-media-type")
    );
    let name = "x".repeat((1 << 20) - 100);
    let answer = client.post("/products", json!({ "name": name, "price": 1 })).await;
    assert_eq!(answer.status, 422, "just within the limit");
}

each_topology!(a_request_id_is_taken_if_sane_and_comes_back_on_every_answer);
async fn a_request_id_is_taken_if_sane_and_comes_back_on_every_answer(topology: Topology) {
    let shop = Shop::start(topology);
    let client = shop.gateway();
    for path in ["/", "/products", "/auth/dashboard/1", "/nowhere"] {
        let answer = client.send(Method::GET, path, &[("x-request-id", "mine-7.b_C")], "").await;
        assert_eq!(answer.header("x-request-id"), "mine-7.b_C", "{path}");
        let answer = client.send(Method::GET, path, &[("x-request-id", "not {sane}")], "").await;
        assert_eq!(answer.header("x-request-id").len(), 32, "{path}");
    }
    let ids = answer_ids(&shop, "product", "mine-7.b_C");
    assert!(!ids.is_empty(), "the id is in the log of the role behind the gateway");
}

each_topology!(a_body_over_the_limit_is_refused_whether_its_length_is_said_or_not);
async fn a_body_over_the_limit_is_refused_whether_its_length_is_said_or_not(topology: Topology) {
    let shop = Shop::start(topology);
    let large = format!("{{\"name\":\"{}\"}}", "x".repeat(1 << 20));
    let clients = [
        Some(shop.gateway()),
        (topology == Topology::OneProcessARole).then(|| shop.client("product")),
    ];
    for client in clients.into_iter().flatten() {
        for chunked in [false, true] {
            let address = client.base.trim_start_matches("http://").to_owned();
            let answer = post_raw(address, large.clone(), chunked).await;
            assert!(answer.starts_with("HTTP/1.1 413 "), "{topology:?} {chunked}: {answer}");
            assert!(answer.contains("/problems/too-large"), "{answer}");
        }
    }
    assert_eq!(shop.gateway().get("/products").await.json(), json!([]));
}

/// POSTs `body` to `/products` as a client that reads while it writes, and gives the whole answer.
async fn post_raw(address: String, body: String, chunked: bool) -> String {
    let exchange = move || {
        let mut stream = TcpStream::connect(address).unwrap();
        let mut reader = stream.try_clone().unwrap();
        let length = if chunked {
            "transfer-encoding: chunked".into()
        } else {
            format!("content-length: {}", body.len())
        };
        let head = format!(
            "POST /products HTTP/1.1\r\nhost: shop\r\ncontent-type: application/json\r\nconnection: close\r\n{length}\r\n\r\n"
        );
        let body = if chunked { format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()) } else { body };
        // The answer may come, and the connection go, before all is sent.
        std::thread::spawn(move || stream.write_all(format!("{head}{body}").as_bytes()));
        let mut answer = Vec::new();
        let _ = reader.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    };
    actix_rt::task::spawn_blocking(exchange).await.unwrap()
}

each_topology!(an_upload_that_is_refused_gets_its_answer_however_slow_it_is);
async fn an_upload_that_is_refused_gets_its_answer_however_slow_it_is(topology: Topology) {
    let shop = Shop::start(topology);
    let address = shop.gateway().base.trim_start_matches("http://").to_owned();
    for (path, content_type, status) in [
        ("/products", "text/plain", 415),
        ("/products/1/2", "application/json", 404),
        ("/auth/dashboard/1", "x/y", 405),
    ] {
        let address = address.clone();
        let answer = actix_rt::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            let head = format!(
                "POST {path} HTTP/1.1\r\nhost: shop\r\ncontent-type: {content_type}\r\nconnection: close\r\ncontent-length: 500000\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).unwrap();
            for _ in 0..5 {
                std::thread::sleep(Duration::from_millis(300));
                stream.write_all(&[b'x'; 100_000]).unwrap();
            }
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        });
        let answer = answer.await.unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{topology:?} {path}: {answer}"
        );
    }
}

each_topology!(an_expectation_ends_at_the_gateway);
async fn an_expectation_ends_at_the_gateway(topology: Topology) {
    let shop = Shop::start(topology);
    let address = shop.gateway().base.trim_start_matches("http://").to_owned();
    let answer = actix_rt::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        let head = "GET /products HTTP/1.1\r\nhost: shop\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    let answer = answer.await.unwrap();
    assert!(answer.contains("HTTP/1.1 200 OK"), "{topology:?}: {answer}");
}

/// The lines that `role` has logged of the request `id`.
fn answer_ids(shop: &Shop, role: &str, id: &str) -> Vec<serde_json::Value> {
    let process = if shop.topology == Topology::OneProcess { "gateway" } else { role };
    let log = shop.process(process).log();
    let lines = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.filter(|line| line["role"] == role && line["requestId"] == id).collect()
}

each_topology!(the_log_is_one_object_a_line_with_everything_an_operator_asks_for);
async fn the_log_is_one_object_a_line_with_everything_an_operator_asks_for(topology: Topology) {
    let shop = Shop::start(topology);
    let path = "/products/6b03bc06a8104e0a5ab179df";
    shop.gateway().send(Method::GET, path, &[("x-request-id", "look-for-me")], "").await;
    let lines = answer_ids(&shop, "product", "look-for-me");
    assert_eq!(lines.len(), 1);
    let line = &lines[0];
    assert_eq!((&line["level"], &line["method"]), (&json!("info"), &json!("GET")));
    assert_eq!((&line["route"], &line["status"]), (&json!("/products/{id}"), &json!(404)));
    assert!(line["durationMs"].as_f64().unwrap() > 0.0);
    assert!(line["time"].as_str().unwrap().ends_with('Z'));
    assert_eq!(answer_ids(&shop, "gateway", "look-for-me").len(), 1);
}

each_topology!(a_caller_may_ask_for_a_shorter_deadline);
async fn a_caller_may_ask_for_a_shorter_deadline(topology: Topology) {
    let shop = Shop::start(topology);
    let headers = [("x-request-timeout-ms", "0")];
    let answer = shop.gateway().send(Method::GET, "/products", &headers, "").await;
    assert_eq!((answer.status, answer.problem().0.as_str()), (504, "/problems/deadline-exceeded"));
    // That is nobody's fault, and wakes nobody at night.
    let log = shop.process("gateway").log();
    assert!(!log.contains("\"level\":\"error\""), "{log}");
}
