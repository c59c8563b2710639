//! The limits of a route, and their headers.
//!
//! The headers are those of draft-ietf-httpapi-ratelimit-headers-11. `RateLimit-Policy` has every limit of the route,
//! `RateLimit` the one that is closest to exhaustion.

use std::cmp::Reverse;
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use actix_web::http::header::{HeaderName, HeaderValue};
use uuid::Uuid;

use super::gcra::{Decision, Quota, decide};
use super::table::Region;
use crate::config::{Limit, Limits, Scope};
use crate::error::{Error, Kind};
use crate::peer::{Headers, network};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The limits of one route.
#[derive(Debug)]
pub struct Policies {
    list: Vec<Policy>,
    /// The value of `RateLimit-Policy`; `None` without limits.
    field: Option<HeaderValue>,
}

/// One limit of a route.
#[derive(Debug)]
pub(super) struct Policy {
    scope: Scope,
    /// Its name in headers.
    name: String,
    pub(super) quota: Quota,
    /// Identifies the policy and its quota in this process.
    pub(super) id: u64,
    /// The same as text, for keys on a server.
    pub(super) label: String,
}

/// Who a request counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// The result of [`network`]; 0 if the address is unknown.
    Client(u128),
    User(Uuid),
    Everybody,
}

/// The decision of the policy that is closest to exhaustion, or that refuses a request for the longest time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verdict {
    policy: usize,
    pub(super) decision: Decision,
}

/// The outcome for an allowed request.
#[derive(Debug)]
pub struct Outcome<'a> {
    policies: &'a Policies,
    verdict: Option<Verdict>,
}

impl Policies {
    /// The `limits` of the route with the unique name `route`. Processes count together if their names and limits are the
    /// same.
    pub fn new(route: &str, limits: &Limits) -> Self {
        let limits = limits.as_slice();
        let list = limits.iter().map(|limit| Policy::new(route, limit, limits)).collect::<Vec<_>>();
        let items = list.iter().zip(limits).map(|(policy, limit)| {
            format!("\"{}\";q={};w={}", policy.name, limit.number, limit.period.as_secs())
        });
        let text = items.collect::<Vec<_>>().join(", ");
        let field = Some(text).filter(|text| !text.is_empty());
        // Names are fixed words and numbers, which are valid in a header.
        Self { list, field: field.and_then(|text| HeaderValue::try_from(text).ok()) }
    }

    /// Whether there are no limits.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Policy> {
        self.list.iter()
    }

    /// Decides on a request at `now` by the arrival times `tats` of its policies. Updates them if the request is allowed:
    /// a request that one policy refuses counts for none.
    pub(super) fn judge(&self, tats: &mut [u64], now: u64) -> Option<Verdict> {
        let mut worst = None::<Verdict>;
        let mut after = [0; Limits::MOST];
        for (policy, (item, tat)) in self.list.iter().zip(&*tats).enumerate() {
            let (next, decision) = decide(*tat, now, item.quota);
            let verdict = Verdict { policy, decision };
            if worst.is_none_or(|worst| verdict.order() < worst.order()) {
                worst = Some(verdict);
            }
            after[policy] = next;
        }
        if worst.is_some_and(|worst| worst.decision.allowed) {
            let count = tats.len();
            tats.copy_from_slice(&after[..count]);
        }
        worst
    }

    /// The outcome of `verdict`.
    pub(super) fn outcome(&self, verdict: Option<Verdict>) -> Result<Outcome<'_>, Error> {
        match verdict {
            Some(verdict) if !verdict.decision.allowed => Err(self.refusal(verdict)),
            verdict => Ok(Outcome { policies: self, verdict }),
        }
    }

    /// 429 with the time to wait, which is at least the window in `RateLimit`.
    fn refusal(&self, verdict: Verdict) -> Error {
        let detail = match self.list[verdict.policy].scope {
            Scope::Address | Scope::User => "too many requests, wait a moment",
            Scope::Route => "too many requests of all clients together, wait a moment",
        };
        let error = Error::new(Kind::TooManyRequests, detail);
        let error = error.retry_after(verdict.decision.seconds());
        self.fields(verdict).fold(error, |error, (name, value)| error.header(name, value))
    }

    fn fields(&self, verdict: Verdict) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let (name, decision) = (&self.list[verdict.policy].name, verdict.decision);
        let [mut left, mut seconds] = [itoa::Buffer::new(), itoa::Buffer::new()];
        // Runs for every response, so without `fmt`.
        let (left, seconds) = (left.format(decision.remaining), seconds.format(decision.seconds()));
        let text = ["\"", name, "\";r=", left, ";t=", seconds].concat();
        let limit = HeaderValue::try_from(text).ok().map(|value| (RATE_LIMIT, value));
        let policy = self.field.clone().map(|value| (RATE_LIMIT_POLICY, value));
        policy.into_iter().chain(limit)
    }
}

impl Policy {
    fn new(route: &str, limit: &Limit, all: &[Limit]) -> Self {
        let scope = limit.scope;
        let name = match all.iter().filter(|other| other.scope == scope).count() {
            1 => scope.name().to_owned(),
            // With the period, which differs between limits of one scope.
            _ => format!(
                "{}-{}",
                scope.name(),
                limit.to_string().split('/').next_back().unwrap_or_default()
            ),
        };
        let label = format!("{route}:{}:{limit}", scope.name());
        let mut hasher = DefaultHasher::new();
        label.hash(&mut hasher);
        Self { scope, name, quota: Quota::from_limit(limit), id: hasher.finish(), label }
    }

