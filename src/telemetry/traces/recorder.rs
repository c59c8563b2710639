//! The spans of one trace in this process, until the last one has ended.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Instant, SystemTime};

use super::super::{Scope, TraceContext, TraceId};
use super::span::SpanRecord;
use super::tracer;

/// How many spans a trace has at most in one process; more are counted.
const SPANS: usize = 512;

/// The spans of one trace; cheap to clone. All roles of a process that work for a request share one.
#[derive(Clone, Debug)]
pub struct Recorder(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    is_sampled: bool,
    begun: Instant,
    began_at: SystemTime,
    spans: RefCell<Spans>,
    /// Whether the trace is kept, once its first part has ended: a stream goes on after its answer's head.
    is_kept: Cell<Option<bool>>,
}

#[derive(Debug, Default)]
struct Spans {
    /// How many are under way.
    open: u32,
    /// Those that were begun but not kept.
    dropped: u32,
    begun: usize,
    #[expect(clippy::vec_box, reason = "they are boxed while they are under way, and not copied")]
    ended: Vec<Box<SpanRecord>>,
}

/// What a trace was in this process.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) is_sampled: bool,
    pub(super) begun: Instant,
    pub(super) began_at: SystemTime,
    /// Whether what ended before was kept; `None` for the first part.
    pub(super) is_kept: Option<bool>,
    /// In the order in which they ended.
    #[expect(clippy::vec_box, reason = "they are boxed while they are under way, and not copied")]
    pub(super) spans: Vec<Box<SpanRecord>>,
    pub(super) dropped: u32,
}

impl Recorder {
    /// One for the trace `id`, if traces are recorded now. `parent` is the sampled flag of a parent that is trusted.
    pub fn begin(id: TraceId, parent: Option<bool>) -> Option<Self> {
        if !tracer::is_recording() {
            return None;
        }
        let is_sampled = tracer::samples(id, parent);
        Some(Self::new(is_sampled))
    }

    /// One for a trace that is sampled or not.
    pub(super) fn new(is_sampled: bool) -> Self {
        Self(Rc::new(Inner {
            is_sampled,
            begun: Instant::now(),
            began_at: SystemTime::now(),
            spans: RefCell::default(),
            is_kept: Cell::default(),
        }))
    }

    /// That of the current task, and its place in the trace.
    pub fn current() -> Option<(Self, TraceContext)> {
        Scope::recording().map(|(recorder, _, trace)| (recorder, trace))
    }

    /// Whether the trace is sampled.
    pub fn is_sampled(&self) -> bool {
        self.0.is_sampled
    }

    /// Makes room for another span; returns whether there is any.
    pub(super) fn open(&self) -> bool {
        let mut spans = self.0.spans.borrow_mut();
        if spans.begun == SPANS {
            spans.dropped += 1;
            return false;
        }
        spans.begun += 1;
        spans.open += 1;
        true
    }

    /// Takes a span that has ended, or nothing for one that is forgotten. After the last one, the trace has ended, or a part of
    /// it has.
    pub(super) fn close(&self, record: Option<Box<SpanRecord>>) {
        let mut spans = self.0.spans.borrow_mut();
        spans.ended.extend(record);
        spans.open -= 1;
        if spans.open > 0 || spans.ended.is_empty() {
            return;
        }
        let (ended, dropped) =
            (std::mem::take(&mut spans.ended), std::mem::take(&mut spans.dropped));
        drop(spans);
        let Inner { is_sampled, begun, began_at, ref is_kept, .. } = *self.0;
        let part =
            Finished { is_sampled, begun, began_at, is_kept: is_kept.get(), spans: ended, dropped };
        is_kept.set(Some(tracer::finish(part)));
    }
}
