//! Limits counted here and on Redis: one suite on both, and what happens to it without Redis.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use app::config::{self, Limits, Sources};
use app::limits::{Counts, Limiter, Policies};
use app::peer::Headers;
use futures_util::future::join_all;
use nix::sys::signal::Signal;
use uuid::Uuid;

use crate::support::{Kind, Server, until};

/// The longest that a request may wait for Redis here; long enough for a busy machine.
const TIMEOUT: Duration = Duration::from_millis(400);
/// What all that have nothing to wait for take together.
const NOTHING: Duration = Duration::from_millis(200);

const ALL: &str = "4/1h by address, 6/2h by user, 9/3h by route";
/// What clients are told of those.
const POLICY: &str = r#""address";q=4;w=3600, "user";q=6;w=7200, "route";q=9;w=10800"#;

/// The counts of one process.
fn process(url: &str) -> Counts {
    let set = |key: &str, value: &str| (format!("gateway.limits_{key}"), value.to_owned());
    let timeout = humantime::format_duration(TIMEOUT).to_string();
    let overrides = vec![set("url", url), set("timeout", &timeout)];
    let sources = Sources { overrides, ..Sources::default() };
    Counts::new(&config::load(&sources).unwrap().0.gateway)
}

fn limiter(url: &str) -> Limiter {
    process(url).limiter()
}

fn policies(limits: &str) -> Policies {
    Policies::new("products", &Limits::try_from(limits.to_owned()).unwrap())
}

/// The status and what the headers say, as a client sees it.
async fn ask(limiter: &Limiter, policies: &Policies, client: &str, user: Option<u128>) -> String {
    let client = client.parse::<IpAddr>().ok();
    let outcome = limiter.check(policies, client, user.map(Uuid::from_u128)).await;
    let mut headers = Headers::new();
    let status = match outcome {
        Ok(outcome) => {
            outcome.write(&mut headers);
            200
        }
        Err(error) => {
            let answer = error.render(None);
            headers = answer.headers().clone().into_iter().collect();
            answer.status().as_u16()
        }
    };
    let header = |name| headers.get(name).map_or("-", |value| value.to_str().unwrap()).to_owned();
    [status.to_string(), header("ratelimit"), header("ratelimit-policy"), header("retry-after")]
        .join(" | ")
}

async fn passes(limiter: &Limiter, policies: &Policies) -> bool {
    ask(limiter, policies, "192.0.2.1", None).await.starts_with("200")
}

/// Of so many requests at once, those that pass.
async fn count(limiters: &[Limiter], policies: &Policies, requests: usize) -> usize {
    let requests = limiters.iter().cycle().take(requests).map(|limiter| passes(limiter, policies));
    join_all(requests).await.into_iter().filter(|passed| *passed).count()
}

/// Every answer of clients and users that come in turn, until each limit has refused somebody.
async fn scenario(limiter: &Limiter) -> Vec<String> {
    let mut answers = Vec::new();
    let limits =
        [policies(ALL), policies("2/1h by user"), policies("1/1h by address, 3/2h by address")];
    for limits in &limits {
        for (client, user) in [
            ("192.0.2.1", None),
            ("192.0.2.1", Some(1)),
            ("192.0.2.1", None),
            ("192.0.2.1", Some(1)),
            ("192.0.2.1", None),
            ("192.0.2.2", Some(1)),
            ("192.0.2.3", Some(1)),
            ("192.0.2.2", None),
            ("2001:db8::1", None),
            ("2001:db8::2", Some(2)),
            ("2001:db8:0:1::1", Some(2)),
            ("2001:db8:0:1::1", Some(3)),
        ] {
            for _ in 0..2 {
                answers.push(ask(limiter, limits, client, user).await);
            }
        }
    }
    answers
}

#[actix_rt::test]
async fn here_and_on_redis_the_answers_are_the_same() {
    let server = Server::start_own(Kind::Redis);
    let here = scenario(&limiter("memory://")).await;
    let there = scenario(&limiter(&server.url())).await;
    assert_eq!(here, there);
    for name in ["address", "user", "route"] {
        let refused = format!("429 | \"{name}\";r=0;t=");
        assert!(
            here.iter().any(|answer| answer.starts_with(&refused)),
            "{name} refuses: {here:#?}"
        );
    }
    assert_eq!(here[0], format!("200 | \"address\";r=3;t=2700 | {POLICY} | -"));
    // A cluster takes several keys in one slot only.
    assert_eq!(here, scenario(&limiter(&Server::start_cluster(true).url())).await);
    // Redis has decided, not this process.
    assert!(server.redis(&["KEYS", "shop:limits:products:address:4/1h:192.0.2.1"]).contains("192"));
}

