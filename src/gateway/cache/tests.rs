use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::AtomicUsize;

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderMap, HeaderName, REFERER};
use actix_web::web::Bytes;
use futures_util::future::join_all;
use futures_util::stream;
use tokio::sync::Notify;
use tokio::time::{advance, pause, sleep};

use super::*;
use crate::peer::{Body, Headers, PeerError};

const LIMIT: usize = 1000;

/// An origin that answers by a script, and remembers what it was asked.
#[derive(Clone, Default)]
struct Origin {
    script: Rc<RefCell<Vec<Result<Reply, Error>>>>,
    asked: Rc<RefCell<Vec<(Method, String, Headers)>>>,
    delay: Duration,
}

struct Bench {
    cache: Cache,
    origin: Origin,
}

/// `"name: value"` a line.
fn headers(lines: &[&str]) -> Headers {
    let mut headers = Headers::new();
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        headers.append(name.parse().unwrap(), HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn request(method: &Method, target: &str, lines: &[&str]) -> Request {
    let mut request = Request::new(method.clone(), target.parse().unwrap());
    request.headers = headers(lines);
    request.headers.append(HOST, HeaderValue::from_static("shop.example"));
    request
}

fn reply(status: u16, body: &'static str, lines: &[&str]) -> Reply {
    let status = StatusCode::from_u16(status).unwrap();
    Reply { status, headers: headers(lines), body: Body::Full(Bytes::from_static(body.as_bytes())) }
}

fn context() -> Context {
    // Its clock does not stop, and must not overtake the one that jumps.
    Context::from_headers(
        &HeaderMap::new(),
        None,
        Duration::from_secs(3600),
        std::time::Instant::now(),
    )
}

fn said(reply: &Reply, name: &str) -> String {
    let lines = reply.headers.get_all(name).map(|line| line.to_str().unwrap());
    lines.collect::<Vec<_>>().join(", ")
}

async fn text(reply: Reply) -> String {
    String::from_utf8(reply.body.read(1 << 20).await.unwrap().to_vec()).unwrap()
}

impl Bench {
    fn new() -> Self {
        pause();
        Self::another()
    }

    /// Beside one that has stopped the clock.
    fn another() -> Self {
        Self { cache: Cache::new(1 << 20, LIMIT), origin: Origin::default() }
    }

    /// What the origin answers next.
    fn then(&self, status: u16, body: &'static str, lines: &[&str]) -> &Self {
        self.origin.script.borrow_mut().push(Ok(reply(status, body, lines)));
        self
    }

    fn then_fails(&self, kind: Kind) -> &Self {
        self.origin.script.borrow_mut().push(Err(Error::new(kind, "down")));
        self
    }

    async fn send(&self, request: Request) -> Result<Reply, Error> {
        let origin = self.origin.clone();
        let fetch = async move |request: Request| {
            let asked = (request.method, request.target.to_string(), request.headers);
            origin.asked.borrow_mut().push(asked);
            if !origin.delay.is_zero() {
                sleep(origin.delay).await;
            }
            origin.script.borrow_mut().remove(0)
        };
        self.cache.through(request, &context(), fetch).await
    }

    /// Status, Cache-Status and content of what a GET of `/a` gets.
    async fn get(&self, lines: &[&str]) -> (u16, String, String) {
        let reply = self.send(request(&Method::GET, "/a", lines)).await.unwrap();
        (reply.status.as_u16(), said(&reply, "cache-status"), text(reply).await)
    }

    /// How often the origin was asked.
    fn asked(&self) -> usize {
        self.origin.asked.borrow().len()
    }

    /// The header `name` of what the origin was asked last.
    fn asked_with(&self, name: HeaderName) -> Option<String> {
        let asked = self.origin.asked.borrow();
        let value = asked.last()?.2.get(name)?;
        Some(value.to_str().unwrap().to_owned())
    }
}

fn got(status: u16, what: &str, body: &str) -> (u16, String, String) {
    (status, format!("shop; {what}"), body.to_owned())
}

#[actix_rt::test]
async fn an_answer_is_given_again_while_it_is_fresh_and_says_its_age() {
    let bench = Bench::new();
    bench.then(200, "one", &["cache-control: max-age=60"]);
    assert_eq!(bench.get(&[]).await, got(200, "fwd=miss; stored", "one"));
    advance(Duration::from_secs(59)).await;
    let hit = bench.send(request(&Method::GET, "/a", &[])).await.unwrap();
    assert_eq!(
        (said(&hit, "age").as_str(), said(&hit, "cache-status").as_str()),
        ("59", "shop; hit")
    );
    assert!(hit.headers.contains_key("date"));
    advance(Duration::from_secs(1)).await;
    bench.then(200, "two", &["cache-control: max-age=60"]);
    assert_eq!(bench.get(&[]).await, got(200, "fwd=stale; stored", "two"));
    assert_eq!(bench.get(&[]).await, got(200, "hit", "two"));
    assert_eq!(bench.asked(), 2);
}

#[actix_rt::test]
async fn the_age_of_an_answer_that_arrives_old_counts() {
    let bench = Bench::new();
    bench.then(200, "one", &["cache-control: max-age=60", "age: 50"]);
    let first = bench.send(request(&Method::GET, "/a", &[])).await.unwrap();
    assert_eq!(said(&first, "age"), "50");
    advance(Duration::from_secs(9)).await;
    let hit = bench.send(request(&Method::GET, "/a", &[])).await.unwrap();
    assert_eq!(said(&hit, "age"), "59");
    advance(Duration::from_secs(1)).await;
    bench.then(200, "two", &[]);
    assert_eq!(bench.get(&[]).await.2, "two");
}

#[actix_rt::test]
async fn what_says_nothing_of_freshness_passes_as_it_is() {
    let bench = Bench::new();
    for body in ["one", "two"] {
        bench.then(200, body, &["etag: \"7\"", "x-cache: HIT"]);
        assert_eq!(bench.get(&[]).await, got(200, "fwd=miss", body));
    }
    bench.then(304, "", &["etag: \"7\""]);
    assert_eq!(bench.get(&["if-none-match: \"7\""]).await.0, 304);
    assert_eq!(bench.asked_with(HeaderName::from_static("if-none-match")).unwrap(), "\"7\"");
}

#[actix_rt::test]
async fn a_condition_is_judged_here_also_where_nothing_is_kept() {
    let bench = Bench::new();
    bench.then(200, "one", &["etag: \"7\"", "content-type: text/plain"]);
    let reply = bench.send(request(&Method::GET, "/a", &["if-none-match: W/\"7\""])).await.unwrap();
    assert_eq!((reply.status.as_u16(), said(&reply, "etag").as_str()), (304, "\"7\""));
    assert_eq!(said(&reply, "content-type"), "");
    assert!(matches!(reply.body, Body::None));
    assert_eq!(bench.asked_with(HeaderName::from_static("if-none-match")), None);
}

#[actix_rt::test]
async fn a_client_that_has_the_answer_is_told_so_from_the_cache() {
    let bench = Bench::new();
    let since = "last-modified: Sun, 06 Nov 1994 08:49:37 GMT";
    bench.then(200, "one", &["cache-control: max-age=60", "etag: \"7\"", since]);
    bench.get(&[]).await;
    assert_eq!(bench.get(&["if-none-match: \"7\""]).await, got(304, "hit", ""));
    assert_eq!(bench.get(&["if-none-match: \"6\""]).await, got(200, "hit", "one"));
    let since = "if-modified-since: Sun, 06 Nov 1994 08:49:37 GMT";
    assert_eq!(bench.get(&[since]).await, got(304, "hit", ""));
    assert_eq!(bench.asked(), 1);
}

#[actix_rt::test]
async fn a_stale_answer_is_confirmed_and_lives_on() {
    let bench = Bench::new();
    bench.then(200, "one", &["cache-control: max-age=10", "etag: \"7\"", "x-old: 1", "x-new: 1"]);
    bench.get(&[]).await;
    advance(Duration::from_secs(10)).await;
    bench.then(
        304,
        "",
        &["cache-control: max-age=20", "etag: W/\"7\"", "x-new: 2", "content-type: x/y"],
    );
    let confirmed = bench.send(request(&Method::GET, "/a", &[])).await.unwrap();
    assert_eq!(said(&confirmed, "cache-status"), "shop; fwd=stale; fwd-status=304; stored");
    assert_eq!((said(&confirmed, "x-old"), said(&confirmed, "x-new")), ("1".into(), "2".into()));
    assert_eq!(
        (said(&confirmed, "etag"), said(&confirmed, "content-type")),
        ("\"7\"".into(), "".into())
    );
    assert_eq!(text(confirmed).await, "one");
    assert_eq!(bench.asked_with(HeaderName::from_static("if-none-match")).unwrap(), "\"7\"");
    advance(Duration::from_secs(19)).await;
    assert_eq!(bench.get(&[]).await, got(200, "hit", "one"));
}

#[actix_rt::test]
async fn a_confirmation_asks_with_what_is_stored_and_answers_what_the_client_has() {
    let bench = Bench::new();
    bench.then(200, "one", &["cache-control: no-cache", "etag: \"7\""]);
    bench.get(&[]).await;
    for (has, status) in [("\"7\"", 304), ("\"5\"", 200)] {
        bench.then(304, "", &[]);
        assert_eq!(bench.get(&[&format!("if-none-match: {has}")]).await.0, status);
        assert_eq!(bench.asked_with(HeaderName::from_static("if-none-match")).unwrap(), "\"7\"");
    }
    assert_eq!(bench.asked(), 3, "no-cache asks every time");
}

#[actix_rt::test]
async fn a_date_confirms_where_there_is_no_tag() {
    let bench = Bench::new();
    let modified = "Sun, 06 Nov 1994 08:49:37 GMT";
    let line = format!("last-modified: {modified}");
    bench.then(200, "one", &["cache-control: max-age=1", &line]);
    bench.get(&[]).await;
    advance(Duration::from_secs(2)).await;
    bench.then(304, "", &[]);
    assert_eq!(bench.get(&[]).await.2, "one");
    assert_eq!(bench.asked_with(HeaderName::from_static("if-modified-since")).unwrap(), modified);
}

#[actix_rt::test]
async fn a_confirmation_of_another_version_is_no_answer() {
    let bench = Bench::new();
    bench.then(200, "one", &["cache-control: max-age=1", "etag: \"7\""]);
    bench.get(&[]).await;
    advance(Duration::from_secs(2)).await;
    bench.then(304, "", &["etag: \"8\""]);
    // It is asked for that one.
    bench.then(200, "two", &["cache-control: max-age=1", "etag: \"8\""]);
    assert_eq!(bench.get(&[]).await.2, "two");
    assert_eq!(bench.asked_with(HeaderName::from_static("if-none-match")), None);
    assert_eq!(bench.get(&[]).await, got(200, "hit", "two"));
    advance(Duration::from_secs(2)).await;
    // Who confirms whatever was not asked about gives no answer at all.
    bench.then(304, "", &["etag: \"9\""]);
    bench.then(304, "", &["etag: \"9\""]);
    let error = bench.send(request(&Method::GET, "/a", &[])).await.unwrap_err();
    assert_eq!(error.kind(), Kind::BadGateway);
    bench.then(200, "three", &[]);
    assert_eq!(bench.get(&[]).await, got(200, "fwd=miss", "three"));
}

#[actix_rt::test]
async fn a_confirmation_of_another_date_is_none_of_what_is_kept() {
    let bench = Bench::new();
    let line = |day: u8| format!("last-modified: Sun, {day:02} Nov 1994 08:49:37 GMT");
    bench.then(200, "one", &["cache-control: max-age=1", &line(6)]);
    bench.get(&[]).await;
    advance(Duration::from_secs(2)).await;
    bench.then(304, "", &[&line(13)]);
    bench.then(200, "two", &[&line(13)]);
    assert_eq!(bench.get(&[]).await.2, "two");
}

#[actix_rt::test]
async fn a_confirmation_for_one_alone_is_an_answer_that_is_not_kept() {
    let mut bench = Bench::new();
    for (asked, confirmed) in [
        ("authorization: Bearer x", "cache-control: max-age=60"),
        ("accept: */*", "set-cookie: a=b"),
        ("accept: */*", "cache-control: private"),
    ] {
        bench.cache = Cache::new(1 << 20, LIMIT);
        bench.then(200, "one", &["cache-control: max-age=1", "etag: \"7\""]);
        bench.get(&[]).await;
        advance(Duration::from_secs(2)).await;
        bench.then(304, "", &[confirmed]);
        assert_eq!(bench.get(&[asked]).await, got(200, "fwd=stale", "one"), "{confirmed}");
        bench.then(200, "two", &["cache-control: max-age=60"]);
        assert_eq!(bench.get(&[]).await.2, "two", "{confirmed}");
    }
}

#[actix_rt::test]
async fn what_is_replaced_by_something_for_one_alone_is_forgotten() {
    let bench = Bench::new();
    bench.then(200, "one", &["cache-control: max-age=1, stale-if-error=60", "etag: \"7\""]);
    bench.get(&[]).await;
    advance(Duration::from_secs(2)).await;
    bench.then(200, "mine", &["cache-control: private", "etag: \"8\""]);
    assert_eq!(bench.get(&[]).await, got(200, "fwd=stale", "mine"));
    bench.then(503, "", &[]);
    assert_eq!(bench.get(&[]).await, got(503, "fwd=miss", ""));
}

#[actix_rt::test]
async fn each_language_has_its_answer() {
    let bench = Bench::new();
    for (language, body) in [("de", "eins"), ("fr", "un")] {
        bench.then(200, body, &["cache-control: max-age=60", "vary: Accept-Language, X-None"]);
        let line = format!("accept-language: {language}");
        assert_eq!(bench.get(&[&line]).await, got(200, "fwd=miss; stored", body));
    }
    assert_eq!(bench.get(&["accept-language: de"]).await, got(200, "hit", "eins"));
    assert_eq!(bench.get(&["accept-language: fr"]).await, got(200, "hit", "un"));
    bench.then(200, "one", &["vary: *", "cache-control: max-age=60"]);
    assert_eq!(bench.get(&[]).await, got(200, "fwd=miss", "one"));
    assert_eq!(bench.get(&["accept-language: de"]).await, got(200, "hit", "eins"));
}

#[actix_rt::test]
async fn variants_of_one_address_are_bounded() {
    let bench = Bench::new();
    for agent in 0..=VARIANTS {
        bench.then(200, "x", &["cache-control: max-age=60", "vary: user-agent"]);
        bench.get(&[&format!("user-agent: {agent}")]).await;
    }
    assert_eq!(bench.get(&["user-agent: 1"]).await.1, "shop; hit");
    bench.then(200, "x", &[]);
    assert_eq!(bench.get(&["user-agent: 0"]).await.1, "shop; fwd=miss");
}

#[actix_rt::test]
async fn hosts_queries_and_schemes_are_told_apart() {
    let bench = Bench::new();
    bench.then(200, "one", &["cache-control: max-age=60"]);
    bench.get(&[]).await;
    let mut other_host = request(&Method::GET, "/a", &[]);
    other_host.headers.insert(HOST, HeaderValue::from_static("other.example"));
    let other_query = request(&Method::GET, "/a?x=1", &[]);
    let other_scheme = request(&Method::GET, "/a", &["x-forwarded-proto: https"]);
    for other in [other_host, other_query, other_scheme] {
        bench.then(200, "two", &["cache-control: max-age=60"]);
        assert_eq!(text(bench.send(other).await.unwrap()).await, "two");
    }
    assert_eq!(bench.get(&[]).await, got(200, "hit", "one"));
}

#[actix_rt::test]
async fn what_one_may_see_is_not_shown_to_others() {
    let bench = Bench::new();
    let token = ["authorization: Bearer x"];
    for said in ["cache-control: max-age=60", "cache-control: private, max-age=60"] {
        bench.then(200, "mine", &[said]);
        assert_eq!(bench.get(&token).await, got(200, "fwd=miss", "mine"));
    }
    bench.then(200, "all", &["cache-control: max-age=60, public"]);
    assert_eq!(bench.get(&token).await, got(200, "fwd=miss; stored", "all"));
    assert_eq!(bench.get(&[]).await, got(200, "hit", "all"));
    let bench = Bench::another();
    bench.then(200, "cookie", &["cache-control: public, max-age=60", "set-cookie: a=b"]);
    assert_eq!(bench.get(&[]).await, got(200, "fwd=miss", "cookie"));
}

#[actix_rt::test]
async fn a_client_says_how_new_an_answer_must_be() {
    let bench = Bench::new();
    bench.then(200, "one", &["cache-control: max-age=60", "etag: \"7\""]);
    bench.get(&[]).await;
    advance(Duration::from_secs(20)).await;
    for enough in ["max-age=20", "min-fresh=40", "max-stale", "only-if-cached"] {
        assert_eq!(
            bench.get(&[&format!("cache-control: {enough}")]).await.1,
            "shop; hit",
            "{enough}"
        );
    }
    for (more, why) in [("max-age=19", "stale"), ("min-fresh=41", "stale"), ("no-cache", "request")]
    {
        bench.then(200, "one", &["cache-control: max-age=60", "age: 20", "etag: \"7\""]);
        let status = bench.get(&[&format!("cache-control: {more}")]).await.1;
        assert_eq!(status, format!("shop; fwd={why}; stored"), "{more}");
        assert_eq!(bench.asked_with(HeaderName::from_static("if-none-match")).unwrap(), "\"7\"");
    }
    bench.then(200, "two", &["cache-control: max-age=60"]);
    assert_eq!(bench.get(&["cache-control: no-store"]).await, got(200, "fwd=request", "two"));
    assert_eq!(bench.get(&[]).await, got(200, "hit", "one"));
    advance(Duration::from_secs(45)).await;
    assert_eq!(bench.get(&["cache-control: max-stale=5"]).await, got(200, "hit; ttl=-5", "one"));
    let only = request(&Method::GET, "/a", &["cache-control: only-if-cached"]);
    assert_eq!(bench.send(only).await.unwrap_err().kind(), Kind::DeadlineExceeded);
}

#[actix_rt::test]
async fn nobody_gets_past_its_time_what_must_be_asked_for_again() {
    pause();
    for said in ["max-age=1, must-revalidate", "max-age=1, proxy-revalidate", "s-maxage=1"] {
        let bench = Bench::another();
        bench.then(200, "one", &[&format!("cache-control: {said}, stale-if-error=0")]);
        bench.get(&[]).await;
        advance(Duration::from_secs(2)).await;
        bench.then(503, "down", &[]);
        assert_eq!(bench.get(&["cache-control: max-stale"]).await, got(503, "fwd=stale", "down"));
    }
}

#[actix_rt::test]
async fn what_concerns_the_origin_alone_goes_there() {
    let bench = Bench::new();
    bench.then(200, "one", &["cache-control: max-age=60", "etag: \"7\""]);
    bench.get(&[]).await;
    for line in ["range: bytes=0-1", "if-match: \"7\"", "if-unmodified-since: x"] {
        bench.then(206, "on", &["cache-control: max-age=60"]);
        assert_eq!(bench.get(&[line]).await, got(206, "fwd=bypass", "on"), "{line}");
    }
    let mut with_body = request(&Method::GET, "/a", &[]);
    with_body.body = Body::Full(Bytes::from_static(b"x"));
    bench.then(200, "two", &["cache-control: max-age=60"]);
    assert_eq!(text(bench.send(with_body).await.unwrap()).await, "two");
    assert_eq!(bench.get(&[]).await, got(200, "hit", "one"));
}

#[actix_rt::test]
async fn head_is_answered_from_what_get_has_left() {
    let bench = Bench::new();
    bench.then(200, "", &["cache-control: max-age=60"]);
    let head = || request(&Method::HEAD, "/a", &[]);
    assert_eq!(said(&bench.send(head()).await.unwrap(), "cache-status"), "shop; fwd=miss");
    bench.then(200, "three", &["cache-control: max-age=60", "etag: \"7\""]);
    bench.get(&[]).await;
    let reply = bench.send(head()).await.unwrap();
    assert_eq!(
        (reply.body.length(), said(&reply, "cache-status").as_str()),
        (Some(5), "shop; hit")
    );
    assert_eq!(text(reply).await, "");
    assert_eq!(bench.asked(), 2);
}

#[actix_rt::test]
async fn a_write_removes_what_it_has_changed_or_may_have() {
    let mut bench = Bench::new();
    for (method, status, fresh) in [
        (Method::POST, 201, 2),
        (Method::PUT, 204, 2),
        (Method::DELETE, 303, 2),
        // Who fails is not believed about another place.
        (Method::POST, 500, 1),
        (Method::PUT, 502, 1),
        (Method::POST, 503, 1),
        (Method::DELETE, 504, 1),
        (Method::DELETE, 404, 1),
        (Method::DELETE, 410, 1),
        (Method::DELETE, 403, 0),
        (Method::PUT, 404, 0),
        (Method::PUT, 412, 0),
        (Method::PATCH, 422, 0),
        (Method::OPTIONS, 200, 0),
    ] {
        bench.cache = Cache::new(1 << 20, LIMIT);
        bench.origin.script.borrow_mut().clear();
        let keep = || bench.then(200, "old", &["cache-control: max-age=60"]);
        for target in ["/a", "/a/1", "/b"] {
            keep();
            bench.send(request(&Method::GET, target, &[])).await.unwrap();
        }
        bench.then(status, "", &["location: /a/1", "content-location: http://other.example/b"]);
        let written = bench.send(request(&method, "/a", &[])).await.unwrap();
        assert_eq!(said(&written, "cache-status"), "");
        let asked = bench.asked();
        for target in ["/a", "/a/1", "/b"] {
            keep();
            bench.send(request(&Method::GET, target, &[])).await.unwrap();
        }
        assert_eq!(bench.asked() - asked, fresh, "{method} {status}");
    }
}

#[actix_rt::test]
async fn a_write_that_is_cut_off_counts_as_done() {
    let mut bench = Bench::new();
    bench.then(200, "old", &["cache-control: max-age=60"]);
    bench.get(&[]).await;
    bench.origin.delay = Duration::from_secs(5);
    bench.then(204, "", &[]);
    let put = bench.send(request(&Method::PUT, "/a", &[]));
    assert!(tokio::time::timeout(Duration::from_secs(1), put).await.is_err());
    bench.origin.delay = Duration::ZERO;
    bench.origin.script.borrow_mut().clear();
    bench.then(200, "new", &["cache-control: max-age=60"]);
    assert_eq!(bench.get(&[]).await.2, "new");
}

#[actix_rt::test]
async fn a_write_that_began_by_the_plan_of_before_counts_for_the_next() {
    let (before, after) = (Bench::new(), Bench::another());
    before.cache.hand_over(&after.cache);
    after.then(200, "old", &["cache-control: max-age=60"]);
    assert_eq!(after.get(&[]).await.2, "old");
    before.then(204, "", &[]);
    before.send(request(&Method::PUT, "/a", &[])).await.unwrap();
    after.then(200, "new", &["cache-control: max-age=60"]);
    assert_eq!(after.get(&[]).await.2, "new");
}

#[actix_rt::test]
async fn a_write_whose_answer_is_lost_counts_as_done() {
    let bench = Bench::new();
    bench.then(200, "old", &["cache-control: max-age=60"]);
    bench.get(&[]).await;
    bench.then_fails(Kind::DeadlineExceeded);
    bench.send(request(&Method::PUT, "/a", &[])).await.unwrap_err();
    bench.then(200, "new", &["cache-control: max-age=60"]);
    assert_eq!(bench.get(&[]).await.2, "new");
}

#[actix_rt::test]
async fn a_read_that_began_before_a_write_puts_nothing_back() {
    let bench = Bench::new();
    let slow = Bench {
        cache: bench.cache.clone(),
        origin: Origin { delay: Duration::from_secs(2), ..Origin::default() },
    };
    slow.then(200, "old", &["cache-control: max-age=60"]);
    bench.then(204, "", &[]);
    let write = async {
        sleep(Duration::from_secs(1)).await;
        bench.send(request(&Method::PUT, "/a", &[])).await.unwrap();
        // One that comes after the write does not wait for who came before it.
        bench.then(200, "new", &["cache-control: max-age=60"]);
        assert_eq!(bench.get(&[]).await, got(200, "fwd=miss; stored", "new"));
    };
    let (read, ()) = futures_util::future::join(slow.get(&[]), write).await;
    assert_eq!(read, got(200, "fwd=miss", "old"));
    assert_eq!(bench.get(&[]).await, got(200, "hit", "new"));
}

#[actix_rt::test]
async fn a_stale_answer_is_given_while_one_asks_behind_it() {
    let mut bench = Bench::new();
    bench.then(200, "one", &["cache-control: max-age=10, stale-while-revalidate=30"]);
    bench.get(&[]).await;
    advance(Duration::from_secs(15)).await;
    bench.origin.delay = Duration::from_secs(1);
    bench.then(200, "two", &["cache-control: max-age=10, stale-while-revalidate=30"]);
    for _ in 0..3 {
        assert_eq!(bench.get(&[]).await, got(200, "hit; ttl=-5", "one"));
    }
    sleep(Duration::from_secs(2)).await;
    assert_eq!(bench.get(&[]).await, got(200, "hit", "two"));
    assert_eq!(bench.asked(), 2);
    advance(Duration::from_secs(60)).await;
    bench.then(200, "three", &[]);
    assert_eq!(bench.get(&[]).await, got(200, "fwd=stale", "three"));
}

#[actix_rt::test]
async fn a_stale_answer_stands_in_while_the_origin_fails() {
    let bench = Bench::new();
    bench.then(200, "one", &["cache-control: max-age=10, stale-if-error=30", "etag: \"7\""]);
    bench.get(&[]).await;
    advance(Duration::from_secs(15)).await;
    bench.then(503, "down", &[]);
    assert_eq!(bench.get(&[]).await, got(200, "hit; ttl=-5", "one"));
    bench.then_fails(Kind::Unavailable);
    assert_eq!(bench.get(&[]).await, got(200, "hit; ttl=-5", "one"));
    bench.then(503, "down", &[]);
    assert_eq!(bench.get(&["cache-control: no-cache"]).await, got(503, "fwd=request", "down"));
    advance(Duration::from_secs(30)).await;
    bench.then_fails(Kind::Unavailable);
    let error = bench.send(request(&Method::GET, "/a", &[])).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
}

#[actix_rt::test]
async fn a_large_answer_streams_through_untouched() {
    let bench = Bench::new();
    let chunk = "x".repeat(400);
    let body = |count: usize, length| {
        let chunks = (0..count).map(|_| Ok::<_, std::io::Error>(Bytes::from(chunk.clone())));
        Body::stream(length, stream::iter(chunks.collect::<Vec<_>>()))
    };
    for (count, length, kept) in
        [(2, None, true), (2, Some(800), true), (3, None, false), (3, Some(1200), false)]
    {
        let target = format!("/{count}-{}", length.is_some());
        let mut reply = reply(200, "", &["cache-control: max-age=60"]);
        reply.body = body(count, length);
        bench.origin.script.borrow_mut().push(Ok(reply));
        let first = bench.send(request(&Method::GET, &target, &[])).await.unwrap();
        assert_eq!(said(&first, "cache-status").contains("stored"), kept, "{target}");
        assert_eq!(first.body.length(), if kept { Some(800) } else { length });
        assert_eq!(text(first).await.len(), 400 * count);
        if kept {
            let hit = bench.send(request(&Method::GET, &target, &[])).await.unwrap();
            assert_eq!(text(hit).await.len(), 800);
        }
    }
}

#[actix_rt::test]
async fn an_answer_that_breaks_off_is_not_kept() {
    let bench = Bench::new();
    let half = || Ok(Bytes::from_static(b"half"));
    let broken = [
        Body::stream(None, stream::iter([half(), Err("gone")])),
        Body::stream(Some(8), stream::iter([half(), Err("gone")][..1].to_vec())),
    ];
    for body in broken {
        let mut reply = reply(200, "", &["cache-control: max-age=60"]);
        reply.body = body;
        bench.origin.script.borrow_mut().push(Ok(reply));
        let error = bench.send(request(&Method::GET, "/a", &[])).await.unwrap_err();
        assert_eq!(error.kind(), Kind::BadGateway);
    }
    bench.then(200, "whole", &[]);
    assert_eq!(bench.get(&[]).await.2, "whole");
}

#[actix_rt::test]
async fn memory_is_bounded() {
    let cache = Cache::new(100_000, LIMIT);
    for n in 0..1000 {
        let fetch = async |_| Ok(reply(200, "x", &["cache-control: max-age=60"]));
        cache
            .through(request(&Method::GET, &format!("/{n}"), &[]), &context(), fetch)
            .await
            .unwrap();
    }
    cache.0.entries().run_pending_tasks();
    assert!(cache.0.entries().weighted_size() <= 100_000);
    assert!((50..200).contains(&cache.0.entries().entry_count()));
    assert_eq!(cache.0.flights.count(), 0);
}

#[actix_rt::test]
async fn of_all_who_miss_one_asks() {
    let mut bench = Bench::new();
    bench.origin.delay = Duration::from_secs(1);
    bench.then(200, "one", &["cache-control: max-age=60", "etag: \"7\""]);
    let answers = join_all((0..20).map(|_| bench.get(&[]))).await;
    assert_eq!(bench.asked(), 1);
    assert_eq!(answers[0], got(200, "fwd=miss; stored", "one"));
    assert!(answers[1..].iter().all(|answer| *answer == got(200, "fwd=miss; collapsed", "one")));
    // And of all who find it stale.
    advance(Duration::from_secs(60)).await;
    bench.then(304, "", &["cache-control: no-cache"]);
    let answers = join_all((0..20).map(|_| bench.get(&[]))).await;
    assert_eq!((bench.asked(), answers.len()), (2, 20));
}

#[actix_rt::test]
async fn those_who_cannot_share_an_answer_go_by_themselves() {
    let mut bench = Bench::new();
    bench.origin.delay = Duration::from_secs(1);
    (0..12).for_each(|_| _ = bench.then(200, "mine", &["cache-control: private"]));
    let start = Instant::now();
    let answers = join_all((0..10).map(|_| bench.get(&[]))).await;
    assert_eq!(
        (bench.asked(), start.elapsed().as_secs()),
        (10, 2),
        "one after one, then all at once"
    );
    assert!(answers.iter().all(|answer| *answer == got(200, "fwd=miss", "mine")));
    // Those who come later do not even wait.
    let start = Instant::now();
    join_all((0..2).map(|_| bench.get(&[]))).await;
    assert_eq!(start.elapsed().as_secs(), 1);
}

#[actix_rt::test]
async fn those_who_wait_for_another_variant_get_their_own() {
    let mut bench = Bench::new();
    bench.origin.delay = Duration::from_secs(1);
    (0..2).for_each(|_| _ = bench.then(200, "x", &["cache-control: max-age=60", "vary: accept"]));
    let one = || bench.get(&["accept: a/a"]);
    let other = || bench.get(&["accept: b/b"]);
    let (first, second, third, _) = tokio::join!(one(), other(), other(), one());
    assert_eq!(bench.asked(), 2);
    assert_eq!(first.1, "shop; fwd=miss; stored");
    let mut others = [second.1, third.1];
    others.sort();
    assert_eq!(others, ["shop; fwd=miss; collapsed", "shop; fwd=miss; stored"]);
}

#[actix_rt::test]
async fn a_failure_is_shared_but_a_deadline_is_ones_own() {
    let mut bench = Bench::new();
    bench.origin.delay = Duration::from_secs(1);
    bench.then_fails(Kind::Unavailable);
    let send = || bench.send(request(&Method::GET, "/a", &[]));
    let answers = join_all((0..5).map(|_| send())).await;
    assert!(answers.iter().all(|answer| answer.as_ref().unwrap_err().kind() == Kind::Unavailable));
    assert_eq!(bench.asked(), 1);
    bench.then_fails(Kind::DeadlineExceeded).then(200, "one", &["cache-control: max-age=60"]);
    let answers = join_all((0..5).map(|_| send())).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 4);
    assert_eq!(bench.asked(), 3);
}

#[actix_rt::test]
async fn who_leaves_lets_another_ask() {
    let mut bench = Bench::new();
    bench.origin.delay = Duration::from_secs(3);
    bench.then(200, "one", &["cache-control: max-age=60"]);
    let leaving = async {
        let left = tokio::time::timeout(Duration::from_secs(1), bench.get(&[])).await;
        assert!(left.is_err());
    };
    let (_, first, second) = tokio::join!(leaving, bench.get(&[]), bench.get(&[]));
    assert_eq!((first.0, second.0, bench.asked()), (200, 200, 2));
}

#[actix_rt::test]
async fn nobody_waits_for_ever() {
    let mut bench = Bench::new();
    bench.origin.delay = PATIENCE * 4;
    bench.then(200, "slow", &["cache-control: max-age=60"]);
    let quick = Bench { cache: bench.cache.clone(), ..Bench::another() };
    quick.then(200, "quick", &[]);
    let waiting = async {
        let start = Instant::now();
        assert_eq!(quick.get(&[]).await, got(200, "fwd=miss", "quick"));
        assert_eq!(start.elapsed().as_secs(), PATIENCE.as_secs());
    };
    tokio::join!(bench.get(&[]), waiting);
}

#[test]
fn threads_share_answers_and_ask_once() {
    let cache = Cache::new(1 << 20, LIMIT);
    let (asked, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let threads = (0..4).map(|_| {
        let (cache, asked, gate) = (cache.clone(), asked.clone(), gate.clone());
        std::thread::spawn(move || {
            actix_rt::System::new().block_on(async {
                let each = (0..25).map(|_| {
                    let (asked, gate) = (asked.clone(), gate.clone());
                    let fetch = async move |_| {
                        asked.fetch_add(1, Ordering::SeqCst);
                        gate.notified().await;
                        Ok(reply(200, "one", &["cache-control: max-age=60"]))
                    };
                    let cache = cache.clone();
                    async move {
                        let request = request(&Method::GET, "/a", &[]);
                        let reply = cache.through(request, &context(), fetch).await.unwrap();
                        text(reply).await
                    }
                });
                join_all(each).await
            })
        })
    });
    let threads = threads.collect::<Vec<_>>();
    // The permit stays until somebody takes it.
    gate.notify_one();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), vec!["one"; 25]);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[actix_rt::test]
async fn what_is_kept_holds_on_to_nothing_larger() {
    let bench = Bench::new();
    let large = Bytes::from(vec![b'x'; 1 << 20]);
    let mut reply = reply(200, "", &["cache-control: max-age=60"]);
    reply.body = Body::Full(large.slice(..10));
    bench.origin.script.borrow_mut().push(Ok(reply));
    drop(bench.send(request(&Method::GET, "/a", &[])).await.unwrap());
    assert!(large.try_into_mut().is_ok(), "nobody else has a part of it");
}

#[actix_rt::test]
async fn an_upstream_that_broke_off_is_told_as_such() {
    let bench = Bench::new();
    let broken = PeerError::Broken("reset".into());
    bench.origin.script.borrow_mut().push(Err(broken.into()));
    let error = bench.send(request(&Method::GET, "/a", &["referer: x"])).await.unwrap_err();
    assert_eq!(error.kind(), Kind::BadGateway);
    assert!(error.chain().contains("reset"), "{}", error.chain());
    assert_eq!(bench.asked_with(REFERER).unwrap(), "x");
}
