//! The gateway between a client and an upstream that is not as it should be.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Line, PATIENCE, Raw, Upstream, ask, blocking};

const GET: &str = "GET /products HTTP/1.1\r\nhost: shop\r\n\r\n";
const LAST: &str = "GET /products HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n";
const POST: &str =
    "POST /products HTTP/1.1\r\nhost: shop\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// The status of `answer`, which is a problem that says nothing of what is behind the gateway.
fn problem(answer: &str) -> u16 {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    assert!(head.contains("application/problem+json"), "{answer:?}");
    let problem: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer:?}"));
    for cause in ["os error", "127.0.0.1", "http", "parse", "connection"] {
        assert!(!body.to_lowercase().contains(cause), "{body:?}");
    }
    problem["status"].as_u64().unwrap().try_into().unwrap()
}

/// One that closes the connection behind them.
fn answering_once(bytes: &'static str) -> Upstream {
    Upstream::start(move |line| {
        if line.request().is_some() {
            line.send(bytes);
            std::thread::sleep(Duration::from_millis(100));
            line.close();
        }
    })
}

/// An upstream that answers every request with these bytes, and keeps the connection.
fn answering(bytes: impl Into<Vec<u8>>) -> Upstream {
    let bytes = bytes.into();
    Upstream::start(move |line| {
        while line.request().is_some() {
            line.send(&bytes);
        }
    })
}

