//! What a process tells Prometheus.

mod callees;
mod events;
mod process;
mod stores;
mod table;
