//! The limiter: limits requests by address, by user and by route, and password attempts.
//!
//! A request is checked against all limits of its route at once; a refused request counts for none of them. Counts are in
//! this process (`table`), or on a server for all processes together (`redis`), with the same algorithm (`gcra`) and the
//! same headers. This process also remembers the server's counts: a client over its limit is refused without asking the
//! server again, and also when the server goes away. Then each process counts by itself.

mod decisions;
mod gcra;
mod policy;
mod redis;
mod table;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use crate::config::{CacheUrl, Gateway, Limits, User};
use crate::error::Error;
use crate::metrics::Collectors;
use crate::readiness::Check;
use crate::storage::redis::Server;
use decisions::Decisions;
use policy::{Policy, Verdict};
use redis::RedisCounts;
use table::{Key, Table};

pub use policy::{Outcome, Policies};

/// The options of a limiter.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// The server's name in `/readyz` and in the log.
    name: &'static str,
    url: &'a CacheUrl,
    timeout: Duration,
    prefix: &'a str,
    /// How many addresses, and how many users, this process counts.
    keys: usize,
}

impl<'a> From<&'a Gateway> for Options<'a> {
    /// How the gateway counts requests.
    fn from(options: &'a Gateway) -> Self {
        Self {
            name: "gateway.limits",
            url: &options.limits_url,
            timeout: options.limits_timeout,
            prefix: &options.limits_prefix,
            keys: options.limits_keys,
        }
    }
}

impl<'a> From<&'a User> for Options<'a> {
    /// How the user role counts password attempts.
    fn from(options: &'a User) -> Self {
        Self {
            name: "user.limits",
            url: &options.limits_url,
            timeout: options.limits_timeout,
            prefix: &options.limits_prefix,
            keys: 65_536,
        }
    }
}

/// The counts of a process; each worker thread has its own [`Limiter`] on them.
#[derive(Clone, Debug)]
pub struct Counts {
    table: Arc<Table>,
    /// With its name in `/readyz`.
    server: Option<(&'static str, Server)>,
    /// The zero of the process's clock.
    start: Instant,
    decisions: Decisions,
}

/// Counts the requests of one worker thread; cheap to clone.
#[derive(Clone, Debug)]
pub struct Limiter {
    counts: Counts,
    server: Option<RedisCounts>,
}

/// What all limiters of the process have decided.
pub fn collectors() -> Collectors {
    vec![decisions::collector()]
}

/// The keys of a request's policies in the table.
#[derive(Default)]
struct Keys {
    list: [Key; Limits::MOST],
    count: usize,
}

impl Keys {
    fn get(&self) -> &[Key] {
        &self.list[..self.count]
    }
}

impl Counts {
    /// The counts of one process. Allocates nothing before the first request, and opens no connection.
    pub fn new<'a>(options: impl Into<Options<'a>>) -> Self {
        let options = options.into();
        let server = match options.url {
            CacheUrl::Memory => None,
            CacheUrl::Redis(url) => Some((options.name, Server::new(url, redis::used(&options)))),
        };
        let decisions = Decisions::new(options.name);
        Self { table: Arc::new(Table::new(options.keys)), server, start: Instant::now(), decisions }
    }

    /// The limiter for this thread. Opens no connection yet.
    pub fn limiter(&self) -> Limiter {
        let server = self.server.as_ref().map(|(_, server)| RedisCounts::new(server));
        Limiter { counts: self.clone(), server }
    }
}