#[actix_rt::test]
async fn a_client_that_waits_for_100_gets_it_and_the_upstream_never_hears_of_it() {
    blocking(|| {
        let upstream = Upstream::obliging();
        let (gateway, _folder) = upstream.gateway(&[]);
        let mut client = Raw::connect(&gateway);
        let head = "POST /products HTTP/1.1\r\nhost: shop\r\nexpect: 100-continue\r\nconnection: close\r\n";
        client.send(format!("{head}content-length: 5\r\n\r\n"));
        assert_eq!(client.until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
        client.send("hello");
        assert!(client.rest().starts_with("HTTP/1.1 200 "));
        // `take` fails when the expectation was passed on.
        let (requests, _) = upstream.take();
        assert_eq!(requests[0].body, b"hello");

        client = Raw::connect(&gateway);
        client.send(format!("{head}content-length: 99999999\r\n\r\n"));
        assert_eq!(problem(&client.rest()), 413, "and not 100 first");
    })
    .await;
}

#[actix_rt::test]
async fn an_answer_to_head_has_the_length_that_was_said_and_no_content() {
    blocking(|| {
        let upstream = answering("HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n");
        let (gateway, _folder) = upstream.gateway(&[]);
        let head = LAST.replace("GET", "HEAD");
        let answers = ask(&gateway, &format!("{}{head}", GET.replace("GET", "HEAD")));
        assert_eq!(answers.matches("content-length: 1234\r\n").count(), 2, "{answers}");
        assert!(answers.ends_with("\r\n\r\n") && answers.matches("HTTP/1.1 200").count() == 2);
    })
    .await;
}

#[actix_rt::test]
async fn an_answer_without_content_ends_with_its_head() {
    blocking(|| {
        for head in [
            "HTTP/1.1 204 No Content\r\netag: \"1\"\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\netag: \"1\"\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\netag: \"1\"\r\ncontent-length: 99\r\n\r\n",
        ] {
            let upstream = answering(head);
            let (gateway, _folder) = upstream.gateway(&[]);
            let answers = ask(&gateway, &format!("{GET}{LAST}"));
            assert_eq!(answers.matches(&head[..13]).count(), 2, "{head:?}: {answers:?}");
            assert_eq!(answers.matches("etag: \"1\"").count(), 2, "{head:?}: {answers:?}");
            assert!(answers.ends_with("\r\n\r\n"), "{answers:?}");
        }
    })
    .await;
}

#[actix_rt::test]
async fn an_interim_answer_is_never_taken_for_the_answer() {
    blocking(|| {
        let interim = "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n";
        let all = [("HTTP/1.1 100 Continue\r\n\r\n", 0), (interim, 1), (&interim.repeat(3), 3)];
        for (interim, expected) in all {
            let interim = interim.to_owned();
            let upstream = Upstream::start(move |line| {
                while let Some(request) = line.request() {
                    line.send(&interim);
                    // Whoever takes it for the answer has asked something else by then.
                    std::thread::sleep(Duration::from_millis(100));
                    let path = request.head.split(' ').nth(1).unwrap();
                    let length = path.len();
                    line.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{path}"));
                }
            });
            let (gateway, _folder) = upstream.gateway(&[("APP__SERVER__WORKERS", "1")]);
            for number in 0..3 {
                let path = format!("/products/{number}");
                let answer = ask(&gateway, &LAST.replace("/products", &path));
                // What the upstream says before it answers is for the client; 100 is between neighbours.
                let hints =
                    answer.matches("HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n").count();
                assert_eq!(hints, expected, "{answer}");
                let answer = answer.rsplit_once("HTTP/1.1 ").unwrap().1;
                assert!(answer.starts_with("200 "), "{answer}");
                assert!(answer.ends_with(&format!("\r\n\r\n{path}")), "{answer}");
            }
            // One of HTTP/1.0 knows no such answers.
            let answer = ask(&gateway, "GET /products/4 HTTP/1.0\r\n\r\n");
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        }
    })
    .await;
}

#[actix_rt::test]
async fn an_interim_answer_comes_at_once_and_to_its_own_request() {
    blocking(|| {
        let upstream = Upstream::start(|line| {
            while let Some(request) = line.request() {
                let path = request.head.split(' ').nth(1).unwrap().to_owned();
                line.send(format!("HTTP/1.1 102 Processing\r\nx-path: {path}\r\n\r\n"));
                std::thread::sleep(Duration::from_millis(700));
                line.send("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\nok");
            }
        });
        let (gateway, _folder) = upstream.gateway(&[]);
        let mut client = Raw::connect(&gateway);
        for number in 0..2 {
            client.send(format!(
                "POST /products/{number} HTTP/1.1\r\nhost: shop\r\ncontent-length: 5\r\n\r\nhello"
            ));
            let start = Instant::now();
            let expected = format!("HTTP/1.1 102 Processing\r\nx-path: /products/{number}\r\n\r\n");
            assert_eq!(client.until("\r\n\r\n"), expected);
            assert!(start.elapsed() < Duration::from_millis(600), "{:?}", start.elapsed());
            assert_eq!(client.until("\r\n\r\n"), "HTTP/1.1 103 Early Hints\r\n\r\n");
            assert!(client.until("ok").starts_with("HTTP/1.1 201 "));
        }
    })
    .await;
}

/// An answer that is a success does not end the request (RFC 9112, section 9.3).
#[actix_rt::test]
async fn an_upload_goes_on_beside_its_answer() {
    const BODY: usize = 800_000;
    blocking(|| {
        for answer in [
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nearly\r\n0\r\n\r\n",
            "HTTP/1.1 201 Created\r\ncontent-length: 5\r\n\r\nearly",
            "HTTP/1.1 200 OK\r\n\r\nearly",
            "HTTP/1.1 204 No Content\r\n\r\n",
        ] {
            let (sender, receiver) = std::sync::mpsc::channel();
            let upstream = Upstream::start(move |line| {
                let Some(head) = line.head() else { return };
                line.send(answer);
                let mut rest = BODY;
                while rest > 0 && head.starts_with("POST") {
                    let Some(more) = line.bytes() else { break };
                    rest -= more.len();
                }
                let _ = sender.send(rest);
            });
            let (gateway, _folder) = upstream.gateway(&[]);
            let mut client = Raw::connect(&gateway);
            client.send(format!(
                "POST /products HTTP/1.1\r\nhost: shop\r\ncontent-length: {BODY}\r\n\r\n"
            ));
            client.send("x".repeat(BODY / 2));
            if !answer.contains("204") {
                assert!(client.until("early").starts_with("HTTP/1.1 20"), "{answer:?}");
            }
            client.send("x".repeat(BODY / 2));
            assert_eq!(receiver.recv_timeout(PATIENCE), Ok(0), "{answer:?}");
            client.finish();
            client.rest();
        }
    })
    .await;
}

/// In HTTP/1.0 the end of the connection is that of the answer.
#[actix_rt::test]
async fn half_an_answer_ends_in_a_reset_where_its_end_would_tell_nothing() {
    blocking(|| {
        let upstream =
            answering_once("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n");
        let (gateway, _folder) = upstream.gateway(&[]);
        let mut client = Raw::connect(&gateway);
        client.send("GET /products HTTP/1.0\r\n\r\n");
        assert!(client.until("half").starts_with("HTTP/1.1 200 "));
        assert!(client.is_reset(), "it ends as if that were all");
    })
    .await;
}

each_case!(a_client_that_goes_leaves_its_place_to_others:
    by_a_reset("GET /up/silent", "", Raw::reset),
    // An end like any other, without a reset.
    by_an_end_before_its_answer("GET /products/silent", "", drop),
    by_an_end_within_its_answer("GET /products/stalls", "", drop),
    by_the_end_of_a_write("POST /up/silent", "", drop),
    by_the_end_of_a_write_behind_content("PUT /up/silent", "content-length: 5\r\n\r\nhello", drop),
    by_the_end_of_a_write_behind_chunks(
        "POST /up/silent",
        "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        Raw::reset
    ),
);
async fn a_client_that_goes_leaves_its_place_to_others(
    line: &'static str,
    rest: &'static str,
    go: fn(Raw),
) {
    blocking(move || {
        let stalls = line.ends_with("/stalls");
        let prefix = line.rsplit_once('/').and_then(|(line, _)| line.split_once(' ')).unwrap().1;
        let (arrives, arrived) = std::sync::mpsc::channel();
        let upstream = Upstream::start(move |line| match line.request() {
            // Others look whether somebody listens.
            None => {}
            Some(request) if request.head.contains("/next") => line.send(OK),
            Some(_) => {
                arrives.send(()).unwrap();
                if stalls {
                    line.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n");
                }
                line.wait_for_end();
            }
        });
        let settings = [
            ("APP__GATEWAY__RESILIENCE__CONCURRENCY", "1"),
            ("APP__GATEWAY__RESILIENCE__QUEUE", "0"),
        ];
        let (gateway, _folder) = upstream.gateway_at_up(&[], &settings);
        let mut slow = Raw::connect(&gateway);
        let end = if rest.is_empty() { "\r\n" } else { rest };
        slow.send(format!("{line} HTTP/1.1\r\nhost: shop\r\n{end}"));
        if stalls {
            slow.until("half\r\n");
        }
        arrived.recv_timeout(PATIENCE).unwrap();
        let next = || ask(&gateway, &LAST.replace("/products", &format!("{prefix}/next")));
        assert!(next().starts_with("HTTP/1.1 503 "));
        go(slow);
        let start = Instant::now();
        while !next().starts_with("HTTP/1.1 200 ") {
            assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        }
    })
    .await;
}

#[actix_rt::test]
async fn a_client_that_reads_slowly_but_steadily_gets_everything() {
    const LENGTH: usize = 12 << 20;
    blocking(|| {
        let upstream = Upstream::start(|line| {
            let _ = line.request();
            line.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n"));
            line.send("x".repeat(LENGTH));
            line.wait_for_end();
        });
        let settings =
            [("APP__SERVER__BODY_TIMEOUT", "500ms"), ("APP__SERVER__REQUEST_TIMEOUT", "60s")];
        let (gateway, _folder) = upstream.gateway(&settings);
        let mut client = Raw::connect(&gateway);
        client.send(LAST);
        client.until("\r\n\r\n");
        let mut left = LENGTH;
        while left > 0 {
            let some = client.some(70_000.min(left));
            assert!(some > 0, "cut off with {left} of {LENGTH} bytes left");
            left -= some;
            std::thread::sleep(Duration::from_millis(50));
        }
        // And one that reads nothing does not.
        let mut client = Raw::connect(&gateway);
        client.send(LAST);
        std::thread::sleep(Duration::from_secs(4));
        let mut got = 0;
        while got < LENGTH {
            match client.some(1 << 20) {
                0 => break,
                some => got += some,
            }
        }
        assert!(got < LENGTH, "{got}");
    })
    .await;
}

#[actix_rt::test]
async fn an_early_answer_reaches_the_client() {
    blocking(|| {
        let full = "HTTP/1.1 507 Insufficient Storage\r\ncontent-length: 4\r\n\r\nfull";
        // One closes the connection with the body unread, the other keeps it and reads no more.
        for closes in [true, false] {
            let upstream = Upstream::start(move |line| {
                let _ = line.head();
                line.send(full);
                if !closes {
                    std::thread::sleep(PATIENCE);
                }
            });
            let (gateway, _folder) = upstream.gateway(&[]);
            let mut client = Raw::connect(&gateway);
            client.send("POST /products HTTP/1.1\r\nhost: shop\r\ncontent-length: 900000\r\n\r\n");
            client.send(vec![b'x'; 600_000]);
            let answer = client.rest();
            assert!(answer.starts_with("HTTP/1.1 507 "), "closes: {closes}: {answer:?}");
            assert!(answer.ends_with("\r\n\r\nfull"), "closes: {closes}: {answer:?}");
        }
    })
    .await;
}

#[actix_rt::test]
async fn trailers_are_dropped_and_the_connection_goes_on() {
    blocking(|| {
        let chunks = "5\r\nhello\r\n0\r\nx-sum: 1\r\ncontent-length: 3\r\n\r\n";
        let head = "HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n";
        let upstream = answering(format!("{head}{chunks}"));
        let (gateway, _folder) = upstream.gateway(&[]);
        let post = "POST /products HTTP/1.1\r\nhost: shop\r\ntransfer-encoding: chunked\r\ntrailer: x\r\n\r\n";
        let answers = ask(&gateway, &format!("{post}{chunks}{LAST}"));
        assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 2, "{answers}");
        assert_eq!(answers.matches("\r\n5\r\nhello\r\n0\r\n\r\n").count(), 2, "{answers}");
        assert!(!answers.contains("x-sum"), "{answers}");
        let (requests, broken) = upstream.take();
        assert_eq!((requests.len(), broken), (2, 0));
        assert_eq!(requests[0].body, b"hello");
    })
    .await;
}

