//! What a gateway tells of its upstreams, its limiter and its cache.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use crate::support::{Kind, Process, Server, Shop, Topology, Upstream, free_port, until};

/// The labels of the upstream `up`.
const UP: [(&str, &str); 2] = [("role", "gateway"), ("peer", "up")];

/// The value of `name` of the upstream `up`, with one more label.
async fn up(gateway: &Process, name: &str, label: Option<(&str, &str)>) -> f64 {
    let labels = UP.into_iter().chain(label).collect::<Vec<_>>();
    gateway.samples().await.value(name, &labels)
}

fn failing() -> Upstream {
    Upstream::start(|line| {
        while line.request().is_some() {
            line.send("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n");
        }
    })
}

#[actix_rt::test]
async fn attempts_retries_and_ejections_are_counted() {
    let upstream = Upstream::obliging();
    let urls = format!("http://127.0.0.1:{}, {}", free_port(), upstream.url);
    let settings = [
        ("APP__GATEWAY__UPSTREAMS__UP__URLS", urls.as_str()),
        ("APP__GATEWAY__RESILIENCE__EJECT_FAILURES", "3"),
    ];
    let (gateway, _folder) = upstream.gateway_at_up(&[], &settings);
    let client = gateway.client("gateway");
    let mut requests = 0.0;
    until("the dead address is left out", async || {
        assert_eq!(client.get("/up").await.status, 200);
        requests += 1.0;
        up(&gateway, "peer_ejected_addresses", None).await == 1.0
    })
    .await;
    assert_eq!(up(&gateway, "peer_attempts_total", Some(("outcome", "good"))).await, requests);
    let unreachable = up(&gateway, "peer_attempts_total", Some(("outcome", "unreachable"))).await;
    assert!(unreachable >= 3.0);
    assert_eq!(up(&gateway, "peer_retries_total", None).await, unreachable);
    assert_eq!(up(&gateway, "peer_ejections_total", None).await, 1.0);
    assert_eq!(up(&gateway, "peer_attempts_total", Some(("outcome", "failed"))).await, 0.0);
}

#[actix_rt::test]
async fn requests_that_an_open_breaker_refuses_are_counted() {
    let upstream = failing();
    let settings = [
        ("APP__GATEWAY__RESILIENCE__BREAKER_CONSECUTIVE", "1"),
        ("APP__GATEWAY__RESILIENCE__RETRIES", "0"),
    ];
    let (gateway, _folder) = upstream.gateway_at_up(&[], &settings);
    let client = gateway.client("gateway");
    assert_eq!(client.get("/up").await.status, 500);
    for _ in 0..3 {
        assert_eq!(client.get("/up").await.status, 503);
    }
    assert_eq!(up(&gateway, "breaker_state", None).await, 2.0);
    assert_eq!(up(&gateway, "peer_refused_total", Some(("reason", "breaker"))).await, 3.0);
    assert_eq!(up(&gateway, "peer_refused_total", Some(("reason", "bulkhead"))).await, 0.0);
    assert_eq!(up(&gateway, "peer_attempts_total", Some(("outcome", "failed"))).await, 1.0);
}

#[actix_rt::test]
async fn a_full_bulkhead_shows_how_full_it_is_and_what_it_refused() {
    let (go, wait) = channel::<()>();
    let wait = Arc::new(Mutex::new(wait));
    let upstream = Upstream::start(move |line| {
        while line.request().is_some() {
            wait.lock().unwrap().recv().unwrap();
            line.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let settings =
        [("APP__GATEWAY__RESILIENCE__CONCURRENCY", "2"), ("APP__GATEWAY__RESILIENCE__QUEUE", "0")];
    let (gateway, _folder) = upstream.gateway_at_up(&[], &settings);
    let requests = [(); 2].map(|()| {
        let client = gateway.client("gateway");
        actix_rt::spawn(async move { client.get("/up").await.status })
    });
    let in_use = async || up(&gateway, "peer_bulkhead_in_use", None).await;
    until("both are under way", async || in_use().await == 2.0).await;
    assert_eq!(up(&gateway, "peer_bulkhead_size", None).await, 2.0);
    assert_eq!(gateway.client("gateway").get("/up").await.status, 503);
    assert_eq!(up(&gateway, "peer_refused_total", Some(("reason", "bulkhead"))).await, 1.0);
    // Either may be first.
    (0..2).for_each(|_| go.send(()).unwrap());
    for request in requests {
        assert_eq!(request.await.unwrap(), 200);
    }
    until("none is", async || in_use().await == 0.0).await;
}

each_case!(the_limiter_tells_how_it_decides: memory(None), redis(Some(Kind::Redis)));
async fn the_limiter_tells_how_it_decides(counts: Option<Kind>) {
    let servers = counts.into_iter().map(Server::start).collect();
    let settings = [
        ("APP__GATEWAY__ROUTES__PRODUCTS__LIMITS", "3/1h by address"),
        ("APP__GATEWAY__LIMITS_TIMEOUT", "5s"),
    ];
    let shop = Shop::start_on(Topology::OneProcess, servers, &settings);
    let statuses = [200, 200, 200, 429, 429];
    for status in statuses {
        assert_eq!(shop.gateway().get("/products").await.status, status);
    }
    let samples = shop.process("gateway").samples().await;
    let decided = |counted, decision| {
        let limiter = ("limiter", "gateway.limits");
        let labels = [limiter, ("counted", counted), ("decision", decision)];
        samples.value("limiter_decisions_total", &labels)
    };
    // What is over a limit here is not asked of the server.
    let allowed = if counts.is_some() { "server" } else { "here" };
    assert_eq!(decided(allowed, "allowed"), 3.0);
    assert_eq!(decided("here", "refused") + decided("server", "refused"), 2.0);
}

#[actix_rt::test]
async fn the_cache_of_the_gateway_tells_what_it_did() {
    let upstream = Upstream::start(|line| {
        while let Some(request) = line.request() {
            let is_kept = request.head.starts_with("GET /up/kept ");
            let age = if is_kept { "cache-control: max-age=60\r\n" } else { "" };
            line.send(format!("HTTP/1.1 200 OK\r\n{age}content-length: 2\r\n\r\nok"));
        }
    });
    let (gateway, _folder) = upstream.gateway_at_up(&[("CACHE", "true")], &[]);
    let client = gateway.client("gateway");
    for (path, times) in [("/up/kept", 4), ("/up/other", 2)] {
        for _ in 0..times {
            assert_eq!(client.get(path).await.status, 200);
        }
    }
    let samples = gateway.samples().await;
    for (result, count) in [("hit", 3.0), ("miss", 3.0), ("stale", 0.0), ("bypass", 0.0)] {
        let labels = [("result", result)];
        assert_eq!(samples.value("gateway_cache_requests_total", &labels), count, "{result}");
    }
}
