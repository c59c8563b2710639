//! HTTP/2 as the listener speaks it, with clients that behave and such that do not.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;
use actix_web::web::{self, Bytes, Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, rt};
use app::auth::public;
use app::config::Sources;
use app::middleware::{Draining, Middleware, path};
use app::server::{self, Threads};
use app::telemetry::Metrics;
use awc::http::{Method, StatusCode};
use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use h2::Reason;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::support::tls::{Certificates, Http2, open};
use crate::support::{PATIENCE, until};

/// More than any window.
const LARGE: usize = 8 << 20;

/// A listener with these routes, and what has begun and not ended in its handlers.
struct Bench {
    url: String,
    certificates: Certificates,
    running: Arc<AtomicUsize>,
    draining: Draining,
    metrics: Metrics,
    handle: ServerHandle,
    _folder: Rc<TempDir>,
}

/// Counts for as long as a handler runs.
struct Running(Arc<AtomicUsize>);

impl Running {
    fn begin(count: &Data<Arc<AtomicUsize>>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn routes(running: Arc<AtomicUsize>) -> impl FnOnce(&mut ServiceConfig) {
    let large = async || HttpResponse::Ok().body(vec![7_u8; LARGE]);
    move |routes| {
        routes
            .app_data(Data::new(running))
            .app_data(web::PayloadConfig::new(LARGE))
            .service(path("/").get(public(), async || HttpResponse::Ok().body("hello")))
            .service(path("/echo").get(public(), echo).post(public(), echo))
            .service(path("/empty").get(public(), empty))
            .service(path("/unchanged").get(public(), unchanged))
            .service(path("/large").get(public(), large))
            .service(path("/chunks").get(public(), chunks))
            .service(path("/broken").get(public(), broken))
            .service(path("/deaf").post(public(), deaf))
            .service(path("/wait").get(public(), wait).post(public(), wait));
    }
}

/// Says in headers what came, and gives the content back.
async fn echo(request: HttpRequest, body: Bytes) -> HttpResponse {
    let header = |name| {
        let values = request.headers().get_all(name).map(|value| value.to_str().unwrap());
        values.collect::<Vec<_>>().join("|")
    };
    HttpResponse::Ok()
        .insert_header(("x-host", header("host")))
        .insert_header(("x-cookie", header("cookie")))
        .insert_header(("x-target", request.uri().to_string()))
        .insert_header(("x-version", format!("{:?}", request.version())))
        .insert_header(("x-peer", request.peer_addr().unwrap().ip().to_string()))
        .insert_header(("connection", "keep-alive"))
        .body(body)
}

/// Answers before it has read anything.
async fn deaf(_content: web::Payload) -> HttpResponse {
    HttpResponse::Conflict().body("no")
}

/// As a gateway has it from an upstream, of which it knows how long a 200 would be.
async fn unchanged() -> HttpResponse {
    let none = stream::empty::<io::Result<Bytes>>();
    HttpResponse::NotModified().body(actix_web::body::SizedStream::new(99, none))
}

async fn chunks() -> HttpResponse {
    let chunks = stream::iter(0..3).then(|n| async move {
        rt::time::sleep(Duration::from_millis(20)).await;
        Ok::<_, io::Error>(Bytes::from(format!("chunk {n};")))
    });
    HttpResponse::Ok().streaming(chunks)
}

async fn broken() -> HttpResponse {
    let chunks = stream::iter([Ok(Bytes::from_static(b"half")), Err("the disk is gone")]);
    HttpResponse::Ok().streaming(chunks.map(|chunk| chunk.map_err(io::Error::other)))
}

async fn empty(query: web::Query<Empty>) -> HttpResponse {
    HttpResponse::new(StatusCode::from_u16(query.status).unwrap())
}

#[derive(serde::Deserialize)]
struct Empty {
    status: u16,
}

async fn wait(count: Data<Arc<AtomicUsize>>, query: web::Query<Wait>) -> HttpResponse {
    let _running = Running::begin(&count);
    rt::time::sleep(Duration::from_millis(query.millis)).await;
    HttpResponse::Ok().finish()
}

#[derive(serde::Deserialize)]
struct Wait {
    millis: u64,
}

impl Bench {
    fn start(overrides: &[(&str, &str)]) -> Self {
        let own = overrides.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let sources = Sources { overrides: own.collect(), ..Sources::default() };
        let (settings, effective) = app::config::load(&sources).unwrap();
        let folder = TempDir::new().unwrap();
        let certificates = Certificates::make(folder.path().join("certs"));
        let at = |name: &str| certificates.path("gateway").join(name);
        let (tls, _) = app::tls::public_server(&at("tls.crt"), &at("tls.key")).unwrap();
        let listener = server::bind("test", "127.0.0.1:0".parse().unwrap(), &effective).unwrap();
        let listener = listener.with_tls(Some(tls));
        let (url, draining) = (listener.url(), Draining::default());
        let running = Arc::<AtomicUsize>::default();
        let middleware =
            Middleware { draining: draining.clone(), ..crate::middleware(&settings, LARGE) };
        let served = Arc::clone(&running);
        let metrics = middleware.metrics.clone();
        let app = move || middleware.clone().app(routes(served.clone()));
        let server = server::serve(listener, Threads::new(1), &settings.server, app).unwrap();
        let handle = server.handle();
        rt::spawn(server);
        Self { url, certificates, running, draining, metrics, handle, _folder: Rc::new(folder) }
    }

    async fn client(&self) -> Http2 {
        Http2::open(&self.url, self.certificates.client(None)).await
    }

    fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }
}

#[actix_rt::test]
async fn a_request_is_what_it_would_be_in_http_1() {
    let bench = Bench::start(&[]);
    let cookies = [("cookie", "a=1"), ("cookie", "b=2"), ("te", "trailers")];
    let answer = bench.client().await.send(Method::GET, "/echo?a=%20", &cookies, "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("x-host"), bench.url.trim_start_matches("https://"));
    assert_eq!(answer.header("x-cookie"), "a=1; b=2");
    assert_eq!(answer.header("x-target"), "/echo?a=%20");
    assert_eq!(answer.header("x-version"), "HTTP/2.0");
    assert_eq!(answer.header("x-peer"), "127.0.0.1");
    assert_eq!((answer.header("connection"), answer.header("content-length")), ("", "0"));
    assert!(answer.header("date").ends_with(" GMT"), "{answer:?}");
}

#[actix_rt::test]
async fn content_of_any_size_goes_both_ways() {
    let client = Bench::start(&[]);
    let client = client.client().await;
    for size in [1, 70_000, LARGE] {
        let length = size.to_string();
        for headers in [&[("content-length", length.as_str())][..], &[]] {
            let answer = client.send(Method::POST, "/echo", headers, vec![7; size]).await;
            assert_eq!((answer.status, answer.body.len()), (200, size));
        }
    }
    assert_eq!(client.get("/large").await.body.len(), LARGE);
    let answer = client.get("/chunks").await;
    assert_eq!(
        (answer.body.as_slice(), answer.header("content-length")),
        (&b"chunk 0;chunk 1;chunk 2;"[..], "")
    );
    let head = client.send(Method::HEAD, "/large", &[], "").await;
    assert_eq!((head.body.len(), head.header("content-length")), (0, LARGE.to_string().as_str()));
}

#[actix_rt::test]
async fn half_an_answer_does_not_pass_for_a_whole_one() {
    let bench = Bench::start(&[]);
    let client = bench.client().await;
    let error = client.try_send(Method::GET, "/broken", &[], "").await.unwrap_err();
    assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR));
    assert_eq!(client.get("/").await.status, 200, "the connection goes on");
}

