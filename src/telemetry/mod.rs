//! What a process says of itself while it works.

mod logs;
mod metrics;

pub use logs::start;
pub use metrics::{Meter, Metrics};
