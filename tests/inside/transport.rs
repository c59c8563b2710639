//! One table of cases, over a mailbox and over a socket, in the clear and not: a caller cannot tell them apart.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::web::{self, Bytes, Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, rt};
use app::auth::public;
use app::config::{Settings, Sources};
use app::error::{Error, Kind};
use app::middleware::{HeadLimit, Middleware, path};
use app::peer::{Body, Context, Endpoint, PeerError, Reply, Request, http, local};
use app::server;
use app::tls::{self, Mutual};
use futures_util::{StreamExt as _, stream};

use crate::support::until;

/// A body larger than any buffer on the way.
const LARGE: usize = 8 << 20;

/// What the role under test has done.
#[derive(Clone, Default)]
struct Deeds {
    written: Arc<AtomicUsize>,
    /// Uploads that were counted to their end.
    counted: Arc<AtomicUsize>,
    waiting: Arc<AtomicUsize>,
    chunks: Arc<AtomicUsize>,
}

fn routes(deeds: Deeds) -> impl FnOnce(&mut ServiceConfig) {
    move |routes| {
        routes
            .app_data(Data::new(deeds))
            .service(path("/echo").get(public(), echo).post(public(), echo))
            .service(
                path("/teapot")
                    .get(public(), async || HttpResponse::ImATeapot().body("short and stout")),
            )
            .service(path("/cookies").get(public(), cookies))
            .service(
                path("/large").get(public(), async || HttpResponse::Ok().body(vec![7_u8; LARGE])),
            )
            .service(path("/count").post(public(), count))
            .service(path("/slow").get(public(), slow))
            .service(path("/endless").get(public(), endless))
            .service(path("/broken").get(public(), broken))
            .service(path("/wait").get(public(), wait))
            .service(path("/write").post(public(), write))
            .service(path("/panic").get(public(), panics).post(public(), panics));
    }
}

/// Says in headers what came, and gives the body back.
async fn echo(request: HttpRequest, context: Context, body: Bytes) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    let names =
        request.headers().keys().map(HeaderName::as_str).collect::<std::collections::BTreeSet<_>>();
    response.insert_header(("x-names", names.into_iter().collect::<Vec<_>>().join(" ")));
    response.insert_header(("x-target", request.uri().path_and_query().unwrap().as_str()));
    for value in request.headers().get_all("x-many") {
        response.append_header(("x-many", value));
    }
    let left = context.deadline.saturating_duration_since(Instant::now());
    response.insert_header(("x-left", left.as_millis().to_string()));
    response.insert_header(("x-context", format!("{context:?}")));
    response.body(body)
}

async fn cookies() -> HttpResponse {
    let mut response = HttpResponse::Ok();
    response.append_header(("set-cookie", "a=1")).append_header(("set-cookie", "b=2"));
    response.finish()
}

async fn count(mut body: web::Payload, deeds: Data<Deeds>) -> HttpResponse {
    let mut length = 0;
    while let Some(chunk) = body.next().await {
        match chunk {
            Ok(chunk) => length += chunk.len(),
            Err(_) => return HttpResponse::BadRequest().finish(),
        }
    }
    deeds.counted.fetch_add(1, Ordering::Relaxed);
    HttpResponse::Ok().body(length.to_string())
}

/// Three chunks, each after a while.
async fn slow() -> HttpResponse {
    let chunks = stream::iter(0..3).then(|n| async move {
        rt::time::sleep(Duration::from_millis(200)).await;
        Ok::<_, io::Error>(Bytes::from(format!("chunk {n};")))
    });
    HttpResponse::Ok().streaming(chunks)
}

/// A download without end; counts the chunks that were asked for.
async fn endless(deeds: Data<Deeds>) -> HttpResponse {
    let chunks = deeds.chunks.clone();
    HttpResponse::Ok().streaming(stream::repeat_with(move || {
        chunks.fetch_add(1, Ordering::Relaxed);
        Ok::<_, io::Error>(Bytes::from_static(&[0; 65536]))
    }))
}

