//! Verifies tokens by the keys and revocations that a process knows.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
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

/// How many verified tokens are cached.
const SEEN: u64 = 4096;
/// How often unknown keys may trigger a fetch, and how long a token waits for it.
const ASK_AGAIN: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(2);
/// How much longer than a token's life its revocation and its key are kept, as clocks differ.
pub const MARGIN: Duration = Duration::from_secs(60);

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyError {
    /// It is not valid; the log says why.
    Invalid(&'static str),
    /// No keys are known yet.
    NoKeys,
}

/// Verifies tokens; one for all threads of a process.
#[derive(Debug)]
pub struct Verifier {
    rules: Rules,
    /// How long revocations are kept: until all tokens that they end have expired.
    memory: Duration,
    known: RwLock<KeysAndRevocations>,
    /// By signature, which is shorter than the whole token. Made for the first token.
    seen: LazyLock<Cache<String, Arc<VerifiedToken>>>,
    asking: Mutex<KeyRequests>,
    wanted: Notify,
    /// How many of the requests for keys are done, successfully or not.
    answered: watch::Sender<u64>,
}

/// A token that was valid, and its identity.
#[derive(Debug)]
struct VerifiedToken {
    token: String,
    identity: Arc<Identity>,
    /// How often keys had been withdrawn at that time.
    withdrawals: u64,
}

#[derive(Debug, Default)]
struct KeysAndRevocations {
    keys: HashMap<String, DecodingKey>,
    /// The latest one per user.
    revocations: HashMap<Uuid, Revocation>,
    withdrawals: u64,
    complete: bool,
}

/// How often tokens have requested keys, and when last.
#[derive(Debug, Default)]
struct KeyRequests {
    times: u64,
    last: Option<Instant>,
}

impl Verifier {
    /// A verifier that knows no keys yet.
    pub fn new(options: &Auth) -> Self {
        Self {
            rules: Rules::new(options),
            memory: options.access_ttl + MARGIN,
            known: RwLock::default(),
            seen: LazyLock::new(|| Cache::new(SEEN)),
            asking: Mutex::default(),
            wanted: Notify::new(),
            answered: watch::Sender::new(0),
        }
    }

    /// The identity in `token`. A cached token costs one lookup. An unknown key triggers a fetch, at most every five
    /// seconds.
    ///
    /// # Errors
    /// See [`VerifyError`].
    pub async fn verify(&self, token: &str) -> Result<Arc<Identity>, VerifyError> {
        let signature = token.rsplit('.').next().unwrap_or_default();
        if let Some(seen) = self.seen.get(signature).filter(|seen| seen.token == token)
            && let Some(outcome) = self.still_good(&seen)
        {
            return outcome;
        }
        if !self.is_complete() {
            return Err(VerifyError::NoKeys);
        }
        let name = self.rules.key_name(token)?;
        let mut key = self.key(&name);
        if key.is_none() && self.ask().await {
            key = self.key(&name);
        }
        let (key, withdrawals) = key.ok_or(VerifyError::Invalid("unknown key"))?;
        let identity = Arc::new(self.rules.read(token, &key)?);
        let seen = Arc::new(VerifiedToken { token: token.to_owned(), identity, withdrawals });
        self.seen.insert(signature.to_owned(), seen.clone());
        self.still_good(&seen).unwrap_or(Err(VerifyError::Invalid("unknown key")))
    }

    /// Whether a cached token is still valid; `None` when a key was withdrawn since, so that it must be verified anew.
    fn still_good(&self, seen: &VerifiedToken) -> Option<Result<Arc<Identity>, VerifyError>> {
        let identity = &seen.identity;
        let known = self.read();
        if seen.withdrawals != known.withdrawals {
            return None;
        }
        if identity.is_expired() {
            return Some(Err(VerifyError::Invalid("expired")));
        }
        let revoked = |last: &Revocation| identity.generation < last.generation;
        if known.revocations.get(&identity.user).is_some_and(revoked) {
            return Some(Err(VerifyError::Invalid("revoked")));
        }
        Some(Ok(identity.clone()))
    }

    /// Forgets keys that are not in `keys`.
    pub fn withdraw_all_but(&self, keys: &JwkSet) {
        let stays = |name: &String| keys.keys.iter().any(|jwk| jwk.kid == *name);
        if !self.read().keys.keys().all(stays) {
            let mut known = self.write();
            known.keys.retain(|name, _| stays(name));
            known.withdrawals += 1;
        }
    }

    /// Replaces the keys, adds the revocations, and drops old ones.
    pub fn learn(&self, keys: &JwkSet, revocations: impl IntoIterator<Item = Revocation>) {
        self.withdraw_all_but(keys);
        let keys = keys.keys.iter();
        let keys = keys.filter_map(|jwk| Some((jwk.kid.clone(), decoding_key(jwk)?)));
        let keys = keys.collect::<HashMap<_, _>>();
        let mut known = self.write();
        known.keys = keys;
        known.complete = true;
        let horizon = Utc::now() - self.memory;
        known.revocations.retain(|_, revocation| revocation.at > horizon);
        for revocation in revocations {
            known.revoke(revocation);
        }
    }

    /// Applies a revocation in this process.
    pub fn revoke(&self, revocation: Revocation) {
        self.write().revoke(revocation);
    }

    /// Whether keys and revocations are known.
    pub fn is_complete(&self) -> bool {
        self.read().complete
    }

    /// Waits until keys and revocations are known.
    pub async fn complete(&self) {
        // The sender lives as long as self.
        let _ = self.answered.subscribe().wait_for(|_| self.is_complete()).await;
    }

    /// Waits until a token needs new keys.
    pub(super) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// How often tokens have requested keys so far.
    pub(super) fn times_asked(&self) -> u64 {
        self.asking().times
    }

    /// Marks the first `times` requests as done.
    pub(super) fn answered(&self, times: u64) {
        self.answered.send_replace(times);
    }

    /// Requests new keys and waits, unless that was done a moment ago. Returns whether there may be new keys.
    async fn ask(&self) -> bool {
        let (mut answered, times) = {
            let mut asking = self.asking();
            let under_way = asking.times > *self.answered.borrow();
            if !under_way {
                if asking.last.is_some_and(|last| last.elapsed() < ASK_AGAIN) {
                    return false;
                }
                *asking = KeyRequests { times: asking.times + 1, last: Some(Instant::now()) };
                self.wanted.notify_one();
            }
            (self.answered.subscribe(), asking.times)
        };
        let answer = answered.wait_for(|answered| *answered >= times);
        matches!(timeout(PATIENCE, answer).await, Ok(Ok(_)))
    }

    /// The key with `name`, and the number of withdrawals.
    fn key(&self, name: &str) -> Option<(DecodingKey, u64)> {
        let known = self.read();
        known.keys.get(name).map(|key| (key.clone(), known.withdrawals))
    }

    fn asking(&self) -> MutexGuard<'_, KeyRequests> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> RwLockReadGuard<'_, KeysAndRevocations> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, KeysAndRevocations> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeysAndRevocations {
    /// Keeps the later of two revocations.
    fn revoke(&mut self, revocation: Revocation) {
        let last = self.revocations.entry(revocation.user).or_insert(revocation);
        if last.generation < revocation.generation {
            *last = revocation;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Claims, SigningKey};
    use crate::config::{self, Sources};
    use crate::contract::UserRole;

    fn options() -> Auth {
        config::load(&Sources::default()).unwrap().0.auth
    }

    fn token(key: &SigningKey, user: Uuid, generation: i64) -> String {
        aged(key, user, generation, 0, 60)
    }

    /// A token that was made `age` seconds ago, and says that it is good for `left` more.
    fn aged(key: &SigningKey, user: Uuid, generation: i64, age: i64, left: i64) -> String {
        let now = Utc::now().timestamp();
        let [iss, aud] = ["shop", "shop"].map(str::to_owned);
        let roles = vec![UserRole::Customer];
        let (iat, exp) = (now - age, now + left);
        let claims =
            Claims { iss, aud, sub: user, jti: user, sid: user, iat, exp, roles, generation };
        key.sign(&claims).unwrap()
    }

    fn set(keys: &[&SigningKey]) -> JwkSet {
        JwkSet { keys: keys.iter().map(|key| key.public().clone()).collect() }
    }

    #[actix_rt::test]
    async fn a_token_is_no_older_than_tokens_may_grow_now() {
        let key = SigningKey::from_seed(&[7; 32]).unwrap();
        let (user, options) = (Uuid::now_v7(), options());
        let verifier = Verifier::new(&options);
        verifier.learn(&set(&[&key]), []);
        let ttl = options.access_ttl.as_secs().cast_signed();
        for (age, left, good) in [
            (0, ttl, true),
            (ttl - 60, 60, true),
            (ttl - 60, 86_400, true),
            (ttl + 30, 600, false),
            (86_000, 400, false),
            (i64::MAX / 2, 600, false),
            (60, -30, false),
        ] {
            let token = aged(&key, user, 0, age, left);
            let expected = if good { None } else { Some(VerifyError::Invalid("expired")) };
            assert_eq!(verifier.verify(&token).await.err(), expected, "{age} {left}");
        }
    }

    #[actix_rt::test]
    async fn a_token_is_good_until_its_generation_or_its_key_is_not() {
        let keys = [7, 8].map(|byte| SigningKey::from_seed(&[byte; 32]).unwrap());
        let (user, verifier) = (Uuid::now_v7(), Verifier::new(&options()));
        let (old, new) = (token(&keys[0], user, 0), token(&keys[1], user, 1));
        assert_eq!(verifier.verify(&old).await, Err(VerifyError::NoKeys));
        verifier.learn(&set(&[&keys[0], &keys[1]]), []);
        for token in [&old, &new, &old] {
            assert_eq!(verifier.verify(token).await.unwrap().user, user);
        }
        verifier.revoke(Revocation { user, generation: 1, at: Utc::now() });
        assert_eq!(verifier.verify(&old).await, Err(VerifyError::Invalid("revoked")));
        assert!(verifier.verify(&new).await.is_ok());
        // What another process says of before does not take that back.
        verifier.learn(&set(&[&keys[0], &keys[1]]), []);
        assert_eq!(verifier.verify(&old).await, Err(VerifyError::Invalid("revoked")));

        verifier.learn(&set(&[&keys[0]]), []);
        let asked = async {
            verifier.wanted().await;
            verifier.answered(verifier.times_asked());
        };
        let (withdrawn, ()) = tokio::join!(verifier.verify(&new), asked);
        assert_eq!(withdrawn, Err(VerifyError::Invalid("unknown key")));
        let again = timeout(Duration::from_millis(500), verifier.verify(&new)).await;
        assert_eq!(
            again,
            Ok(Err(VerifyError::Invalid("unknown key"))),
            "without asking again so soon"
        );
    }
}
