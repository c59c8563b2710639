//! Content that fails on its way from a client is the client's matter: over HTTP/1.1, over HTTP/2, before a service
//! over a socket and before a role behind a mailbox, it opens no breaker.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use actix_rt::task::spawn_blocking;
use actix_web::web::Bytes;
use awc::http::{Method, Uri};
use h2::Reason;
use tempfile::TempDir;

use crate::support::tls::{Certificates, Http2};
use crate::support::{Process, Raw, Shop, Topology, Upstream};

/// More than a breaker wants to see.
const TIMES: usize = 25;

const SETTINGS: [(&str, &str); 4] = [
    ("APP__SERVER__BODY_LIMIT", "2000"),
    ("APP__SERVER__BODY_TIMEOUT", "200ms"),
    ("APP__SERVER__REQUEST_TIMEOUT", "5s"),
    ("APP__GATEWAY__RESILIENCE__BREAKER_FAILURES", "50"),
];

/// What is behind the gateway.
#[derive(Clone, Copy, Debug)]
enum Behind {
    Socket,
    Mailbox,
}

const BEHIND: [Behind; 2] = [Behind::Socket, Behind::Mailbox];

/// A gateway and what it needs.
struct Front {
    shop: Option<Shop>,
    gateway: Option<(Process, TempDir)>,
    _upstream: Upstream,
    certificates: Certificates,
    _folder: TempDir,
}

impl Front {
    fn start(behind: Behind, tls: bool) -> Self {
        let folder = TempDir::new().unwrap();
        let certificates = Certificates::make(folder.path().join("certs"));
        let own = certificates.environment("gateway").into_iter();
        let own = own.filter(|(name, _)| tls && name.contains("GATEWAY__TLS")).collect::<Vec<_>>();
        let own = own.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let environment = SETTINGS.into_iter().chain(own).collect::<Vec<_>>();
        let upstream = Upstream::obliging();
        let (shop, gateway) = match behind {
            Behind::Socket => (None, Some(upstream.gateway(&environment))),
            Behind::Mailbox => (Some(Shop::start_with(Topology::OneProcess, &environment)), None),
        };
        Self { shop, gateway, _upstream: upstream, certificates, _folder: folder }
    }

    fn process(&self) -> &Process {
        match (&self.shop, &self.gateway) {
            (Some(shop), _) => shop.process("gateway"),
            (_, Some((process, _))) => process,
            (None, None) => unreachable!(),
        }
    }

    async fn http2(&self) -> Http2 {
        Http2::open(&self.process().urls["gateway"], self.certificates.client(None)).await
    }

    /// Fails if the breaker of the product upstream has seen a failure too many.
    async fn is_closed(&self, what: &str) {
        let product = self.process().callee("upstreams", "product").await;
        assert_eq!(product["breaker"], "closed", "after {what}: {product}");
    }
}

/// How a client of HTTP/1.1 ends its content.
#[derive(Clone, Copy)]
enum End {
    /// It says that there is nothing more to come.
    Finish,
    Reset,
    /// It waits for an answer, with this status.
    Wait(u16),
}

const HTTP_1: [(&str, &str, End); 9] = [
    ("half of a body", "content-length: 1000\r\n\r\nx", End::Finish),
    ("a body that is cut off", "content-length: 1000\r\n\r\nx", End::Reset),
    ("half of a chunk", "transfer-encoding: chunked\r\n\r\n5\r\nhe", End::Finish),
    ("chunks without an end", "transfer-encoding: chunked\r\n\r\n1\r\nx\r\n", End::Finish),
    ("chunks that are cut off", "transfer-encoding: chunked\r\n\r\n1\r\nx\r\n", End::Reset),
    ("no chunks", "transfer-encoding: chunked\r\n\r\nzz\r\nhello\r\n", End::Wait(400)),
    ("a body that stalls", "content-length: 1000\r\n\r\nx", End::Wait(408)),
    ("chunks that stall", "transfer-encoding: chunked\r\n\r\n1\r\nx\r\n", End::Wait(408)),
    ("a body that is not begun", "content-length: 1000\r\n\r\n", End::Wait(408)),
];

