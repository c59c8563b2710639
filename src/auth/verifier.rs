//! What a process knows of keys and of tokens, and whether a token is good by it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use chrono::Utc;
use jsonwebtoken::DecodingKey;
use moka::sync::Cache;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use uuid::Uuid;

use super::token::{Identity, Rules, decoding_key};
use crate::config::Auth;
use crate::contract::{JwkSet, Revocation};

/// Tokens that are remembered as good.
const SEEN: u64 = 4096;
/// How often a token may make us ask for keys, and how long it waits for the answer.
const ASK_AGAIN: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(2);
/// How much longer than a token lives it is remembered that it ended before: clocks differ.
const MARGIN: Duration = Duration::from_secs(60);

/// Why a token does not tell who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is no good: why, in a word for the log.
    Invalid(&'static str),
    /// No key has ever been learnt: nothing can be said of any token.
    NoKeys,
}

/// Verifies tokens; one for all threads of a process.
#[derive(Debug)]
pub struct Verifier {
    rules: Rules,
    /// How long a revocation matters: as long as a token of before it may live.
    memory: Duration,
    known: RwLock<Known>,
    /// By signature, which is enough to tell good tokens apart, and quicker to look up than a whole token.
    seen: Cache<String, Arc<Seen>>,
    asking: Mutex<Asking>,
    wanted: Notify,
    /// How often an answer has come, good or not.
    answers: watch::Sender<u64>,
}

/// A token that was good, and who it says is asking.
#[derive(Debug)]
struct Seen {
    token: String,
    identity: Arc<Identity>,
}

#[derive(Debug, Default)]
struct Known {
    keys: HashMap<String, DecodingKey>,
    /// The last one of each user.
    revocations: HashMap<Uuid, Revocation>,
    complete: bool,
}

/// When a token last made us ask for keys, and whether the answer is still to come.
#[derive(Debug, Default)]
struct Asking {
    since: Option<Instant>,
    under_way: bool,
}

impl Verifier {
    /// One that knows no key yet.
    pub fn new(options: &Auth) -> Self {
        Self {
            rules: Rules::new(options),
            memory: options.access_ttl + MARGIN,
            known: RwLock::default(),
            seen: Cache::new(SEEN),
            asking: Mutex::default(),
            wanted: Notify::new(),
            answers: watch::Sender::new(0),
        }
    }

    /// Who `token` says is asking. One that was seen before costs a look into a table. A key that is not
    /// known is asked for, not more often than every five seconds.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub async fn verify(&self, token: &str) -> Result<Arc<Identity>, Refusal> {
        let signature = token.rsplit('.').next().unwrap_or_default();
        if let Some(seen) = self.seen.get(signature).filter(|seen| seen.token == token) {
            return self.still_good(seen.identity.clone());
        }
        if !self.is_complete() {
            return Err(Refusal::NoKeys);
        }
        let name = self.rules.key_name(token).map_err(Refusal::Invalid)?;
        let mut key = self.key(&name);
        if key.is_none() && self.ask().await {
            key = self.key(&name);
        }
        let key = key.ok_or(Refusal::Invalid("unknown key"))?;
        let identity = Arc::new(self.rules.read(token, &key).map_err(Refusal::Invalid)?);
        let seen = Seen { token: token.to_owned(), identity: identity.clone() };
        self.seen.insert(signature.to_owned(), Arc::new(seen));
        self.still_good(identity)
    }

    fn still_good(&self, identity: Arc<Identity>) -> Result<Arc<Identity>, Refusal> {
        if identity.is_over() {
            return Err(Refusal::Invalid("expired"));
        }
        let revoked = |last: &Revocation| identity.generation < last.generation;
        if self.read().revocations.get(&identity.user).is_some_and(revoked) {
            return Err(Refusal::Invalid("revoked"));
        }
        Ok(identity)
    }

    /// Replaces the keys, and adds to the revocations, which are forgotten in time.
    pub fn learn(&self, keys: &JwkSet, revocations: impl IntoIterator<Item = Revocation>) {
        let keys = keys.keys.iter();
        let keys = keys.filter_map(|jwk| Some((jwk.kid.clone(), decoding_key(jwk)?)));
        let keys = keys.collect::<HashMap<_, _>>();
        let mut known = self.write();
        let withdrawn = known.keys.keys().any(|name| !keys.contains_key(name));
        known.keys = keys;
        known.complete = true;
        let horizon = Utc::now() - self.memory;
        known.revocations.retain(|_, revocation| revocation.at > horizon);
        for revocation in revocations {
            known.revoke(revocation);
        }
        drop(known);
        if withdrawn {
            self.seen.invalidate_all();
        }
    }

    /// Ends the tokens of a user from now on, in this process.
    pub fn revoke(&self, revocation: Revocation) {
        self.write().revoke(revocation);
    }

    /// Whether keys and revocations have been learnt.
    pub fn is_complete(&self) -> bool {
        self.read().complete
    }

    /// Returns once keys and revocations have been learnt.
    pub async fn complete(&self) {
        // The sender lives as long as self.
        let _ = self.answers.subscribe().wait_for(|_| self.is_complete()).await;
    }

    /// Returns when a token has asked for keys.
    pub(super) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Tells those who wait that the keys are as new as they get.
    pub(super) fn answered(&self) {
        self.asking().under_way = false;
        self.answers.send_modify(|count| *count += 1);
    }

    /// Asks for keys, unless somebody has just done so; whether it may have changed anything.
    async fn ask(&self) -> bool {
        let mut answers = {
            let mut asking = self.asking();
            if !asking.under_way {
                if asking.since.is_some_and(|since| since.elapsed() < ASK_AGAIN) {
                    return false;
                }
                *asking = Asking { since: Some(Instant::now()), under_way: true };
                self.wanted.notify_one();
            }
            self.answers.subscribe()
        };
        matches!(timeout(PATIENCE, answers.changed()).await, Ok(Ok(())))
    }

    fn key(&self, name: &str) -> Option<DecodingKey> {
        self.read().keys.get(name).cloned()
    }

    fn asking(&self) -> MutexGuard<'_, Asking> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// The later of two revocations counts.
    fn revoke(&mut self, revocation: Revocation) {
        let last = self.revocations.entry(revocation.user).or_insert(revocation);
        if last.generation < revocation.generation {
            *last = revocation;
        }
    }
}