#[actix_rt::test]
async fn here_and_on_redis_a_limit_recovers_at_its_rate() {
    let server = Server::start_own(Kind::Redis);
    let limits = policies("10/1s by address");
    for limiter in ["memory://".to_owned(), server.url()].map(|url| limiter(&url)) {
        let start = Instant::now();
        let mut passed = 0;
        while start.elapsed() < Duration::from_secs(2) {
            passed += u32::from(passes(&limiter, &limits).await);
            actix_rt::time::sleep(Duration::from_millis(5)).await;
        }
        let most = 10 + (start.elapsed().as_millis() / 100) as u32;
        assert!((most - 5..=most).contains(&passed), "{passed} of {most}");
    }
}

#[actix_rt::test]
async fn processes_share_one_limit_over_redis_under_any_load() {
    let server = Server::start_own(Kind::Redis);
    let limits = policies("300/1h by address, 100/1h by route");
    let processes = [process(&server.url()), process(&server.url())];
    let threads = processes.iter().map(|process| process.limiter()).collect::<Vec<_>>();
    assert_eq!(count(&threads, &limits, 400).await, 100);
    // What the route refused did not count for the address.
    let limits = policies("300/1h by address");
    assert_eq!(count(&threads, &limits, 400).await, 200);
}

#[actix_rt::test]
async fn redis_keeps_nothing_that_limits_nobody() {
    let server = Server::start_own(Kind::Redis);
    let limiter = limiter(&server.url());
    let limits = policies("10/1s by address, 10/2s by user");
    for client in 0..100 {
        ask(&limiter, &limits, &format!("192.0.2.{client}"), None).await;
    }
    until("all keys are gone", async || server.redis(&["DBSIZE"]).trim() == "0").await;
}

#[actix_rt::test]
async fn what_redis_has_refused_it_is_not_asked_again() {
    let server = Server::start_own(Kind::Redis);
    let (limiter, limits) = (limiter(&server.url()), policies("5/1h by address"));
    assert_eq!(count(std::slice::from_ref(&limiter), &limits, 5).await, 5);
    let calls = || {
        let text = server.redis(&["INFO", "commandstats"]);
        let line = text.lines().find(|line| line.contains("evalsha:")).unwrap();
        line.split(',').next().unwrap().to_owned()
    };
    let before = calls();
    for _ in 0..20 {
        assert!(!passes(&limiter, &limits).await);
    }
    assert_eq!(calls(), before);
}

#[actix_rt::test]
async fn without_redis_each_process_counts_on_from_what_it_knows() {
    for failure in [Signal::SIGSTOP, Signal::SIGKILL] {
        let mut server = Server::start_own(Kind::Redis);
        let (limiter, limits) = (limiter(&server.url()), policies("8/1h by address"));
        for _ in 0..3 {
            assert!(passes(&limiter, &limits).await);
        }
        server.signal(failure);
        let start = Instant::now();
        assert_eq!(count(std::slice::from_ref(&limiter), &limits, 2).await, 2);
        let waited = start.elapsed();
        assert!(waited < TIMEOUT + NOTHING, "{failure}: {waited:?}");
        assert!(failure == Signal::SIGKILL || waited >= TIMEOUT, "it was asked: {waited:?}");
        let start = Instant::now();
        let others = policies("1000/1h by address");
        assert_eq!(count(std::slice::from_ref(&limiter), &others, 500).await, 500);
        assert_eq!(count(std::slice::from_ref(&limiter), &limits, 500).await, 3, "of 8 in all");
        assert!(start.elapsed() < NOTHING, "{failure}: {:?}", start.elapsed());
        let check = limiter.readiness().unwrap();
        assert!(check.ask().await.is_err() && !check.required);
        bring_back(&mut server, failure);
        check.ask().await.unwrap();
        // Another process has its count there soon, and no request has failed. A count lasts 1.8 s, longer than it takes to
        // look for it.
        until("Redis counts again", async || {
            ask(&limiter, &policies("2000/1h by route"), "192.0.2.1", None).await;
            server.redis(&["KEYS", "*:route:*"]).contains("2000")
        })
        .await;
    }
}

#[actix_rt::test]
async fn a_redis_that_starts_again_is_asked_by_every_thread_at_once() {
    let mut server = Server::start_own(Kind::Redis);
    let (counts, limits) = (process(&server.url()), policies("100/1h by address"));
    let threads = [1, 2, 3].map(|_| counts.limiter());
    assert_eq!(count(&threads, &limits, 3).await, 3);
    server.signal(Signal::SIGKILL);
    server.resume();
    assert_eq!(count(&threads, &limits, 3).await, 3);
    assert!(server.redis(&["KEYS", "*"]).contains("100/1h"), "without a moment's rest");
}

fn bring_back(server: &mut Server, failure: Signal) {
    match failure {
        Signal::SIGSTOP => server.signal(Signal::SIGCONT),
        _ => server.resume(),
    }
}
