//! Writes, and what the cache has to forget of them.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::timeout_at;

use super::Cache;
use crate::deadline;
use crate::storage::{Limits, StoreError, to_the_end};

/// How long before the end of a request its cache begins to doubt, so that it does so before the answer leaves.
const MARGIN: Duration = Duration::from_millis(10);

/// Waits for a write to the store as [`to_the_end`] does, and has `cache` forget what was answered before: once the
/// store has it and before its answer leaves, so that whoever has that sees the write. Where nobody knows whether the
/// store has it, what was answered before is in doubt. That is so when the answer was lost or is an error, and already
/// when the caller is told that there is none; only a write that did not begin, or that there was no room for, changes
/// nothing. That a server takes no writes may be its word on a second attempt.
///
/// # Errors
/// As [`to_the_end`].
pub(super) async fn carry_out<T: 'static>(
    limits: &Limits,
    cache: Cache,
    call: impl Future<Output = Result<T, StoreError>> + 'static,
) -> Result<T, StoreError> {
    let known = Rc::new(Cell::new(false));
    let caller = Doubt { cache: cache.clone(), known: known.clone() };
    let writer = Doubt { cache, known };
    let outcome = to_the_end(limits, async move {
        let outcome = call.await;
        match &outcome {
            Ok(_) => writer.cache.invalidate().await,
            Err(StoreError::Unreachable(_) | StoreError::Full(_)) => {}
            Err(_) => writer.cache.doubt().await,
        }
        writer.known.set(true);
        outcome
    });
    let outcome = early(outcome, &caller.cache).await;
    if !caller.known.get() {
        // Before the answer leaves.
        caller.cache.doubt().await;
        caller.ended();
    }
    outcome
}

/// Waits for the `outcome` of a write; has `cache` doubt what it has just before the request's own time is over, when
/// its caller is told that there was no answer.
async fn early<T>(outcome: impl Future<Output = T>, cache: &Cache) -> T {
    let Some(deadline) = deadline::current() else { return outcome.await };
    let deadline = deadline.checked_sub(MARGIN).unwrap_or(deadline);
    let mut outcome = pin!(outcome);
    match timeout_at(deadline.into(), outcome.as_mut()).await {
        Ok(outcome) => outcome,
        Err(_) => {
            cache.doubt().await;
            outcome.await
        }
    }
}

/// What is in doubt unless it is `known` what became of a write: for those who wait for it, and for the write itself,
/// which may panic or be cut off.
struct Doubt {
    cache: Cache,
    known: Rc<Cell<bool>>,
}

impl Doubt {
    /// The cache has been told.
    fn ended(mut self) {
        self.known = Rc::new(Cell::new(true));
    }
}

impl Drop for Doubt {
    fn drop(&mut self) {
        if !self.known.get() {
            self.cache.doubt_now();
        }
    }
}
