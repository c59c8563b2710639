//! Permits to use the connections of one thread to a store.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::{timeout, timeout_at};

use super::error::NONE_FREE;
use super::pool_meter::{PoolMeter, Used};
use super::{Limits, StoreError, call};

/// What a connection is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only to read.
    Read,
    /// Also to write.
    Write,
}

/// How long a call waits for a permit before there is another one: longer than it takes to open a file.
const PATIENCE: Duration = Duration::from_millis(10);

/// Gives out as many permits as there are connections, first come, first served, but one less for reads and for writes: if
/// every write hangs, reads go on, and vice versa.
#[derive(Clone, Debug)]
pub struct Permits {
    all: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    writes: Arc<Semaphore>,
    /// How many permits there may be beside those that there are; see [`Permits::growing`].
    spare: Arc<AtomicUsize>,
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
        Self::with(limits, limits.size)
    }

    /// As [`Self::new`], but a single permit at first, and another one when a call has waited for a while: where calls are
    /// short, few connections are opened.
    pub fn growing(limits: &Limits) -> Self {
        Self::with(limits, 1)
    }

    /// Permits for the connections that `limits` allow, `first` of them from the beginning.
    fn with(limits: &Limits, first: u32) -> Self {
        let (size, first) = (limits.size.max(1) as usize, first.max(1) as usize);
        let permits = |count: usize| Arc::new(Semaphore::new(count.max(1)));
        let (all, reads, writes) = (permits(first), permits(size - 1), permits(size - 1));
        let spare = Arc::new(AtomicUsize::new(size - first));
        let meter = PoolMeter::new(limits.name, size);
        Self { all, reads, writes, spare, limits: limits.clone(), meter }
    }

    /// The meter of the store's connections.
    pub(super) fn meter(&self) -> &PoolMeter {
        &self.meter
    }

    /// The limits of the connections.
    pub(super) fn limits(&self) -> &Limits {
        &self.limits
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
        let turn = async { (kind.clone().acquire_owned().await, self.any(until).await) };
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

    /// Waits for one of all permits, and makes another if none is free soon: early enough for a caller that leaves at `until`.
    async fn any(&self, until: Instant) -> Result<OwnedSemaphorePermit, AcquireError> {
        let mut turn = pin!(self.all.clone().acquire_owned());
        if self.spare.load(Relaxed) > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if let Ok(permit) = timeout(PATIENCE.min(left / 2), &mut turn).await {
                return permit;
            }
            if self.spare.fetch_update(Relaxed, Relaxed, |spare| spare.checked_sub(1)).is_ok() {
                self.all.add_permits(1);
            }
        }
        turn.await
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use tokio::time::sleep;

    use super::super::{StoreName, StoreState};
    use super::*;

    /// For four connections.
    fn growing() -> Permits {
        let time = Duration::from_secs(20);
        Permits::growing(&Limits {
            name: StoreName { setting: "t.database", system: "sqlite" },
            size: 4,
            acquire: time,
            statement: time,
            ends_calls: false,
            state: StoreState::already_prepared(),
        })
    }

    fn made(permits: &Permits) -> usize {
        4 - permits.spare.load(Relaxed)
    }

    #[actix_rt::test]
    async fn short_calls_share_a_permit_and_long_ones_get_their_own() {
        tokio::time::pause();
        let permits = growing();
        let call = async |time: Duration| {
            let _permit = permits.take(Access::Read).await.unwrap();
            sleep(time).await;
        };
        join_all((0..8).map(|_| call(PATIENCE / 10))).await;
        assert_eq!(made(&permits), 1);
        join_all((0..2).map(|_| call(10 * PATIENCE))).await;
        assert_eq!(made(&permits), 2);
        join_all((0..8).map(|_| call(10 * PATIENCE))).await;
        assert_eq!(made(&permits), 3, "one is kept from reads");
    }

    #[actix_rt::test]
    async fn a_permit_that_was_made_is_there_for_others() {
        tokio::time::pause();
        let permits = growing();
        let _first = permits.take(Access::Read).await.unwrap();
        drop(timeout(2 * PATIENCE, permits.take(Access::Read)).await.unwrap().unwrap());
        drop(timeout(PATIENCE / 2, permits.take(Access::Read)).await.unwrap().unwrap());
        assert_eq!(made(&permits), 2);
    }

    #[actix_rt::test]
    async fn a_caller_with_little_time_gets_a_permit_of_its_own_in_it() {
        tokio::time::pause();
        let permits = growing();
        let _first = permits.take(Access::Read).await.unwrap();
        let until = Instant::now() + PATIENCE;
        drop(timeout(PATIENCE * 9 / 10, permits.any(until)).await.unwrap().unwrap());
    }
}
