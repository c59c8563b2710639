//! Opening what roles keep their data in. Nothing here knows of users or products.

mod applied;
mod call;
pub mod copy;
mod error;
mod permits;
mod pool;
pub mod postgres;
mod reader;
pub mod redis;
pub mod sql;
pub mod sqlite;
mod state;
mod writer;

use std::time::Duration;

use applied::{applied_migrations, expect_all};
use call::CallDeadline;
pub use call::{in_time, late, to_the_end, within};
pub use error::{SetupError, StoreError};
pub use permits::{Access, Permit, Permits};
pub use pool::{Lease, Poolable};
pub use state::{Preparing, StoreState};
pub use writer::WriteConnection;

/// The first half of the SHA-256 digest of `bytes`.
pub fn digest(bytes: &[u8]) -> u128 {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let mut half = [0; 16];
    half.copy_from_slice(&digest.as_ref()[..16]);
    u128::from_be_bytes(half)
}

/// How much of a store one worker thread may take, and for how long.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections; on SQLite those that read.
    pub size: u32,
    /// The wait for a connection.
    pub acquire: Duration,
    /// The wait for an answer on it.
    pub statement: Duration,
    /// Whether a call is ended with its connection when it goes on beyond all that. On SQLite it cannot be.
    pub ends_calls: bool,
    /// What is known of the store.
    pub state: StoreState,
}
