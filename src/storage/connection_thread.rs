//! The thread of a connection that reads a SQLite file.

use std::error::Error;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use diesel_async::sync_connection_wrapper::SpawnBlocking;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

type Task = Box<dyn FnOnce() + Send>;
type Failure = Box<dyn Error + Send + Sync>;

/// How often an [`Answer`] that nobody waits for looks whether it is there.
const PAUSE: Duration = Duration::from_millis(1);

/// Runs the statements of one connection on a thread of its own, which ends after the last one when the connection is
/// closed. On a pool of threads, one that has just answered is not idle yet, so that the next statement starts another, and
/// each keeps memory of its own.
#[derive(Debug)]
pub struct ConnectionThread(io::Result<mpsc::UnboundedSender<Task>>);

impl SpawnBlocking for ConnectionThread {
    fn spawn_blocking<'a, R: Send + 'static>(
        &mut self,
        task: impl FnOnce() -> R + Send + 'static,
    ) -> BoxFuture<'a, Result<R, Failure>> {
        let tasks = match &self.0 {
            Ok(tasks) => tasks,
            Err(error) => return ready(Err(error.to_string().into())).boxed(),
        };
        let (reply, answer) = oneshot::channel();
        let run = move || {
            // The caller may have left.
            let _ = reply.send(task());
        };
        // The thread does not end before the connection.
        let _ = tasks.send(Box::new(run));
        Answer(answer).boxed()
    }

    fn get_runtime() -> Self {
        let (sender, mut tasks) = mpsc::unbounded_channel::<Task>();
        let run = move || {
            while let Some(task) = tasks.blocking_recv() {
                // A panic was logged already, and the caller gets an error.
                let _ = catch_unwind(AssertUnwindSafe(task));
            }
        };
        let thread = thread::Builder::new().name("sqlite-reader".into()).spawn(run);
        Self(thread.map(|_| sender))
    }
}

/// What a task has returned. Dropped before, as at the end of a runtime, it waits for the end of the task, which uses the
/// connection until then.
struct Answer<R>(oneshot::Receiver<R>);

impl<R> Future for Answer<R> {
    type Output = Result<R, Failure>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = self.0.poll_unpin(context);
        answer.map(|answer| answer.map_err(|_| "a statement ended without an answer".into()))
    }
}

impl<R> Drop for Answer<R> {
    fn drop(&mut self) {
        while let Err(TryRecvError::Empty) = self.0.try_recv() {
            thread::sleep(PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::OnceCell;
    use std::sync::mpsc::{RecvError, RecvTimeoutError, Sender, channel};

    use super::*;

    #[tokio::test]
    async fn tasks_run_in_order_on_one_thread_that_ends_with_the_connection() {
        let mut thread = ConnectionThread::get_runtime();
        let (ends, ended) = channel::<()>();
        let name = || thread::current().name().map(str::to_owned);
        assert_eq!(thread.spawn_blocking(name).await.unwrap().as_deref(), Some("sqlite-reader"));
        let id = || thread::current().id();
        let first = thread.spawn_blocking(id);
        let second = thread.spawn_blocking(id);
        let (second, first) = (second.await.unwrap(), first.await.unwrap());
        assert_eq!(first, second);
        assert_ne!(first, thread::current().id());
        // Dropped at the thread's end.
        thread_local!(static KEPT: OnceCell<Sender<()>> = const { OnceCell::new() });
        let kept = thread.spawn_blocking(|| KEPT.with(|kept| kept.set(ends))).await.unwrap();
        assert!(kept.is_ok());
        assert_eq!(ended.recv_timeout(20 * PAUSE), Err(RecvTimeoutError::Timeout));
        drop(thread);
        assert_eq!(ended.recv(), Err(RecvError));
    }

    #[tokio::test]
    async fn a_task_that_panics_is_an_error_and_the_next_one_runs() {
        let mut thread = ConnectionThread::get_runtime();
        let failed = thread.spawn_blocking(|| panic!("for the test")).await;
        assert_eq!(failed.unwrap_err().to_string(), "a statement ended without an answer");
        assert_eq!(thread.spawn_blocking(|| 2).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn a_caller_that_leaves_waits_for_the_end_of_the_task() {
        let mut thread = ConnectionThread::get_runtime();
        let (ends, ended) = channel();
        drop(thread.spawn_blocking(move || {
            thread::sleep(20 * PAUSE);
            ends.send(()).unwrap();
        }));
        ended.try_recv().unwrap();
    }

    #[tokio::test]
    async fn a_thread_that_could_not_be_started_says_why() {
        let mut thread = ConnectionThread(Err(io::Error::other("no more threads")));
        let failed = thread.spawn_blocking(|| ()).await.unwrap_err();
        assert_eq!(failed.to_string(), "no more threads");
    }
}
