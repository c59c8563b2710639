//! The cookie in which a browser keeps the refresh token of its session, out of reach of scripts.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::time::Duration;

use actix_web::cookie::{Cookie, SameSite, time};
use actix_web::dev::Payload;
use actix_web::http::header::{COOKIE, HeaderMap, HeaderValue};
use actix_web::{FromRequest, HttpRequest};

use super::issuer::RefreshToken;
use crate::error::Error;
use crate::middleware::Input;

/// Browsers take a cookie with this prefix with `Secure` alone. `__Host-` would send it with every request.
const NAME: &str = "__Secure-session";
/// Only these routes get it.
const PATH: &str = "/auth/session";

/// The refresh token in the cookie of a request. `None` without one, with one that is malformed, and with several, because
/// nothing tells which of them the user role has set.
#[derive(Default)]
pub(super) struct SessionCookie(pub(super) Option<RefreshToken>);

impl SessionCookie {
    /// Reads `headers`. Other cookies may be anything.
    fn read(headers: &HeaderMap) -> Self {
        let cookies =
            headers.get_all(COOKIE).flat_map(|line| line.as_bytes().split(|b| *b == b';'));
        let cookies = cookies.filter_map(|cookie| str::from_utf8(cookie).ok());
        let cookies = cookies.filter_map(|cookie| Cookie::parse(cookie).ok());
        let mut ours = cookies.filter(|cookie| cookie.name() == NAME);
        match (ours.next(), ours.next()) {
            (Some(cookie), None) => Self(RefreshToken::parse(cookie.value())),
            _ => Self(None),
        }
    }
}

impl FromRequest for SessionCookie {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(Self::read(request.headers())))
    }
}

impl Input for SessionCookie {}

/// `Set-Cookie` with `token`, which is valid for `ttl`.
///
/// # Errors
/// None in practice: tokens are letters and digits.
pub(super) fn set(token: &RefreshToken, ttl: Duration) -> Result<HeaderValue, Error> {
    let seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
    header(token.text(), time::Duration::seconds(seconds))
}

/// `Set-Cookie` that removes the cookie.
///
/// # Errors
/// None in practice.
pub(super) fn removed() -> Result<HeaderValue, Error> {
    header(String::new(), time::Duration::ZERO)
}

fn header(value: String, max_age: time::Duration) -> Result<HeaderValue, Error> {
    let cookie = Cookie::build(NAME, value).path(PATH).max_age(max_age);
    let cookie = cookie.http_only(true).secure(true).same_site(SameSite::Strict).finish();
    HeaderValue::try_from(cookie.to_string()).map_err(Error::internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&[u8]]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(COOKIE, HeaderValue::from_bytes(line).unwrap());
        }
        SessionCookie::read(&headers).0.map(|token| token.text())
    }

    #[test]
    fn a_token_is_found_among_other_cookies() {
        for lines in [
            &[&b"__Secure-session=a.b"[..]][..],
            &[b"x=1; __Secure-session=a.b; y"],
            &[b"=;;; %%;x=\t", b"__Secure-session=a.b"],
            &["name=Zo\u{eb}; ".as_bytes(), b" __Secure-session = a.b "],
            &[b"\xff=\xff; __Secure-session=a.b;"],
        ] {
            assert_eq!(read(lines).as_deref(), Some("a.b"), "{lines:?}");
        }
    }

    #[test]
    fn what_is_no_token_or_more_than_one_is_none() {
        for lines in [
            &[][..],
            &[&b""[..]],
            &[b"__secure-session=a.b"],
            &[b"__Secure-session"],
            &[b"__Secure-session="],
            &[b"__Secure-session=ab"],
            &[b"__Secure-session=a.b; __Secure-session=a.b"],
            &[b"__Secure-session=a.b", b"__Secure-session=c"],
            &[b"__Secure-session=a.\xff"],
        ] {
            assert_eq!(read(lines), None, "{lines:?}");
        }
    }

    #[test]
    fn no_script_and_no_other_site_gets_the_cookie() {
        let token = RefreshToken::parse("a-_.b").unwrap();
        let rest = "HttpOnly; SameSite=Strict; Secure; Path=/auth/session; Max-Age=";
        let cookie = set(&token, Duration::from_secs(90)).unwrap();
        assert_eq!(cookie, format!("__Secure-session=a-_.b; {rest}90"));
        assert_eq!(removed().unwrap(), format!("__Secure-session=; {rest}0"));
    }
}