impl Limiter {
    /// Counts a request of `user` from `client` against `policies`. Without a server this does not wait; with one, at most
    /// for its timeout.
    ///
    /// # Errors
    /// 429 with Retry-After, `RateLimit-Policy` and `RateLimit` when a limit refuses it.
    pub async fn check<'a>(
        &self,
        policies: &'a Policies,
        client: Option<IpAddr>,
        user: Option<Uuid>,
    ) -> Result<Outcome<'a>, Error> {
        policies.outcome(self.judge(policies, client, user).await)
    }

    /// As [`Limiter::check`], but returns the seconds to wait if a limit refuses the request.
    pub async fn refusal(
        &self,
        policies: &Policies,
        client: Option<IpAddr>,
        user: Option<Uuid>,
    ) -> Option<u32> {
        let decision = self.judge(policies, client, user).await?.decision;
        (!decision.allowed).then(|| decision.seconds())
    }

    async fn judge(
        &self,
        policies: &Policies,
        client: Option<IpAddr>,
        user: Option<Uuid>,
    ) -> Option<Verdict> {
        match &self.server {
            _ if policies.is_empty() => None,
            None => self.take(policies, client, user),
            // Boxed, to keep the future small where there is no server.
            Some(server) => Box::pin(self.ask(server, policies, client, user)).await,
        }
    }

    /// A check of the server, if the counts are on one. It is optional: limits hold without it.
    pub fn readiness(&self) -> Option<Check> {
        let (server, (name, _)) = (self.server.clone()?, self.counts.server.as_ref()?);
        Some(Check::optional(name, move || {
            let server = server.clone();
            async move { Ok(server.ping().await?) }
        }))
    }

    /// Counts in this process.
    fn take(
        &self,
        policies: &Policies,
        client: Option<IpAddr>,
        user: Option<Uuid>,
    ) -> Option<Verdict> {
        let (keys, now) = (self.keys(policies, client, user), self.now());
        self.counts.table.visit(keys.get(), |tats| {
            let verdict = policies.judge(tats, now);
            let allowed = verdict.is_some_and(|verdict| verdict.decision.allowed);
            self.counts.decisions.here(allowed);
            (allowed, verdict)
        })
    }

    /// Counts on `server`, and in this process while that is away.
    async fn ask(
        &self,
        server: &RedisCounts,
        policies: &Policies,
        client: Option<IpAddr>,
        user: Option<Uuid>,
    ) -> Option<Verdict> {
        let (keys, sent) = (self.keys(policies, client, user), self.now());
        let known = self.counts.table.visit(keys.get(), |tats| (false, policies.judge(tats, sent)));
        if known.is_none_or(|known| !known.decision.allowed) {
            self.counts.decisions.here(false);
            return known;
        }
        let limit = |policy: &Policy| {
            (format!("{}:{}", policy.label, policy.subject(client, user)), policy.quota)
        };
        match server.take(policies.iter().map(limit)).await {
            Some((now, mut tats)) if tats.len() == keys.get().len() => {
                let verdict = policies.judge(&mut tats, now);
                let allowed = verdict.is_some_and(|verdict| verdict.decision.allowed);
                self.counts.decisions.server(allowed);
                self.remember(keys.get(), &tats, now, sent);
                verdict
            }
            _ => self.take(policies, client, user),
        }
    }

    /// Merges the server's arrival times `theirs`. The server's clock was at `now` when this one was at `sent` or a little
    /// later, so no client gets a later arrival time here than there.
    fn remember(&self, keys: &[Key], theirs: &[u64], now: u64, sent: u64) {
        self.counts.table.visit(keys, |ours| {
            for (our, their) in ours.iter_mut().zip(theirs) {
                *our = (*our).max(sent.saturating_add(their.saturating_sub(now)));
            }
            (true, ())
        });
    }

    fn keys(&self, policies: &Policies, client: Option<IpAddr>, user: Option<Uuid>) -> Keys {
        let mut keys = Keys::default();
        for (key, policy) in keys.list.iter_mut().zip(policies.iter()) {
            let subject = policy.subject(client, user);
            *key = self.counts.table.key(subject.region(), policy.id, subject.number());
            keys.count += 1;
        }
        keys
    }

    /// The time on this process's clock, in µs.
    fn now(&self) -> u64 {
        u64::try_from(self.counts.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::config::{Settings, Sources, load};
    use crate::peer::Headers;

    fn counts(keys: &str) -> Counts {
        let overrides = vec![("gateway.limits_keys".to_owned(), keys.to_owned())];
        let sources = Sources { overrides, ..Sources::default() };
        let (Settings { gateway, .. }, _) = load(&sources).unwrap();
        Counts::new(&gateway)
    }

    fn policies(route: &str, limits: &str) -> Policies {
        Policies::new(route, &Limits::try_from(limits.to_owned()).unwrap())
    }

    /// Checks without ever waiting.
    fn passes(limiter: &Limiter, policies: &Policies, client: &str, user: Option<u128>) -> bool {
        let client = client.parse().ok();
        let user = user.map(Uuid::from_u128);
        limiter.check(policies, client, user).now_or_never().unwrap().is_ok()
    }

    #[test]
    fn clients_users_and_routes_are_counted_apart() {
        let limiter = counts("1024").limiter();
        let limits = policies("a", "2/1h by address");
        let pass = |limits: &Policies, client: &str, user| passes(&limiter, limits, client, user);
        let three =
            |limits: &Policies, client: &str, user| [1, 2, 3].map(|_| pass(limits, client, user));
        assert_eq!(three(&limits, "192.0.2.1", None), [true, true, false]);
        assert_eq!(three(&limits, "192.0.2.2", Some(1)), [true, true, false]);
        assert_eq!(
            three(&policies("b", "2/1h by address"), "192.0.2.1", None),
            [true, true, false]
        );
        assert!(pass(&policies("a", "3/1h by address"), "192.0.2.1", None), "begins anew");
        assert!(!pass(&policies("a", "2/1h by address"), "192.0.2.1", None), "is still there");
        let limits = policies("a", "2/1h by user");
        assert_eq!(three(&limits, "192.0.2.1", Some(1)), [true, true, false]);
        assert_eq!(three(&limits, "192.0.2.1", Some(2)), [true, true, false]);
        assert_eq!(three(&limits, "192.0.2.1", None), [true, true, false]);
        let limits = policies("a", "2/1h by route");
        assert!(pass(&limits, "192.0.2.1", Some(1)));
        assert_eq!(three(&limits, "192.0.2.9", None), [true, false, false]);
    }

    #[test]
    fn the_threads_of_a_process_count_together() {
        let counts = counts("1024");
        let limits = policies("a", "1000/1h by address");
        let passed = std::thread::scope(|scope| {
            let threads = [1, 2, 3, 4].map(|_| {
                scope.spawn(|| {
                    let limiter = counts.limiter();
                    (0..500).filter(|_| passes(&limiter, &limits, "192.0.2.1", None)).count()
                })
            });
            threads.map(|thread| thread.join().unwrap()).iter().sum::<usize>()
        });
        assert_eq!(passed, 1000);
    }

    #[test]
    fn a_million_clients_let_nobody_through_who_is_over_a_limit() {
        let limiter = counts("4096").limiter();
        let limits = policies("a", "5/1h by address");
        while passes(&limiter, &limits, "192.0.2.1", None) {}
        for client in 0..1_000_000_u32 {
            let address = IpAddr::from((u32::from_be_bytes([10, 0, 0, 0]) + client).to_be_bytes());
            assert!(limiter.check(&limits, Some(address), None).now_or_never().unwrap().is_ok());
            if client % 1000 == 0 {
                assert!(!passes(&limiter, &limits, "192.0.2.1", None), "after {client}");
            }
        }
    }

    #[test]
    fn a_route_without_limits_takes_no_memory_and_says_nothing() {
        let counts = counts("1024");
        let none = policies("a", "");
        let limiter = counts.limiter();
        let outcome = limiter.check(&none, None, None).now_or_never().unwrap().unwrap();
        let mut headers = Headers::new();
        outcome.write(&mut headers);
        assert!(headers.is_empty());
        assert_eq!(counts.table.bytes(), 0);
        assert!(limiter.readiness().is_none());
    }
}
