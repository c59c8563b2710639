//! The state of a store that the threads of a process share.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use actix_rt::task::JoinHandle;
use tokio::sync::watch;
use tokio::time::{timeout, timeout_at};

use super::sqlite::Readers;
use super::writer::Writer;
use super::{SetupError, StoreError};
use crate::error::Cause;
use crate::tasks;

/// How long a store may take to answer a check: less than the check's own timeout.
const ANSWER: Duration = Duration::from_millis(800);
/// How long a store counts as full after a failed write, unless another write succeeds.
const MEMORY: Duration = Duration::from_secs(10);
/// How often all connections are retired because the store takes no writes.
const RETIREMENT: Duration = Duration::from_secs(1);
/// How long calls must have failed before that is logged although checks succeed, and how often it is logged.
const QUIET: Duration = Duration::from_secs(5);
const REMINDER: Duration = Duration::from_secs(10);

/// The state of a store and, on SQLite, its connections; shared by the threads of a process.
#[derive(Clone, Debug)]
pub struct StoreState(Arc<StateInner>);

#[derive(Debug)]
struct StateInner {
    /// Whether tables and indexes are up to date.
    prepared: watch::Sender<bool>,
    /// Whether a successful call should update `observations`, to check without the lock.
    has_problem: AtomicBool,
    observations: Mutex<Observations>,
    writer: OnceLock<Writer>,
    /// Those of each thread that read. Weak, because their limits have this state.
    readers: Mutex<HashMap<ThreadId, Weak<Readers>>>,
}

#[derive(Debug, Default)]
struct Observations {
    /// Why writes fail, if they do.
    refusal: Option<WriteRefusal>,
    /// Connections that were opened before this time are not used any more.
    retired_at: Option<Instant>,
    /// Why the last attempt to open a connection failed.
    connect_error: Option<String>,
    /// Since when calls fail, and when that was last logged.
    failing_since: Option<Instant>,
    reported_at: Option<Instant>,
}

#[derive(Debug)]
struct WriteRefusal {
    why: String,
    last: Instant,
    /// Whether it has been reported, and whether a write has succeeded since.
    reported: bool,
    over: bool,
}

impl Default for StoreState {
    fn default() -> Self {
        Self(Arc::new(StateInner {
            prepared: watch::Sender::new(false),
            has_problem: AtomicBool::new(false),
            observations: Mutex::default(),
            writer: OnceLock::new(),
            readers: Mutex::default(),
        }))
    }
}

impl StoreState {
    /// The state of a prepared store.
    pub fn already_prepared() -> Self {
        let state = Self::default();
        state.set_prepared();
        state
    }

    /// Marks the store as prepared.
    pub fn set_prepared(&self) {
        self.0.prepared.send_replace(true);
    }

    /// Whether tables and indexes are up to date.
    pub fn is_prepared(&self) -> bool {
        *self.0.prepared.borrow()
    }

    /// Waits until they are.
    ///
    /// # Errors
    /// When they are not by `deadline`.
    pub(super) async fn prepared(&self, deadline: Instant) -> Result<(), StoreError> {
        if self.is_prepared() {
            return Ok(());
        }
        let mut prepared = self.0.prepared.subscribe();
        let wait = timeout_at(deadline.into(), prepared.wait_for(|prepared| *prepared));
        let unprepared = || StoreError::Unreachable("its tables are not up to date yet".into());
        wait.await.ok().and_then(Result::ok).map(drop).ok_or_else(unprepared)
    }

    /// The connections of this thread that read the store's file, which `make` makes unless there are some.
    pub(super) fn readers(&self, make: impl FnOnce() -> Readers) -> Arc<Readers> {
        let mut all = self.0.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.entry(thread::current().id()).or_default();
        known.upgrade().unwrap_or_else(|| {
            let made = Arc::new(make());
            *known = Arc::downgrade(&made);
            made
        })
    }

