//! A peer of real sockets that fail in every way.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::http::header::{
    HeaderMap, HeaderValue, IF_MATCH, IF_NONE_MATCH, IF_UNMODIFIED_SINCE, RETRY_AFTER,
};
use actix_web::http::{Method, StatusCode};
use actix_web::web::Bytes;
use futures_util::future::join_all;
use futures_util::stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use super::{Peer, Position, Report, State};
use crate::config::{self, Resilience, Settings, Sources};
use crate::error::{Error, Kind};
use crate::peer::{Body, Context, Endpoint, PeerError, REQUEST_TIMEOUT, Reply, Request, http};

/// What a server does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Answer(u16),
    /// Closes the connection without an answer.
    Reset,
    /// Says that there is more than it then sends.
    Half,
    /// What is not HTTP.
    Garbage,
    Hang,
    /// Chunks without an end.
    Endless,
}

type Script = Rc<dyn Fn(usize) -> Deed>;

/// A server, which answers its n-th request as its script says.
#[derive(Clone)]
struct Server {
    url: String,
    /// How often each content came.
    seen: Rc<RefCell<HashMap<String, usize>>>,
    count: Rc<Cell<usize>>,
}

impl Server {
    async fn start(script: impl Fn(usize) -> Deed + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = Self { url, seen: Rc::default(), count: Rc::default() };
        let (served, script): (_, Script) = (server.clone(), Rc::new(script));
        actix_rt::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                actix_rt::spawn(served.clone().serve(stream, script.clone()));
            }
        });
        server
    }

    /// An address where nobody listens.
    async fn dead() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        Self { url, seen: Rc::default(), count: Rc::default() }
    }

    async fn serve(self, mut stream: TcpStream, script: Script) -> io::Result<()> {
        loop {
            let content = read_request(&mut stream).await?;
            *self.seen.borrow_mut().entry(content).or_default() += 1;
            let number = self.count.replace(self.count.get() + 1);
            match script(number) {
                Deed::Answer(status) => {
                    let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\n\r\nok");
                    stream.write_all(answer.as_bytes()).await?;
                }
                Deed::Reset => return Ok(()),
                Deed::Half => {
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf";
                    return stream.write_all(answer).await;
                }
                Deed::Garbage => return stream.write_all(b"what?\r\n\r\n").await,
                Deed::Hang => sleep(Duration::from_secs(60)).await,
                Deed::Endless => {
                    let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
                    stream.write_all(head).await?;
                    loop {
                        stream.write_all(b"5\r\nchunk\r\n").await?;
                        sleep(Duration::from_millis(5)).await;
                    }
                }
            }
        }
    }
}

