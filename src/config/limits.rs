//! Rate limits, such as `100/1s by address, 20/1m by user`.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use super::layers::{ValueError, value_error};
use super::redact::quote;
use super::values::parts;

/// Examples for errors.
const WANTED: &str = "such as 100/1s by address, 20/1m by user or 5000/1s by route";
/// The longest period.
const LONGEST: Duration = Duration::from_hours(31 * 24);
/// The highest rate per second: beyond it, microseconds are too coarse.
const FASTEST: u64 = 100_000;

/// How requests are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// By the client's address; for IPv6, by its /64 network.
    Address,
    /// By the signed-in user; other clients by address.
    User,
    /// All requests of the route together.
    Route,
}

impl Scope {
    /// Its name in a setting.
    pub fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::User => "user",
            Self::Route => "route",
        }
    }
}

/// Allows `number` requests at once, and then evenly as many in each period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The number of requests; at least 1.
    pub number: u32,
    /// The period, in whole seconds.
    pub period: Duration,
    /// How requests are counted.
    pub scope: Scope,
}

/// The limit as in the setting, without its scope: `100/1s`.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let period = humantime::format_duration(self.period).to_string().replace(' ', "");
        write!(f, "{}/{period}", self.number)
    }
}

/// The limits of one route, all of which hold; may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Limits(Vec<Limit>);

impl Limits {
    /// The most limits of a route, which bounds the cost of a request.
    pub const MOST: usize = 6;

    /// The limits, in the order of the setting.
    pub fn as_slice(&self) -> &[Limit] {
        &self.0
    }
}

impl From<Limit> for Limits {
    fn from(limit: Limit) -> Self {
        Self(vec![limit])
    }
}

impl TryFrom<String> for Limits {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        let mut limits = Vec::<Limit>::new();
        for part in parts(&text) {
            let limit = parse(part).map_err(|problem| value_error!("{} {problem}", quote(part)))?;
            let same = |other: &&Limit| (other.scope, other.period) == (limit.scope, limit.period);
            if let Some(other) = limits.iter().find(same) {
                let (first, by) = (other, limit.scope.name());
                return Err(value_error!(
                    "{} comes beside {first} by {by}; only one can hold",
                    quote(part)
                ));
            }
            limits.push(limit);
        }
        if limits.len() > Self::MOST {
            return Err(value_error!(
                "{} limits are too many; at most {}",
                limits.len(),
                Self::MOST
            ));
        }
        Ok(Self(limits))
    }
}

/// Parses one limit; errors continue a sentence that begins with it.
fn parse(text: &str) -> Result<Limit, ValueError> {
    let unreadable = || value_error!("is not a limit, {WANTED}");
    let (rate, scope) = text.rsplit_once(" by ").ok_or_else(unreadable)?;
    let (number, period) = rate.split_once('/').ok_or_else(unreadable)?;
    let scopes = [Scope::Address, Scope::User, Scope::Route];
    let scope = scopes.into_iter().find(|known| known.name() == scope.trim());
    let scope = scope.ok_or("must be by address, by user or by route")?;
    let number = number.trim().parse().ok().filter(|number| *number > 0);
    let number: u32 = number.ok_or("must begin with a whole number of requests from 1")?;
    let period = humantime::parse_duration(period.trim()).ok();
    let whole = |period: &Duration| period.subsec_nanos() == 0 && !period.is_zero();
    let period = period.filter(whole).filter(|period| *period <= LONGEST);
    let period =
        period.ok_or("must be over whole seconds, at most 31 days, as in 100/1s or 20/1m")?;
    if u64::from(number) > period.as_secs() * FASTEST {
        return Err(value_error!("is more than {FASTEST} a second"));
    }
    Ok(Limit { number, period, scope })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(text: &str) -> Result<Limits, ValueError> {
        Limits::try_from(text.to_owned())
    }

    #[test]
    fn limits_are_a_list_in_words() {
        let found = limits("100/1s by address, 20 / 1m 30s by user,5000/1s by route").unwrap();
        let limit = |number, seconds, scope| {
            let period = Duration::from_secs(seconds);
            Limit { number, period, scope }
        };
        let all = [
            limit(100, 1, Scope::Address),
            limit(20, 90, Scope::User),
            limit(5000, 1, Scope::Route),
        ];
        assert_eq!(found.as_slice(), all);
        assert_eq!(all[1].to_string(), "20/1m30s");
        assert_eq!(limits(""), Ok(Limits::default()));
    }

    #[test]
    fn what_is_no_limit_is_told_why() {
        for (text, problem) in [
            ("100", "\"100\" is not a limit, such as 100/1s by address"),
            ("100 by address", "is not a limit"),
            ("100/1s", "is not a limit"),
            (
                "1/1s by user, 100/1s by planet",
                "\"100/1s by planet\" must be by address, by user or",
            ),
            ("0/1s by user", "must begin with a whole number"),
            ("-1/1s by user", "must begin with a whole number"),
            ("many/1s by user", "must begin with a whole number"),
            ("5000000000/1s by user", "must begin with a whole number"),
            ("1/500ms by user", "must be over whole seconds"),
            ("1/0s by user", "must be over whole seconds"),
            ("1/1y by user", "must be over whole seconds, at most 31 days"),
            ("1/s by user", "must be over whole seconds"),
            ("100001/1s by route", "is more than 100000 a second"),
            (
                "1/1s by user, 2/1s by user",
                "\"2/1s by user\" comes beside 1/1s by user; only one can",
            ),
        ] {
            let error = limits(text).unwrap_err().to_string();
            assert!(error.contains(problem), "{text}: {error}");
        }
        let many = (1..=7).map(|n| format!("1/{n}s by user")).collect::<Vec<_>>().join(",");
        assert_eq!(limits(&many), Err("7 limits are too many; at most 6".into()));
    }
}
