//! Sends spans to a collector, by OTLP over HTTP: a queue, and a thread of its own that empties it.

mod collector;
mod counters;
mod failure;
mod news;
mod pipeline;
mod queue;
mod resource;
mod worker;

pub use pipeline::Pipeline;