async fn broken() -> HttpResponse {
    let chunks = stream::iter([Ok(Bytes::from_static(b"half")), Err("the disk is gone")]);
    let chunks = chunks.then(|chunk| async {
        // The head and the first half have left by then.
        rt::time::sleep(Duration::from_millis(40)).await;
        chunk.map_err(io::Error::other)
    });
    HttpResponse::Ok().streaming(chunks)
}

async fn wait(deeds: Data<Deeds>) -> HttpResponse {
    deeds.waiting.fetch_add(1, Ordering::Relaxed);
    rt::time::sleep(Duration::from_secs(60)).await;
    HttpResponse::Ok().finish()
}

async fn write(deeds: Data<Deeds>) -> HttpResponse {
    deeds.waiting.fetch_add(1, Ordering::Relaxed);
    rt::time::sleep(Duration::from_millis(100)).await;
    deeds.written.fetch_add(1, Ordering::Relaxed);
    HttpResponse::Created().finish()
}

async fn panics() -> HttpResponse {
    panic!("a handler that panics")
}

/// A role, and the way to it.
struct Bench {
    name: &'static str,
    peer: Endpoint,
    deeds: Deeds,
}

fn settings() -> Settings {
    let overrides = [
        ("transport.mailbox_concurrency", "2"),
        ("transport.mailbox_capacity", "2"),
        ("transport.pool_size", "5"),
    ];
    let overrides = overrides.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
    app::config::load(&Sources { overrides, ..Sources::default() }).unwrap().0
}

fn middleware() -> Middleware {
    let head_limit = HeadLimit::of_clients(16384).behind();
    Middleware { head_limit, ..crate::middleware(&settings(), 2 * LARGE) }
}

/// The same role behind a mailbox, behind a socket, and behind one on which both sides know each other.
fn ways() -> [Bench; 3] {
    let settings = settings();
    let deeds = Deeds::default();
    let local = local::Peer::start(middleware().app(routes(deeds.clone())), &settings.transport);
    let local = Bench { name: "local", peer: Endpoint::Local(local), deeds };

    let folder = tempfile::tempdir().unwrap();
    tls::dev::write(folder.path(), &[]).unwrap();
    let at = |name: &str| folder.path().join("user").join(name);
    let known = Mutual::read(&at("tls.crt"), &at("tls.key"), &at("ca.crt")).unwrap();
    [local, over("http", &settings, None), over("https", &settings, Some(known))]
}

/// The role behind a socket.
fn over(scheme: &'static str, settings: &Settings, known: Option<Mutual>) -> Bench {
    let (_, effective) = app::config::load(&Sources::default()).unwrap();
    let listener = server::bind("test", "127.0.0.1:0".parse().unwrap(), &effective).unwrap();
    let names = settings.mtls.names.iter();
    let listener = listener.with_tls(known.as_ref().map(|known| known.server(names).unwrap()));
    let url = listener.url().parse().unwrap();
    let deeds = Deeds::default();
    let served = deeds.clone();
    let app = move || middleware().app(routes(served.clone()));
    rt::spawn(server::serve(listener, server::Threads::new(1), &settings.server, app).unwrap());
    let client = known.map(|known| known.client().unwrap());
    let http = http::Peer::new(&url, &settings.transport, client);
    Bench { name: scheme, peer: Endpoint::http(http), deeds }
}

