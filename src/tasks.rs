//! The background tasks of a process: each has a name, and all belong to one set, which the drain cancels and awaits.
//!
//! There is one set per process, because tasks are spawned in every layer and most layers know nothing of the node. A
//! panic in a task is logged with its name, and counted for `/metrics`.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The pause before a supervised task restarts after a panic. It doubles with each panic up to the longest, and is reset
/// once a task has run for longer than that.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

static PROCESS: LazyLock<Tasks> = LazyLock::new(Tasks::default);

/// Spawns a task on this thread, which a panic ends. Gives its output; `None` when it panicked or was cancelled.
pub fn spawn<T: 'static>(
    name: &'static str,
    task: impl Future<Output = T> + 'static,
) -> JoinHandle<Option<T>> {
    PROCESS.spawn(name, task)
}

/// Spawns a task on this thread that restarts after a panic. It is done when it returns.
pub fn supervise<F>(name: &'static str, start: impl FnMut() -> F + 'static)
where
    F: Future<Output = ()> + 'static,
{
    PROCESS.supervise(name, start);
}

/// Runs a piece of one request to completion, whether its caller still waits or not. It is not in the set: it costs no more
/// than a bare spawn, ends by the request's deadline, and its caller handles a panic.
pub fn detach<T: 'static>(piece: impl Future<Output = T> + 'static) -> JoinHandle<T> {
    tokio::task::spawn_local(piece)
}

/// Each task name spawned so far: how many of that name have not ended, and how often one has panicked.
pub fn counts() -> Vec<(&'static str, u64, u64)> {
    let counts = PROCESS.counts();
    counts.iter().map(|(name, counts)| (*name, counts.running as u64, counts.panics)).collect()
}

/// Cancels every task of the process and waits until all have ended, at most for `limit`. Returns the names of those that
/// have not.
pub async fn drain(limit: Duration) -> Vec<&'static str> {
    PROCESS.drain(limit).await
}

/// A set of tasks.
#[derive(Debug, Default)]
struct Tasks {
    tracker: TaskTracker,
    shutdown: CancellationToken,
    counts: Mutex<BTreeMap<&'static str, Counts>>,
}

/// The tasks of one name.
#[derive(Debug, Default)]
struct Counts {
    running: usize,
    panics: u64,
}