    /// The writer of the store's file, which `start` starts when it is first needed.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn writer(
        &self,
        start: impl FnOnce() -> std::io::Result<Writer>,
    ) -> Result<&Writer, StoreError> {
        if let Some(writer) = self.0.writer.get() {
            return Ok(writer);
        }
        let started = start().map_err(|error| StoreError::Unreachable(error.to_string()))?;
        Ok(self.0.writer.get_or_init(|| started))
    }

    /// Learns from the outcome of a call.
    pub(super) fn note<T>(&self, outcome: &Result<T, StoreError>, writes: bool) {
        match outcome {
            Ok(_) | Err(StoreError::Duplicate) => self.note_success(writes),
            Err(error @ StoreError::Full(_)) => self.note_refusal(error),
            Err(error @ StoreError::ReadOnly(_)) => {
                self.note_refusal(error);
                self.retire();
            }
            Err(StoreError::Unreachable(why) | StoreError::Connection(why)) => {
                self.note_failure(why)
            }
            Err(StoreError::Failed(_)) => {}
        }
    }

    fn note_success(&self, writes: bool) {
        if !self.0.has_problem.load(Ordering::Relaxed) {
            return;
        }
        let mut observations = self.observations();
        (observations.failing_since, observations.connect_error) = (None, None);
        if let Some(refusal) = observations.refusal.as_mut() {
            refusal.over |= writes;
        } else {
            self.0.has_problem.store(false, Ordering::Relaxed);
        }
    }

    fn note_refusal(&self, error: &StoreError) {
        let mut observations = self.observations();
        let reported = observations.refusal.as_ref().is_some_and(|refusal| refusal.reported);
        let last = Instant::now();
        observations.refusal =
            Some(WriteRefusal { why: error.to_string(), last, reported, over: false });
        self.0.has_problem.store(true, Ordering::Relaxed);
    }

    /// Logs that calls keep failing; readiness logs that the store is away.
    fn note_failure(&self, why: &str) {
        let mut observations = self.observations();
        self.0.has_problem.store(true, Ordering::Relaxed);
        let since = *observations.failing_since.get_or_insert_with(Instant::now);
        let reported_at =
            observations.reported_at.is_some_and(|reported_at| reported_at.elapsed() < REMINDER);
        if since.elapsed() > QUIET && !reported_at {
            observations.reported_at = Some(Instant::now());
            log::warn!(
                "a store has not answered requests for {} s: {why}",
                since.elapsed().as_secs()
            );
        }
    }

    /// Checks the store by `ping`. If writes have failed, `try_write` shows whether they work again.
    ///
    /// # Errors
    /// What is wrong, for the log.
    pub async fn report(
        &self,
        ping: impl Future<Output = Result<(), StoreError>>,
        try_write: impl Future<Output = Result<bool, StoreError>>,
    ) -> Result<(), Cause> {
        let answer = match timeout(ANSWER, ping).await {
            Err(_) => {
                Err(self.connect_error().unwrap_or_else(|| "it does not answer".into()).into())
            }
            Ok(Err(error)) => Err(error.into()),
            Ok(Ok(())) if self.observations().refusal.is_none() => Ok(()),
            Ok(Ok(())) => self.still_refuses(try_write.await),
        };
        if answer.is_err() {
            self.observations().reported_at = Some(Instant::now());
        }
        answer
    }

    /// Whether writes still fail, by what is known and was `tried`.
    fn still_refuses(&self, tried: Result<bool, StoreError>) -> Result<(), Cause> {
        let mut observations = self.observations();
        let Some(refusal) = observations.refusal.as_mut() else { return Ok(()) };
        // Each failure is reported at least once, so that it is logged.
        let reported = std::mem::replace(&mut refusal.reported, true);
        let over = match tried {
            Ok(true) => true,
            Ok(false) => refusal.over || refusal.last.elapsed() > MEMORY,
            Err(_) => false,
        };
        if !(reported && over) {
            return Err(refusal.why.clone().into());
        }
        observations.refusal = None;
        // Open connections may still be read-only.
        observations.retired_at = Some(Instant::now());
        Ok(())
    }

    /// Retires all open connections, unless that was done a moment ago: new ones may lead to a server that takes writes.
    fn retire(&self) {
        let mut observations = self.observations();
        if observations.retired_at.is_none_or(|retired_at| retired_at.elapsed() > RETIREMENT) {
            observations.retired_at = Some(Instant::now());
        }
    }

    /// Whether a connection that was `opened` at this time may be used.
    pub(super) fn is_current(&self, opened: Instant) -> bool {
        self.observations().retired_at.is_none_or(|retired_at| opened > retired_at)
    }

    /// Why no connection could be opened, for errors of callers that waited for one.
    pub(super) fn connect_error(&self) -> Option<String> {
        self.observations().connect_error.clone()
    }

    pub(super) fn note_connect_error(&self, why: String) {
        self.observations().connect_error = Some(why);
        self.0.has_problem.store(true, Ordering::Relaxed);
    }

    fn observations(&self) -> MutexGuard<'_, Observations> {
        self.0.observations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long [`Preparing::look`] waits for the outcome.
const LOOK: Duration = Duration::from_millis(500);

/// Prepares a store's tables in a task of its own: one at a time, however long it takes and however many checks wait for
/// it. Belongs to the thread that made it.
#[derive(Clone, Debug, Default)]
pub struct Preparing(Rc<RefCell<Option<Work>>>);

type Work = JoinHandle<Option<Result<(), SetupError>>>;

impl Preparing {
    /// Starts `prepare`, unless it is running, and returns its outcome if there is one soon.
    ///
    /// # Errors
    /// Why it failed, or that it is not done yet.
    pub async fn look<F>(&self, prepare: impl FnOnce() -> F) -> Result<(), SetupError>
    where
        F: Future<Output = Result<(), SetupError>> + 'static,
    {
        let mut task = self.0.take().unwrap_or_else(|| tasks::spawn("migration", prepare()));
        match timeout(LOOK, &mut task).await {
            Ok(done) => done.map_err(SetupError::of_server)?.unwrap_or_else(|| {
                Err(SetupError::of_server("bringing the tables up to date was broken off"))
            }),
            Err(_) => {
                self.0.replace(Some(task));
                let why = "its tables are being brought up to date, or it does not answer";
                Err(SetupError::Server(why.into()))
            }
        }
    }
}