fn context(left: Duration) -> Context {
    let mut headers = HeaderMap::new();
    let trace = HeaderValue::from_static("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    headers.insert(HeaderName::from_static("x-request-id"), HeaderValue::from_static("mine"));
    headers.insert(HeaderName::from_static("traceparent"), trace);
    Context::from_headers(&headers, None, left, std::time::Instant::now())
}

fn patient() -> Context {
    context(Duration::from_secs(20))
}

fn request(method: Method, target: &str, body: Body) -> Request {
    Request { body, ..Request::new(method, target.parse().unwrap()) }
}

fn get(target: &str) -> Request {
    request(Method::GET, target, Body::None)
}

#[actix_rt::test]
async fn a_status_and_its_body_arrive() {
    for Bench { name, peer, .. } in ways() {
        let reply = peer.send(get("/teapot"), &patient()).await.unwrap();
        assert_eq!(reply.status, StatusCode::IM_A_TEAPOT, "{name}");
        assert_eq!(reply.headers.get("x-request-id").unwrap(), "mine", "{name}");
        assert_eq!(reply.body.read(100).await.unwrap(), "short and stout", "{name}");
    }
}

#[actix_rt::test]
async fn headers_and_target_arrive_but_for_those_of_the_connection() {
    for Bench { name, peer, .. } in ways() {
        let mut request = get("/echo?a=1&b=%20");
        for (header, value) in [
            ("x-many", "1"),
            ("x-many", "2"),
            ("connection", "x-secret"),
            ("x-secret", "1"),
            ("te", "trailers"),
            ("keep-alive", "1"),
        ] {
            request
                .headers
                .append(HeaderName::from_static(header), HeaderValue::from_static(value));
        }
        let reply = peer.send(request, &patient()).await.unwrap();
        assert_eq!(reply.headers.get("x-target").unwrap(), "/echo?a=1&b=%20", "{name}");
        let many = reply.headers.get_all("x-many").map(|value| value.to_str().unwrap());
        assert_eq!(many.collect::<Vec<_>>(), ["1", "2"], "{name}");
        let context = reply.headers.get("x-context").unwrap().to_str().unwrap();
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-";
        for place in [format!("trace: {trace}"), format!("parent: Some({trace}")] {
            assert!(context.contains(&place), "{name}: {context}");
        }
        assert!(!context.contains("00f067aa0ba902b7"), "{name}: the caller has a span of its own");
        assert!(context.contains("RequestId(\"mine\")"), "{name}: {context}");
        assert!(context.contains("hurried: true"), "{name}: {context}");
        let left = reply.headers.get("x-left").unwrap().to_str().unwrap().parse::<u64>().unwrap();
        assert!((19_000..=20_000).contains(&left), "{name}: {left} ms");
        let names = reply.headers.get("x-names").unwrap().to_str().unwrap();
        for gone in ["x-secret", "te", "keep-alive", "connection"] {
            assert!(!names.split(' ').any(|header| header == gone), "{name}: {names}");
        }
    }
}

#[actix_rt::test]
async fn a_repeated_header_of_the_reply_stays_repeated() {
    for Bench { name, peer, .. } in ways() {
        let reply = peer.send(get("/cookies"), &patient()).await.unwrap();
        let cookies = reply.headers.get_all("set-cookie").map(|value| value.to_str().unwrap());
        assert_eq!(cookies.collect::<Vec<_>>(), ["a=1", "b=2"], "{name}");
    }
}

#[actix_rt::test]
async fn a_head_has_the_length_and_not_the_body() {
    for Bench { name, peer, .. } in ways() {
        for (target, length) in [("/teapot", 15), ("/large", LARGE as u64)] {
            let request = request(Method::HEAD, target, Body::None);
            let reply = peer.send(request, &patient()).await.unwrap();
            assert_eq!(reply.body.length(), Some(length), "{name} {target}");
            assert_eq!(reply.body.read(LARGE).await.unwrap().len(), 0, "{name} {target}");
        }
    }
}

#[actix_rt::test]
async fn a_problem_becomes_the_error_it_tells_of() {
    for Bench { name, peer, .. } in ways() {
        for (method, target, kind) in [
            (Method::GET, "/nowhere", Kind::NotFound),
            (Method::PUT, "/echo", Kind::MethodNotAllowed),
        ] {
            let reply = peer.send(request(method, target, Body::None), &patient()).await.unwrap();
            assert_eq!(reply.into_success().await.unwrap_err().kind(), kind, "{name} {target}");
        }
    }
}

#[actix_rt::test]
async fn large_bodies_pass_both_ways() {
    for Bench { name, peer, .. } in ways() {
        let full = Body::Full(vec![7; LARGE].into());
        let chunks = || stream::repeat_with(|| Ok::<_, io::Error>(Bytes::from_static(&[7; 65536])));
        let sized = Body::stream(Some(LARGE as u64), chunks().take(LARGE / 65536));
        let open = Body::stream(None, chunks().take(LARGE / 65536));
        for body in [full, sized, open] {
            let reply = peer.send(request(Method::POST, "/count", body), &patient()).await.unwrap();
            let length = reply.body.read(100).await.unwrap();
            assert_eq!(length, LARGE.to_string(), "{name}");
        }
        let reply = peer.send(get("/large"), &patient()).await.unwrap();
        assert_eq!(reply.body.length(), Some(LARGE as u64), "{name}");
        assert_eq!(reply.body.read(LARGE).await.unwrap(), vec![7; LARGE], "{name}");
    }
}

#[actix_rt::test]
async fn a_slow_stream_arrives_chunk_by_chunk() {
    for Bench { name, peer, .. } in ways() {
        let start = Instant::now();
        let reply = peer.send(get("/slow"), &patient()).await.unwrap();
        assert!(
            start.elapsed() < Duration::from_millis(550),
            "{name}: the head does not wait for the body"
        );
        assert_eq!(reply.body.length(), None, "{name}");
        assert_eq!(reply.body.read(100).await.unwrap(), "chunk 0;chunk 1;chunk 2;", "{name}");
        assert!(start.elapsed() >= Duration::from_millis(600), "{name}: each chunk takes its time");
    }
}

#[actix_rt::test]
async fn nobody_produces_what_nobody_takes() {
    for Bench { name, peer, deeds } in ways() {
        let reply = peer.send(get("/endless"), &patient()).await.unwrap();
        let mut before = usize::MAX;
        // Buffers fill up, and then it stands still.
        until("the stream stands still", async || {
            rt::time::sleep(Duration::from_millis(50)).await;
            let now = deeds.chunks.load(Ordering::Relaxed);
            std::mem::replace(&mut before, now) == now
        })
        .await;
        assert!(before < 1000, "{name}: {before} chunks of 64 KiB were produced for nobody");
        drop(reply);
    }
}

#[actix_rt::test]
async fn an_error_in_mid_body_breaks_the_body_off() {
    for Bench { name, peer, .. } in ways() {
        let outcome = peer.send(get("/broken"), &patient()).await;
        let reply = outcome.unwrap_or_else(|error| panic!("{name}: the head arrives: {error}"));
        assert_eq!(reply.status, StatusCode::OK, "{name}");
        assert!(reply.body.read(100).await.is_err(), "{name}: half a body is no body");
    }
}

#[actix_rt::test]
async fn an_upload_that_breaks_off_is_never_taken_for_whole() {
    for Bench { name, peer, deeds } in ways() {
        let chunks = [Ok(Bytes::from_static(b"half")), Err(io::Error::other("the client is gone"))];
        let upload = request(Method::POST, "/count", Body::stream(Some(8), stream::iter(chunks)));
        // The handler that saw it break off says so, or whoever sent it knows already.
        match peer.send(upload, &patient()).await {
            Ok(reply) => assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{name}"),
            Err(PeerError::Content(error)) => {
                assert!(error.to_string().contains("the client is gone"), "{name}: {error}");
            }
            Err(error) => panic!("{name}: the role is not to blame: {error}"),
        }
        assert_eq!(deeds.counted.load(Ordering::Relaxed), 0, "{name}: it was taken for whole");
    }
}

#[actix_rt::test]
async fn a_full_queue_is_an_answer_and_not_a_wait() {
    for Bench { name, peer, deeds } in ways() {
        let turned_away = Rc::new(RefCell::new(Vec::new()));
        for _ in 0..20 {
            let (peer, turned_away) = (peer.clone(), turned_away.clone());
            rt::spawn(async move {
                if let Err(error) = peer.send(get("/wait"), &patient()).await {
                    turned_away.borrow_mut().push(error);
                }
            });
        }
        // Two run and two wait in the mailbox; or five have connections.
        until("those too many are turned away", async || turned_away.borrow().len() >= 15).await;
        let running = if name == "local" { 2 } else { 5 };
        until("others run", async || deeds.waiting.load(Ordering::Relaxed) == running).await;
        for error in turned_away.take() {
            assert!(matches!(error, PeerError::Busy), "{name}: {error}");
            assert_eq!(Error::from(error).kind(), Kind::Unavailable);
        }
    }
}

/// Why a call came to nothing: here, or by what the other side says, whoever looks at the clock first.
async fn failure(outcome: Result<Reply, PeerError>) -> Error {
    match outcome {
        Ok(reply) => reply.into_success().await.unwrap_err(),
        Err(error) => error.into(),
    }
}

#[actix_rt::test]
async fn the_deadline_ends_the_wait_here_and_the_work_there() {
    for Bench { name, peer, deeds } in ways() {
        let start = Instant::now();
        let outcome = peer.send(get("/wait"), &context(Duration::from_millis(80))).await;
        let after = start.elapsed();
        assert!(after >= Duration::from_millis(80) && after < Duration::from_secs(5), "{name}");
        assert_eq!(failure(outcome).await.kind(), Kind::DeadlineExceeded, "{name}");
        // The callee has given up too: there is room for more than may run at once.
        for _ in 0..6 {
            let late = peer.send(get("/wait"), &context(Duration::from_millis(30))).await;
            assert_eq!(failure(late).await.kind(), Kind::DeadlineExceeded, "{name}");
        }
        until("all have begun", async || deeds.waiting.load(Ordering::Relaxed) == 7).await;
        assert!(peer.send(get("/teapot"), &patient()).await.is_ok(), "{name}");
    }
}

#[actix_rt::test]
async fn a_caller_that_goes_away_cancels_nothing_that_has_begun_to_write() {
    for Bench { name, peer, deeds } in ways() {
        let caller = {
            let peer = peer.clone();
            rt::spawn(async move {
                peer.send(request(Method::POST, "/write", Body::None), &patient()).await
            })
        };
        until("the write has begun", async || deeds.waiting.load(Ordering::Relaxed) == 1).await;
        caller.abort();
        until(name, async || deeds.written.load(Ordering::Relaxed) == 1).await;

        // A deadline that passes is a caller that goes away.
        let hurried = context(Duration::from_millis(30));
        let late = peer.send(request(Method::POST, "/write", Body::None), &hurried).await;
        assert_eq!(failure(late).await.kind(), Kind::DeadlineExceeded, "{name}");
        until(name, async || deeds.written.load(Ordering::Relaxed) == 2).await;
    }
}

#[actix_rt::test]
async fn a_panic_is_a_500_and_the_role_goes_on() {
    for Bench { name, peer, .. } in ways() {
        for method in [Method::GET, Method::POST] {
            let reply = peer.send(request(method, "/panic", Body::None), &patient()).await.unwrap();
            assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR, "{name}");
            let error = reply.into_success().await.unwrap_err();
            assert_eq!(error.kind(), Kind::Internal, "{name}");
            assert!(!error.to_string().contains("panic"), "{name}: {error}");
        }
        assert!(peer.send(get("/teapot"), &patient()).await.is_ok(), "{name}");
    }
}

#[actix_rt::test]
async fn nobody_at_the_address_is_unreachable() {
    let (_, effective) = app::config::load(&Sources::default()).unwrap();
    let listener = server::bind("test", "127.0.0.1:0".parse().unwrap(), &effective).unwrap();
    let url = format!("http://{}", listener.address).parse().unwrap();
    drop(listener);
    let peer = Endpoint::http(http::Peer::new(&url, &settings().transport, None));
    let error = peer.send(get("/"), &patient()).await.unwrap_err();
    assert!(matches!(error, PeerError::Unreachable(_)), "{error}");
}