#[actix_rt::test]
async fn an_upstream_that_goes_away_or_talks_nonsense_is_a_502() {
    blocking(|| {
        let ok = "HTTP/1.1 200 OK\r\n";
        let long = format!("{ok}x: {}\r\n\r\n", "y".repeat(300_000));
        let many = format!("{ok}{}content-length: 0\r\n\r\n", "x: y\r\n".repeat(500));
        let cases: Vec<(&str, String)> = vec![
            ("nothing", String::new()),
            ("half a head", format!("{ok}x: y\r\n")),
            ("half a body", format!("{ok}content-length: 10\r\n\r\nhello")),
            ("text", "hello\r\n\r\n".into()),
            ("bytes", "\0\u{1}\u{2}\r\n\r\n".into()),
            ("another protocol", "SSH-2.0-OpenSSH_9.2\r\n".into()),
            ("no status", "HTTP/1.1 abc OK\r\ncontent-length: 0\r\n\r\n".into()),
            ("a status of two digits", "HTTP/1.1 20 OK\r\ncontent-length: 0\r\n\r\n".into()),
            ("HTTP/3.0", "HTTP/3.0 200 OK\r\ncontent-length: 0\r\n\r\n".into()),
            ("a switch of protocols", "HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n".into()),
            ("a length and chunks", format!("{ok}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")),
            ("two lengths", format!("{ok}content-length: 5\r\ncontent-length: 6\r\n\r\nhello")),
            ("a signed length", format!("{ok}content-length: +5\r\n\r\nhello")),
            ("a list of lengths", format!("{ok}content-length: 5, 5\r\n\r\nhello")),
            ("another coding", format!("{ok}transfer-encoding: gzip\r\n\r\nhello")),
            ("chunks twice", format!("{ok}transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")),
            ("chunks in HTTP/1.0", "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".into()),
            ("a blank before a colon", format!("{ok}content-length : 0\r\n\r\n")),
            ("a fold", format!("{ok}x: y\r\n z\r\ncontent-length: 0\r\n\r\n")),
            ("NUL in a header", format!("{ok}x: a\0b\r\ncontent-length: 0\r\n\r\n")),
            ("a line without a colon", format!("{ok}nonsense\r\ncontent-length: 0\r\n\r\n")),
            ("a huge header", long),
            ("many headers", many),
        ];
        let all = cases.clone();
        let upstream = Upstream::start(move |line| {
            let Some(request) = line.request() else { return };
            line.send(&all[request.number()].1);
            line.close();
        });
        let (gateway, _folder) = upstream.gateway(&[]);
        for (number, (what, _)) in cases.iter().enumerate() {
            let path = format!("/products/{number}");
            for request in [LAST, POST] {
                let answer = ask(&gateway, &request.replace("/products", &path));
                assert_eq!(problem(&answer), 502, "{what}: {answer:?}");
            }
        }
    })
    .await;
}

