//! A handler that panics: no route of the program does.

use std::sync::Mutex;

use actix_rt as rt;
use actix_web::HttpResponse;
use app::auth::public;
use app::config::{Settings, Sources};
use app::middleware::path;
use app::server;
use app::telemetry::{self, Scope};
use awc::http::Method;
use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::support::Client;

/// A line: its level, its target, its text, and the request that it belongs to.
type Line = (Level, String, String, Option<String>);

/// Keeps lines in memory.
struct Recorder(Mutex<Vec<Line>>);

static RECORDER: Recorder = Recorder(Mutex::new(Vec::new()));

impl Log for Recorder {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let request = Scope::current().map(|scope| scope.request_id().to_owned());
        let (target, text) = (record.target().to_owned(), record.args().to_string());
        self.0.lock().unwrap().push((record.level(), target, text, request));
    }

    fn flush(&self) {}
}

async fn panics() -> HttpResponse {
    panic!("out of luck")
}

async fn works() -> HttpResponse {
    HttpResponse::NoContent().finish()
}

#[rt::test]
async fn a_handler_that_panics_is_logged_with_its_request_counted_and_ends_no_worker() {
    log::set_logger(&RECORDER).unwrap();
    log::set_max_level(LevelFilter::Info);
    let (settings, effective): (Settings, _) = app::config::load(&Sources::default()).unwrap();
    telemetry::start(&settings.log);
    let listener = server::bind("test", "127.0.0.1:0".parse().unwrap(), &effective).unwrap();
    let client = Client::new(listener.url());
    let middleware = super::middleware(&settings, 1024);
    let metrics = middleware.metrics.clone();
    let app = move || {
        middleware.clone().app(|routes| {
            // A GET runs with its client, a POST to its end.
            let bad = path("/bad").get(public(), panics).post(public(), panics);
            routes.service(bad).service(path("/good").get(public(), works));
        })
    };
    // One thread: if it ended, nobody would answer any more.
    rt::spawn(server::serve(listener, server::Threads::new(1), &settings.server, app).unwrap());
    for (method, id) in [(Method::GET, "read"), (Method::POST, "write")] {
        let answer = client.send(method, "/bad", &[("x-request-id", id)], "").await;
        assert_eq!((answer.status, answer.header("x-request-id")), (500, id));
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(answer.json()["status"], 500);
        assert!(!answer.text().contains("luck"), "{}", answer.text());
        assert_eq!(client.get("/good").await.status, 204);
    }
    let metrics = String::from_utf8(metrics.text().unwrap()).unwrap();
    assert!(metrics.contains("request_panics_total{role=\"test\"} 2\n"), "{metrics}");
    let lines = RECORDER.0.lock().unwrap().clone();
    for id in ["read", "write"] {
        let has = |target: &str, text: &str| {
            lines.iter().any(|line| {
                (line.0, line.1.as_str(), line.3.as_deref()) == (Level::Error, target, Some(id))
                    && line.2.contains(text)
            })
        };
        assert!(has("panic", "tests/inside/panics.rs") && has("panic", "out of luck"), "{lines:?}");
        assert!(has("app::middleware", "a handler panicked"), "{lines:?}");
    }
}
