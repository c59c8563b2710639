//! What holds up a process, or a part of it: nobody waits for that, and whoever runs it is told.

use std::io::Read as _;
use std::time::{Duration, Instant};

use actix_rt::task::spawn_blocking;
use actix_web::rt;
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::support::{Process, until};

/// Reads from the unread log until the program is gone.
async fn read(mut log: std::io::PipeReader) -> String {
    let read = move || {
        let mut text = String::new();
        log.read_to_string(&mut text).unwrap();
        text
    };
    spawn_blocking(read).await.unwrap()
}

#[actix_rt::test]
async fn a_log_that_nobody_reads_stops_nobody() {
    let folder = TempDir::new().unwrap();
    let mut command = Process::command(folder.path());
    command.env("APP__SERVER__DRAIN_DELAY", "0s").env("APP__SERVER__DRAIN_TIMEOUT", "2s");
    let (mut process, log) = Process::start_unread(command);
    let (client, management) = (process.client("gateway"), process.client("management"));
    let long = format!("/products?q={}", "x".repeat(4000));
    for _ in 0..1000 {
        assert!(client.get(&long).await.status < 500);
    }
    assert_eq!(management.get("/livez").await.status, 200);
    let dropped = async || {
        let metrics = process.metrics().await;
        let line = metrics.lines().find(|line| line.starts_with("log_lines_dropped_total "));
        line.unwrap().split_once(' ').unwrap().1.parse::<u64>().unwrap()
    };
    until("lines are dropped", async || {
        for _ in 0..100 {
            assert!(client.get(&long).await.status < 500);
        }
        dropped().await > 0
    })
    .await;
    process.signal(Signal::SIGTERM);
    let start = Instant::now();
    spawn_blocking(move || process.wait()).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(read(log).await.contains("GET /products"), "what had room is there");
}

#[actix_rt::test]
async fn whoever_reads_the_log_late_is_told_how_many_lines_are_missing() {
    let folder = TempDir::new().unwrap();
    let (process, log) = Process::start_unread(Process::command(folder.path()));
    let client = process.client("gateway");
    let long = format!("/{}", "x".repeat(8000));
    until("lines are dropped", async || {
        for _ in 0..100 {
            client.get(&long).await;
        }
        !process.metrics().await.contains("log_lines_dropped_total 0")
    })
    .await;
    let reading = rt::spawn(read(log));
    until("the log can be written again", async || {
        let before = process.metrics().await;
        client.get(&long).await;
        let count = |text: &str| {
            let line = text.lines().find(|line| line.starts_with("log_lines_dropped_total "));
            line.unwrap().to_owned()
        };
        count(&before) == count(&process.metrics().await)
    })
    .await;
    rt::time::sleep(Duration::from_millis(100)).await;
    process.signal(Signal::SIGTERM);
    let mut process = process;
    spawn_blocking(move || process.wait()).await.unwrap();
    let text = reading.await.unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let told = lines.filter_map(|line| line["dropped"].as_u64()).sum::<u64>();
    assert!(told > 0, "{text}");
}