#[actix_rt::test]
async fn an_answer_without_content_says_nothing_of_a_length() {
    let bench = Bench::start(&[]);
    let client = bench.client().await;
    for status in ["204", "304"] {
        let answer = client.get(&format!("/empty?status={status}")).await;
        assert_eq!(answer.status.to_string(), status);
        assert!(!answer.headers.contains_key("content-length"), "{:?}", answer.headers);
    }
    assert_eq!(client.get("/unchanged").await.status, 304);
}

#[actix_rt::test]
async fn a_write_is_told_of_when_its_connection_is_gone() {
    let bench = Bench::start(&[]);
    let client = bench.client().await;
    let write = rt::spawn(async move {
        client.send(Method::POST, "/wait?millis=300", &[], "").await;
    });
    until("it runs", async || bench.running() == 1).await;
    // The last who holds the connection.
    write.abort();
    let told = || String::from_utf8(bench.metrics.text().unwrap()).unwrap();
    until("it is counted", async || told().contains("http_request_method=\"POST\"")).await;
    assert_eq!(bench.running(), 0);
}

#[actix_rt::test]
async fn an_answer_that_comes_before_the_end_of_the_request_arrives() {
    let bench = Bench::start(&[]);
    let client = bench.client().await;
    for size in [1 << 20, LARGE] {
        let answer = client.send(Method::POST, "/deaf", &[], vec![7; size]).await;
        assert_eq!((answer.status, answer.body.as_slice()), (409, &b"no"[..]));
        let length = (2 * LARGE).to_string();
        let headers = [("content-length", length.as_str())];
        let answer = client.send(Method::POST, "/echo", &headers, vec![7; 2 * LARGE]).await;
        assert_eq!((answer.status, answer.problem().0.as_str()), (413, "/problems/too-large"));
    }
}

