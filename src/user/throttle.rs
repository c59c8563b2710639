//! How often passwords may be tried.

use std::net::IpAddr;
use std::time::Duration;

use uuid::Uuid;

use super::email::email_key;
use crate::config::{Limit, Limits, Scope, User as Options};
use crate::error::{Error, Kind};
use crate::limits::{Limiter, Policies};
use crate::storage::digest;

/// Counts the tries of one worker thread: so many at once, and then evenly over a minute.
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
            accounts: a_minute(options.logins_per_account, Scope::User),
            addresses: a_minute(options.logins_per_address, Scope::Address),
        }
    }

    /// Counts a try at the password of `user`, whatever their address is by now.
    ///
    /// # Errors
    /// 429 with the time to wait when there were too many.
    pub(super) async fn account(&self, user: Uuid) -> Result<(), Error> {
        told(self.limiter.refusal(&self.accounts, None, Some(user)).await)
    }

    /// Counts a password from the client at `address`.
    ///
    /// # Errors
    /// As [`Throttle::account`].
    pub(super) async fn address(&self, address: Option<IpAddr>) -> Result<(), Error> {
        told(self.limiter.refusal(&self.addresses, address, None).await)
    }
}

/// By what tries to log in with the address `email` are counted, which no account has.
pub(super) fn stand_in(email: &str) -> Uuid {
    Uuid::from_u128(digest(email_key(email).as_bytes()))
}

/// `number` tries a minute; 0 is any number.
fn a_minute(number: u32, scope: Scope) -> Policies {
    let limit = Limit { number, period: Duration::from_secs(60), scope };
    let limits = if number == 0 { Limits::default() } else { limit.into() };
    // No route of a gateway has a name with a dot.
    Policies::new("user.logins", &limits)
}

fn told(wait: Option<u32>) -> Result<(), Error> {
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
        let sources = Sources { directory: Some(std::env::temp_dir()), ..Sources::default() };
        let options = load(&sources).unwrap().0.user;
        let options = Options { logins_per_account: 6, logins_per_address: 0, ..options };
        let throttle = Throttle::new(&options, Counts::new(&options).limiter());
        for _ in 0..6 {
            assert!(throttle.account(stand_in("neo@example.com")).await.is_ok());
        }
        let refused = throttle.account(stand_in("NEO@example.com")).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::TooManyRequests);
        let answer = refused.render(None);
        let header = |name| answer.headers().get(name).map(|value| value.to_str().unwrap());
        let wait = header("retry-after").unwrap();
        assert!((9..=10).contains(&wait.parse::<u32>().unwrap()), "{wait}");
        assert_eq!(header("ratelimit"), None, "how many tries are left is nobody's business");
        assert!(throttle.account(stand_in("trinity@example.com")).await.is_ok());
        assert!(throttle.account(Uuid::from_u128(1)).await.is_ok());
        for _ in 0..1000 {
            assert!(throttle.address(None).await.is_ok(), "0 is any number");
        }
    }
}
