//! Writes, and the cache invalidation that belongs to them.

use std::any::type_name_of_val;
use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::timeout_at;

use super::Cache;
use crate::deadline;
use crate::storage::{Limits, StoreError, run_as};

/// How long before a request's deadline the cache marks its entries as doubtful, so that it is done before the response.
const MARGIN: Duration = Duration::from_millis(10);

/// Runs a write as [`run_as`] does, and invalidates `cache` once the store has it and before the response leaves, so
/// that a client that has the response sees the write. If the outcome is unknown, because the answer is late, lost or an
/// error, the cached entries become doubtful. Only a write that did not start, or found no space, changes nothing. Even
/// "read-only" may be the answer to a second attempt.
///
/// # Errors
/// As [`run_as`].
pub(super) async fn carry_out<T: 'static>(
    limits: &Limits,
    cache: Cache,
    call: impl Future<Output = Result<T, StoreError>> + 'static,
) -> Result<T, StoreError> {
    carry_out_if(limits, cache, call, |_| true).await
}

/// As [`carry_out`], for a write that changes what is cached only if its outcome `shows`.
///
/// # Errors
/// As [`run_as`].
pub(super) async fn carry_out_if<T: 'static>(
    limits: &Limits,
    cache: Cache,
    call: impl Future<Output = Result<T, StoreError>> + 'static,
    shows: impl Fn(&T) -> bool + 'static,
) -> Result<T, StoreError> {
    let known = Rc::new(Cell::new(false));
    let caller = DoubtOnDrop { cache: cache.clone(), known: known.clone() };
    let writer = DoubtOnDrop { cache, known };
    let kind = type_name_of_val(&call);
    let outcome = run_as(kind, limits, async move {
        let outcome = call.await;
        match &outcome {
            Ok(outcome) if shows(outcome) => writer.cache.invalidate().await,
            Ok(_) => {}
            Err(StoreError::Unreachable(_) | StoreError::Full(_)) => {}
            Err(_) => writer.cache.doubt().await,
        }
        writer.known.set(true);
        outcome
    });
    let outcome = early(outcome, &caller.cache).await;
    if !caller.known.get() {
        // Before the response leaves.
        caller.cache.doubt().await;
        caller.disarm();
    }
    outcome
}

/// Waits for the `outcome` of a write. Marks `cache` as doubtful just before the request's deadline, when the client gets
/// an error.
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

/// Marks the cache as doubtful on drop, unless the outcome of the write is `known`: the caller may leave, and the write
/// may panic or be cut off.
struct DoubtOnDrop {
    cache: Cache,
    known: Rc<Cell<bool>>,
}

impl DoubtOnDrop {
    /// Drops it without marking the cache.
    fn disarm(mut self) {
        self.known = Rc::new(Cell::new(true));
    }
}

impl Drop for DoubtOnDrop {
    fn drop(&mut self) {
        if !self.known.get() {
            self.cache.doubt_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;
    use crate::config::{self, Sources};
    use crate::product::cache::{Entry, Key, ProcessCache};
    use crate::storage::{StoreName, StoreState};

    const KEY: Key = Key::Product(bson::oid::ObjectId::from_bytes([7; 12]));

    fn cache() -> Cache {
        ProcessCache::new(&config::load(&Sources::default()).unwrap().0.product).open()
    }

    fn limits() -> Limits {
        let moment = Duration::from_millis(50);
        let state = StoreState::already_prepared();
        let name = StoreName { setting: "test", system: "sqlite" };
        Limits { name, size: 1, acquire: moment, statement: moment, ends_calls: false, state }
    }

    /// Whether the store is asked for what was answered before.
    async fn asks(cache: &Cache) -> bool {
        let asked = Rc::new(Cell::new(false));
        let noting = asked.clone();
        let answer = cache.get(KEY, async move || {
            noting.set(true);
            Entry::new(&"answer", None, None).map(Some)
        });
        answer.await.unwrap();
        asked.get()
    }

    async fn is_asked_after(call: impl Future<Output = Result<(), StoreError>> + 'static) -> bool {
        let cache = cache();
        assert!(asks(&cache).await && !asks(&cache).await);
        let _ = carry_out(&limits(), cache.clone(), call).await;
        asks(&cache).await
    }

    #[actix_rt::test]
    async fn only_what_surely_changed_nothing_leaves_what_is_cached() {
        let failed = |error: StoreError| async { Err(error) };
        assert!(is_asked_after(async { Ok(()) }).await);
        assert!(is_asked_after(failed(StoreError::Connection("broken".into()))).await);
        assert!(is_asked_after(failed(StoreError::Failed("odd".into()))).await);
        assert!(is_asked_after(failed(StoreError::ReadOnly("another".into()))).await);
        assert!(is_asked_after(failed(StoreError::Duplicate)).await);
        assert!(!is_asked_after(failed(StoreError::Unreachable("none free".into()))).await);
        assert!(!is_asked_after(failed(StoreError::Full("no space".into()))).await);
    }

    #[actix_rt::test]
    async fn a_write_that_hangs_or_panics_may_have_been_done() {
        assert!(is_asked_after(pending()).await);
        assert!(is_asked_after(async { panic!("in the middle") }).await);
    }

    #[actix_rt::test]
    async fn a_caller_that_leaves_or_has_no_time_left_is_enough() {
        let cache = cache();
        asks(&cache).await;
        let limits = Limits { statement: Duration::from_secs(60), ..limits() };
        let hanging = carry_out(&limits, cache.clone(), pending::<Result<(), _>>());
        assert!(tokio::time::timeout(Duration::from_millis(50), hanging).await.is_err());
        assert!(asks(&cache).await && !asks(&cache).await);
        let end = std::time::Instant::now() + Duration::from_millis(100);
        let writing = cache.clone();
        let waiting = deadline::until(end, async move {
            carry_out(&limits, writing, pending::<Result<(), _>>()).await
        });
        let waiting = actix_rt::spawn(waiting);
        tokio::time::sleep_until(end.into()).await;
        assert!(asks(&cache).await);
        waiting.abort();
    }
}
