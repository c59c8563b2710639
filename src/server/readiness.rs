//! Whether the process is ready, and which dependencies are missing.

use std::fmt;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::history::{History, Span};
use crate::middleware::Draining;
use crate::readiness::Check;
use crate::tasks;

/// How often dependencies are checked: until the process is ready, and from then on.
const STARTING: Duration = Duration::from_millis(50);
const RUNNING: Duration = Duration::from_secs(2);
/// The least time between two checks, however many ask.
const PAUSE: Duration = Duration::from_millis(250);
/// How long somebody who asks waits for a check. One that takes longer is in the next answer.
const FRESH: Duration = Duration::from_millis(400);

/// The status in `/readyz`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// A required dependency has never answered.
    Starting,
    /// Every dependency answers.
    Ready,
    /// In service, but a dependency is missing.
    Degraded,
    /// Got a signal to stop.
    Draining,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Draining => "draining",
        })
    }
}

impl State {
    /// Whether the process takes requests.
    pub fn takes_requests(self) -> bool {
        matches!(self, Self::Ready | Self::Degraded)
    }
}

/// The state of one process; cheap to clone.
#[derive(Clone, Debug)]
pub struct Readiness {
    draining: Draining,
    missing: Arc<Mutex<Vec<&'static str>>>,
    ready: watch::Sender<bool>,
    /// How many checks have ended.
    checked: watch::Sender<u64>,
    asked: Arc<Notify>,
    history: History,
}

impl Readiness {
    /// The state of a process that has just started.
    pub fn new(draining: Draining) -> Self {
        Self {
            draining,
            missing: Arc::default(),
            ready: watch::Sender::new(false),
            checked: watch::Sender::new(0),
            asked: Arc::default(),
            history: History::default(),
        }
    }

    /// Starts a task on this thread that runs `checks` again and again.
    pub fn follow(&self, checks: Vec<Check>) {
        let (readiness, checks) = (self.clone(), Rc::<[Check]>::from(checks));
        tasks::supervise("readiness", move || readiness.clone().watch(checks.clone()));
    }

    async fn watch(self, checks: Rc<[Check]>) {
        loop {
            self.run(&checks).await;
            let (state, missing) = self.state();
            self.history.note(state, &missing);
            self.checked.send_modify(|count| *count += 1);
            let ready = *self.ready.borrow();
            if !ready {
                sleep(STARTING).await;
                continue;
            }
            sleep(PAUSE).await;
            // Whether it is asked for or due makes no difference.
            let _ = timeout(RUNNING - PAUSE, self.asked.notified()).await;
        }
    }

    /// Has the dependencies checked now, for somebody who looks at them, and waits for that at most 400 ms.
    pub async fn refresh(&self) {
        let mut checked = self.checked.subscribe();
        self.asked.notify_one();
        let _ = timeout(FRESH, checked.changed()).await;
    }

    /// The states of the last hour, the oldest first.
    pub fn history(&self) -> Vec<Span> {
        self.history.spans()
    }

    /// Waits until every required dependency has answered once.
    pub async fn ready(&self) {
        // The sender lives as long as self.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// The state, and the dependencies that were missing at the last check.
    pub fn state(&self) -> (State, Vec<&'static str>) {
        let missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let state = match (self.draining.has_begun(), *self.ready.borrow()) {
            (true, _) => State::Draining,
            (_, false) => State::Starting,
            (_, true) if missing.is_empty() => State::Ready,
            (_, true) => State::Degraded,
        };
        (state, missing)
    }

    async fn run(&self, checks: &[Check]) {
        let answers = join_all(checks.iter().map(Check::ask)).await;
        let mut missing = Vec::new();
        let mut blocked = false;
        let before = self.missing.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (check, answer) in checks.iter().zip(answers) {
            match answer {
                Ok(()) if before.contains(&check.name) => log::info!("{} is back", check.name),
                Ok(()) => {}
                Err(cause) => {
                    if !before.contains(&check.name) {
                        log::warn!("{} is missing: {cause}", check.name);
                    }
                    missing.push(check.name);
                    blocked |= check.required;
                }
            }
        }
        *self.missing.lock().unwrap_or_else(PoisonError::into_inner) = missing;
        if !blocked {
            self.ready.send_if_modified(|ready| !std::mem::replace(ready, true));
        }
    }
}