#[actix_rt::test]
async fn many_requests_share_a_connection_and_none_waits_for_another() {
    let bench = Bench::start(&[]);
    let client = bench.client().await;
    let slow = rt::spawn({
        let client = client.clone();
        async move { client.get("/wait?millis=60000").await }
    });
    until("it waits", async || bench.running() == 1).await;
    let answers = join_all((0..500).map(|_| client.get("/"))).await;
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.body == b"hello"));
    slow.abort();
    until("the one that nobody wants any longer ends", async || bench.running() == 0).await;
}

#[actix_rt::test]
async fn no_more_than_128_requests_of_a_connection_run_at_once() {
    let bench = Bench::start(&[]);
    let client = bench.client().await;
    // From here on it knows how many it may have: one more would be refused, for it to try again.
    assert_eq!(client.get("/").await.status, 200);
    let tasks = (0..200).map(|_| {
        let client = client.clone();
        rt::spawn(async move { client.get("/wait?millis=300").await.status })
    });
    let tasks = tasks.collect::<Vec<_>>();
    until("as many run as may", async || bench.running() == 128).await;
    let answers = join_all(tasks).await;
    assert!(answers.into_iter().all(|status| status.unwrap() == 200));
}

#[actix_rt::test]
async fn writes_that_nobody_waits_for_any_longer_count_as_those_that_run() {
    let bench = Bench::start(&[]);
    let client = bench.client().await;
    assert_eq!(client.get("/").await.status, 200);
    for _ in 0..300 {
        let client = client.clone();
        let write = rt::spawn(async move {
            client.send(Method::POST, "/wait?millis=8000", &[], "").await;
        });
        rt::time::sleep(Duration::from_millis(2)).await;
        // The stream is reset, and there is room for another.
        write.abort();
        assert!(bench.running() <= 256);
    }
    until("as many run as may", async || bench.running() == 256).await;
    assert_eq!(
        client.try_send(Method::GET, "/", &[], "").await.unwrap_err().reason(),
        Some(h2::Reason::REFUSED_STREAM)
    );
    until("they run to their end", async || bench.running() == 0).await;
    assert_eq!(client.get("/").await.status, 200);
}

#[actix_rt::test]
async fn a_head_that_is_too_large_is_refused_and_the_connection_goes_on() {
    let bench = Bench::start(&[]);
    let client = bench.client().await;
    let large = "x".repeat(70_000);
    let answer = client.send(Method::GET, "/", &[("x-large", &large)], "").await;
    assert_eq!(answer.status, 431);
    assert_eq!(client.get("/").await.status, 200);
}