#[actix_rt::test]
async fn content_that_fails_over_http_1_opens_no_breaker() {
    for behind in BEHIND {
        let front = Front::start(behind, false);
        for (what, rest, end) in HTTP_1 {
            for method in ["POST", "GET"] {
                let head = format!("{method} /products HTTP/1.1\r\nhost: shop\r\n{rest}");
                let mut clients = (0..TIMES).map(|_| Raw::connect(front.process()));
                let mut clients = clients.by_ref().collect::<Vec<_>>();
                clients.iter_mut().for_each(|client| client.send(&head));
                spawn_blocking(move || {
                    for mut client in clients {
                        match end {
                            End::Finish => {
                                client.finish();
                                client.rest();
                            }
                            End::Reset => client.reset(),
                            // A catalogue is read without anybody looking at content.
                            End::Wait(_) if method == "GET" => _ = client.everything(),
                            End::Wait(status) => {
                                let (answer, expected) = (client.rest(), format!(" {status} "));
                                assert!(answer.contains(&expected), "{what}: {answer:?}");
                            }
                        }
                    }
                })
                .await
                .unwrap();
                front.is_closed(&format!("{behind:?}: {method} with {what}")).await;
            }
        }
        let large = format!("{:x}\r\n{}\r\n0\r\n\r\n", 3000, "x".repeat(3000));
        for _ in 0..TIMES {
            let mut client = Raw::connect(front.process());
            let head = "POST /products HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n";
            client.send(format!("{head}transfer-encoding: chunked\r\n\r\n{large}"));
            let answer = spawn_blocking(move || client.rest()).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 413 "), "{answer:?}");
        }
        front.is_closed("too large a body").await;
    }
}

#[actix_rt::test]
async fn content_that_is_not_as_long_as_it_says_is_a_stream_error_over_http_2() {
    for behind in BEHIND {
        let front = Front::start(behind, true);
        let client = front.http2().await;
        let cases: [(&[(&str, &str)], &str); 9] = [
            (&[("content-length", "5")], ""),
            (&[("content-length", "5")], "he"),
            (&[("content-length", "5")], "hello, world"),
            (&[("content-length", "0")], "hello"),
            (&[("content-length", "5"), ("content-length", "6")], "hello"),
            (&[("content-length", "5"), ("content-length", "5, 5")], "hello"),
            (&[("content-length", "+5")], "hello"),
            (&[("content-length", "")], "hello"),
            (&[("x-padded", " x"), ("content-length", "5")], "hello"),
        ];
        for (headers, body) in cases {
            for method in [Method::GET, Method::POST, Method::DELETE] {
                for _ in 0..TIMES {
                    let sent = client.try_send(method.clone(), "/products", headers, body).await;
                    let reason = sent.as_ref().err().and_then(h2::Error::reason);
                    let case = format!("{behind:?}: {method} {headers:?} {body:?}: {sent:?}");
                    assert_eq!(reason, Some(Reason::PROTOCOL_ERROR), "{case}");
                }
                front.is_closed(&format!("{behind:?}: {method} {headers:?} {body:?}")).await;
            }
        }
        // One host, by whichever of its names.
        let authority = client.base.trim_start_matches("https://");
        for host in ["evil.example", "", &format!("{authority}0")] {
            let sent = client.try_send(Method::GET, "/products", &[("host", host)], "").await;
            assert_eq!(sent.unwrap_err().reason(), Some(Reason::PROTOCOL_ERROR), "{host:?}");
        }
        let host = [("host", &*authority.to_uppercase())];
        assert!(client.try_send(Method::GET, "/products", &host, "").await.is_ok());
        // Blanks at either end of a value, of either kind; and what is right is let through.
        for value in ["x ", " x", "\tx", "x\t", " "] {
            let sent = client.try_send(Method::GET, "/products", &[("x-padded", value)], "").await;
            assert_eq!(sent.unwrap_err().reason(), Some(Reason::PROTOCOL_ERROR), "{value:?}");
        }
        let same = [("content-length", "5"), ("content-length", "5"), ("x-inner", "a b\tc")];
        assert!(client.send(Method::POST, "/products", &same, "hello").await.status < 500);
        assert_eq!(client.get("/products").await.status, 200);
    }
}

#[actix_rt::test]
async fn content_that_breaks_off_or_stalls_over_http_2_opens_no_breaker() {
    for behind in BEHIND {
        let front = Front::start(behind, true);
        for _ in 0..TIMES {
            let client = front.http2().await;
            // Half a body, and then a reset of its stream.
            let (answer, mut content) = begin(&client, Method::POST).await;
            content.send_data(Bytes::from_static(b"half"), false).unwrap();
            content.send_reset(Reason::CANCEL);
            assert!(answer.await.is_err());
            // And then the end of the connection.
            let (answer, mut content) = begin(&client, Method::PUT).await;
            content.send_data(Bytes::from_static(b"half"), false).unwrap();
            drop((answer, content, client));
        }
        front.is_closed(&format!("{behind:?}: half a body")).await;
        let client = front.http2().await;
        let mut stalled = Vec::new();
        for _ in 0..TIMES {
            let (answer, mut content) = begin(&client, Method::POST).await;
            content.send_data(Bytes::from_static(b"half"), false).unwrap();
            stalled.push((answer, content));
        }
        for (answer, _content) in stalled {
            assert_eq!(answer.await.unwrap().status(), 408, "{behind:?}");
        }
        front.is_closed(&format!("{behind:?}: a body that stalls")).await;
        for _ in 0..TIMES {
            // A client that sends too much is asked to go.
            let client = front.http2().await;
            let answer = client.send(Method::POST, "/products", &[], vec![b'x'; 3000]).await;
            assert_eq!(answer.status, 413, "{behind:?}");
        }
        front.is_closed(&format!("{behind:?}: too large a body")).await;
        assert_eq!(front.http2().await.get("/products").await.status, 200);
    }
}

