//! What the gateway does for clients of an upstream that fails: breaker, retries, ejection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Process, Upstream, until};

/// An upstream that answers 500 as long as it is told to.
struct Moody {
    upstream: Upstream,
    fails: Arc<AtomicBool>,
}

impl Moody {
    fn start() -> Self {
        let fails = Arc::new(AtomicBool::new(false));
        let told = fails.clone();
        let upstream = Upstream::start(move |line| {
            while line.request().is_some() {
                let status = if told.load(Ordering::SeqCst) { "500 Oops" } else { "200 OK" };
                line.send(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n"));
            }
        });
        Self { upstream, fails }
    }

    fn fail(&self, fails: bool) {
        self.fails.store(fails, Ordering::SeqCst);
    }

    /// How many requests have come since this was last asked.
    fn asked(&self) -> usize {
        self.upstream.take().0.len()
    }
}

/// What /readyz says of the upstream `up`.
async fn up(gateway: &Process) -> Value {
    gateway.callee("upstreams", "up").await
}

/// The keys of `[gateway.resilience]`, with their values.
fn resilience<'a>(keys: &[(&str, &'a str)]) -> Vec<(String, &'a str)> {
    let name = |key| format!("APP__GATEWAY__RESILIENCE__{key}");
    keys.iter().map(|(key, value)| (name(*key), *value)).collect()
}

