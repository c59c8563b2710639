//! Connections to the stores of roles. Nothing here knows users or products.

mod applied;
pub mod backup;
mod call;
mod connection_thread;
pub mod copy;
mod error;
mod operations;
mod permits;
#[cfg(test)]
mod plan;
mod pool;
mod pool_meter;
pub mod postgres;
mod prepared;
mod reader;
pub mod redis;
pub mod sql;
pub mod sqlite;
mod state;
mod turn;
mod writer;

use std::time::Duration;

use crate::metrics::Collectors;

use applied::{applied_migrations, expect_all};
use call::CallDeadline;
pub use call::{in_time, late, run_as, run_to_completion, within};
pub use error::{SetupError, StoreError};
pub use permits::{Access, Permit, Permits};
#[cfg(test)]
pub use plan::plan;
pub use pool::{Lease, Poolable};
pub use prepared::Prepared;
pub use state::{Preparing, StoreState};
pub use turn::Turn;
pub use writer::{WriteConnection, close};

/// The first half of the SHA-256 digest of `bytes`.
pub fn digest(bytes: &[u8]) -> u128 {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let mut half = [0; 16];
    half.copy_from_slice(&digest.as_ref()[..16]);
    u128::from_be_bytes(half)
}

/// What all stores of a process measure.
pub fn collectors() -> Collectors {
    let mut collectors = pool_meter::collectors();
    collectors.push(operations::collector());
    collectors
}

/// What metrics call a store.
#[derive(Clone, Copy, Debug)]
pub struct StoreName {
    /// As `/readyz` calls it, such as `user.database`.
    pub setting: &'static str,
    /// Its kind, as OpenTelemetry calls it.
    pub system: &'static str,
}

/// The limits of one worker thread's use of a store.
#[derive(Clone, Debug)]
pub struct Limits {
    /// What metrics call the store.
    pub name: StoreName,
    /// The most connections; on SQLite, those that read.
    pub size: u32,
    /// How long to wait for a connection.
    pub acquire: Duration,
    /// How long to wait for an answer.
    pub statement: Duration,
    /// Whether a call beyond these limits is ended by closing its connection. On SQLite it cannot be.
    pub ends_calls: bool,
    /// The state of the store, shared by the threads of the process.
    pub state: StoreState,
}
