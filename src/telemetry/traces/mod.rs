//! Traces: what a request did in this process, as spans.

mod recent;

pub use recent::{KeptSpan, KeptTrace, recent_traces, trace_of, watch_traces};