impl Tasks {
    fn spawn<T: 'static>(
        &'static self,
        name: &'static str,
        task: impl Future<Output = T> + 'static,
    ) -> JoinHandle<Option<T>> {
        // Boxed, because the wrappers and the runtime move it several times.
        let (running, task) = (Running::new(self, name), Box::pin(task));
        self.tracker.spawn_local(async move {
            let outcome = running.run(task).await?;
            let ends = |panic: &Panic| log::error!(task = name; "the task {name} panicked and ends: {panic}");
            outcome.inspect_err(ends).ok()
        })
    }

    fn supervise<F>(&'static self, name: &'static str, mut start: impl FnMut() -> F + 'static)
    where
        F: Future<Output = ()> + 'static,
    {
        let running = Running::new(self, name);
        self.tracker.spawn_local(async move {
            let mut pause = FIRST_PAUSE;
            loop {
                let started = Instant::now();
                // Boxed, as above.
                let outcome = running.run(async { Box::pin(start()).await }).await;
                let Some(Err(panic)) = outcome else { return };
                if started.elapsed() > LONGEST_PAUSE {
                    pause = FIRST_PAUSE;
                }
                log::error!(
                    task = name;
                    "the task {name} panicked and starts again in {pause:?}: {panic}"
                );
                if self.shutdown.run_until_cancelled(sleep(pause)).await.is_none() {
                    return;
                }
                pause = LONGEST_PAUSE.min(pause * 2);
            }
        });
    }

    async fn drain(&self, limit: Duration) -> Vec<&'static str> {
        self.shutdown.cancel();
        self.tracker.close();
        // What is still running then is in the counts.
        let _ = timeout(limit, self.tracker.wait()).await;
        let counts = self.counts();
        counts.iter().filter(|(_, counts)| counts.running > 0).map(|(name, _)| *name).collect()
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<&'static str, Counts>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A task that has not ended.
struct Running {
    tasks: &'static Tasks,
    name: &'static str,
}

impl Running {
    fn new(tasks: &'static Tasks, name: &'static str) -> Self {
        tasks.counts().entry(name).or_default().running += 1;
        Self { tasks, name }
    }

    /// The outcome of `task`, which may be its panic; `None` when it is cancelled.
    async fn run<T>(&self, task: impl Future<Output = T>) -> Option<Result<T, Panic>> {
        let task = AssertUnwindSafe(task).catch_unwind();
        let outcome = self.tasks.shutdown.run_until_cancelled(task).await?;
        Some(outcome.map_err(|panic| {
            self.tasks.counts().entry(self.name).or_default().panics += 1;
            Panic::new(&*panic)
        }))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.counts().entry(self.name).or_default().running -= 1;
    }
}

/// A panic of a task.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Panic(String);

impl Panic {
    /// The panic with the given `payload`, of which only a text is kept.
    fn new(payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
        Self(text.unwrap_or_else(|| "no text".into()))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::pending;
    use std::rc::Rc;
    use std::sync::mpsc;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    fn new() -> &'static Tasks {
        Box::leak(Box::default())
    }

    /// Counts how many are alive.
    struct Alive(Rc<Cell<usize>>);

    impl Alive {
        fn new(count: &Rc<Cell<usize>>) -> Self {
            count.set(count.get() + 1);
            Self(count.clone())
        }
    }

    impl Drop for Alive {
        fn drop(&mut self) {
            self.0.set(self.0.get() - 1);
        }
    }

    #[actix_rt::test]
    async fn a_supervised_task_starts_again_after_each_panic_until_its_work_is_done() {
        let (tasks, starts) = (new(), Rc::new(Cell::new(0)));
        let counting = starts.clone();
        tasks.supervise("worker", move || {
            let starts = counting.clone();
            async move {
                starts.set(starts.get() + 1);
                assert!(starts.get() > 2, "start {}", starts.get());
            }
        });
        let begun = Instant::now();
        tasks.tracker.close();
        timeout(SOON, tasks.tracker.wait()).await.unwrap();
        assert_eq!((starts.get(), tasks.counts()["worker"].panics), (3, 2));
        assert!(begun.elapsed() >= 3 * FIRST_PAUSE, "the pause doubles: {:?}", begun.elapsed());
        assert_eq!(tasks.drain(Duration::ZERO).await, [""; 0]);
    }

    #[actix_rt::test]
    async fn a_task_that_is_not_supervised_ends_with_its_panic() {
        let tasks = new();
        assert_eq!(tasks.spawn("good", async { 7 }).await.unwrap(), Some(7));
        let bad = tasks.spawn("bad", async { panic!("out of {}", "luck") });
        assert_eq!(bad.await.unwrap(), None::<()>);
        assert_eq!(["good", "bad"].map(|name| tasks.counts()[name].panics), [0, 1]);
        assert_eq!(
            Panic::new(&*std::panic::catch_unwind(|| panic!("out of luck")).unwrap_err()).0,
            "out of luck"
        );
        assert_eq!(tasks.drain(Duration::ZERO).await, [""; 0]);
    }

    #[actix_rt::test]
    async fn a_drain_returns_when_every_task_is_gone_whatever_it_was_doing() {
        let (tasks, alive) = (new(), Rc::new(Cell::new(0)));
        let kept = Alive::new(&alive);
        tasks.spawn("hangs", async move {
            let _kept = kept;
            pending::<()>().await;
        });
        let counting = alive.clone();
        tasks.supervise("works", move || {
            let kept = Alive::new(&counting);
            async move {
                let _kept = kept;
                sleep(SOON).await;
            }
        });
        let kept = Alive::new(&alive);
        tasks.supervise("pauses", move || {
            let _kept = &kept;
            async { panic!("again") }
        });
        while tasks.counts()["pauses"].panics < 3 {
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(alive.get(), 3);
        assert_eq!(tasks.drain(SOON).await, [""; 0]);
        assert_eq!(alive.get(), 0);
        assert_eq!(tasks.spawn("late", async { 7 }).await.unwrap(), None);
    }

    #[actix_rt::test]
    async fn a_drain_waits_no_longer_than_its_limit_and_names_what_hangs() {
        let tasks = new();
        let (release, waiting) = mpsc::channel::<()>();
        let (begins, begun) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            actix_rt::System::new().block_on(async move {
                // It blocks its thread, so that nobody can cancel it.
                let hangs = tasks.spawn("hangs", async move {
                    begins.send(()).unwrap();
                    waiting.recv().unwrap();
                });
                hangs.await.unwrap()
            })
        });
        begun.recv().unwrap();
        assert_eq!(tasks.drain(Duration::from_millis(50)).await, ["hangs"]);
        release.send(()).unwrap();
        assert_eq!(tasks.drain(SOON).await, [""; 0]);
        thread.join().unwrap();
    }
}
