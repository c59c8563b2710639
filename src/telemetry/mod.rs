//! Logs and metrics.

mod logs;
mod metrics;
mod writer;

pub use logs::start;
pub use metrics::{Meter, Metrics};
pub use writer::{dropped_lines, last_word};
