//! How often clients may ask: limits by address, by user and by route.
//!
//! A request is held against all limits of its route at once, and one that is refused counts for none of them.
//! Counts are kept in this process (`table`), or on a server for all processes together (`redis`); both
//! decide by one arithmetic (`gcra`) and tell clients the same. This process also remembers what the server
//! has told it. So whoever is over a limit is refused without asking the server again, and stays so when the
//! server goes away: then each process counts on for itself.

mod gcra;
mod policy;
mod redis;
mod table;

use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::Instant;
use uuid::Uuid;

use crate::config::{CacheUrl, Gateway as Options, Limits};
use crate::error::Error;
use crate::readiness::Check;
use policy::{Policy, Verdict};
use redis::{Link, Server};
use table::{Key, Table};

pub use policy::{Outcome, Policies};

/// The counts as far as a process has them; each worker thread opens its own [`Limiter`] of it.
#[derive(Clone, Debug)]
pub struct Shared {
    options: Arc<Options>,
    table: Arc<Table>,
    link: Arc<Link>,
    /// What the process's clock counts from.
    start: Instant,
}

/// What counts the requests of one worker thread; cheap to clone.
#[derive(Clone, Debug)]
pub struct Limiter {
    table: Arc<Table>,
    server: Option<Server>,
    start: Instant,
}

/// The places in the table of the policies that a request is held against.
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

impl Shared {
    /// Of one process. Takes no memory before there is something to count.
    pub fn new(options: &Options) -> Self {
        Self {
            table: Arc::new(Table::new(options.limits_keys)),
            options: Arc::new(options.clone()),
            link: Arc::default(),
            start: Instant::now(),
        }
    }

    /// The limiter for this thread. Opens no connection yet.
    ///
    /// # Errors
    /// What is wrong with `gateway.limits_url`.
    pub fn open(&self) -> Result<Limiter, String> {
        let server = match &self.options.limits_url {
            CacheUrl::Memory => None,
            CacheUrl::Redis(url) => Some(Server::open(url, &self.options, self.link.clone())?),
        };
        Ok(Limiter { table: self.table.clone(), server, start: self.start })
    }
}

impl Limiter {
    /// Counts a request of `user` from `client` against `policies`. Without a server this waits for nothing;
    /// with one it takes `gateway.limits_timeout` at most.
    ///
    /// # Errors
    /// 429 with Retry-After, `RateLimit-Policy` and `RateLimit` when a limit refuses it.
    pub async fn check<'a>(
        &self,
        policies: &'a Policies,
        client: Option<IpAddr>,
        user: Option<Uuid>,
    ) -> Result<Outcome<'a>, Error> {
        let verdict = match &self.server {
            _ if policies.is_empty() => None,
            None => self.take(policies, client, user),
            // Boxed, so that whoever has no server does not carry what it takes to wait for one.
            Some(server) => Box::pin(self.ask(server, policies, client, user)).await,
        };
        policies.outcome(verdict)
    }

    /// Whether the server is there that the counts are on, if they are on one. What is limited goes on without it.
    pub fn readiness(&self) -> Option<Check> {
        let server = self.server.clone()?;
        Some(Check::optional("gateway.limits", move || {
            let server = server.clone();
            async move { server.ping().await }
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
        self.table.visit(keys.get(), |tats| {
            let verdict = policies.judge(tats, now);
            (verdict.is_some_and(|verdict| verdict.decision.allowed), verdict)
        })
    }

    /// Counts on `server`, and in this process while that is away.
    async fn ask(
        &self,
        server: &Server,
        policies: &Policies,
        client: Option<IpAddr>,
        user: Option<Uuid>,
    ) -> Option<Verdict> {
        let (keys, sent) = (self.keys(policies, client, user), self.now());
        let known = self.table.visit(keys.get(), |tats| (false, policies.judge(tats, sent)));
        if known.is_none_or(|known| !known.decision.allowed) {
            return known;
        }
        let limit = |policy: &Policy| {
            (format!("{}:{}", policy.label, policy.subject(client, user)), policy.quota)
        };
        match server.take(policies.iter().map(limit)).await {
            Some((now, mut tats)) if tats.len() == keys.get().len() => {
                let verdict = policies.judge(&mut tats, now);
                self.remember(keys.get(), &tats, now, sent);
                verdict
            }
            _ => self.take(policies, client, user),
        }
    }

    /// Takes over the arrival times `theirs` of a server whose clock was at `now` when ours was at `sent`, or a
    /// little later: so nobody seems to be further ahead here than there.
    fn remember(&self, keys: &[Key], theirs: &[u64], now: u64, sent: u64) {
        self.table.visit(keys, |ours| {
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
            *key = self.table.key(subject.region(), policy.id, subject.number());
            keys.count += 1;
        }
        keys
    }

    /// The time on this process's clock, in µs.
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::config::{Settings, Sources, load};
    use crate::peer::Headers;

    fn options(keys: &str) -> Options {
        let overrides = vec![("gateway.limits_keys".to_owned(), keys.to_owned())];
        let directory = Some(std::env::temp_dir());
        let sources = Sources { directory, overrides, ..Sources::default() };
        let (Settings { gateway, .. }, _) = load(&sources).unwrap();
        gateway
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
        let limiter = Shared::new(&options("1024")).open().unwrap();
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
        let shared = Shared::new(&options("1024"));
        let limits = policies("a", "1000/1h by address");
        let passed = std::thread::scope(|scope| {
            let threads = [1, 2, 3, 4].map(|_| {
                scope.spawn(|| {
                    let limiter = shared.open().unwrap();
                    (0..500).filter(|_| passes(&limiter, &limits, "192.0.2.1", None)).count()
                })
            });
            threads.map(|thread| thread.join().unwrap()).iter().sum::<usize>()
        });
        assert_eq!(passed, 1000);
    }

    #[test]
    fn a_million_clients_let_nobody_through_who_is_over_a_limit() {
        let limiter = Shared::new(&options("4096")).open().unwrap();
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
        let shared = Shared::new(&options("1024"));
        let none = policies("a", "");
        let limiter = shared.open().unwrap();
        let outcome = limiter.check(&none, None, None).now_or_never().unwrap().unwrap();
        let mut headers = Headers::new();
        outcome.write(&mut headers);
        assert!(headers.is_empty());
        assert_eq!(shared.table.bytes(), 0);
        assert!(limiter.readiness().is_none());
    }
}
