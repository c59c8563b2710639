//! The thread that writes to a SQLite file: one for each file of a process.
//!
//! SQLite lets one connection write at a time, and each commit waits for the disk. So the writes of all worker threads
//! go through one queue, in the order in which they came, and those that wait are committed together (group commit):
//! each but the first in a savepoint of its own, so that one that fails takes back nothing of the others. The first needs none,
//! and so SQLite keeps no copy of the pages that a large import changes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use diesel::connection::AnsiTransactionManager;
use diesel::result::Error as QueryError;
use diesel::sql_types::Integer;
use diesel::{QueryResult, QueryableByName, SqliteConnection};
use diesel_async::sync_connection_wrapper::{SpawnBlocking, SyncConnectionWrapper};
use diesel_async::{AsyncConnection, SimpleAsyncConnection as _, TransactionManager as _};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, LocalBoxFuture, ready};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::error::NONE_FREE;
use super::{CallDeadline, StoreError, sqlite};

/// The writer's connection. Its statements run on the writer's thread.
pub type WriteConnection = SyncConnectionWrapper<SqliteConnection, Inline>;
type Transactions = <WriteConnection as AsyncConnection>::TransactionManager;

/// The length of the queue; further callers wait for a place in it, in order.
const QUEUE: usize = 1024;
/// The most writes per group, and how long a group may collect writes, so that the first one does not wait for long.
const GROUP: usize = 256;
const GROUP_TIME: Duration = Duration::from_millis(10);
/// How often the writer retries while another process has locked the file. SQLite's own pauses grow to 100 ms, which would
/// miss the short gaps that a busy process leaves.
const PAUSE: Duration = Duration::from_millis(1);
/// [`begin`] waits for other processes. What statements and savepoints would take back stays in memory: SQLite would write it
/// to a file, up to ten pages for each row of a table that has triggers and indexes. 16 MiB of pages have the indexes
/// that a write to a large catalogue goes through.
const PRAGMAS: &str =
    "PRAGMA busy_timeout = 0; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -16384;";

/// How long a writer tries to empty the write-ahead log while others read it or empty it themselves.
const EMPTYING: Duration = Duration::from_millis(500);

/// The writers of the process.
static PROCESS: LazyLock<Writers> = LazyLock::new(Writers::default);

#[derive(Debug, Default)]
struct Writers {
    running: TaskTracker,
    closing: CancellationToken,
}

/// Ends all writers of the process, once each has finished its queue and emptied its write-ahead log; waits at most for
/// `limit`. To be called before the process ends: worker threads, which would end them too, are not waited for.
pub async fn close(limit: Duration) {
    PROCESS.closing.cancel();
    PROCESS.running.close();
    if timeout(limit, PROCESS.running.wait()).await.is_err() {
        log::warn!("writes to files did not end in time");
    }
}

/// Runs blocking work inline: the writer's thread has nothing else to do.
#[derive(Clone, Copy, Debug)]
pub struct Inline;

impl SpawnBlocking for Inline {
    fn spawn_blocking<'a, R: Send + 'static>(
        &mut self,
        task: impl FnOnce() -> R + Send + 'static,
    ) -> BoxFuture<'a, Result<R, Box<dyn std::error::Error + Send + Sync>>> {
        ready(Ok(task())).boxed()
    }

    fn get_runtime() -> Self {
        Self
    }
}