#[actix_rt::test]
async fn an_answer_that_breaks_off_is_never_taken_for_whole() {
    blocking(|| {
        let large = "x".repeat(70_000);
        let ok = "HTTP/1.1 200 OK\r\n";
        let cases: Vec<(&str, String)> = vec![
            ("a length", format!("{ok}content-length: 100000\r\n\r\n{large}")),
            ("chunks", format!("{ok}transfer-encoding: chunked\r\n\r\n11170\r\n{large}\r\n")),
            ("half a chunk", format!("{ok}transfer-encoding: chunked\r\n\r\n21170\r\n{large}")),
            (
                "no chunk",
                format!("{ok}transfer-encoding: chunked\r\n\r\n11170\r\n{large}\r\nx\r\n"),
            ),
            (
                "no end of a chunk",
                format!("{ok}transfer-encoding: chunked\r\n\r\n1\r\n{large}\r\n"),
            ),
        ];
        let all = cases.clone();
        let upstream = Upstream::start(move |line| {
            // Every second time the connection is reset, because something on it is never read.
            let Some(number) = line.request().map(|request| request.number()) else { return };
            line.send(&all[number / 2].1);
            if number % 2 == 1 {
                // So that it is on its way by then.
                std::thread::sleep(Duration::from_millis(100));
                line.reset();
            }
        });
        let (gateway, _folder) = upstream.gateway(&[]);
        let mut begun = 0;
        for number in 0..2 * cases.len() {
            let what = (cases[number / 2].0, number % 2);
            let answer = ask(&gateway, &LAST.replace("/products", &format!("/products/{number}")));
            let whole = answer.ends_with("\r\n0\r\n\r\n") || answer.len() >= 100_000;
            assert!(!whole, "{what:?}: {} bytes", answer.len());
            // Nothing at all, when it breaks off before the head has left.
            let is_begun = answer.starts_with("HTTP/1.1 200 ");
            assert!(answer.is_empty() || is_begun || problem(&answer) == 502, "{what:?}");
            begun += usize::from(is_begun);
        }
        assert!(begun >= cases.len() / 2, "most answers begin before they break off: {begun}");
    })
    .await;
}

