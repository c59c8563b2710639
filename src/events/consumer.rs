//! Consumers of events.

use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::future::LocalBoxFuture;
use tokio::time::sleep;

use super::{Log, counters};
use crate::contract::Event;
use crate::storage::StoreError;
use crate::telemetry::{Messages, Work};

/// How many events a consumer takes at once.
const BATCH: i64 = 200;
/// How often a consumer looks for dead letters that it is to take again.
const LETTERS: Duration = Duration::from_secs(1);
/// The pause before a consumer tries again; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What traces call the way of events within a process.
const MEMORY: &str = "memory";

/// Why events were not taken. Nothing of them has had an effect.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The consumer's store is away; they are to be given again.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// One of them is not what it should be.
    #[error("{0}")]
    Invalid(String),
}

type Take = Rc<dyn Fn(Vec<Event>) -> LocalBoxFuture<'static, Result<(), Refusal>>>;

/// What takes events.
#[derive(Clone)]
pub struct Consumer {
    /// Its name, as in `user.recent_orders`.
    pub name: &'static str,
    kinds: Vec<String>,
    take: Take,
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Consumer {
    /// One that takes events of these `kinds`: all that it is given or none, and the same ones again without another effect.
    pub fn new<F>(
        name: &'static str,
        kinds: Vec<String>,
        take: impl Fn(Vec<Event>) -> F + 'static,
    ) -> Self
    where
        F: Future<Output = Result<(), Refusal>> + 'static,
    {
        counters::begin(name);
        Self { name, kinds, take: Rc::new(move |events| Box::pin(take(events))) }
    }

    /// Takes the events of `log`, from where it was before. Never returns.
    pub(super) async fn follow(self: Rc<Self>, log: Log) {
        let (mut pause, mut letters_pause, mut due) = (FIRST_PAUSE, FIRST_PAUSE, Instant::now());
        loop {
            let news = log.news();
            if Instant::now() >= due {
                let taken = self.take_letters(&log).await;
                let wait = if taken.is_ok() { LETTERS } else { letters_pause };
                due = Instant::now() + wait;
                letters_pause = FIRST_PAUSE;
                if let Err(error) = taken {
                    // They hold up no event.
                    log::log!(error.level(), consumer = self.name; "dead letters wait: {error}");
                    letters_pause = LONGEST_PAUSE.min(wait * 2);
                }
            }
            match self.advance(&log).await {
                Ok(is_more) => {
                    pause = FIRST_PAUSE;
                    if !is_more {
                        news.await;
                    }
                }
                Err(error) => {
                    // Readiness logs that a store is away.
                    log::log!(error.level(), consumer = self.name; "events wait: {error}");
                    sleep(pause).await;
                    pause = LONGEST_PAUSE.min(pause * 2);
                }
            }
        }
    }

    /// Takes the next events; returns whether there may be more.
    async fn advance(&self, log: &Log) -> Result<bool, StoreError> {
        let from = log.cursor(self.name).await?;
        let found = log.after(from, BATCH).await?;
        let Some(&(end, _)) = found.last() else { return Ok(false) };
        let is_full = found.len() as i64 == BATCH;
        let events = found.into_iter().map(|(_, event)| event);
        let events = events.filter(|event| self.kinds.contains(&event.kind)).collect::<Vec<_>>();
        match self.give(events.clone(), MEMORY).await {
            Ok(()) => {}
            Err(Refusal::Store(error)) => return Err(error),
            Err(Refusal::Invalid(_)) => {
                for event in events {
                    self.give_alone(event, log).await?;
                }
            }
        }
        log.set_cursor(self.name, end).await?;
        Ok(is_full)
    }

    /// Takes again the dead letters that somebody has redriven.
    async fn take_letters(&self, log: &Log) -> Result<(), StoreError> {
        for letter in log.redriven(self.name).await? {
            let failed = match serde_json::from_str::<Event>(&letter.event) {
                Ok(event) => match self.give(vec![event], MEMORY).await {
                    Ok(()) => None,
                    Err(Refusal::Store(error)) => return Err(error),
                    Err(Refusal::Invalid(why)) => Some(why),
                },
                Err(error) => Some(error.to_string()),
            };
            if let Some(why) = &failed {
                counters::dead(self.name);
                log::error!(consumer = self.name; "{} is a dead letter again: {why}", letter.id);
            }
            log.end_redrive(letter.id, failed).await?;
        }
        Ok(())
    }

    /// The kinds that it takes.
    pub(super) fn kinds(&self) -> &[String] {
        &self.kinds
    }

    /// Gives it `events`, which came by `system`.
    pub(super) async fn give(
        &self,
        events: Vec<Event>,
        system: &'static str,
    ) -> Result<(), Refusal> {
        let count = events.len();
        if count == 0 {
            return Ok(());
        }
        let role = self.name.split('.').next().unwrap_or_default();
        let parents = events.iter().map(|event| event.traceparent.as_deref());
        let mut work = Work::begin(role, parents, || Messages {
            operation: "process",
            system,
            destination: self.name.into(),
            count,
        });
        let taken = work.run((self.take)(events)).await;
        match &taken {
            Ok(()) => counters::consumed(self.name, count),
            Err(Refusal::Store(_)) => {
                work.fail("store");
                counters::retried(self.name, count);
            }
            // It is given again by itself, or is a dead letter.
            Err(Refusal::Invalid(_)) => work.fail("invalid"),
        }
        taken
    }

    /// Gives one event, which becomes a dead letter if it is invalid.
    async fn give_alone(&self, event: Event, log: &Log) -> Result<(), StoreError> {
        match self.give(vec![event.clone()], MEMORY).await {
            Ok(()) => Ok(()),
            Err(Refusal::Store(error)) => Err(error),
            Err(Refusal::Invalid(why)) => {
                log::error!(consumer = self.name; "event {} is a dead letter: {why}", event.id);
                log.bury(self.name, &event, &why).await.inspect(|()| counters::dead(self.name))
            }
        }
    }
}