#[actix_rt::test]
async fn a_write_whose_stream_is_reset_leaves_its_place_to_others() {
    let folder = TempDir::new().unwrap();
    let certificates = Certificates::make(folder.path().join("certs"));
    let (arrives, arrived) = std::sync::mpsc::channel();
    let upstream = Upstream::start(move |line| match line.request() {
        None => {}
        Some(request) if request.head.starts_with("GET ") => {
            line.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
        Some(_) => {
            arrives.send(()).unwrap();
            line.wait_for_end();
        }
    });
    let own = certificates.environment("gateway").into_iter();
    let own = own.filter(|(name, _)| name.contains("GATEWAY__TLS")).collect::<Vec<_>>();
    let own = own.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let settings =
        [("APP__GATEWAY__RESILIENCE__CONCURRENCY", "1"), ("APP__GATEWAY__RESILIENCE__QUEUE", "0")];
    let settings = settings.into_iter().chain(own).collect::<Vec<_>>();
    let (gateway, _folder) = upstream.gateway_at_up(&[], &settings);
    let client = Http2::open(&gateway.urls["gateway"], certificates.client(None)).await;
    let slow = client.clone();
    let slow = actix_rt::spawn(async move { slow.post("/up", "{}").await });
    spawn_blocking(move || arrived.recv_timeout(Duration::from_secs(10))).await.unwrap().unwrap();
    assert_eq!(client.get("/up").await.status, 503);
    slow.abort();
    let start = Instant::now();
    while client.get("/up").await.status != 200 {
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    }
}

type Begun = (h2::client::ResponseFuture, h2::SendStream<Bytes>);

/// A request whose content is still to come.
async fn begin(client: &Http2, method: Method) -> Begun {
    let uri: Uri = format!("{}/products", client.base).parse().unwrap();
    let request = http::Request::builder().method(method).uri(uri).body(()).unwrap();
    client.sender.clone().ready().await.unwrap().send_request(request, false).unwrap()
}

each_topology!(a_connection_that_is_reset_before_it_is_accepted_asks_for_nothing);
/// It has no address, and must not be taken for a role of this process, which is believed in whatever it says.
async fn a_connection_that_is_reset_before_it_is_accepted_asks_for_nothing(topology: Topology) {
    const LOGIN: &str = "POST /auth/login HTTP/1.1\r\nHost: a\r\nHost: b\r\nX_User_Id: admin\r\n\
        X-Forwarded-For: 1.2.3.4\r\ncontent-type: application/json\r\nContent-Length: 2\r\n\r\n{}";
    let shop = Shop::start(topology);
    for role in ["gateway", "user"].into_iter().take(topology as usize + 1) {
        let url = shop.process(role).urls[role].clone();
        let address = url.trim_start_matches("http://").to_owned();
        spawn_blocking(move || {
            for _ in 0..300 {
                let mut stream = TcpStream::connect(&address).unwrap();
                stream.write_all(LOGIN.as_bytes()).unwrap();
                Raw::from(stream).reset();
            }
        })
        .await
        .unwrap();
        for _ in 0..20 {
            assert_eq!(shop.client(role).get("/nowhere").await.status, 404);
        }
        let mut client = Raw::from(TcpStream::connect(url.trim_start_matches("http://")).unwrap());
        client.send(LOGIN);
        let answer = spawn_blocking(move || client.rest()).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "one that stays: {answer}");
        let log = shop.process(role).log();
        let asked = log.lines().filter(|line| line.contains("/auth/login")).collect::<Vec<_>>();
        assert!(!asked.is_empty(), "that of the one that stayed");
        for line in asked {
            assert!(line.contains("\"status\":400"), "{line}");
        }
    }
}

#[actix_rt::test]
async fn nobody_waits_long_for_the_end_of_a_body() {
    let front = Front::start(Behind::Socket, true);
    let client = front.http2().await;
    let start = Instant::now();
    let (answer, _content) = begin(&client, Method::POST).await;
    let answer = actix_rt::time::timeout(Duration::from_secs(3), answer).await.unwrap();
    assert_eq!(answer.unwrap().status(), 408);
    assert!(start.elapsed() >= Duration::from_millis(180), "{:?}", start.elapsed());
}
