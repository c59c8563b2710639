//! Keeps a process's verifier up to date.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::http::header::HeaderMap;
use tokio::time::sleep;

use super::Verifier;
use crate::contract::UserClient;
use crate::error::{Error, Kind};
use crate::peer::Context;

/// How long the user role may take to answer, and how soon it is asked again before the first answer.
const PATIENCE: Duration = Duration::from_secs(3);
const FIRST: Duration = Duration::from_millis(200);

/// Asks `users` for keys and revocations every `interval`, and when a token names a key that is not known.
/// While there is no answer, what was learnt before holds. Never returns.
pub async fn follow(verifier: Arc<Verifier>, users: UserClient, interval: Duration) {
    let mut warned = false;
    loop {
        let asked = verifier.times_asked();
        match learn(&verifier, &users).await {
            Ok(()) if std::mem::take(&mut warned) => {
                log::info!("the user role tells the keys of tokens again");
            }
            Ok(()) => {}
            // That it is away, or its store is, is said by those who ask them how they are.
            Err(error) if warned || error.kind() == Kind::Unavailable => {
                log::debug!("the user role does not tell the keys of tokens: {}", error.chain());
            }
            Err(error) => {
                warned = true;
                log::warn!("the user role does not tell the keys of tokens: {}", error.chain());
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

async fn learn(verifier: &Verifier, users: &UserClient) -> Result<(), Error> {
    let context = Context::from_headers(&HeaderMap::new(), None, PATIENCE, Instant::now());
    let keys = users.keys(&context).await?;
    // Not at once: a breaker that is half open might let only one of them through.
    let revocations = users.revocations(&context).await?;
    verifier.learn(&keys, revocations);
    Ok(())
}
