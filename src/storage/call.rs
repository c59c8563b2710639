//! Deadlines of calls to a store: a call that has not started by then never does, and a transaction that is not committed
//! by then is rolled back, so that nothing happens after the caller got an error.

use std::any::type_name_of_val;
use std::cell::Cell;
use std::time::{Duration, Instant};

use diesel::result::Error as QueryError;
use tokio::time::timeout_at;

use super::operations::Operation;
use super::{Limits, StoreError};
use crate::telemetry::{Part, Wait, inherit};
use crate::{deadline, tasks};

/// How much longer than its deadline a call may take to report its outcome.
const GRACE: Duration = Duration::from_millis(200);

tokio::task_local! {
    static CALL: Call;
}

/// The call that a task makes.
struct Call {
    deadline: Instant,
    /// Whether it writes.
    writes: Cell<bool>,
}

/// Waits for a call to a store, within `limits` and the request's deadline. The call itself continues when its caller has
/// left, to its end or its deadline: a statement that is cut off would leave its connection unusable.
///
/// # Errors
/// The call's error, or [`StoreError::Connection`] when there was no answer in time.
pub fn run_to_completion<T: 'static>(
    limits: &Limits,
    call: impl Future<Output = Result<T, StoreError>> + 'static,
) -> impl Future<Output = Result<T, StoreError>> {
    let kind = type_name_of_val(&call);
    run_as(kind, limits, call)
}

/// As [`run_to_completion`], for a call that metrics name by another type than its own: `kind`, a type's name.
///
/// # Errors
/// As there.
pub async fn run_as<T: 'static>(
    kind: &'static str,
    limits: &Limits,
    call: impl Future<Output = Result<T, StoreError>> + 'static,
) -> Result<T, StoreError> {
    let _wait = Wait::begin(Part::Stores);
    let deadline = deadline_of(limits);
    let operation = Operation::begin(kind, limits.name.system);
    let (state, ends) = (limits.state.clone(), limits.ends_calls);
    let scope = Call { deadline, writes: Cell::new(false) };
    let call = CALL.scope(scope, async move {
        let outcome = match ends {
            false => call.await,
            // Its connection is closed: see pool::Lease.
            true => timeout_at((deadline + GRACE).into(), call).await.unwrap_or_else(|_| late()),
        };
        let writes = CALL.with(|call| call.writes.get());
        let outcome = outcome.map_err(|error| error.of_call(writes));
        operation.end(&outcome);
        state.note(&outcome, writes);
        outcome
    });
    // Boxed, because the runtime moves it several times.
    match timeout_at((deadline + 2 * GRACE).into(), tasks::detach(Box::pin(inherit(call)))).await {
        Ok(Ok(done)) => done,
        Ok(Err(error)) => Err(StoreError::Failed(error.to_string())),
        Err(_) => late(),
    }
}

/// The outcome of a call without an answer in time.
///
/// # Errors
/// Always.
pub fn late<T>() -> Result<T, StoreError> {
    Err(StoreError::Connection("no answer in time".into()))
}

/// The deadline of a call that starts now. It is a little before the request's own, so that the client gets the outcome.
fn deadline_of(limits: &Limits) -> Instant {
    let now = Instant::now();
    let own = now + limits.acquire + limits.statement;
    let left = deadline::current().map(|deadline| deadline.saturating_duration_since(now));
    left.map_or(own, |left| own.min(now + left - (left / 8).min(2 * GRACE)))
}

/// The deadline of the call that this task makes; nothing outside of [`run_to_completion`].
pub(super) fn deadline() -> Option<Instant> {
    CALL.try_with(|call| call.deadline).ok()
}

/// `time` from now, or the call's deadline if that is sooner.
pub fn within(time: Duration) -> Instant {
    let end = Instant::now() + time;
    deadline().map_or(end, |deadline| end.min(deadline))
}

/// Marks the call of this task as a write.
pub(super) fn writes() {
    // Commands of the command line have no call.
    let _ = CALL.try_with(|call| call.writes.set(true));
}

/// The deadline of a call, to be checked before a commit, also on another thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallDeadline(Option<Instant>);

impl CallDeadline {
    /// The deadline of the call that this task makes.
    pub(super) fn of_call() -> Self {
        Self(deadline())
    }

    /// To be called last before a transaction is committed.
    ///
    /// # Errors
    /// [`QueryError::RollbackTransaction`] when the deadline has passed.
    pub(super) fn check(self) -> Result<(), QueryError> {
        match self.0 {
            Some(deadline) if deadline <= Instant::now() => Err(QueryError::RollbackTransaction),
            _ => Ok(()),
        }
    }
}

/// [`CallDeadline::check`] for the call that this task makes.
///
/// # Errors
/// As there.
pub fn in_time() -> Result<(), QueryError> {
    CallDeadline::of_call().check()
}
