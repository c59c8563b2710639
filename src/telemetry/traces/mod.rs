//! Traces: what a request did in this process, as spans (OpenTelemetry), which are kept, and how they are sent to a collector.
//!
//! A request's spans are put into a [`Recorder`], which the roles of a process share when they call one another. When the last
//! one has ended, the trace is kept if it was sampled, failed, or was slow. Only then are names and attributes made.

mod about;
mod export;
mod recent;
mod recorder;
mod sampler;
mod span;
mod tracer;
mod wire;
mod work;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use crate::config::Traces;
use crate::metrics::Collectors;

pub use about::{Messages, Operation, Served};
pub use export::Pipeline;
pub use recent::{KeptSpan, KeptTrace, recent_traces, trace_of, watch_traces};
pub use recorder::Recorder;
pub use span::Span;
pub use work::Work;

/// Records the traces of this process of `roles` as `options` say, and sends them to a collector if there is one; `tls` is for
/// an endpoint at `https`. Later calls do nothing.
///
/// # Errors
/// When the system refuses the thread that sends, or the library the endpoint.
pub fn start(options: &Traces, roles: &[&str], tls: Option<Arc<ClientConfig>>) -> io::Result<()> {
    let pipeline = match options.endpoint() {
        Some(_) => Some(Pipeline::start(options, roles, tls)?),
        None => None,
    };
    tracer::start(options, pipeline);
    Ok(())
}

/// What becomes of spans, if they are sent.
pub fn collectors() -> Collectors {
    tracer::pipeline().map(Pipeline::collector).into_iter().collect()
}

/// Sends what still waits, and sends nothing from then on; takes at most `patience`.
pub async fn stop(patience: Duration) {
    if let Some(pipeline) = tracer::pipeline() {
        pipeline.stop(patience).await;
    }
}
