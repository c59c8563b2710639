//! Clients that are slow on purpose, and requests beyond measure.

use std::time::{Duration, Instant};

use crate::support::{Line, Process, Raw, Upstream, blocking};

const GET: &str = "GET /products HTTP/1.1\r\nhost: shop\r\n\r\n";
const POST: &str = "POST /products HTTP/1.1\r\nhost: shop\r\n";

/// Little patience.
const SHORT: [(&str, &str); 3] = [
    ("APP__SERVER__HEADER_TIMEOUT", "300ms"),
    ("APP__SERVER__BODY_TIMEOUT", "300ms"),
    ("APP__SERVER__REQUEST_TIMEOUT", "2s"),
];

/// What a client gets that sends `begin`, and then `piece` every 50 ms until it is cut off; and after how long.
fn drip(gateway: &Process, begin: &str, piece: &str) -> (String, Duration) {
    let mut client = Raw::connect(gateway);
    client.send(begin);
    let start = Instant::now();
    client.patience(Duration::from_millis(50));
    let mut answer = String::new();
    loop {
        let (more, closed) = client.everything();
        answer.push_str(&more);
        if closed {
            let after = start.elapsed();
            assert!(after >= Duration::from_millis(250), "{after:?} is less than any patience");
            return (answer, after);
        }
        assert!(start.elapsed() < Duration::from_secs(10), "not cut off, got {answer:?}");
        client.send(piece);
    }
}

#[actix_rt::test]
async fn a_head_that_drips_is_cut_off_the_first_and_the_next() {
    blocking(|| {
        let upstream = Upstream::obliging();
        let (gateway, _folder) = upstream.gateway(&SHORT);
        let (answer, after) = drip(&gateway, "", "");
        assert!(answer.is_empty() && after < Duration::from_secs(2), "{after:?}: {answer:?}");
        let (answer, after) = drip(&gateway, "GET /products HTTP/1.1\r\nx: ", "x");
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer:?}");
        assert!(answer.contains("/problems/request-timeout"), "{answer:?}");
        assert!(after < Duration::from_secs(2), "{after:?}");
        // Behind a whole request.
        let (answer, after) = drip(&gateway, GET, "x");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 2, "{answer:?}");
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("HTTP/1.1 408 "));
        assert!(after < Duration::from_secs(2), "{after:?}");
        assert_eq!(upstream.take().0.len(), 1);
    })
    .await;
}

#[actix_rt::test]
async fn what_stands_half_behind_a_request_does_not_hold_the_connection() {
    blocking(|| {
        let upstream = Upstream::obliging();
        let more = [("APP__SERVER__KEEP_ALIVE", "500ms")];
        let (gateway, _folder) = upstream.gateway(&[&SHORT[..], &more].concat());
        for begin in [format!("{GET}G"), GET.to_owned()] {
            let start = Instant::now();
            let mut client = Raw::connect(&gateway);
            client.send(&begin);
            assert!(client.rest().starts_with("HTTP/1.1 200 "));
            let after = start.elapsed().as_millis();
            assert!((250..3000).contains(&after), "{after} ms for {begin:?}");
        }
    })
    .await;
}

#[actix_rt::test]
async fn a_body_that_stops_or_drips_is_a_408_and_the_end_of_the_connection() {
    blocking(|| {
        let upstream = Upstream::obliging();
        let (gateway, _folder) = upstream.gateway(&SHORT);
        let length = format!("{POST}content-length: 1000\r\n\r\nx");
        let chunked = format!("{POST}transfer-encoding: chunked\r\n\r\n1\r\nx\r\n");
        // A path that the gateway answers itself reads what nobody wants with the same patience.
        let nowhere = chunked.replace("/products", "/nowhere");
        for begin in [&length, &chunked, &nowhere] {
            let (answer, after) = drip(&gateway, begin, "");
            assert!(answer.starts_with("HTTP/1.1 408 "), "{begin:?}: {answer:?}");
            assert!(answer.contains("/problems/request-timeout"), "{answer:?}");
            assert!(after < Duration::from_millis(1900), "{begin:?}: {after:?}");
        }
        // Each piece in time, and all together beyond the deadline of the request.
        for (begin, piece) in [(&length, "x"), (&chunked, "1\r\nx\r\n"), (&nowhere, "1\r\nx\r\n")] {
            let (answer, after) = drip(&gateway, begin, piece);
            assert!(answer.starts_with("HTTP/1.1 408 "), "{begin:?}: {answer:?}");
            assert!((1800..5000).contains(&after.as_millis()), "{begin:?}: {after:?}");
        }
        assert!(upstream.take().0.is_empty(), "no half request was taken for a whole one");
    })
    .await;
}

#[actix_rt::test]
async fn an_upstream_that_is_slow_is_not_the_clients_fault() {
    blocking(|| {
        let upstream = Upstream::start(Line::wait_for_end);
        let more = [("APP__GATEWAY__RESILIENCE__RESPONSE_TIMEOUT", "1s")];
        let (gateway, _folder) = upstream.gateway(&[&SHORT[..], &more].concat());
        // A little haste of the client's is not why.
        for line in ["", "x-request-timeout-ms: 1999\r\n"] {
            let before = gateway.log().matches("\"level\":\"error\"").count();
            let start = Instant::now();
            let mut client = Raw::connect(&gateway);
            client.send(format!("{POST}{line}connection: close\r\ncontent-length: 5\r\n\r\nhello"));
            assert!(client.rest().starts_with("HTTP/1.1 504 "));
            assert!(start.elapsed() >= Duration::from_millis(950), "{:?}", start.elapsed());
            assert_eq!(gateway.log().matches("\"level\":\"error\"").count(), before + 1);
        }
    })
    .await;
}

