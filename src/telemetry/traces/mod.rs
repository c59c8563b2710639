//! Traces: what a request did in this process, as spans (OpenTelemetry), and whether that is kept.
//!
//! A request's spans are put into a [`Recorder`], which the roles of a process share when they call one another. When the last
//! one has ended, the trace is kept if it was sampled, failed, or was slow. Only then are names and attributes made.

mod about;
mod recent;
mod recorder;
mod sampler;
mod span;
mod tracer;
mod wire;
mod work;

pub use about::{Messages, Served};
pub use recent::{KeptSpan, KeptTrace, recent_traces, trace_of, watch_traces};
pub use recorder::Recorder;
pub use span::Span;
pub use tracer::start_traces;
pub use work::Work;