/// The queue of the writer's thread. When it is dropped, the thread finishes the queue and ends.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Option<mpsc::Sender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread that writes to the file at `url`. It waits at most `patience` for other processes. Opens no
    /// connection yet.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(super) fn start(url: String, patience: Duration) -> std::io::Result<Self> {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let runtime = Builder::new_current_thread().build()?;
        let thread = thread::Builder::new().name("sqlite-writer".into());
        let committer = Committer { url, patience, connection: None };
        let running = PROCESS.running.token();
        let thread = thread.spawn(move || {
            run(&runtime, jobs, committer);
            drop(running);
        })?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Runs `work` in a transaction that is committed when this returns, unless `work` fails or the call's deadline has
    /// passed. It does not start after `until`.
    ///
    /// # Errors
    /// The error of `work`; [`StoreError::Unreachable`] when it has not started; or why the commit failed.
    pub(super) async fn write<T, E>(
        &self,
        until: Instant,
        work: impl AsyncFnOnce(&mut WriteConnection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<QueryError> + From<StoreError> + Into<StoreError> + Send + 'static,
    {
        let not_begun = || StoreError::Unreachable(NONE_FREE.into());
        let ended = |_| StoreError::Failed("the write ended without an answer".into());
        let (reply, mut answer) = oneshot::channel();
        let begun = Arc::new(AtomicBool::new(false));
        let in_time = CallDeadline::of_call();
        let job = Write { begun: begun.clone(), in_time, work: Some(work), outcome: None, reply };
        // `Some` until the writer is dropped.
        let Some(queue) = &self.queue else { return Err(not_begun().into()) };
        let place = timeout_at(until.into(), queue.reserve()).await.map_err(|_| not_begun())?;
        place.map_err(|_| not_begun())?.send(Box::new(job));
        let answer = match timeout_at(until.into(), &mut answer).await {
            Ok(answer) => answer,
            Err(_) if !begun.swap(true, Ordering::Relaxed) => return Err(not_begun().into()),
            Err(_) => answer.await,
        };
        answer.map_err(ended)?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.queue.take());
        // A panic was logged already.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Commits the queue, until it is closed, and empties the write-ahead log.
fn run(runtime: &Runtime, mut jobs: mpsc::Receiver<Box<dyn Job>>, mut committer: Committer) {
    runtime.block_on(async {
        while let Some(mut job) = next(&mut jobs).await {
            if !job.begin() {
                continue;
            }
            let group = std::panic::AssertUnwindSafe(committer.commit(job, &mut jobs));
            // A write that panics fails its group, whose callers get an error, but not the writer.
            if group.catch_unwind().await.is_err() {
                committer.connection = None;
            }
        }
        committer.empty_log().await;
    });
}

/// The next of `jobs`. When the writers of the process are to end, no more are added, and the last are those that wait.
async fn next(jobs: &mut mpsc::Receiver<Box<dyn Job>>) -> Option<Box<dyn Job>> {
    match PROCESS.closing.run_until_cancelled(jobs.recv()).await {
        Some(job) => job,
        None => {
            jobs.close();
            jobs.recv().await
        }
    }
}

/// Commits groups of writes.
struct Committer {
    url: String,
    patience: Duration,
    connection: Option<WriteConnection>,
}

impl Committer {
    /// Commits `first` and the `jobs` that wait behind it.
    async fn commit(&mut self, first: Box<dyn Job>, jobs: &mut mpsc::Receiver<Box<dyn Job>>) {
        let mut group = vec![first];
        let committed = self.transaction(&mut group, jobs).await;
        if committed.is_err() {
            // The connection may still be in the transaction, or be read-only.
            self.connection = None;
        }
        for job in group {
            job.finish(committed.clone());
        }
    }

    /// Runs the first of `group`, and further `jobs` that it adds to the group, in one transaction.
    async fn transaction(
        &mut self,
        group: &mut Vec<Box<dyn Job>>,
        jobs: &mut mpsc::Receiver<Box<dyn Job>>,
    ) -> Result<(), StoreError> {
        let (patience, is_new) = (self.patience, self.connection.is_none());
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(open(self.url.clone(), patience).await?),
        };
        connection.spawn_blocking(move |connection| begin(connection, patience)).await?;
        if is_new {
            // On a read-only file, SQLite has begun a read transaction without an error.
            connection.batch_execute(sqlite::TRIAL).await?;
        }
        let begun = Instant::now();
        let mut nested = false;
        while let Some(job) = group.last_mut() {
            let done = job.run(connection, nested).await?;
            if !nested && !done {
                return Ok(());
            }
            nested = true;
            if group.len() == GROUP || begun.elapsed() > GROUP_TIME {
                break;
            }
            let mut waiting = std::iter::from_fn(|| jobs.try_recv().ok());
            match waiting.find_map(|mut job| job.begin().then_some(job)) {
                Some(job) => group.push(job),
                None => break,
            }
        }
        Ok(Transactions::commit_transaction(connection).await?)
    }

    /// Moves what is in the write-ahead log into the file, and empties the log. SQLite does so by itself only when the last
    /// connection is closed while no other is being closed. What cannot be moved stays in the log, where it is as safe.
    async fn empty_log(&mut self) {
        if self.connection.is_none() {
            // The last group failed.
            self.connection = open(self.url.clone(), self.patience).await.ok();
        }
        let Some(connection) = &mut self.connection else { return };
        match connection.spawn_blocking(empty_log).await {
            Ok(true) => {}
            Ok(false) => log::debug!("a write-ahead log is used by others and was not emptied"),
            Err(error) => log::debug!("a write-ahead log could not be emptied: {error}"),
        }
    }
}

/// The answer of a checkpoint (SQLite, "PRAGMA wal_checkpoint").
#[derive(QueryableByName)]
struct Checkpoint {
    /// Whether something was in its way.
    #[diesel(sql_type = Integer)]
    busy: i32,
}

/// Empties the write-ahead log of the file; returns whether it is empty. It does not wait within SQLite, where it would hold
/// the lock for writes meanwhile.
fn empty_log(file: &mut SqliteConnection) -> QueryResult<bool> {
    let start = Instant::now();
    loop {
        let checkpoint = diesel::sql_query("PRAGMA wal_checkpoint(TRUNCATE)");
        let is_empty = diesel::RunQueryDsl::get_result::<Checkpoint>(checkpoint, file)?.busy == 0;
        if is_empty || start.elapsed() > EMPTYING {
            return Ok(is_empty);
        }
        thread::sleep(PAUSE);
    }
}

/// Opens a connection with the settings of a writer.
async fn open(url: String, patience: Duration) -> Result<WriteConnection, StoreError> {
    let opened = sqlite::open::<Inline>(url, patience).await;
    let mut connection = opened.map_err(|error| StoreError::Unreachable(error.to_string()))?;
    connection.batch_execute(PRAGMAS).await?;
    Ok(connection)
}

/// Begins a transaction that may write. Waits at most `patience` for other processes.
fn begin(connection: &mut SqliteConnection, patience: Duration) -> QueryResult<()> {
    sqlite::while_locked(patience, PAUSE, || {
        AnsiTransactionManager::begin_transaction_sql(connection, "BEGIN IMMEDIATE")
    })
}

/// A write in the queue.
trait Job: Send {
    /// Marks it as started, and returns whether its caller still waits; from now on the caller waits until the end.
    fn begin(&mut self) -> bool;

    /// Runs it, `nested` in a savepoint. If it fails, the savepoint is rolled back, or the whole transaction. Returns whether
    /// it was done.
    ///
    /// # Errors
    /// When the whole transaction has failed.
    fn run<'a>(
        &'a mut self,
        connection: &'a mut WriteConnection,
        nested: bool,
    ) -> LocalBoxFuture<'a, Result<bool, StoreError>>;

    /// Gives its caller the outcome, after the commit of its group.
    fn finish(self: Box<Self>, committed: Result<(), StoreError>);
}

