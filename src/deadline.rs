//! When whoever waits for what a task does stops waiting.

use std::time::Instant;

tokio::task_local! {
    static DEADLINE: Instant;
}

/// Does `work`, for whose end somebody waits until `deadline`.
pub fn until<F: Future>(deadline: Instant, work: F) -> impl Future<Output = F::Output> {
    DEADLINE.scope(deadline, work)
}

/// The deadline of what this task does; nothing where none is known.
pub fn current() -> Option<Instant> {
    DEADLINE.try_with(|deadline| *deadline).ok()
}
