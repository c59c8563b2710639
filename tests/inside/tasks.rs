//! A node whose log fails: a background task panics when it says something, and goes on.

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use app::config::{self, Sources};
use app::node::{self, Role};
use log::{Level, LevelFilter, Log, Metadata, Record};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Client, free_port, until};

/// Keeps lines in memory, and has no room for the first of those with [`NEWS`].
struct Recorder {
    lines: Mutex<Vec<(Level, String)>>,
    has_failed: AtomicBool,
}

const NEWS: &str = "the configuration was read again";

static RECORDER: Recorder =
    Recorder { lines: Mutex::new(Vec::new()), has_failed: AtomicBool::new(false) };

impl Log for Recorder {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let text = record.args().to_string();
        let is_first = text == NEWS && !self.has_failed.swap(true, Ordering::Relaxed);
        self.lines.lock().unwrap().push((record.level(), text));
        assert!(!is_first, "no room for this line");
    }

    fn flush(&self) {}
}

impl Recorder {
    fn has(&self, level: Level, text: &str) -> bool {
        self.lines.lock().unwrap().contains(&(level, text.to_owned()))
    }
}

#[actix_rt::test]
async fn a_task_that_panics_is_logged_and_counted_and_goes_on() {
    log::set_logger(&RECORDER).unwrap();
    log::set_max_level(LevelFilter::Info);
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("config")).unwrap();
    fs::write(folder.path().join("config/default.toml"), "").unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let [listen, management] = [free_port(), free_port()].map(|port| format!("127.0.0.1:{port}"));
    let overrides = [
        ("gateway.listen", listen.clone()),
        ("gateway.management", management.clone()),
        ("user.database_url", format!("sqlite://{}", path("user.db"))),
        ("user.signing_keys_path", path("signing-keys")),
        ("product.database_url", format!("sqlite://{}", path("product.db"))),
    ];
    let overrides = overrides.map(|(key, value)| (key.to_owned(), value));
    let sources = Sources {
        directory: Some(folder.path().join("config")),
        overrides: overrides.into(),
        ..Sources::default()
    };
    let loaded = config::load(&sources).unwrap();
    std::thread::spawn(move || {
        actix_rt::System::new().block_on(node::run(sources, loaded, Role::ALL)).unwrap();
    });
    let [client, management] =
        [listen, management].map(|address| Client::new(format!("http://{address}")));
    let is_ready = async || {
        let answer = management.try_send(awc::http::Method::GET, "/readyz", &[], "").await;
        answer.is_ok_and(|answer| answer.status == 200)
    };
    until("it is ready", is_ready).await;
    let lead = |prefix: &str| {
        let keys = format!(
            "prefix = \"{prefix}/products\"\nstrip_prefix = \"{prefix}\"\nupstream = \"product\"\n"
        );
        fs::write(
            folder.path().join("config/gateway.toml"),
            format!("[gateway.routes.new]\n{keys}"),
        )
        .unwrap();
        kill(Pid::this(), Signal::SIGHUP).unwrap();
    };

    lead("/one");
    let told = "the task reload panicked and starts again in 100ms: no room for this line";
    until(told, async || RECORDER.has(Level::Error, told)).await;
    assert_eq!(client.get("/products").await.status, 200);
    assert_eq!(management.get("/readyz").await.json()["status"], "ready");

    lead("/two");
    until("its work goes on", async || client.get("/two/products").await.status == 200).await;
    let metrics = String::from_utf8(management.get("/metrics").await.body).unwrap();
    let panics = metrics.lines().filter(|line| line.starts_with("task_panics_total{"));
    let panics =
        panics.map(|line| line.trim_start_matches("task_panics_total")).collect::<Vec<_>>();
    for (task, count) in [("keys", 0), ("readiness", 0), ("reload", 1), ("session_sweep", 0)] {
        let line = format!("{{task=\"{task}\"}} {count}");
        assert!(panics.contains(&line.as_str()), "{panics:?}");
    }
}
