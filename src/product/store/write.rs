//! Writes, and what the cache has to forget of them.

use std::cell::Cell;
use std::rc::Rc;

use super::Cache;
use crate::storage::{Limits, StoreError, to_the_end};

/// Waits for a write to the store as [`to_the_end`] does, and has `cache` forget what was answered before: once the
/// store has it and before its answer leaves, so that whoever has that sees the write. Where nobody knows whether the
/// store has it, what was answered before is in doubt. That is so when the answer was lost or is an error, and already
/// when the caller gives up or leaves; only a write that did not begin changes nothing.
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
            Err(StoreError::Unreachable(_)) => {}
            Err(_) => writer.cache.doubt().await,
        }
        writer.known.set(true);
        outcome
    });
    let outcome = outcome.await;
    if !caller.known.get() {
        // Before the answer leaves.
        caller.cache.doubt().await;
        caller.ended();
    }
    outcome
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
