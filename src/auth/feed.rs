//! Keeps a process's verifier up to date.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::http::header::HeaderMap;
use tokio::time::{sleep, timeout};

use super::Verifier;
use crate::contract::{JwkSet, Revocation, UserClient};
use crate::error::{Error, Kind};
use crate::peer::Context;

/// How long the user role may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// How soon it is asked again until it has answered once.
const FIRST: Duration = Duration::from_millis(200);

/// The keys that verify tokens, and the tokens that ended early.
pub type KeySet = (JwkSet, Vec<Revocation>);

/// Teaches `verifier` what `fetch` returns, every `interval` and whenever a token names an unknown key. While `fetch`
/// fails, the verifier keeps what it knows. Never returns.
pub async fn follow(
    verifier: Arc<Verifier>,
    interval: Duration,
    fetch: impl AsyncFn() -> Result<KeySet, Error>,
) {
    let mut warned = false;
    loop {
        let asked = verifier.times_asked();
        let fetched = timeout(PATIENCE, fetch()).await;
        let late = |_| Err(Error::new(Kind::Unavailable, "no answer in time"));
        match fetched.unwrap_or_else(late) {
            Ok((keys, revocations)) => {
                verifier.learn(&keys, revocations);
                if std::mem::take(&mut warned) {
                    log::info!("the user role gives the keys of tokens again");
                }
            }
            // Readiness logs that the role or its store is away.
            Err(error) if warned || error.kind() == Kind::Unavailable => {
                log::debug!("the user role does not give the keys of tokens: {}", error.chain());
            }
            Err(error) => {
                warned = true;
                log::warn!("the user role does not give the keys of tokens: {}", error.chain());
            }
        }
        verifier.answered(asked);
        let pause = if verifier.is_complete() { interval } else { FIRST };
        tokio::select! {
            () = sleep(pause) => {}
            () = verifier.wanted() => {}
        }
    }
}

/// Asks the user role of another process.
///
/// # Errors
/// The role's own error, or why it gave no answer.
pub async fn ask(users: &UserClient) -> Result<KeySet, Error> {
    let context = Context::from_headers(&HeaderMap::new(), None, PATIENCE, Instant::now());
    let keys = users.keys(&context).await?;
    // One after the other: a half-open breaker might let only one of them through.
    Ok((keys, users.revocations(&context).await?))
}
