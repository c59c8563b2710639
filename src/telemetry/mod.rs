//! What a process says of itself while it works.

mod logs;

pub use logs::start;
