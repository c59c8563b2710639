//! The pipeline as the rest of the program sees it.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use opentelemetry_sdk::trace::SpanData;
use prometheus::core::Collector;
use rustls::ClientConfig;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::collector::{self, Sender};
use super::queue::Queue;
use super::worker::Worker;
use super::{counters, resource};
use crate::config::Traces;

/// The pause after a panic.
const PAUSE: Duration = Duration::from_secs(1);

/// Takes spans, and sends them in batches.
#[derive(Debug)]
pub struct Pipeline {
    queue: Queue,
    stopping: CancellationToken,
    /// Closed when the thread has ended.
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

impl Pipeline {
    /// One for a process of `roles`; `tls` is for an endpoint at `https`.
    ///
    /// # Errors
    /// When the system refuses the thread, or the library the endpoint.
    pub fn start(
        options: &Traces,
        roles: &[&str],
        tls: Option<Arc<ClientConfig>>,
    ) -> io::Result<Self> {
        let (queue, spans) = Queue::new(&options.batch);
        let stopping = CancellationToken::new();
        let limit = options.otlp.timeout.min(options.batch.export_timeout);
        let (handle, sender) = collector::open(&options.otlp, limit, tls, stopping.clone());
        let resource = resource::describe(options, roles);
        let worker = Worker::new(options, (queue.clone(), spans), handle, &resource)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (ends, ended) = oneshot::channel::<()>();
        let token = stopping.clone();
        let work = move || {
            run(&runtime.into(), (sender, worker), &token);
            drop(ends);
        };
        thread::Builder::new().name("traces".into()).spawn(work)?;
        Ok(Self { queue, stopping, ended: Mutex::new(Some(ended)) })
    }

    /// Takes the `count` spans that `make` gives, if there is room for any. Never waits: a span without room is dropped, and
    /// counted.
    pub fn offer<S: Iterator<Item = SpanData>>(&self, count: usize, make: impl FnOnce() -> S) {
        if self.queue.is_full() {
            return self.queue.counters().count_full(count as u64);
        }
        make().for_each(|span| self.queue.offer(span));
    }

    /// Sends what still waits, each batch once, until one is not taken. Takes no more spans. Returns when that is done, at the
    /// latest after `patience`.
    pub async fn stop(&self, patience: Duration) {
        self.stopping.cancel();
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(ended) = ended else { return };
        if timeout(patience, ended).await.is_err() {
            log::warn!("some traces were not sent before the end: the collector is slow");
        }
    }

    /// What becomes of spans, for the registry.
    pub fn collector(&self) -> Box<dyn Collector> {
        counters::collector(self.queue.clone())
    }
}

/// Sends spans on this thread until it is to stop, also after a panic.
fn run(
    runtime: &actix_rt::Runtime,
    (mut sender, mut worker): (Sender, Worker),
    stopping: &CancellationToken,
) {
    let mut work = || {
        runtime.block_on(async {
            tokio::select! {
                () = sender.run() => {}
                () = worker.run(stopping) => {}
            }
        });
    };
    while catch_unwind(AssertUnwindSafe(&mut work)).is_err() {
        log::error!("sending traces panicked and starts again in {PAUSE:?}");
        thread::sleep(PAUSE);
    }
}