fn borrowed<'a>(environment: &'a [(String, &'a str)]) -> Vec<(&'a str, &'a str)> {
    environment.iter().map(|(name, value)| (name.as_str(), *value)).collect()
}

#[actix_rt::test]
async fn a_breaker_opens_when_most_requests_fail_and_closes_when_trials_succeed() {
    const PAUSE: Duration = Duration::from_secs(1);
    let moody = Moody::start();
    let settings = resilience(&[
        ("RETRIES", "0"),
        ("BREAKER_FAILURES", "50"),
        ("BREAKER_VOLUME", "6"),
        ("BREAKER_PAUSE", "1s"),
        ("BREAKER_TRIALS", "2"),
    ]);
    let (gateway, _folder) = moody.upstream.gateway_at_up(&[], &borrowed(&settings));
    let client = gateway.client("gateway");
    for _ in 0..2 {
        assert_eq!(client.get("/up").await.status, 200);
    }
    moody.fail(true);
    for _ in 0..3 {
        assert_eq!(client.get("/up").await.status, 500);
        assert_eq!(up(&gateway).await["breaker"], "closed", "too few to judge by");
    }
    assert_eq!(client.get("/up").await.status, 500);
    let opened = Instant::now();
    assert_eq!(moody.asked(), 6);
    for _ in 0..10 {
        let answer = client.get("/up").await;
        assert_eq!((answer.status, answer.problem().0.as_str()), (503, "/problems/unavailable"));
        assert!((1..=2).contains(&answer.header("retry-after").parse::<u32>().unwrap()));
    }
    assert_eq!(up(&gateway).await["breaker"], "open");
    assert_eq!(gateway.client("management").get("/readyz").await.status, 200);
    // The trial that fails is the only one.
    until("there is a trial", async || client.get("/up").await.status == 500).await;
    // It opened a moment before that was seen.
    assert!(opened.elapsed() >= PAUSE * 9 / 10, "{:?}", opened.elapsed());
    assert_eq!(client.get("/up").await.status, 503);
    assert_eq!((moody.asked(), up(&gateway).await["breaker"].clone()), (1, json!("open")));
    let opened = Instant::now();
    moody.fail(false);
    until("there is a trial", async || client.get("/up").await.status == 200).await;
    assert!(opened.elapsed() >= PAUSE * 9 / 10, "{:?}", opened.elapsed());
    assert_ne!(up(&gateway).await["breaker"], "closed", "one trial of two");
    assert_eq!(client.get("/up").await.status, 200);
    assert_eq!(up(&gateway).await["breaker"], "closed");
    for _ in 0..10 {
        assert_eq!(client.get("/up").await.status, 200);
    }
    let log = gateway.log();
    for (said, level) in [("the breaker of up is open: ", "warn"), ("up is back", "info")] {
        let mut lines = log.lines().filter(|line| line.contains(said));
        let line = lines.next().unwrap_or_else(|| panic!("{said}: {log}"));
        assert!(line.contains(&format!("\"level\":\"{level}\"")), "{line}");
    }
}

#[actix_rt::test]
async fn an_address_that_fails_is_left_out_and_comes_back() {
    let (good, bad) = (Moody::start(), Moody::start());
    let settings = resilience(&[("EJECT_FAILURES", "3"), ("EJECT_PAUSE", "2s")]);
    let urls = format!("{}, {}", good.upstream.url, bad.upstream.url);
    let environment =
        [borrowed(&settings), vec![("APP__GATEWAY__UPSTREAMS__UP__URLS", urls.as_str())]].concat();
    let (gateway, _folder) = good.upstream.gateway_at_up(&[], &environment);
    let client = gateway.client("gateway");
    let mut seen = (0, 0);
    until("both are asked", async || {
        assert_eq!(client.get("/up").await.status, 200);
        seen = (seen.0 + good.asked(), seen.1 + bad.asked());
        seen.0 > 0 && seen.1 > 0
    })
    .await;
    bad.fail(true);
    until("it is left out", async || {
        assert_eq!(client.get("/up").await.status, 200, "the other one is tried");
        up(&gateway).await["ejected"] != json!([])
    })
    .await;
    let since = Instant::now();
    let ejected = up(&gateway).await["ejected"].clone();
    let address = bad.upstream.url.trim_start_matches("http://");
    assert_eq!(ejected.as_array().unwrap().len(), 1);
    assert!(ejected[0].as_str().unwrap().contains(address), "{ejected}");
    assert!(bad.asked() >= 3, "as many failures as are set");
    good.asked();
    for _ in 0..20 {
        assert_eq!(client.get("/up").await.status, 200);
    }
    assert!(since.elapsed() < Duration::from_millis(1800), "too slow to tell");
    assert_eq!((good.asked(), bad.asked()), (20, 0));
    bad.fail(false);
    until("it is asked again", async || {
        assert_eq!(client.get("/up").await.status, 200);
        bad.asked() > 0
    })
    .await;
    assert!(since.elapsed() >= Duration::from_millis(1800), "{:?}", since.elapsed());
    assert_eq!(up(&gateway).await["ejected"], json!([]));
    let log = gateway.log();
    assert!(log.contains("fails and is left out") && log.contains(" is back"), "{log}");
}

/// How often the `addresses` of an upstream, which all fail, are asked for `count` requests of `method`.
async fn attempts(method: &str, count: usize, addresses: usize, keys: &[(&str, &str)]) -> usize {
    let all = (0..addresses).map(|_| Moody::start()).collect::<Vec<_>>();
    all.iter().for_each(|moody| moody.fail(true));
    let urls = all.iter().map(|moody| moody.upstream.url.as_str()).collect::<Vec<_>>().join(", ");
    let settings = resilience(&[&[("RETRY_BACKOFF", "1ms")], keys].concat());
    let environment =
        [borrowed(&settings), vec![("APP__GATEWAY__UPSTREAMS__UP__URLS", urls.as_str())]].concat();
    let (gateway, _folder) = all[0].upstream.gateway_at_up(&[], &environment);
    let client = gateway.client("gateway");
    for _ in 0..count {
        let method = method.parse().unwrap();
        assert_eq!(client.send(method, "/up", &[], "").await.status, 500);
    }
    all.iter().map(Moody::asked).sum()
}

#[actix_rt::test]
async fn what_can_be_done_twice_is_tried_again_as_often_as_is_set() {
    for (method, retries, asked) in
        [("GET", "2", 3), ("DELETE", "2", 3), ("GET", "0", 1), ("POST", "2", 1), ("PATCH", "2", 1)]
    {
        for addresses in [1, 2] {
            let attempts = attempts(method, 1, addresses, &[("RETRIES", retries)]).await;
            assert_eq!(attempts, asked, "{method} {retries} at {addresses}");
        }
    }
}

#[actix_rt::test]
async fn retries_are_a_share_of_the_requests_and_thirty_besides() {
    assert_eq!(attempts("GET", 20, 1, &[("RETRIES", "2"), ("RETRY_BUDGET", "0")]).await, 20);
    let asked = attempts("GET", 200, 1, &[("RETRIES", "2"), ("RETRY_BUDGET", "20")]).await;
    // All within ten seconds, and 20 in a hundred of 200.
    assert!((260..=270).contains(&asked), "{asked} attempts of 200 requests");
}
