//! Logs, metrics and profiles, and the requests that log lines belong to.

mod exemplars;
mod filter;
mod limiter;
mod logger;
mod logs;
mod memory;
mod meter;
mod metrics;
mod open_metrics;
mod panics;
mod process;
mod profile;
mod recent_lines;
mod scope;
mod slow;
mod statement;
mod trace_context;
pub mod traces;
mod writer;

pub use filter::FilterState;
pub use logger::{
    filter, follow_left_out, last_word, left_out_lines, replace_filter, reset_filter,
};
pub use logs::start;
pub use memory::Memory;
pub use meter::{Active, Meter};
pub use metrics::Metrics;
pub use profile::{Profile, ProfileError};
pub use recent_lines::lines_of;
pub use scope::{Part, Scope, Wait, current_trace, inherit};
pub use slow::{MANAGEMENT, watch_request, watch_statement};
pub use statement::Statement;
pub use trace_context::{SpanId, TraceContext, TraceId};
pub use traces::{
    KeptSpan, KeptTrace, Messages, Operation, Recorder, Served, Span, Work, recent_traces,
    trace_of, watch_traces,
};
pub use writer::dropped_lines;