    /// Who a request of `user` from `client` counts for.
    pub(super) fn subject(&self, client: Option<IpAddr>, user: Option<Uuid>) -> Subject {
        match (self.scope, user) {
            (Scope::Route, _) => Subject::Everybody,
            (Scope::User, Some(user)) => Subject::User(user),
            (Scope::User, None) | (Scope::Address, _) => Subject::Client(client.map_or(0, network)),
        }
    }
}

impl Verdict {
    /// The smaller, the worse.
    fn order(&self) -> (bool, u32, Reverse<u64>) {
        let Decision { allowed, remaining, reset } = self.decision;
        (allowed, remaining, Reverse(reset))
    }
}

impl Subject {
    pub(super) fn region(self) -> Region {
        match self {
            Self::Client(_) => Region::Addresses,
            Self::User(_) => Region::Users,
            Self::Everybody => Region::Routes,
        }
    }

    pub(super) fn number(self) -> u128 {
        match self {
            Self::Client(network) => network,
            Self::User(user) => user.as_u128(),
            Self::Everybody => 0,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Client(network) => match u32::try_from(network) {
                Ok(0) => f.write_str("unknown"),
                Ok(address) => Ipv4Addr::from(address).fmt(f),
                Err(_) => Ipv6Addr::from(network).fmt(f),
            },
            Self::User(user) => user.fmt(f),
            Self::Everybody => f.write_str("all"),
        }
    }
}

impl Outcome<'_> {
    /// Adds `RateLimit-Policy` and `RateLimit` to `headers`, beside those of an upstream. Does nothing without limits.
    pub fn write(&self, headers: &mut Headers) {
        for (name, value) in
            self.verdict.into_iter().flat_map(|verdict| self.policies.fields(verdict))
        {
            headers.append(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000_000;

    fn policies(limits: &str) -> Policies {
        Policies::new("products", &Limits::try_from(limits.to_owned()).unwrap())
    }

    /// `RateLimit-Policy` and `RateLimit`, and `Retry-After` of a refusal.
    fn told(policies: &Policies, tats: &mut [u64], now: u64) -> [String; 3] {
        let mut headers = Headers::new();
        match policies.outcome(policies.judge(tats, now)) {
            Ok(outcome) => outcome.write(&mut headers),
            Err(error) => {
                assert_eq!(error.kind(), Kind::TooManyRequests);
                headers = error.render(None).headers().clone().into_iter().collect();
            }
        }
        ["ratelimit-policy", "ratelimit", "retry-after"].map(|name| {
            assert!(headers.get_all(name).count() <= 1);
            headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned()
        })
    }

    #[test]
    fn a_client_is_told_of_the_limits_and_how_close_it_is() {
        let all = policies("100/1s by address, 20/1m by user, 5000/1s by route");
        let policy = r#""address";q=100;w=1, "user";q=20;w=60, "route";q=5000;w=1"#;
        let mut tats = [0; 3];
        assert_eq!(told(&all, &mut tats, NOW), [policy, r#""user";r=19;t=57"#, ""]);
        for _ in 0..19 {
            told(&all, &mut tats, NOW);
        }
        let before = tats;
        assert_eq!(told(&all, &mut tats, NOW), [policy, r#""user";r=0;t=3"#, "3"]);
        assert_eq!(tats, before, "what one refuses counts for none");
    }

    #[test]
    fn the_longest_wait_counts() {
        let both = policies("1/1s by address, 1/1h by user");
        let mut tats = [0; 2];
        told(&both, &mut tats, NOW);
        assert_eq!(told(&both, &mut tats, NOW)[1..], [r#""user";r=0;t=3600"#, "3600"]);
    }

    #[test]
    fn limits_by_the_same_go_by_their_time() {
        let both = policies("10/1s by address, 100/1h 30m by address");
        let [policy, limit, _] = told(&both, &mut [0; 2], NOW);
        assert_eq!(policy, r#""address-1s";q=10;w=1, "address-1h30m";q=100;w=5400"#);
        assert_eq!(limit, r#""address-1s";r=9;t=1"#);
    }

    #[test]
    fn without_limits_nothing_is_said() {
        let none = policies("");
        assert!(none.is_empty());
        assert_eq!(told(&none, &mut [], NOW), [""; 3]);
    }

    #[test]
    fn what_another_says_of_its_limits_stays() {
        let limits = policies("1/1s by route");
        let mut headers = Headers::new();
        headers.insert(RATE_LIMIT, HeaderValue::from_static(r#""theirs";r=1"#));
        let outcome = limits.outcome(limits.judge(&mut [0], NOW)).unwrap();
        outcome.write(&mut headers);
        assert_eq!(headers.get_all(RATE_LIMIT).count(), 2);
    }

    #[test]
    fn whoever_is_not_signed_in_counts_by_address() {
        let limits = policies("1/1s by address, 1/1s by user, 1/1s by route");
        let (client, user) = ("2001:db8:1:2::3".parse().unwrap(), Uuid::from_u128(7));
        let subjects = |client, user| {
            limits.iter().map(|policy| policy.subject(client, user).to_string()).collect::<Vec<_>>()
        };
        let id = "00000000-0000-0000-0000-000000000007";
        assert_eq!(subjects(Some(client), Some(user)), ["2001:db8:1:2::", id, "all"]);
        assert_eq!(subjects(Some(client), None), ["2001:db8:1:2::", "2001:db8:1:2::", "all"]);
        assert_eq!(subjects("192.0.2.1".parse().ok(), None)[0], "192.0.2.1");
        assert_eq!(subjects(None, None)[0], "unknown");
        let [address, user, _] = limits.list.as_slice() else { panic!("three") };
        assert_ne!(address.id, user.id, "and yet by a limit of its own");
    }
}