#[actix_rt::test]
async fn an_answer_may_end_with_the_connection() {
    blocking(|| {
        for head in [
            "HTTP/1.0 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n",
        ] {
            let upstream = Upstream::start(move |line| {
                let _ = line.request();
                line.send(head);
                std::thread::sleep(Duration::from_millis(50));
                line.send("hello");
            });
            let (gateway, _folder) = upstream.gateway(&[]);
            let answer = ask(&gateway, &format!("{GET}{LAST}"));
            assert_eq!(answer.matches("\r\n5\r\nhello\r\n0\r\n\r\n").count(), 2, "{answer:?}");
        }
    })
    .await;
}

#[actix_rt::test]
async fn a_client_of_http_1_0_gets_no_chunks_and_the_end_of_the_connection() {
    blocking(|| {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let upstream = answering(format!("{head}5\r\nhello\r\n0\r\n\r\n"));
        let (gateway, _folder) = upstream.gateway(&[]);
        for connection in ["close", "keep-alive"] {
            let request = format!("GET /products HTTP/1.0\r\nconnection: {connection}\r\n\r\n");
            let answer = ask(&gateway, &request);
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(!head.contains("transfer-encoding"), "{connection}: {answer:?}");
            assert_eq!(body, "hello", "{connection}: {answer:?}");
        }
    })
    .await;
}