#[actix_rt::test]
async fn a_client_that_is_slow_is_not_the_upstreams_fault() {
    blocking(|| {
        let upstream = Upstream::obliging();
        // Fewer than all of them would open the breaker.
        let settings = [
            ("APP__GATEWAY__RESILIENCE__RESPONSE_TIMEOUT", "200ms"),
            ("APP__GATEWAY__RESILIENCE__BREAKER_FAILURES", "50"),
            ("APP__GATEWAY__RESILIENCE__BREAKER_VOLUME", "5"),
            ("APP__SERVER__BODY_TIMEOUT", "600ms"),
        ];
        let (gateway, _folder) = upstream.gateway(&settings);
        let half = format!("{POST}content-length: 10\r\n\r\nhello");
        let clients = [(); 8].map(|()| {
            let mut client = Raw::connect(&gateway);
            client.send(&half);
            client
        });
        for mut client in clients {
            let answer = client.rest();
            assert!(answer.starts_with("HTTP/1.1 408 "), "{answer:?}");
        }
        assert!(upstream.take().0.is_empty());
        // Piece by piece, each later than the upstream may answer.
        let mut client = Raw::connect(&gateway);
        client.send(format!("{POST}connection: close\r\ncontent-length: 5\r\n\r\n"));
        for piece in ["h", "e", "l", "l", "o"] {
            std::thread::sleep(Duration::from_millis(300));
            client.send(piece);
        }
        let answer = client.rest();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
        assert_eq!(upstream.take().0[0].body, b"hello");
    })
    .await;
}

#[actix_rt::test]
async fn an_upstream_that_is_slow_behind_an_upload_has_its_own_time() {
    blocking(|| {
        let upstream = Upstream::start(Line::wait_for_end);
        let settings = [("APP__GATEWAY__RESILIENCE__RESPONSE_TIMEOUT", "300ms")];
        let (gateway, _folder) = upstream.gateway(&settings);
        let mut client = Raw::connect(&gateway);
        client.send(format!("{POST}connection: close\r\ncontent-length: 5\r\n\r\nhell"));
        std::thread::sleep(Duration::from_millis(500));
        let start = Instant::now();
        client.send("o");
        assert!(client.rest().starts_with("HTTP/1.1 504 "));
        let after = start.elapsed().as_millis();
        assert!((250..1500).contains(&after), "{after} ms");
    })
    .await;
}

#[actix_rt::test]
async fn a_client_that_does_not_read_is_cut_off() {
    blocking(|| {
        let (gone, is_gone) = std::sync::mpsc::channel();
        let upstream = Upstream::start(move |line| {
            // Others look whether somebody listens.
            let Some(_) = line.request() else { return };
            line.send("HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n");
            while line.try_send(&[7; 65536]) {}
            gone.send(()).unwrap();
        });
        let (gateway, _folder) = upstream.gateway(&SHORT);
        let mut client = Raw::connect(&gateway);
        let start = Instant::now();
        client.send(GET);
        is_gone.recv_timeout(Duration::from_secs(10)).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(250), "{:?}", start.elapsed());
        drop(client);
    })
    .await;
}

#[actix_rt::test]
async fn three_hundred_slow_clients_keep_nobody_out() {
    blocking(|| {
        let upstream = Upstream::obliging();
        let (gateway, _folder) = upstream.gateway(&[]);
        let begins = [GET[..20].to_owned(), format!("{POST}content-length: 9\r\n\r\n"), "".into()];
        let slow = (0..300).map(|number| {
            let mut client = Raw::connect(&gateway);
            client.send(&begins[number % 3]);
            client
        });
        let slow = slow.collect::<Vec<_>>();
        for _ in 0..50 {
            let start = Instant::now();
            let mut client = Raw::connect(&gateway);
            client.send(GET.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n"));
            assert!(client.rest().starts_with("HTTP/1.1 200 "));
            assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        }
        drop(slow);
    })
    .await;
}

#[actix_rt::test]
async fn a_head_beyond_measure_is_refused() {
    blocking(|| {
        let upstream = Upstream::obliging();
        let (gateway, _folder) = upstream.gateway(&[]);
        let with = |lines: &str| GET.replace("\r\n\r\n", &format!("\r\n{lines}\r\n"));
        let line = |length: usize| format!("x: {}\r\n", "y".repeat(length));
        for (what, request, status, problem) in [
            ("a large header", with(&line(20_000)), 431, "head-too-large"),
            ("several", with(&line(5_000).repeat(4)), 431, "head-too-large"),
            ("many", with(&line(1).repeat(85)), 431, "head-too-large"),
            (
                "a long path",
                GET.replace("/products", &format!("/products/{}", "x".repeat(9_000))),
                414,
                "target-too-long",
            ),
            (
                "a long query",
                GET.replace("/products", &format!("/products?{}", "x".repeat(9_000))),
                414,
                "target-too-long",
            ),
            // Beyond what is read at all.
            ("very many", with(&line(1).repeat(200)), 431, "head-too-large"),
            ("a huge header", with(&line(200_000)), 431, "head-too-large"),
            (
                "a huge path",
                GET.replace("/products", &format!("/products/{}", "x".repeat(70_000))),
                414,
                "target-too-long",
            ),
        ] {
            let mut client = Raw::connect(&gateway);
            client.send(request);
            let answer = client.rest();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {answer:?}");
            assert!(answer.contains(problem), "{what}: {answer:?}");
        }
        assert_eq!(upstream.take().0.len(), 0);
        // Just within, and the role behind the gateway does not mind what the gateway adds.
        let mut client = Raw::connect(&gateway);
        client.send(with(&format!("{}connection: close\r\n", line(180).repeat(78))));
        assert!(client.rest().starts_with("HTTP/1.1 200 "));
    })
    .await;
}
