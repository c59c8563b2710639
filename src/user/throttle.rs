//! How often passwords may be tried.

use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use uuid::Uuid;

use super::email::email_key;
use crate::config::User as Options;
use crate::error::{Error, Kind};
use crate::peer::network;
use crate::storage::digest;

/// Keys that have been quiet are forgotten after so many tries.
const SWEEP: u32 = 1024;

/// Counts the tries of one process (GCRA: so many at once, and then evenly over a minute).
#[derive(Debug)]
pub(super) struct Throttle {
    accounts: Option<Limit<u128>>,
    addresses: Option<Limit<u128>>,
    tries: AtomicU32,
}

type Limit<K> = RateLimiter<K, HashMapStateStore<K>, DefaultClock>;

impl Throttle {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            accounts: limit(options.logins_per_account),
            addresses: limit(options.logins_per_address),
            tries: AtomicU32::new(0),
        }
    }

    /// Counts a try to log in with the address `email`, which no account has.
    ///
    /// # Errors
    /// 429 with the time to wait when there were too many.
    pub(super) fn account(&self, email: &str) -> Result<(), Error> {
        check(self.accounts.as_ref(), digest(email_key(email).as_bytes()))
    }

    /// Counts a try at the password of `user`, whatever their address is by now.
    ///
    /// # Errors
    /// As [`Throttle::account`].
    pub(super) fn user(&self, user: Uuid) -> Result<(), Error> {
        check(self.accounts.as_ref(), user.as_u128())
    }

    /// Counts a password from the client at `address`.
    ///
    /// # Errors
    /// As [`Throttle::account`].
    pub(super) fn address(&self, address: Option<IpAddr>) -> Result<(), Error> {
        self.sweep();
        check(self.addresses.as_ref(), address.map_or(0, network))
    }

    fn sweep(&self) {
        if self.tries.fetch_add(1, Ordering::Relaxed) % SWEEP == SWEEP - 1 {
            for limit in [&self.accounts, &self.addresses].into_iter().flatten() {
                limit.retain_recent();
                limit.shrink_to_fit();
            }
        }
    }
}

fn limit<K: Hash + Eq + Clone>(a_minute: u32) -> Option<Limit<K>> {
    NonZeroU32::new(a_minute).map(|tries| RateLimiter::hashmap(Quota::per_minute(tries)))
}

fn check<K: Hash + Eq + Clone>(limit: Option<&Limit<K>>, key: K) -> Result<(), Error> {
    let Some(limit) = limit else { return Ok(()) };
    limit.check_key(&key).map_err(|until| {
        let wait = until.wait_time_from(DefaultClock::default().now());
        let wait = (wait + Duration::from_millis(999)).as_secs().max(1);
        let seconds = u32::try_from(wait).unwrap_or(u32::MAX);
        Error::new(Kind::TooManyRequests, "too many tries, wait a moment").retry_after(seconds)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_for_one_key_and_says_how_long_to_wait() {
        let limit = limit::<u128>(6);
        for _ in 0..6 {
            assert!(check(limit.as_ref(), 1).is_ok());
        }
        let refused = check(limit.as_ref(), 1).unwrap_err();
        assert_eq!(refused.kind(), Kind::TooManyRequests);
        let answer = refused.render(None);
        let wait = answer.headers().get("retry-after").unwrap().to_str().unwrap();
        assert!((9..=10).contains(&wait.parse::<u32>().unwrap()), "{wait}");
        assert!(check(limit.as_ref(), 2).is_ok());
        assert!(super::limit::<u128>(0).is_none());
    }
}