#[actix_rt::test]
async fn a_connection_that_is_not_used_is_given_up() {
    let bench = Bench::start(&[("server.keep_alive", "300ms"), ("server.header_timeout", "300ms")]);
    let client = bench.client().await;
    assert_eq!(client.get("/").await.status, 200);
    let ended = async || client.sender.clone().ready().await.is_err();
    until("it is closed", ended).await;
    // Neither does one get far that says nothing after, or in, the handshake.
    let mut config = bench.certificates.client(None);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let secure = open(&bench.url, config).await.unwrap();
    let address = bench.url.trim_start_matches("https://");
    let plain = tokio::net::TcpStream::connect(address).await.unwrap();
    let start = Instant::now();
    for mut silent in [Box::new(secure) as Box<dyn tokio::io::AsyncRead + Unpin>, Box::new(plain)] {
        let mut answer = Vec::new();
        let reading = tokio::io::AsyncReadExt::read_to_end(&mut silent, &mut answer);
        // It may end in a reset, or without a word of TLS.
        let _ = tokio::time::timeout(PATIENCE, reading).await.unwrap();
        assert!(start.elapsed() >= Duration::from_millis(250), "{:?}", start.elapsed());
    }
}

#[actix_rt::test]
async fn an_answer_that_nobody_takes_is_given_up() {
    let bench = Bench::start(&[("server.body_timeout", "300ms")]);
    let client = bench.client().await;
    let uri = format!("{}/large", bench.url);
    let request = http::Request::builder().uri(uri).body(()).unwrap();
    let mut sender = client.sender.clone().ready().await.unwrap();
    let (answer, _) = sender.send_request(request, true).unwrap();
    let mut content = answer.await.unwrap().into_body();
    let (start, mut taken) = (Instant::now(), 0);
    let error = loop {
        // Without a word that there is room for more.
        match content.data().await.unwrap() {
            Ok(chunk) => taken += chunk.len(),
            Err(error) => break error,
        }
    };
    assert_eq!(error.reason(), Some(h2::Reason::CANCEL));
    assert!(taken < LARGE, "{taken}");
    assert!(start.elapsed() >= Duration::from_millis(250), "{:?}", start.elapsed());
    // What was not given back to the connection does not matter to a new one.
    assert_eq!(bench.client().await.get("/").await.status, 200);
}

#[actix_rt::test]
async fn whoever_stops_answers_what_has_come_and_waits_for_no_idle_client() {
    let bench = Bench::start(&[]);
    let (idle, busy) = (bench.client().await, bench.client().await);
    assert_eq!(idle.get("/").await.status, 200);
    let slow = busy.clone();
    let slow = rt::spawn(async move { slow.get("/wait?millis=400").await.status });
    until("it waits", async || bench.running() == 1).await;
    let stopped = rt::spawn(bench.handle.stop(true));
    let refused = async || busy.sender.clone().ready().await.is_err();
    until("nothing new is taken", refused).await;
    assert_eq!(slow.await.unwrap(), 200);
    tokio::time::timeout(PATIENCE, stopped).await.unwrap().unwrap();
}

#[actix_rt::test]
async fn while_the_process_drains_an_answer_asks_for_a_new_connection() {
    let bench = Bench::start(&[]);
    let client = bench.client().await;
    assert_eq!(client.get("/").await.status, 200);
    assert!(client.sender.clone().ready().await.is_ok());
    bench.draining.begin();
    assert_eq!(client.get("/").await.status, 200);
    until("it is closed", async || client.sender.clone().ready().await.is_err()).await;
    assert_eq!(bench.client().await.get("/").await.status, 200, "for as long as it listens");
}

/// A client that writes frames by hand.
struct Frames(TlsStream<TcpStream>);

const HEADERS: u8 = 1;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

impl Frames {
    async fn open(bench: &Bench) -> Self {
        let mut config = bench.certificates.client(None);
        config.alpn_protocols = vec![b"h2".to_vec()];
        let mut frames = Self(open(&bench.url, config).await.unwrap());
        frames.0.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        frames.send(4, 0, 0, b"").await;
        frames
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u8, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [length[1], length[2], length[3], kind, flags, 0, 0, 0, stream];
        // The other side may have heard enough.
        let _ = self.0.write_all(&[&head, payload].concat()).await;
    }

    /// The reason for which the server ends the connection, once it does.
    async fn end(&mut self) -> Option<Reason> {
        rt::time::timeout(PATIENCE, self.read_to_end()).await.unwrap()
    }

