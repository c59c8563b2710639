//! A call to a store has a deadline: what has not begun by then never does, and what is not committed by then is
//! taken back, so that nothing is done behind the back of a caller who was told that it is not.

use std::cell::Cell;
use std::time::{Duration, Instant};

use diesel::result::Error as QueryError;
use tokio::time::timeout_at;

use super::{Limits, StoreError};
use crate::deadline;

/// How much longer than its deadline a call may take to tell what has become of it.
const GRACE: Duration = Duration::from_millis(200);

tokio::task_local! {
    static CALL: Call;
}

/// What is known of the call that a task makes.
struct Call {
    deadline: Instant,
    /// Whether it has asked to write.
    writes: Cell<bool>,
}

/// Waits for a call to a store, at most as long as `limits` say and the request has left. The call itself goes on
/// when nobody waits for it any longer, to its end or to its deadline: a statement that is cut off in the middle
/// would leave its connection, or on SQLite its thread, in no state to go on.
///
/// # Errors
/// That of the call, or [`StoreError::Connection`] when there was no answer in time.
pub async fn run_to_completion<T: 'static>(
    limits: &Limits,
    call: impl Future<Output = Result<T, StoreError>> + 'static,
) -> Result<T, StoreError> {
    let deadline = deadline_of(limits);
    let (state, ends) = (limits.state.clone(), limits.ends_calls);
    let scope = Call { deadline, writes: Cell::new(false) };
    let call = CALL.scope(scope, async move {
        let outcome = match ends {
            false => call.await,
            // Its connection is thrown away: see pool::Lease.
            true => timeout_at((deadline + GRACE).into(), call).await.unwrap_or_else(|_| late()),
        };
        let writes = CALL.with(|call| call.writes.get());
        let outcome = outcome.map_err(|error| error.of_call(writes));
        state.note(&outcome, writes);
        outcome
    });
    // Boxed: the runtime moves what it spawns several times.
    match timeout_at((deadline + 2 * GRACE).into(), actix_rt::spawn(Box::pin(call))).await {
        Ok(Ok(done)) => done,
        Ok(Err(error)) => Err(StoreError::Failed(error.to_string())),
        Err(_) => late(),
    }
}

/// What a call comes to that has no answer in time.
///
/// # Errors
/// Always.
pub fn late<T>() -> Result<T, StoreError> {
    Err(StoreError::Connection("no answer in time".into()))
}

/// The last moment for a call that begins now. That of a request is a little before its own, so that its caller
/// gets to know what has become of it.
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

/// `time` from now, or the call's deadline where that is sooner.
pub fn within(time: Duration) -> Instant {
    let end = Instant::now() + time;
    deadline().map_or(end, |deadline| end.min(deadline))
}

/// Notes that the call of this task is about to write.
pub(super) fn writes() {
    // Commands that are no requests have no call.
    let _ = CALL.try_with(|call| call.writes.set(true));
}

/// What keeps a transaction from being committed after its call's deadline. It can be asked on another thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallDeadline(Option<Instant>);

impl CallDeadline {
    /// For the call that this task makes.
    pub(super) fn of_call() -> Self {
        Self(deadline())
    }

    /// To be asked as the last thing before a transaction is committed.
    ///
    /// # Errors
    /// [`QueryError::RollbackTransaction`] when it is too late.
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
