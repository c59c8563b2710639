//! Logs and metrics.

mod exemplars;
mod logs;
mod meter;
mod metrics;
mod open_metrics;
mod process;
mod writer;

pub use logs::start;
pub use meter::{Active, Meter};
pub use metrics::Metrics;
pub use writer::{dropped_lines, last_word};
