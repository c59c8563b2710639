//! The spans of one trace in this process, until the last one has ended.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Instant, SystemTime};

use super::super::TraceContext;
use super::span::Record;
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
}

#[derive(Debug, Default)]
struct Spans {
    /// How many are under way.
    open: u32,
    /// Those that were begun but not kept.
    dropped: u32,
    begun: usize,
    ended: Vec<Box<Record>>,
}

/// What a trace was in this process.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) is_sampled: bool,
    pub(super) begun: Instant,
    pub(super) began_at: SystemTime,
    /// In the order in which they ended.
    pub(super) spans: Vec<Box<Record>>,
    pub(super) dropped: u32,
}

impl Recorder {
    /// One for the trace of `trace`, if traces are recorded now. `parent` is the sampled flag of a parent that is trusted.
    pub fn begin(trace: TraceContext, parent: Option<bool>) -> Option<Self> {
        if !Self::is_wanted() {
            return None;
        }
        let is_sampled = tracer::samples(trace.trace_id(), parent);
        Some(Self::new(is_sampled))
    }

    /// One for work in the background, which is sampled if what it comes from was.
    pub(super) fn for_work(is_sampled: bool) -> Self {
        Self::new(is_sampled)
    }

    /// Whether traces are recorded now.
    pub(super) fn is_wanted() -> bool {
        tracer::is_recording()
    }

    fn new(is_sampled: bool) -> Self {
        Self(Rc::new(Inner {
            is_sampled,
            begun: Instant::now(),
            began_at: SystemTime::now(),
            spans: RefCell::default(),
        }))
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

    /// Takes a span that has ended. After the last one, the trace has.
    pub(super) fn close(&self, record: Box<Record>) {
        let mut spans = self.0.spans.borrow_mut();
        spans.ended.push(record);
        spans.open -= 1;
        if spans.open > 0 {
            return;
        }
        let Spans { dropped, ended, .. } = std::mem::take(&mut *spans);
        drop(spans);
        let Inner { is_sampled, begun, began_at, .. } = *self.0;
        tracer::finish(Finished { is_sampled, begun, began_at, spans: ended, dropped });
    }
}
