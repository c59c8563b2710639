//! What a process says of itself while it works.

mod logs;
mod metrics;
mod writer;

pub use logs::start;
pub use metrics::{Meter, Metrics};
pub use writer::{dropped_lines, last_word};
