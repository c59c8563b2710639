//! Which responses are stored, and how long they are fresh (RFC 9111, sections 3 and 4.2).

use std::time::{Duration, SystemTime};

use actix_web::http::StatusCode;
use actix_web::http::header::{
    AGE, AUTHORIZATION, DATE, ETAG, EXPIRES, HeaderName, HttpDate, LAST_MODIFIED, SET_COOKIE, VARY,
};

use super::directives::Directives;
use crate::http1::lines::{digits, words};
use crate::peer::Headers;

/// The statuses of responses to GET that may be stored.
const KEPT: [u16; 11] = [200, 203, 204, 300, 301, 302, 307, 308, 404, 410, 414];

/// An age beyond every lifetime.
const ENDLESS: Duration = Duration::from_secs(1 << 32);

/// How long a response is fresh, from the time when its origin made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Freshness {
    /// The time while it is fresh.
    pub(super) lifetime: Duration,
    /// The time after that while it is served during revalidation.
    pub(super) while_revalidate: Duration,
    /// The time after that while it is served if the origin fails.
    pub(super) if_error: Duration,
    /// Whether it must not be served stale, even to clients with `max-stale`.
    pub(super) strict: bool,
}

impl Freshness {
    /// The freshness of a response with `status` and `headers` to a request with the headers `asked`; `None` if a shared
    /// cache may not store it, or it does not say how long. There is no heuristic freshness.
    pub(super) fn from_response(
        asked: &Headers,
        status: StatusCode,
        headers: &Headers,
    ) -> Option<Self> {
        let said = Directives::from_headers(headers);
        let shared = said.public || said.s_maxage.is_some() || said.must_revalidate;
        let personal =
            headers.contains_key(SET_COOKIE) || asked.contains_key(AUTHORIZATION) && !shared;
        let forbidden =
            said.no_store || said.private || personal || Directives::from_headers(asked).no_store;
        if forbidden || !KEPT.contains(&status.as_u16()) || varying(headers).is_none() {
            return None;
        }
        let freshness = Self::told(&said, headers)?;
        // A response without a lifetime and without a validator is of no use.
        let useful = [freshness.lifetime, freshness.while_revalidate, freshness.if_error];
        let useful = useful.iter().any(|time| !time.is_zero()) || has_validator(headers);
        useful.then_some(freshness)
    }

    fn told(said: &Directives, headers: &Headers) -> Option<Self> {
        let expires = || {
            // An invalid date counts as past.
            let expires = dates(headers, EXPIRES).min()?;
            let since = dates(headers, DATE).max().flatten().unwrap_or_else(SystemTime::now);
            let left = expires.and_then(|at| at.duration_since(since).ok());
            Some(left.unwrap_or_default())
        };
        let always = said.no_cache.then_some(Duration::ZERO);
        let lifetime = always.or(said.s_maxage).or(said.max_age).or_else(expires)?;
        let strict = said.no_cache || said.must_revalidate || said.proxy_revalidate;
        // s-maxage implies proxy-revalidate (section 5.2.2.10), unless a stale time is given explicitly.
        let stale = |time: Option<Duration>| time.filter(|_| !strict).unwrap_or_default();
        Some(Self {
            lifetime,
            while_revalidate: stale(said.stale_while_revalidate),
            if_error: stale(said.stale_if_error),
            strict: strict || said.s_maxage.is_some(),
        })
    }
}

/// Whether a response with `headers` can be revalidated.
pub(super) fn has_validator(headers: &Headers) -> bool {
    headers.contains_key(ETAG) || headers.contains_key(LAST_MODIFIED)
}

/// The request headers that a response with `headers` varies by; `None` for `*` or an unreadable line.
pub(super) fn varying(headers: &Headers) -> Option<Vec<HeaderName>> {
    let mut names = Vec::new();
    for line in headers.get_all(VARY) {
        for name in line.to_str().ok()?.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            names.push(Some(name).filter(|name| *name != "*")?.parse().ok()?);
        }
    }
    Some(names)
}

