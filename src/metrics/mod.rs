//! What every layer measures with: families of metrics whose names are constants, for the registry of the process.
//!
//! A layer keeps what it counts and gives it to the node as collectors; `telemetry` writes them all for Prometheus. This module
//! names no other.

mod sampled;

use prometheus::core::Collector;
use prometheus::{
    CounterVec, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts,
};

pub use sampled::{Family, Sampled, Samples};

/// What a layer gives to the registry.
pub type Collectors = Vec<Box<dyn Collector>>;

/// The upper bounds of durations of requests and calls, in seconds: those of OpenTelemetry, and finer ones below.
pub const DURATIONS: [f64; 17] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75,
    1.0, 2.5, 10.0,
];

/// Counters by `labels`.
pub fn counters(name: &str, about: &str, labels: &[&str]) -> IntCounterVec {
    valid(IntCounterVec::new(Opts::new(name, about), labels))
}

/// Gauges by `labels`.
pub fn gauges(name: &str, about: &str, labels: &[&str]) -> IntGaugeVec {
    valid(IntGaugeVec::new(Opts::new(name, about), labels))
}

/// Gauges of seconds by `labels`.
pub fn seconds_by(name: &str, about: &str, labels: &[&str]) -> GaugeVec {
    valid(GaugeVec::new(Opts::new(name, about), labels))
}

/// Sums of amounts by `labels`.
pub fn amounts(name: &str, about: &str, labels: &[&str]) -> CounterVec {
    valid(CounterVec::new(Opts::new(name, about), labels))
}

/// Histograms by `labels`, with the upper bounds `buckets`.
pub fn histograms(name: &str, about: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
    let options = HistogramOpts::new(name, about).buckets(buckets.to_vec());
    valid(HistogramVec::new(options, labels))
}

fn valid<T>(made: Result<T, prometheus::Error>) -> T {
    // The names are constants: an invalid one would fail every start.
    made.unwrap_or_else(|error| unreachable!("{error}"))
}
