//! Connections over an in-memory pipe, with tokio's clock paused.

use std::rc::Rc;
use std::time::Duration;

use actix_web::test::init_service;
use actix_web::web;
use actix_web::{App, HttpResponse};
use futures_util::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::*;

const GET: &str = "GET / HTTP/1.1\r\nhost: shop\r\n\r\n";

/// The client side of a connection.
struct Client {
    pipe: DuplexStream,
    served: JoinHandle<()>,
    shutdown: Rc<Shutdown>,
    start: Instant,
}

impl Client {
    /// A client over a pipe of `capacity` bytes. Timeouts: 5 s for a head, 75 s idle, 10 s for a write.
    async fn connect(capacity: usize) -> Self {
        let options = Options {
            head_timeout: Duration::from_secs(5),
            keep_alive: Duration::from_secs(75),
            write_timeout: Duration::from_secs(10),
            refuse: |_, error| {
                let status = if error == HeadError::Slow { 408 } else { 400 };
                format!("HTTP/1.1 {status} \r\nconnection: close\r\n\r\n{error}")
            },
        };
        let (pipe, stream) = duplex(capacity);
        let shutdown = Rc::<Shutdown>::default();
        let slow = async || {
            sleep(Duration::from_secs(200)).await;
            HttpResponse::Ok().body("late")
        };
        let impatient = async |mut content: web::Payload| {
            let _ = timeout(Duration::from_secs(1), content.next()).await;
            HttpResponse::Conflict().body("no")
        };
        let app = App::new()
            .route("/", web::get().to(async || HttpResponse::Ok().body("hello")))
            .route("/slow", web::get().to(slow))
            .route("/large", web::get().to(async || HttpResponse::Ok().body(vec![b'x'; 100_000])))
            .route("/read", web::post().to(async |body: Bytes| HttpResponse::Ok().body(body)))
            .route("/deaf", web::post().to(async || HttpResponse::Conflict().body("no")))
            .route("/impatient", web::post().to(impatient));
        let app = init_service(app).await;
        let context = Rc::new(ConnectionContext {
            app,
            options: Rc::new(options),
            shutdown: shutdown.clone(),
        });
        let peer = SocketAddr::from(([192, 0, 2, 1], 4711));
        let served = tokio::task::spawn_local(serve(stream, peer, context));
        Self { pipe, served, shutdown, start: Instant::now() }
    }

    async fn send(&mut self, text: impl AsRef<[u8]>) {
        self.pipe.write_all(text.as_ref()).await.unwrap();
    }

    /// The next `count` bytes.
    async fn receive(&mut self, count: usize) -> String {
        let mut bytes = vec![0; count];
        self.pipe.read_exact(&mut bytes).await.unwrap();
        String::from_utf8(bytes).unwrap()
    }

    /// Everything up to the end, and the seconds from the connect until then.
    async fn rest(&mut self) -> (String, u64) {
        let mut text = String::new();
        self.pipe.read_to_string(&mut text).await.unwrap();
        (text, self.start.elapsed().as_secs())
    }

    /// The next response, whose content is `content`.
    async fn answer(&mut self, content: &str) -> String {
        let mut text = String::new();
        while !text.ends_with(&format!("\r\n\r\n{content}")) {
            text.push_str(&self.receive(1).await);
        }
        text
    }
}

#[actix_rt::test]
async fn a_client_that_sends_nothing_is_disconnected_without_a_response() {
    tokio::time::pause();
    let mut client = Client::connect(4096).await;
    assert_eq!(client.rest().await, (String::new(), 5));
}

#[actix_rt::test]
async fn a_client_that_sends_its_head_too_slowly_gets_408() {
    tokio::time::pause();
    let mut client = Client::connect(4096).await;
    for byte in GET.bytes().take(4) {
        client.send([byte]).await;
        sleep(Duration::from_secs(1)).await;
    }
    let (answer, seconds) = client.rest().await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && seconds == 5, "{seconds}: {answer}");
}

#[actix_rt::test]
async fn each_head_has_its_own_timeout_and_a_handler_has_none() {
    tokio::time::pause();
    let mut client = Client::connect(4096).await;
    client.send(GET.replace("/ ", "/slow ")).await;
    client.answer("late").await;
    assert_eq!(client.start.elapsed().as_secs(), 200);
    sleep(Duration::from_secs(60)).await;
    client.send(&GET[..9]).await;
    let (answer, seconds) = client.rest().await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && seconds == 265, "{seconds}: {answer}");
}

#[actix_rt::test]
async fn an_idle_client_is_disconnected_without_a_response() {
    tokio::time::pause();
    let mut client = Client::connect(4096).await;
    client.send(GET).await;
    client.answer("hello").await;
    let (answer, seconds) = client.rest().await;
    assert!(answer.is_empty() && (75..=80).contains(&seconds), "{seconds}: {answer}");
}

#[actix_rt::test]
async fn a_client_that_does_not_read_is_disconnected() {
    tokio::time::pause();
    let client = &mut Client::connect(1024).await;
    client.send(GET.replace("/ ", "/large ")).await;
    sleep(Duration::from_secs(9)).await;
    client.receive(1024).await;
    sleep(Duration::from_secs(9)).await;
    assert!(!client.served.is_finished());
    sleep(Duration::from_secs(2)).await;
    assert!(client.served.is_finished());
}

