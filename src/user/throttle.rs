//! Limits how often passwords may be tried.

use std::net::IpAddr;
use std::time::Duration;

use uuid::Uuid;

use super::email::email_key;
use crate::config::{Limit, Limits, Scope, User as Options};
use crate::error::{Error, Kind};
use crate::limits::{Limiter, Policies};
use crate::storage::digest;

/// Counts attempts on one worker thread: the limit at once, and then evenly over a minute.
#[derive(Debug)]
pub(super) struct Throttle {
    limiter: Limiter,
    accounts: Policies,
    addresses: Policies,
}

impl Throttle {
    pub(super) fn new(options: &Options, limiter: Limiter) -> Self {
        Self {
            limiter,
            accounts: per_minute(options.logins_per_account, Scope::User),
            addresses: per_minute(options.logins_per_address, Scope::Address),
        }
    }

    /// Counts an attempt at the password of `user`.
    ///
    /// # Errors
    /// 429 with the time to wait after too many attempts.
    pub(super) async fn account(&self, user: Uuid) -> Result<(), Error> {
        check(self.limiter.refusal(&self.accounts, None, Some(user)).await)
    }

    /// Counts an attempt by the client at `address`.
    ///
    /// # Errors
    /// As [`Throttle::account`].
    pub(super) async fn address(&self, address: Option<IpAddr>) -> Result<(), Error> {
        check(self.limiter.refusal(&self.addresses, address, None).await)
    }
}

/// The id under which attempts with the unknown address `email` are counted.
pub(super) fn placeholder_id(email: &str) -> Uuid {
    Uuid::from_u128(digest(email_key(email).as_bytes()))
}

/// A limit of `number` attempts per minute; 0 means no limit.
fn per_minute(number: u32, scope: Scope) -> Policies {
    let limit = Limit { number, period: Duration::from_secs(60), scope };
    let limits = if number == 0 { Limits::default() } else { limit.into() };
    // The dot keeps it apart from the names of the gateway's routes.
    Policies::new("user.logins", &limits)
}

fn check(wait: Option<u32>) -> Result<(), Error> {
    let refused = |seconds| {
        Error::new(Kind::TooManyRequests, "too many tries, wait a moment").retry_after(seconds)
    };
    wait.map_or(Ok(()), |seconds| Err(refused(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};
    use crate::limits::Counts;

    #[actix_rt::test]
    async fn a_limit_is_for_one_account_and_says_how_long_to_wait() {
        let sources = Sources::default();
        let options = load(&sources).unwrap().0.user;
        let options = Options { logins_per_account: 6, logins_per_address: 0, ..options };
        let throttle = Throttle::new(&options, Counts::new(&options).limiter());
        for _ in 0..6 {
            assert!(throttle.account(placeholder_id("neo@example.com")).await.is_ok());
        }
        let refused = throttle.account(placeholder_id("NEO@example.com")).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::TooManyRequests);
        let answer = refused.render(None);
        let header = |name| answer.headers().get(name).map(|value| value.to_str().unwrap());
        let wait = header("retry-after").unwrap();
        assert!((9..=10).contains(&wait.parse::<u32>().unwrap()), "{wait}");
        assert_eq!(header("ratelimit"), None, "how many tries are left is nobody's business");
        assert!(throttle.account(placeholder_id("trinity@example.com")).await.is_ok());
        assert!(throttle.account(Uuid::from_u128(1)).await.is_ok());
        for _ in 0..1000 {
            assert!(throttle.address(None).await.is_ok(), "0 is any number");
        }
    }
}