    async fn read_to_end(&mut self) -> Option<Reason> {
        let mut reason = None;
        loop {
            let mut head = [0; 9];
            if self.0.read_exact(&mut head).await.is_err() {
                return reason;
            }
            let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            self.0.read_exact(&mut payload).await.unwrap();
            if head[3] == GOAWAY {
                let code = u32::from_be_bytes(payload[4..8].try_into().unwrap());
                reason = Some(Reason::from(code));
            }
        }
    }
}

/// A GET of `/`, as HPACK has it.
fn block() -> Vec<u8> {
    // :method GET, :scheme https, :path /, and :authority by its letters.
    [&[0x82, 0x87, 0x84, 0x41, 4][..], b"shop"].concat()
}

#[actix_rt::test]
async fn half_a_head_has_the_time_of_a_head() {
    let bench = Bench::start(&[("server.header_timeout", "500ms")]);
    let cases: [&[(u8, u8, &[u8])]; 3] = [
        &[(HEADERS, 0, &block()[..3])],
        &[(HEADERS, 0, &block()[..3]), (CONTINUATION, 0, &block()[3..5])],
        &[(HEADERS, END_HEADERS | 1, &block()), (HEADERS, 0, b"")],
    ];
    for case in cases {
        let mut client = Frames::open(&bench).await;
        let start = Instant::now();
        for (n, (kind, flags, payload)) in (0..).zip(case) {
            let stream = if *kind == HEADERS { 2 * n + 1 } else { 1 };
            client.send(*kind, *flags, stream, payload).await;
        }
        assert_eq!(client.end().await, Some(Reason::ENHANCE_YOUR_CALM), "{case:?}");
        let after = start.elapsed();
        assert!((400..5000).contains(&after.as_millis()), "{after:?}: {case:?}");
    }
    // One that goes on, a byte at a time.
    let mut client = Frames::open(&bench).await;
    let start = Instant::now();
    let mut drip = Box::pin(async {
        client.send(HEADERS, 0, 1, &block()).await;
        loop {
            client.send(CONTINUATION, 0, 1, &[0, 1, b'a', 1, b'b']).await;
            rt::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let _ = rt::time::timeout(Duration::from_secs(2), &mut drip).await;
    drop(drip);
    assert_eq!(client.end().await, Some(Reason::ENHANCE_YOUR_CALM));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    // The clock is that of heads alone.
    let client = bench.client().await;
    assert_eq!(client.get("/wait?millis=1500").await.status, 200);
    assert_eq!(client.get("/").await.status, 200);
}

#[actix_rt::test]
async fn frames_that_bring_nothing_have_an_end() {
    let bench = Bench::start(&[]);
    let mut client = Frames::open(&bench).await;
    client.send(HEADERS, END_HEADERS, 1, &block()).await;
    for _ in 0..10_000 {
        client.send(0, 0, 1, b"").await;
    }
    assert_eq!(client.end().await, Some(Reason::ENHANCE_YOUR_CALM));
    // With padding, which is nothing too.
    let mut client = Frames::open(&bench).await;
    client.send(HEADERS, END_HEADERS, 1, &block()).await;
    for _ in 0..10_000 {
        client.send(0, 8, 1, &[3, 0, 0, 0]).await;
    }
    assert_eq!(client.end().await, Some(Reason::ENHANCE_YOUR_CALM));
    // Pings, which are answered one by one.
    let client = Frames::open(&bench).await;
    let (mut read, mut write) = tokio::io::split(client.0);
    let flood = rt::spawn(async move {
        let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        for _ in 0..200 {
            if write.write_all(&ping.repeat(100)).await.is_err() {
                break;
            }
        }
    });
    let mut all = Vec::new();
    // It may end in a reset: what came before is what counts.
    let _ = rt::time::timeout(PATIENCE, read.read_to_end(&mut all)).await.unwrap();
    flood.await.unwrap();
    let goaway = [0, 0, 8, GOAWAY, 0, 0, 0, 0, 0];
    let at = all.windows(9).position(|window| window == goaway).unwrap();
    assert_eq!(all[at + 13..at + 17], [0, 0, 0, 11], "ENHANCE_YOUR_CALM");
}