#[actix_rt::test]
async fn many_pipelined_requests_do_not_stop_the_timeout() {
    tokio::time::pause();
    for count in 120..135 {
        let mut client = Client::connect(64 * 1024).await;
        // The timer fires while the request is in flight.
        client.send("POST /read HTTP/1.1\r\nhost: shop\r\ncontent-length: 1\r\n\r\n").await;
        sleep(Duration::from_secs(7)).await;
        client.send(format!("x{}GET", GET.repeat(count))).await;
        let rest = timeout(Duration::from_secs(60), client.rest()).await;
        let (answers, seconds) = rest.unwrap_or_else(|_| panic!("{count} requests, and no end"));
        assert!(answers.contains("HTTP/1.1 408 ") && seconds <= 13, "{count}: {seconds}");
        assert_eq!(answers.matches("HTTP/1.1 200 ").count(), count + 1);
    }
}

#[actix_rt::test]
async fn a_client_that_is_refused_may_finish_sending() {
    tokio::time::pause();
    let mut client = Client::connect(1024).await;
    let head = "POST /read HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n";
    client.send(head).await;
    // Longer than one second.
    for _ in 0..5 {
        sleep(Duration::from_millis(500)).await;
        client.send([b'x'; 4000]).await;
    }
    let (answer, _) = client.rest().await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("ambiguous"), "{answer}");
    sleep(Duration::from_secs(2)).await;
    assert!(client.served.is_finished());
}

#[actix_rt::test]
async fn no_100_continue_is_sent_for_content_that_is_not_read() {
    tokio::time::pause();
    let head =
        "POST /deaf HTTP/1.1\r\nhost: shop\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    let mut client = Client::connect(4096).await;
    client.send(head).await;
    let (answer, _) = client.rest().await;
    assert!(answer.starts_with("HTTP/1.1 409 ") && answer.contains("connection: close"));
    let mut client = Client::connect(4096).await;
    client.send(head.replace("deaf", "read")).await;
    assert_eq!(client.answer("").await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("hello").await;
    assert!(client.answer("hello").await.starts_with("HTTP/1.1 200 "));
}

#[actix_rt::test]
async fn a_100_continue_arrives_whole_where_it_is_written_in_parts() {
    tokio::time::pause();
    let head =
        "POST /read HTTP/1.1\r\nhost: shop\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    let mut client = Client::connect(10).await;
    client.send(head).await;
    assert_eq!(client.answer("").await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("hello").await;
    assert!(client.answer("hello").await.starts_with("HTTP/1.1 200 "));
    // One that has begun ends before the response of a handler that reads no more.
    let mut client = Client::connect(10).await;
    client.send(head.replace("read", "impatient")).await;
    sleep(Duration::from_secs(2)).await;
    let (answer, _) = client.rest().await;
    let rest = answer.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n");
    assert!(rest.is_some_and(|rest| rest.starts_with("HTTP/1.1 409 ")), "{answer}");
}

#[actix_rt::test]
async fn unread_content_that_has_arrived_does_not_end_the_connection() {
    tokio::time::pause();
    let mut client = Client::connect(4096).await;
    let head = "POST /deaf HTTP/1.1\r\nhost: shop\r\ncontent-length: 5\r\n\r\nhello";
    client.send(format!("{head}{GET}")).await;
    assert!(client.answer("no").await.starts_with("HTTP/1.1 409 "));
    assert!(client.answer("hello").await.starts_with("HTTP/1.1 200 "));
}

#[actix_rt::test]
async fn a_shutdown_answers_requests_in_flight() {
    tokio::time::pause();
    // An idle client is disconnected at once,
    let mut idle = Client::connect(4096).await;
    idle.send(GET).await;
    idle.answer("hello").await;
    idle.shutdown.begin();
    assert_eq!(idle.rest().await, (String::new(), 0));
    // a client that has just connected may send a request,
    let mut fresh = Client::connect(4096).await;
    fresh.shutdown.begin();
    sleep(Duration::from_millis(500)).await;
    fresh.send(GET).await;
    let (answer, _) = fresh.rest().await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("connection: close"));
    // for one second,
    let mut silent = Client::connect(4096).await;
    silent.shutdown.begin();
    assert_eq!(silent.rest().await, (String::new(), 1));
    // and a client that waits for a response gets it.
    let mut waiting = Client::connect(4096).await;
    waiting.send(GET.replace("/ ", "/slow ")).await;
    sleep(Duration::from_secs(1)).await;
    waiting.shutdown.begin();
    let (answer, seconds) = waiting.rest().await;
    assert!(answer.ends_with("late") && answer.contains("connection: close") && seconds == 200);
}

#[actix_rt::test]
async fn a_bare_line_feed_is_refused_at_once() {
    tokio::time::pause();
    for begin in ["GET / HTTP/1.1\n", "GET / HTTP/1.1\r\nhost: shop\n", "\n"] {
        let mut client = Client::connect(4096).await;
        for byte in begin.bytes() {
            client.send([byte]).await;
        }
        let (answer, seconds) = client.rest().await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && seconds < 4, "{begin:?}: {answer}");
    }
}

#[actix_rt::test]
async fn a_few_empty_lines_are_skipped_and_a_flood_of_them_is_not() {
    tokio::time::pause();
    let mut client = Client::connect(4096).await;
    for part in ["\r\n", "\r", "\n\r", "\n", GET, "\r\n", GET] {
        client.send(part).await;
    }
    client.answer("hello").await;
    client.answer("hello").await;
    // An empty line does not begin a request: the client is idle.
    client.send("\r\n").await;
    assert_eq!(client.rest().await, (String::new(), 75));
    let mut client = Client::connect(4096).await;
    for _ in 0..100 {
        client.send("\r\n").await;
    }
    assert!(client.rest().await.0.starts_with("HTTP/1.1 400 "));
    // A flood that arrives byte by byte is refused too.
    let mut client = Client::connect(4096).await;
    for byte in "\r\n".repeat(65).bytes() {
        client.send([byte]).await;
        sleep(Duration::from_millis(1)).await;
    }
    let (answer, seconds) = client.rest().await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && seconds < 4, "{seconds}: {answer}");
}
