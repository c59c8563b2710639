//! Permits to use the connections of one worker thread to a store.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout_at;

use super::error::NONE_FREE;
use super::pool_meter::{PoolMeter, Used};
use super::{Limits, StoreError, StoreState, call};

/// What a connection is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only to read.
    Read,
    /// Also to write.
    Write,
}

/// Gives out as many permits as there are connections, first come, first served, but one less for reads and for writes: if
/// every write hangs, reads go on, and vice versa.
#[derive(Clone, Debug)]
pub struct Permits {
    all: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    writes: Arc<Semaphore>,
    limits: Limits,
    meter: PoolMeter,
}

/// A permit to use a connection, until it is dropped.
#[derive(Debug)]
pub struct Permit {
    _all: OwnedSemaphorePermit,
    _kind: OwnedSemaphorePermit,
    _used: Used,
    /// When the wait for a connection ends.
    pub until: Instant,
    /// When the call must end.
    deadline: Option<Instant>,
}

impl Permit {
    /// Whether the call has passed its deadline.
    pub(super) fn is_overdue(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }
}

impl Permits {
    /// Permits for the connections that `limits` allow.
    pub fn new(limits: &Limits) -> Self {
        let size = limits.size.max(1) as usize;
        let permits = |count: usize| Arc::new(Semaphore::new(count.max(1)));
        let (all, reads, writes) = (permits(size), permits(size - 1), permits(size - 1));
        let meter = PoolMeter::new(limits.name, size);
        Self { all, reads, writes, limits: limits.clone(), meter }
    }

    /// The meter of the store's connections.
    pub(super) fn meter(&self) -> &PoolMeter {
        &self.meter
    }

    /// The state of the store.
    pub(super) fn state(&self) -> &StoreState {
        &self.limits.state
    }

    /// Waits for the store to be prepared, and for a permit.
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
        let waiting = self.meter.wait();
        let turn =
            async { (kind.clone().acquire_owned().await, self.all.clone().acquire_owned().await) };
        match timeout_at(until.into(), turn).await {
            Ok((Ok(kind), Ok(all))) => {
                let (used, deadline) = (waiting.succeed(), call::deadline());
                Ok(Permit { _all: all, _kind: kind, _used: used, until, deadline })
            }
            // The semaphores are never closed.
            Ok(_) | Err(_) => {
                waiting.give_up();
                Err(StoreError::Unreachable(NONE_FREE.into()))
            }
        }
    }
}