#[actix_rt::test]
async fn an_upstream_that_hangs_is_a_504_and_one_that_refuses_a_503() {
    blocking(|| {
        let upstream = Upstream::start(Line::wait_for_end);
        let (gateway, _folder) = upstream.gateway(&[("APP__SERVER__REQUEST_TIMEOUT", "300ms")]);
        let start = Instant::now();
        assert_eq!(problem(&ask(&gateway, LAST)), 504);
        assert_eq!(problem(&ask(&gateway, POST)), 504);
        let after = start.elapsed().as_millis();
        assert!((500..5000).contains(&after), "{after} ms for two");

        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let url = format!("http://{nobody}");
        let (gateway, _folder) = upstream.gateway(&[("PRODUCT_URL", &url)]);
        let answer = ask(&gateway, LAST);
        assert_eq!(problem(&answer), 503);
        assert!(answer.contains("\r\nretry-after: "), "{answer}");
    })
    .await;
}

#[actix_rt::test]
async fn a_slow_answer_arrives_as_it_comes() {
    blocking(|| {
        let upstream = Upstream::start(|line| {
            let _ = line.request();
            line.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n");
            // The rest only when the client has the beginning.
            let _ = line.request();
        });
        let (gateway, _folder) = upstream.gateway(&[]);
        let mut client = Raw::connect(&gateway);
        client.send(GET);
        assert!(client.until("first").starts_with("HTTP/1.1 200 "));
    })
    .await;
}

#[actix_rt::test]
async fn a_connection_with_more_on_it_than_an_answer_is_not_used_again() {
    blocking(|| {
        let upstream = Upstream::start(|line| {
            while let Some(request) = line.request() {
                let forged = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged";
                let forged = if request.head.contains("/1 ") { forged } else { "" };
                line.send(format!("{OK}{forged}"));
            }
        });
        let (gateway, _folder) = upstream.gateway(&[("APP__SERVER__WORKERS", "1")]);
        for number in [1, 2, 1, 2] {
            let answer = ask(&gateway, &LAST.replace("/products", &format!("/products/{number}")));
            assert!(answer.ends_with("\r\n\r\nok"), "{answer:?}");
        }
    })
    .await;
}

#[actix_rt::test]
async fn a_large_download_takes_no_memory_for_a_slow_reader() {
    const ALL: usize = 200 << 20;
    blocking(|| {
        let upstream = Upstream::start(|line| {
            let _ = line.request();
            line.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {ALL}\r\n\r\n"));
            for _ in 0..ALL >> 16 {
                line.send([7; 65536]);
            }
        });
        let (gateway, _folder) = upstream.gateway(&[("APP__SERVER__WORKERS", "1")]);
        let _ = ask(&gateway, &LAST.replace("/products", "/"));
        let before = gateway.resident();
        let mut client = Raw::connect(&gateway);
        client.send(GET);
        let (mut got, mut most) = (0, 0);
        while got < ALL {
            let some = client.some(1 << 20);
            assert!(some > 0, "it ended after {got} bytes");
            got += some;
            if got >> 25 != (got - some) >> 25 {
                // Now and then it does something else.
                std::thread::sleep(Duration::from_millis(100));
                most = most.max(gateway.resident());
            }
        }
        let grown = most.saturating_sub(before);
        assert!(grown < 8 << 20, "{grown} bytes more");
    })
    .await;
}