/// Runs `work` and sends its outcome to the caller.
struct Write<W, T, E> {
    /// Set by the writer when it starts, or by the caller when it gives up before that.
    begun: Arc<AtomicBool>,
    in_time: CallDeadline,
    work: Option<W>,
    outcome: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, E>>,
}

impl<W, T, E> Job for Write<W, T, E>
where
    W: AsyncFnOnce(&mut WriteConnection) -> Result<T, E> + Send,
    T: Send,
    E: From<QueryError> + From<StoreError> + Into<StoreError> + Send,
{
    fn begin(&mut self) -> bool {
        !self.begun.swap(true, Ordering::Relaxed)
    }

    fn run<'a>(
        &'a mut self,
        connection: &'a mut WriteConnection,
        nested: bool,
    ) -> LocalBoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            let Some(work) = self.work.take() else { return Ok(true) };
            if nested {
                Transactions::begin_transaction(connection).await?;
            }
            let outcome = in_time(self.in_time, work, connection).await;
            let done = outcome.is_ok();
            match outcome {
                Ok(_) if nested => Transactions::commit_transaction(connection).await?,
                // A full disk or an I/O error may have ended the transaction already.
                Err(error) if Transactions::rollback_transaction(connection).await.is_err() => {
                    return Err(error.into());
                }
                _ => {}
            }
            self.outcome = Some(outcome);
            Ok(done)
        })
    }

    fn finish(self: Box<Self>, committed: Result<(), StoreError>) {
        let outcome = match committed {
            Ok(()) => self.outcome,
            Err(error) => Some(Err(error.into())),
        };
        if let Some(outcome) = outcome {
            // The caller may have left.
            let _ = self.reply.send(outcome);
        }
    }
}

/// Runs `work`, unless the deadline has passed before or after it.
async fn in_time<T, E: From<QueryError>>(
    in_time: CallDeadline,
    work: impl AsyncFnOnce(&mut WriteConnection) -> Result<T, E>,
    connection: &mut WriteConnection,
) -> Result<T, E> {
    in_time.check()?;
    let done = work(connection).await?;
    in_time.check()?;
    Ok(done)
}

#[cfg(test)]
mod tests;
