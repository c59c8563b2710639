//! Who of one worker thread may use its connections to a store.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout_at;

use super::error::NONE_FREE;
use super::{Limits, StoreError, StoreState, call};

/// What a connection is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing is changed.
    Read,
    /// Something may be.
    Write,
}

/// Lets as many calls in as there are connections, in the order in which they came, and one less of either kind:
/// where every write hangs, reads go on, and the other way round.
#[derive(Clone, Debug)]
pub struct Permits {
    all: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    writes: Arc<Semaphore>,
    limits: Limits,
}

/// The right to use a connection, until it is dropped.
#[derive(Debug)]
pub struct Permit {
    _all: OwnedSemaphorePermit,
    _kind: OwnedSemaphorePermit,
    /// When the wait for a connection ends, if none is there yet.
    pub until: Instant,
    /// When the call has to be over.
    deadline: Option<Instant>,
}

impl Permit {
    /// Whether the call goes on longer than it may.
    pub(super) fn is_overdue(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }
}

impl Permits {
    /// For as many connections as `limits` say.
    pub fn new(limits: &Limits) -> Self {
        let size = limits.size.max(1) as usize;
        let of = |count: usize| Arc::new(Semaphore::new(count.max(1)));
        Self { all: of(size), reads: of(size - 1), writes: of(size - 1), limits: limits.clone() }
    }

    /// What is known of the store.
    pub(super) fn state(&self) -> &StoreState {
        &self.limits.state
    }

    /// Waits for a turn, and before it for the store's tables to be up to date.
    ///
    /// # Errors
    /// When that takes longer than a call may wait for a connection.
    pub async fn take(&self, access: Access) -> Result<Permit, StoreError> {
        let kind = match access {
            Access::Read => &self.reads,
            Access::Write => {
                call::writes();
                &self.writes
            }
        };
        let until = call::within(self.limits.acquire);
        self.limits.state.prepared(until).await?;
        let turn =
            async { (kind.clone().acquire_owned().await, self.all.clone().acquire_owned().await) };
        match timeout_at(until.into(), turn).await {
            Ok((Ok(kind), Ok(all))) => {
                Ok(Permit { _all: all, _kind: kind, until, deadline: call::deadline() })
            }
            // They are never closed.
            Ok(_) | Err(_) => Err(StoreError::Unreachable(NONE_FREE.into())),
        }
    }
}