#[actix_rt::test]
async fn a_path_has_one_route_however_it_is_spelt() {
    blocking(|| {
        let upstream = Upstream::obliging();
        let settings = [
            ("APP__GATEWAY__ROUTES__SECRET__PREFIX", "/products/secret"),
            ("APP__GATEWAY__ROUTES__SECRET__UPSTREAM", "product"),
            ("APP__GATEWAY__ROUTES__SECRET__TOKENS", "required"),
        ];
        let (gateway, _folder) = upstream.gateway(&settings);
        for (path, status) in [
            ("/products/secret/x", 401),
            ("/products/%73ecret/x", 401),
            ("//products///secret", 401),
            ("/products/secret;v=1/x", 401),
            ("/products/a/..%2fsecret", 404),
            ("/products/a/..;/secret", 404),
            ("/products/%2e%2e/products/secret", 404),
        ] {
            let answer = ask(&gateway, &LAST.replace("/products", path));
            assert_eq!(problem(&answer), status, "{path}");
        }
        assert!(upstream.take().0.is_empty());
        ask(&gateway, &LAST.replace("/products", "/%70roducts//a%20b?q=%2f"));
        let head = &upstream.take().0[0].head;
        assert!(head.starts_with("GET /products/a%20b?q=%2f HTTP/1.1\r\n"), "{head:?}");
    })
    .await;
}

#[actix_rt::test]
async fn nobody_makes_up_whom_a_request_is_for() {
    blocking(|| {
        let upstream = Upstream::obliging();
        let (gateway, _folder) = upstream.gateway(&[]);
        for request in [
            "GET http://shop.example/products HTTP/1.0\r\n",
            "GET http://shop.example/products HTTP/1.1\r\nhost: shop.example\r\nconnection: close\r\n",
            "GET /products HTTP/1.1\r\nhost: shop.example\r\nconnection: close, host\r\n",
        ] {
            let strangers = "x-forwarded-host: evil.example\r\nx-forwarded-port: 666\r\n\r\n";
            ask(&gateway, &format!("{request}{strangers}"));
            let head = format!("{}\r\n", upstream.take().0[0].head.to_lowercase());
            assert!(head.contains("\r\nhost: shop.example\r\n"), "{head}");
            assert!(head.contains("\r\nx-forwarded-host: shop.example\r\n"), "{head}");
            assert!(!head.contains("evil") && !head.contains("forwarded-port"), "{head}");
        }
    })
    .await;
}

#[actix_rt::test]
async fn what_a_route_takes_is_waited_for_with_100() {
    blocking(|| {
        let upstream = Upstream::obliging();
        let settings = [("APP__GATEWAY__ROUTES__PRODUCTS__BODY_LIMIT", "3000000")];
        let (gateway, _folder) = upstream.gateway(&settings);
        for (path, begin) in [("/products", "HTTP/1.1 100 "), ("/auth/login", "HTTP/1.1 413 ")] {
            let mut client = Raw::connect(&gateway);
            client.send(format!(
                "POST {path} HTTP/1.1\r\nhost: shop\r\nexpect: 100-continue\r\ncontent-length: 2000000\r\n\r\n"
            ));
            client.patience(Duration::from_millis(500));
            let answer = client.everything().0;
            assert!(answer.contains(begin), "{path}: {answer:?}");
        }
    })
    .await;
}

#[actix_rt::test]
async fn an_answer_that_stalls_is_given_up() {
    blocking(|| {
        let upstream = Upstream::start(|line| {
            if line.request().is_some() {
                line.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n");
                line.wait_for_end();
            }
        });
        let (gateway, _folder) = upstream.gateway(&[("APP__TRANSPORT__READ_TIMEOUT", "300ms")]);
        let start = Instant::now();
        let mut client = Raw::connect(&gateway);
        client.send("GET /products HTTP/1.1\r\nhost: shop\r\n\r\n");
        let answer = client.rest();
        assert!(answer.contains("hello") && !answer.ends_with("0\r\n\r\n"), "{answer:?}");
        let after = start.elapsed().as_millis();
        assert!((250..5000).contains(&after), "{after} ms");
    })
    .await;
}
