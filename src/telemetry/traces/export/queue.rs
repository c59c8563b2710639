//! The spans that wait to be sent.

use std::sync::Arc;

use opentelemetry_sdk::trace::SpanData;
use tokio::sync::Notify;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{self, Receiver};

use super::counters::Counters;
use crate::config::Batch;

/// Where spans are put, from any thread; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Queue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    spans: mpsc::Sender<SpanData>,
    /// So many are sent at once.
    batch: usize,
    /// A batch is full.
    full: Notify,
    counters: Counters,
}

impl Queue {
    /// An empty queue by `options`, and its other end.
    pub(super) fn new(options: &Batch) -> (Self, Receiver<SpanData>) {
        let (spans, receiver) = mpsc::channel(options.max_queue_size);
        let (full, counters) = (Notify::new(), Counters::default());
        (Self(Arc::new(Shared { spans, batch: options.limit(), full, counters })), receiver)
    }

    /// Puts `span` last, if there is room. Never waits.
    pub(super) fn offer(&self, span: SpanData) {
        match self.0.spans.try_send(span) {
            // What sends them is woken for a batch, and not for each.
            Ok(()) if self.len() >= self.0.batch => self.0.full.notify_one(),
            Ok(()) => {}
            Err(TrySendError::Full(_)) => self.0.counters.count_full(1),
            Err(TrySendError::Closed(_)) => self.0.counters.count_late(1),
        }
    }

    /// Waits until there are enough for a batch.
    pub(super) async fn until_full(&self) {
        self.0.full.notified().await;
    }

    /// Whether there is room for none.
    pub(super) fn is_full(&self) -> bool {
        self.0.spans.capacity() == 0
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.capacity() - self.0.spans.capacity()
    }

    /// The most that wait.
    pub(super) fn capacity(&self) -> usize {
        self.0.spans.max_capacity()
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.0.counters
    }
}