/// The age of a response with `headers` that arrives `delay` after the request (section 4.2.3). Of several ages the
/// greatest counts; an unreadable one counts as infinite.
pub(super) fn initial_age(headers: &Headers, delay: Duration) -> Duration {
    let ages = headers.get_all(AGE).flat_map(|line| words(line.as_bytes()));
    let said = ages.map(|age| digits(age).map_or(ENDLESS, Duration::from_secs)).max();
    let dated = dates(headers, DATE).map(|date| match date {
        Some(date) => SystemTime::now().duration_since(date).unwrap_or_default(),
        None => ENDLESS,
    });
    // Dates have whole seconds, so less than one means nothing.
    let apparent = dated.max().filter(|age| age.as_secs() > 0).unwrap_or_default();
    let said = said.unwrap_or_default().min(ENDLESS) + delay;
    said.max(apparent).min(ENDLESS)
}

/// The date in the header `name`; `None` unless there is exactly one.
pub(super) fn date(headers: &Headers, name: HeaderName) -> Option<SystemTime> {
    let mut dates = dates(headers, name);
    let date = dates.next().flatten();
    date.filter(|_| dates.next().is_none())
}

/// The dates in all lines of `name`; `None` for an invalid one.
fn dates(headers: &Headers, name: HeaderName) -> impl Iterator<Item = Option<SystemTime>> {
    let lines = headers.get_all(name).map(|line| line.to_str().ok());
    lines.map(|text| Some(text?.parse::<HttpDate>().ok()?.into()))
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn headers(lines: &[(&str, &str)]) -> Headers {
        let mut headers = Headers::new();
        for (name, value) in lines {
            headers.append(name.parse().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    /// The lifetime of a 200 with `lines`, in seconds.
    fn kept(asked: &[(&str, &str)], lines: &[(&str, &str)]) -> Option<u64> {
        let freshness = Freshness::from_response(&headers(asked), StatusCode::OK, &headers(lines));
        freshness.map(|freshness| freshness.lifetime.as_secs())
    }

    #[test]
    fn only_what_says_how_long_is_kept() {
        let control = |value| kept(&[], &[("cache-control", value)]);
        assert_eq!(control("max-age=60"), Some(60));
        assert_eq!(control("max-age=60, s-maxage=5"), Some(5));
        for no in [
            "",
            "public",
            "no-store, max-age=60",
            "NO-STORE, max-age=60",
            "private, max-age=60",
            "Private, max-age=60",
            "max-age=0",
            "no-cache",
        ] {
            assert_eq!(control(no), None, "{no}");
        }
        assert_eq!(kept(&[], &[("etag", "\"7\"")]), None);
        assert_eq!(kept(&[], &[("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")]), None);
        assert_eq!(
            kept(&[], &[("etag", "\"7\""), ("cache-control", "no-cache, max-age=9")]),
            Some(0)
        );
        assert_eq!(
            kept(&[("cache-control", "no-store")], &[("cache-control", "max-age=60")]),
            None
        );
    }

    #[test]
    fn expires_counts_from_the_date() {
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(kept(&[], &[date, ("expires", "Sun, 06 Nov 1994 08:50:37 GMT")]), Some(60));
        let both =
            [date, ("expires", "Sun, 06 Nov 1994 08:50:37 GMT"), ("cache-control", "max-age=5")];
        assert_eq!(kept(&[], &both), Some(5));
        assert_eq!(kept(&[], &[("etag", "\"7\""), ("expires", "0")]), Some(0));
        let two = |expires: [&str; 2], more: &[(&str, &str)]| {
            let lines = expires.map(|expires| ("expires", expires));
            kept(&[], &[&[("etag", "\"7\"")][..], &lines, more].concat())
        };
        let (soon, later) = ("Sun, 06 Nov 1994 08:50:37 GMT", "Sun, 06 Nov 1994 09:50:37 GMT");
        assert_eq!(two([later, soon], &[date]), Some(60));
        assert_eq!(two([later, "0"], &[date]), Some(0));
        assert_eq!(two([later, &format!("{later}, {soon}")], &[date]), Some(0));
        let dates = [date, ("date", "Sun, 06 Nov 1994 08:50:07 GMT")];
        assert_eq!(two([later, soon], &dates), Some(30));
    }

    #[test]
    fn what_is_somebodys_own_is_not_kept_for_everybody() {
        let authorized = [("authorization", "Bearer x")];
        let with = |value| kept(&authorized, &[("cache-control", value)]);
        assert_eq!(with("max-age=60"), None);
        assert_eq!(with("max-age=60, proxy-revalidate"), None);
        for said in ["public, max-age=60", "s-maxage=60", "max-age=60, must-revalidate"] {
            assert_eq!(with(said), Some(60), "{said}");
        }
        assert_eq!(
            kept(&[], &[("cache-control", "public, max-age=60"), ("set-cookie", "a=b")]),
            None
        );
        assert_eq!(kept(&[], &[("cache-control", "max-age=60"), ("vary", "accept, *")]), None);
    }

    #[test]
    fn only_some_answers_are_kept() {
        let max_age = headers(&[("cache-control", "max-age=60")]);
        let kept = |status| {
            let status = StatusCode::from_u16(status).unwrap();
            Freshness::from_response(&Headers::new(), status, &max_age).is_some()
        };
        assert!([200, 301, 404].into_iter().all(kept));
        assert!(![206, 304, 401, 412, 429, 500, 503].into_iter().any(kept));
    }

    #[test]
    fn who_says_that_it_must_be_asked_is_never_stale() {
        let told = |value: &str| {
            let headers = headers(&[("cache-control", value)]);
            let freshness =
                Freshness::from_response(&Headers::new(), StatusCode::OK, &headers).unwrap();
            let times = [freshness.while_revalidate, freshness.if_error];
            (times.map(|time| time.as_secs()), freshness.strict)
        };
        let stale = "stale-while-revalidate=5, stale-if-error=9";
        assert_eq!(told(&format!("max-age=1, {stale}")), ([5, 9], false));
        assert_eq!(told(&format!("s-maxage=1, {stale}")), ([5, 9], true));
        assert_eq!(told(&format!("max-age=1, must-revalidate, {stale}")), ([0, 0], true));
        assert_eq!(told(&format!("max-age=1, proxy-revalidate, {stale}")), ([0, 0], true));
    }

    #[test]
    fn an_answer_may_arrive_old() {
        let ago =
            |seconds| HttpDate::from(SystemTime::now() - Duration::from_secs(seconds)).to_string();
        let age =
            |lines: &[(&str, &str)]| initial_age(&headers(lines), Duration::from_secs(1)).as_secs();
        assert_eq!(age(&[]), 1);
        assert_eq!(age(&[("age", "20")]), 21);
        assert!((30..35).contains(&age(&[("age", "20"), ("date", &ago(30))])));
        // Older rather than fresher, where it is not said in one way.
        assert_eq!(age(&[("age", "20"), ("age", "30")]), 31);
        assert_eq!(age(&[("age", "30, 20")]), 31);
        assert!((60..65).contains(&age(&[("date", &ago(9)), ("date", &ago(60))])));
        for junk in ["nonsense", "-1", "1.5", "+5", "", "20, x", "99999999999999999999999"] {
            assert_eq!(age(&[("age", junk), ("date", &ago(0))]), ENDLESS.as_secs(), "{junk}");
        }
        let two = format!("{}, {}", ago(0), ago(0));
        for junk in ["yesterday", "", &two] {
            assert_eq!(age(&[("date", junk)]), ENDLESS.as_secs(), "{junk}");
        }
    }
}
