//! What an operator decides on dead letters, wherever they are: in queues of the broker, or beside the logs.

use std::collections::BTreeSet;

use super::{Broker, Log};
use crate::contract::DeadLetter;
use crate::error::{Error, Kind};
use crate::storage::StoreError;

/// How many characters of a reason are kept. It may have the whole message, and headers have no room for that.
const REASON: usize = 1_000;

/// `why` something is a dead letter, as it is kept.
pub(super) fn reason(why: &str) -> String {
    why.chars().take(REASON).collect()
}

/// What becomes of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Its consumer takes it again.
    Redrive,
    /// It is forgotten.
    Drop,
}

impl Decision {
    /// What the audit log calls it.
    pub fn audit_event(self) -> &'static str {
        match self {
            Self::Redrive => "dead_letter_redriven",
            Self::Drop => "dead_letter_dropped",
        }
    }
}

/// Why dead letters could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The broker is away, or refuses.
    #[error("the broker of events: {0}")]
    Broker(String),
    /// Nobody would take a dead letter that is redriven.
    #[error(
        "nobody takes events: events.url is memory://, and roles elsewhere take them, which wait until AMQP_URL is set"
    )]
    Untaken,
}

impl From<DeadLetterError> for Error {
    fn from(error: DeadLetterError) -> Self {
        match error {
            DeadLetterError::Store(error) => error.into(),
            untaken @ DeadLetterError::Untaken => Self::new(Kind::Conflict, untaken.to_string()),
            broker @ DeadLetterError::Broker(_) => {
                Self::unavailable("the broker of events does not answer; try again", broker)
            }
        }
    }
}

/// Where the dead letters are; belongs to one thread.
#[derive(Debug)]
pub enum DeadLetters {
    /// Beside these logs.
    Logs(Vec<Log>),
    /// The same, while nobody takes events.
    Untaken(Vec<Log>),
    /// In queues of the broker.
    Broker(Broker),
}

impl DeadLetters {
    /// At most `limit` of them behind the one with the id `after`, by id.
    ///
    /// # Errors
    /// When a store or the broker fails.
    pub async fn list(
        &self,
        after: &str,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, DeadLetterError> {
        let mut found = Vec::new();
        match self {
            Self::Logs(logs) | Self::Untaken(logs) => {
                let limit = i64::try_from(limit).unwrap_or(i64::MAX);
                for log in logs {
                    found.extend(log.letters(after.to_owned(), limit).await?);
                }
            }
            Self::Broker(broker) => {
                found = broker.letters().await?;
                found.retain(|letter| letter.id.as_str() > after);
            }
        }
        found.sort_by(|one, other| one.id.cmp(&other.id));
        // A crash may have left a message twice.
        found.dedup_by(|one, other| one.id == other.id);
        found.truncate(limit);
        Ok(found)
    }

    /// Carries out `decision` on those with these `ids`. The ids of those that there are come into `done`.
    ///
    /// # Errors
    /// When a store or the broker fails; those in `done` are done.
    pub async fn decide(
        &self,
        decision: Decision,
        ids: &[String],
        done: &mut BTreeSet<String>,
    ) -> Result<(), DeadLetterError> {
        match self {
            Self::Untaken(_) if decision == Decision::Redrive => {
                return Err(DeadLetterError::Untaken);
            }
            Self::Logs(logs) | Self::Untaken(logs) => {
                // No id is empty.
                for id in ids.iter().filter(|id| !id.is_empty()) {
                    for log in logs {
                        if log.decide(decision, Some(id.clone())).await? > 0 {
                            done.insert(id.clone());
                        }
                    }
                }
            }
            Self::Broker(broker) => drop(broker.decide(decision, Some(ids), done).await?),
        }
        Ok(())
    }

    /// Carries out `decision` on all; returns on how many.
    ///
    /// # Errors
    /// When a store or the broker fails; those before are done.
    pub async fn decide_on_all(&self, decision: Decision) -> Result<u64, DeadLetterError> {
        match self {
            Self::Untaken(_) if decision == Decision::Redrive => Err(DeadLetterError::Untaken),
            Self::Logs(logs) | Self::Untaken(logs) => {
                let mut count = 0;
                for log in logs {
                    count += log.decide(decision, None).await?;
                }
                Ok(count)
            }
            Self::Broker(broker) => broker.decide(decision, None, &mut BTreeSet::new()).await,
        }
    }
}
