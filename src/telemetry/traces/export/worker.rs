//! What takes spans from the queue, and gives them to the exporter of OpenTelemetry.

use std::io;
use std::time::{Duration, Instant};

use opentelemetry_otlp::{
    Protocol, RetryPolicy, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::sync::mpsc::Receiver;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::collector::Handle;
use super::failure::Failure;
use super::news::{Line, News};
use super::queue::Queue;
use crate::config::{Endpoint, Traces};

/// Empties the queue.
pub(super) struct Worker {
    queue: Queue,
    spans: Receiver<SpanData>,
    handle: Handle,
    exporter: SpanExporter,
    news: News,
    url: String,
    /// How long spans wait at most.
    delay: Duration,
    /// The most spans of a batch.
    limit: usize,
}

impl Worker {
    /// One that empties `queue` by `options`, and asks `handle` to send what `resource` has made.
    ///
    /// # Errors
    /// When the library refuses the endpoint.
    pub(super) fn new(
        options: &Traces,
        (queue, spans): (Queue, Receiver<SpanData>),
        handle: Handle,
        resource: &Resource,
    ) -> io::Result<Self> {
        let url = options.otlp.endpoint.as_ref().map_or("", Endpoint::as_str).to_owned();
        // Whatever is not set here, the library would read from the environment.
        let builder = SpanExporter::builder().with_http().with_http_client(handle.clone());
        let builder = builder.with_endpoint(&url).with_protocol(Protocol::HttpBinary);
        let builder = builder.with_timeout(options.otlp.timeout);
        let builder = builder.with_retry_policy(RetryPolicy::disabled());
        let mut exporter = builder.build().map_err(io::Error::other)?;
        exporter.set_resource(resource);
        let (delay, limit) = (options.batch.schedule_delay, options.batch.limit());
        Ok(Self { queue, spans, handle, exporter, news: News::default(), url, delay, limit })
    }

    /// Sends batches when they are full, or after a while, until it is `stopping`; then what is left.
    pub(super) async fn run(&mut self, stopping: &CancellationToken) {
        while !stopping.is_cancelled() {
            tokio::select! {
                () = sleep(self.delay) => {}
                () = self.queue.until_full() => {}
                () = stopping.cancelled() => {}
            }
            // Those that come meanwhile wait for the next time.
            let mut due = self.queue.len();
            while due > 0 && !stopping.is_cancelled() {
                let batch = self.take(due);
                due -= batch.len().clamp(1, due);
                self.send(batch).await;
            }
        }
        self.finish().await;
    }

    /// Sends what is left until some of it is not taken.
    async fn finish(&mut self) {
        self.spans.close();
        let mut is_well = true;
        while is_well && !self.spans.is_empty() {
            let batch = self.take(self.limit);
            is_well = self.send(batch).await;
        }
        self.queue.counters().count_late(self.spans.len());
    }

    /// The first spans, at most `most` and no more than fit into a batch.
    fn take(&mut self, most: usize) -> Vec<SpanData> {
        let next = || self.spans.try_recv().ok();
        std::iter::from_fn(next).take(most.min(self.limit)).collect()
    }

    /// Sends `batch`; gives whether the collector has answered that it is taken.
    async fn send(&mut self, batch: Vec<SpanData>) -> bool {
        if batch.is_empty() {
            return true;
        }
        let spans = batch.len() as u64;
        let counters = self.queue.counters();
        counters.count_given(spans);
        // Its error is a text; the handle knows more.
        let _ = self.exporter.export(batch).await;
        let outcome = self.handle.take_outcome();
        let (lost, why) = match outcome {
            Ok(rejected) => (rejected.min(spans), Failure::Rejected),
            Err(why) => (spans, why),
        };
        counters.count_taken(spans - lost);
        if lost > 0 {
            counters.count_lost(why, lost);
        }
        let lost = Some((lost, why)).filter(|(lost, _)| *lost > 0);
        if let Some(line) = self.news.note(lost, counters.full(), Instant::now()) {
            self.tell(&line);
        }
        outcome.is_ok()
    }

    fn tell(&self, line: &Line) {
        let url = &self.url;
        match line {
            Line::Lost(spans, why) => {
                log::warn!(spans; "traces are lost: {why}, the collector at {url}");
            }
            Line::Full(spans) => {
                log::warn!(spans; "traces are lost: more come than are sent, see traces.batch");
            }
            Line::Well => log::info!("traces are taken again by the collector at {url}"),
        }
    }
}