/// The content of the next request, which says its length or has none.
async fn read_request(stream: &mut TcpStream) -> io::Result<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        if let Some((head, content)) = text.split_once("\r\n\r\n") {
            let length = head.split_once("content-length: ").map_or("0", |(_, rest)| rest);
            let length = length.lines().next().unwrap_or_default().parse().unwrap_or(0);
            if content.len() >= length {
                return Ok(content.to_owned());
            }
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn settings() -> Settings {
    config::load(&Sources::default()).unwrap().0
}

fn options() -> Resilience {
    settings().gateway.resilience
}

/// The way to `servers`.
fn upstream(options: Resilience, servers: &[&Server]) -> Peer {
    let addresses = servers.iter().map(|server| server.url.clone()).collect();
    let state = Arc::new(State::new("test", "test", addresses, options));
    let transport = settings().transport;
    let endpoint = |server: &&Server| {
        Endpoint::http(http::Peer::new(&server.url.parse().unwrap(), &transport, None))
    };
    Peer::new(state, servers.iter().map(endpoint).collect::<Vec<_>>())
}

fn context(left: Duration) -> Context {
    Context::from_headers(&HeaderMap::new(), None, left, std::time::Instant::now())
}

/// Of a caller that has less time than is given to it.
fn hurried(left: u64) -> Context {
    let mut headers = HeaderMap::new();
    headers.insert(REQUEST_TIMEOUT, left.into());
    Context::from_headers(&headers, None, Duration::from_secs(20), std::time::Instant::now())
}

fn patient() -> Context {
    context(Duration::from_secs(20))
}

fn request(method: Method, body: Body) -> Request {
    Request { body, ..Request::new(method, "/".parse().unwrap()) }
}

fn streamed(content: &str) -> Body {
    let chunk = Bytes::from(content.to_owned());
    let length = Some(chunk.len() as u64);
    Body::stream(length, stream::iter([Ok::<_, io::Error>(chunk)]))
}

async fn get(upstream: &Peer) -> Result<Reply, PeerError> {
    upstream.send(request(Method::GET, Body::None), &patient()).await
}

async fn post(upstream: &Peer, content: &str) -> Result<Reply, PeerError> {
    let full = Body::Full(Bytes::from(content.to_owned()));
    upstream.send(request(Method::POST, full), &patient()).await
}

fn status(outcome: &Result<Reply, PeerError>) -> StatusCode {
    match outcome {
        Ok(reply) => reply.status,
        Err(error) => Error::from(error.clone()).kind().status(),
    }
}

/// The outcomes of `count` GETs, eight at a time.
async fn many(upstream: &Peer, count: usize) -> Vec<StatusCode> {
    let line = async || {
        let mut statuses = Vec::new();
        for _ in 0..count / 8 {
            statuses.push(status(&get(upstream).await));
        }
        statuses
    };
    join_all((0..8).map(|_| line())).await.concat()
}

fn failures(statuses: &[StatusCode]) -> usize {
    statuses.iter().filter(|status| **status != StatusCode::OK).count()
}

fn answer(_: usize) -> Deed {
    Deed::Answer(200)
}

/// Fails every other request, in turn in one of two ways.
fn every_other(number: usize) -> Deed {
    [Deed::Reset, Deed::Answer(200), Deed::Answer(500), Deed::Answer(200)][number % 4]
}

/// Fails half of the requests, as chance will have it.
fn by_chance(number: usize) -> Deed {
    if fastrand::bool() { answer(number) } else { every_other(number / 2 * 2) }
}

#[actix_rt::test]
async fn of_two_addresses_one_may_fail_every_other_request() {
    for script in [every_other, by_chance] {
        let (good, bad) = (Server::start(answer).await, Server::start(script).await);
        let upstream = upstream(options(), &[&good, &bad]);
        // The less loaded address gets more: now and then the bad one gets too few to be told from one that is unlucky.
        for _ in 0..10 {
            let statuses = many(&upstream, 1_000).await;
            assert_eq!(statuses.len(), 1_000);
            assert!(failures(&statuses) < 10, "{} of 1000 failed", failures(&statuses));
            if !upstream.state.report().ejected.is_empty() {
                break;
            }
        }
        let Report { breaker, ejected, in_flight, waiting, .. } = upstream.state.report();
        assert_eq!((breaker, in_flight, waiting), (Position::Closed, 0, 0));
        assert_eq!(ejected, [bad.url]);
    }
}

#[actix_rt::test]
async fn every_way_to_fail_is_made_up_for_at_another_address() {
    for deed in [Deed::Reset, Deed::Half, Deed::Garbage, Deed::Answer(502), Deed::Answer(503)] {
        let (good, bad) = (Server::start(answer).await, Server::start(move |_| deed).await);
        let upstream = upstream(options(), &[&good, &bad]);
        // Of eight requests at once, four go to the bad address: twice that is more than the five failures that eject it. How
        // many more it gets depends on how long the retries wait.
        for _ in 0..2 {
            let statuses = many(&upstream, 80).await;
            assert_eq!(failures(&statuses), 0, "{deed:?}");
        }
        // Who says that it has too much to do is not left out.
        let out = usize::from(deed != Deed::Answer(503));
        assert_eq!(upstream.state.report().ejected.len(), out, "{deed:?}");
        assert!(bad.count.get() > 0);
    }
}

#[actix_rt::test]
async fn what_may_not_be_done_twice_is_sent_once() {
    for deed in [Deed::Reset, Deed::Half, Deed::Answer(500), Deed::Answer(503)] {
        let (good, bad) = (Server::start(answer).await, Server::start(move |_| deed).await);
        let upstream = upstream(options(), &[&good, &bad]);
        let mut failed = 0;
        for number in 0..100 {
            let outcome = post(&upstream, &format!("order {number}")).await;
            failed += usize::from(status(&outcome) != StatusCode::OK);
        }
        assert_eq!(failed, bad.count.get(), "{deed:?}");
        assert!(failed > 0, "{deed:?}");
        let mut seen = good.seen.take();
        for (order, times) in bad.seen.take() {
            *seen.entry(order).or_default() += times;
        }
        assert_eq!(seen.len(), 100, "{deed:?}");
        assert!(seen.values().all(|times| *times == 1), "{deed:?}: {seen:?}");
    }
}

#[actix_rt::test]
async fn what_reached_nobody_goes_to_another_address_whatever_it_is() {
    let (good, dead) = (Server::start(answer).await, Server::dead().await);
    let upstream = upstream(options(), &[&good, &dead]);
    for number in 0..60 {
        let content = format!("order {number}");
        let streamed = request(Method::POST, streamed(&content));
        let outcomes = [
            get(&upstream).await,
            post(&upstream, &content).await,
            upstream.send(streamed, &patient()).await,
        ];
        for outcome in outcomes {
            assert_eq!(status(&outcome), StatusCode::OK, "{outcome:?}");
        }
        assert_eq!(good.seen.borrow()[&content], 2, "all of the content has come, both times");
    }
    assert_eq!(upstream.state.report().ejected, [dead.url]);
}

#[actix_rt::test]
async fn a_single_address_that_cannot_be_reached_is_asked_again_only_where_that_is_harmless() {
    let upstream = upstream(options(), &[&Server::dead().await]);
    assert_eq!(status(&get(&upstream).await), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(status(&post(&upstream, "order").await), StatusCode::SERVICE_UNAVAILABLE);
    // Of the thirty retries that there always are, the GET has had two.
    let left = (0..100).take_while(|_| upstream.state.budget.withdraw(1)).count();
    assert_eq!(left, 28);
}

#[actix_rt::test]
async fn content_that_was_taken_is_not_sent_again() {
    let (good, bad) = (Server::start(answer).await, Server::start(|_| Deed::Reset).await);
    let upstream = upstream(options(), &[&good, &bad]);
    // It could be done twice, but what was streamed is gone.
    let put = async |number: usize| {
        let put = request(Method::PUT, streamed(&format!("put {number}")));
        upstream.send(put, &patient()).await
    };
    // One of two addresses is chosen, and nothing else has an address left out.
    while put(0).await.is_ok() {}
    for number in 0..60 {
        // Whether it arrives is a matter of the address.
        let _ = put(number).await;
        let full = Body::Full(format!("full {number}").into());
        let outcome = upstream.send(request(Method::PUT, full), &patient()).await;
        assert_eq!(status(&outcome), StatusCode::OK);
    }
}

#[actix_rt::test]
async fn a_write_under_a_condition_is_not_sent_again_once_it_may_have_been_done() {
    for deed in [Deed::Reset, Deed::Half, Deed::Garbage, Deed::Answer(502), Deed::Answer(503)] {
        for name in [IF_MATCH, IF_NONE_MATCH, IF_UNMODIFIED_SINCE] {
            for method in [Method::PUT, Method::DELETE] {
                let bad = Server::start(move |_| deed).await;
                let upstream = upstream(options(), &[&bad]);
                let mut conditional = request(method, Body::None);
                conditional.headers.append(name.clone(), HeaderValue::from_static("\"7\""));
                let outcome = upstream.send(conditional, &patient()).await;
                assert_eq!(bad.count.get(), 1, "{deed:?} {name}");
                // What breaks off after its head is an answer by then.
                assert!(deed == Deed::Half || status(&outcome) != StatusCode::OK);
            }
        }
    }
    // A read is, and so is what has met nobody.
    let flaky = Server::start(|n| if n == 0 { Deed::Reset } else { Deed::Answer(200) }).await;
    let mut read = request(Method::GET, Body::None);
    read.headers.append(IF_NONE_MATCH, HeaderValue::from_static("\"7\""));
    let outcome = upstream(options(), &[&flaky]).send(read, &patient()).await;
    assert_eq!((status(&outcome), flaky.count.get()), (StatusCode::OK, 2));
    let (dead, good) = (Server::dead().await, Server::start(answer).await);
    let upstream = upstream(options(), &[&dead, &good]);
    for _ in 0..10 {
        let mut put = request(Method::PUT, Body::None);
        put.headers.append(IF_MATCH, HeaderValue::from_static("\"7\""));
        assert_eq!(status(&upstream.send(put, &patient()).await), StatusCode::OK);
    }
}

#[actix_rt::test]
async fn an_address_that_hangs_costs_its_time_and_another_answers() {
    let (good, hangs) = (Server::start(answer).await, Server::start(|_| Deed::Hang).await);
    let options = Resilience { response_timeout: Duration::from_millis(100), ..options() };
    let upstream = upstream(options, &[&good, &hangs]);
    let started = Instant::now();
    let statuses = many(&upstream, 400).await;
    assert_eq!(failures(&statuses), 0);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    // Requests to the one that hangs pile up there, so that few more go there.
    assert!((5..40).contains(&hangs.count.get()), "{}", hangs.count.get());
    assert_eq!(upstream.state.report().ejected, [hangs.url]);
}

#[actix_rt::test]
async fn the_deadline_bounds_all_attempts() {
    let servers = [Server::start(|_| Deed::Hang).await, Server::start(|_| Deed::Hang).await];
    let options =
        Resilience { response_timeout: Duration::from_millis(80), retries: 10, ..options() };
    let upstream = upstream(options, &servers.each_ref());
    let started = Instant::now();
    let get = request(Method::GET, Body::None);
    let outcome = upstream.send(get, &context(Duration::from_millis(300))).await;
    assert_eq!(status(&outcome), StatusCode::GATEWAY_TIMEOUT);
    let elapsed = started.elapsed();
    assert!((200..1_000).contains(&elapsed.as_millis()), "{elapsed:?}");
    let attempts = servers.iter().map(|server| server.count.get()).sum::<usize>();
    assert!((2..=4).contains(&attempts), "{attempts}");
}

#[actix_rt::test]
async fn a_caller_in_a_hurry_is_no_failure_of_the_upstream() {
    for deed in [Deed::Hang, Deed::Answer(504)] {
        let servers = [Server::start(move |_| deed).await, Server::start(move |_| deed).await];
        let upstream = upstream(options(), &servers.each_ref());
        for _ in 0..40 {
            let get = request(Method::GET, Body::None);
            let outcome = upstream.send(get, &hurried(10)).await;
            assert_eq!(status(&outcome), StatusCode::GATEWAY_TIMEOUT);
        }
        let Report { breaker, ejected, .. } = upstream.state.report();
        assert_eq!((breaker, ejected), (Position::Closed, vec![]), "{deed:?}");
    }
}

#[actix_rt::test]
async fn a_route_with_less_time_finds_the_upstream_failing_too() {
    let hangs = Server::start(|_| Deed::Hang).await;
    let limit = Duration::from_millis(20);
    let upstream = upstream(options(), &[&hangs]);
    for _ in 0..20 {
        let post = request(Method::POST, Body::None);
        let outcome = upstream.send(post, &patient().within(limit)).await;
        assert_eq!(status(&outcome), StatusCode::GATEWAY_TIMEOUT);
    }
    assert_eq!(upstream.state.report().breaker, Position::Open);
}

#[actix_rt::test]
async fn an_upload_that_breaks_off_is_no_failure_of_the_upstream() {
    let servers = [Server::start(answer).await, Server::start(answer).await];
    let upstream = upstream(options(), &servers.each_ref());
    for _ in 0..40 {
        let chunks = [Ok(Bytes::from_static(b"half")), Err(io::Error::other("gone"))];
        let body = Body::stream(Some(8), stream::iter(chunks));
        let outcome = upstream.send(request(Method::POST, body), &patient()).await;
        assert_eq!(Error::from(outcome.unwrap_err()).kind(), Kind::Malformed);
    }
    let Report { breaker, ejected, .. } = upstream.state.report();
    assert_eq!((breaker, ejected), (Position::Closed, vec![]));
}

#[actix_rt::test]
async fn the_breaker_opens_and_closes() {
    let healthy = Rc::new(Cell::new(false));
    let script = {
        let healthy = healthy.clone();
        move |_| if healthy.get() { Deed::Answer(200) } else { Deed::Answer(500) }
    };
    let server = Server::start(script).await;
    let pause = Duration::from_millis(300);
    let upstream =
        upstream(Resilience { retries: 0, breaker_pause: pause, ..options() }, &[&server]);
    for _ in 0..20 {
        assert_eq!(status(&get(&upstream).await), StatusCode::INTERNAL_SERVER_ERROR);
    }
    assert_eq!(upstream.state.report().breaker, Position::Open);
    let error = Error::from(get(&upstream).await.unwrap_err());
    assert_eq!(error.kind(), Kind::Unavailable);
    let retry_after = HeaderValue::from_static("1");
    assert_eq!(error.render(None).headers().get(RETRY_AFTER), Some(&retry_after));
    assert_eq!(server.count.get(), 20, "nothing is sent");
    sleep(pause).await;
    assert_eq!(status(&get(&upstream).await), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(status(&get(&upstream).await), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(server.count.get(), 21, "one trial was enough");
    healthy.set(true);
    sleep(pause).await;
    assert_eq!(failures(&many(&upstream, 8).await), 5, "three trials at once");
    assert_eq!(upstream.state.report().breaker, Position::Closed);
    assert_eq!(failures(&many(&upstream, 80).await), 0);
}

#[actix_rt::test]
async fn a_place_is_taken_until_the_answer_has_ended_or_nobody_wants_it() {
    let server = Server::start(|_| Deed::Endless).await;
    let options = Resilience { concurrency: 1, queue: 1, ..options() };
    let upstream = upstream(options, &[&server]);
    let reply = get(&upstream).await.unwrap();
    assert_eq!(upstream.state.report().in_flight, 1);
    let started = Instant::now();
    let error = Error::from(get(&upstream).await.unwrap_err());
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.render(None).headers().contains_key(RETRY_AFTER));
    assert!(started.elapsed() >= Duration::from_millis(100), "it waits a little");
    drop(reply);
    assert_eq!(upstream.state.report().in_flight, 0);
    assert!(get(&upstream).await.is_ok());
}

#[actix_rt::test]
async fn a_caller_that_goes_away_leaves_nothing_behind() {
    let hangs = Server::start(|_| Deed::Hang).await;
    let upstream = upstream(options(), &[&hangs]);
    for _ in 0..5 {
        assert!(timeout(Duration::from_millis(20), get(&upstream)).await.is_err());
    }
    let Report { in_flight, waiting, breaker, .. } = upstream.state.report();
    assert_eq!((in_flight, waiting, breaker), (0, 0, Position::Closed));
}

#[actix_rt::test]
async fn retries_end_with_their_budget() {
    let bad = Server::start(|_| Deed::Answer(500)).await;
    let options = Resilience { breaker_failures: 0, ..options() };
    let upstream = upstream(Resilience { retry_backoff: Duration::ZERO, ..options }, &[&bad]);
    assert_eq!(failures(&many(&upstream, 400).await), 400);
    // 20 % of the requests, 30 besides, and what was asked for at once.
    assert!((400 + 80 + 30..400 + 80 + 40).contains(&bad.count.get()), "{}", bad.count.get());
}

#[actix_rt::test]
async fn the_report_is_json_for_the_management_port() {
    let upstream = upstream(options(), &[&Server::dead().await]);
    let report = serde_json::to_string(&upstream.state.report()).unwrap();
    let expected = r#"{"name":"test","breaker":"closed","inFlight":0,"waiting":0,"ejected":[]}"#;
    assert_eq!(report, expected);
}
