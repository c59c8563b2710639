//! Which hosts a listener serves.

use std::net::{Ipv4Addr, Ipv6Addr};

use actix_web::http::header::{HOST, HeaderMap, HeaderValue};

use crate::error::{Error, Kind};
use crate::peer::forwarded;

/// The hosts that requests may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hosts {
    /// Any.
    Any,
    /// `localhost`, 127.0.0.0/8 and `[::1]`, with any port, for this reason.
    Loopback(Reason),
}

/// Why a listener serves this machine alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Anybody may do anything there.
    Open,
    /// It is the management port, and listens on loopback.
    Management,
}

impl Reason {
    /// What the client can do about it.
    fn detail(self) -> &'static str {
        match self {
            Self::Open => {
                "auth.mode is open for this machine only: use localhost, 127.0.0.1 or [::1], or set auth.mode=enforced, \
                 or auth.open_beyond_loopback=true if anyone may do everything"
            }
            Self::Management => {
                "the management port listens on this machine only: use localhost, 127.0.0.1 or [::1]"
            }
        }
    }
}

impl Hosts {
    /// Checks the Host header, and the hosts that a proxy says it was asked for, if that `is_believed`. A request that
    /// names none does not come from a browser.
    ///
    /// # Errors
    /// 403, which says what would be allowed.
    pub(super) fn check(self, headers: &HeaderMap, is_believed: bool) -> Result<(), Error> {
        let Self::Loopback(reason) = self else { return Ok(()) };
        let hosts = headers.get_all(HOST).map(HeaderValue::as_bytes);
        let told = is_believed.then(|| forwarded::hosts(headers)).into_iter().flatten();
        match hosts.chain(told).all(is_loopback) {
            true => Ok(()),
            false => Err(Error::new(Kind::Forbidden, reason.detail())),
        }
    }
}

/// Whether `host`, with or without a port, is this machine, without asking DNS.
fn is_loopback(host: &[u8]) -> bool {
    // The usual names first, which need no parser.
    let usual =
        [&b"127.0.0.1"[..], b"localhost"].into_iter().find_map(|name| host.strip_prefix(name));
    if usual.is_some_and(is_port) {
        return true;
    }
    let Ok(host) = str::from_utf8(host) else { return false };
    if let Some(rest) = host.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        return is_port(port.as_bytes()) && address.parse() == Ok(Ipv6Addr::LOCALHOST);
    }
    let end = host.find(':').unwrap_or(host.len());
    let (name, port) = host.split_at(end);
    let is_address = || name.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback());
    is_port(port.as_bytes()) && (name.eq_ignore_ascii_case("localhost") || is_address())
}

/// Empty, or a colon with digits (RFC 9110, section 7.2).
fn is_port(text: &[u8]) -> bool {
    text.is_empty()
        || text.strip_prefix(b":").is_some_and(|port| port.iter().all(u8::is_ascii_digit))
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderName;

    use super::*;

    #[test]
    fn this_machine_has_few_names() {
        for host in [
            "localhost",
            "LOCALHOST:8000",
            "localhost:",
            "127.0.0.1",
            "127.0.0.1:8000",
            "127.255.0.9:1",
            "[::1]",
            "[::1]:8000",
            "[0:0:0:0:0:0:0:1]:8000",
        ] {
            assert!(is_loopback(host.as_bytes()), "{host}");
        }
        for host in [
            "",
            "shop",
            "shop:8000",
            "evil.example:8000",
            "localhost.evil.example",
            "evil.localhost.example",
            "127.0.0.1.evil.example",
            "127.0.0.1.nip.io:8000",
            "127.1",
            "2130706433",
            "0x7f.0.0.1",
            "0.0.0.0:8000",
            "10.0.0.1",
            "128.0.0.1",
            "[::]",
            "[::1",
            "[::1]x",
            "[::2]:8000",
            "::1",
            "[::ffff:10.0.0.1]",
            "localhost:8000.evil.example",
            "localhost:80:80",
            ":8000",
        ] {
            assert!(!is_loopback(host.as_bytes()), "{host}");
        }
        assert!(!is_loopback(b"\xff"));
    }

    #[test]
    fn a_proxy_that_is_believed_is_asked_for_the_same_names() {
        let checked = |name: &'static str, value: &'static str, is_believed| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static("127.0.0.1:8000"));
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            Hosts::Loopback(Reason::Open).check(&headers, is_believed).map_err(|error| error.kind())
        };
        for (name, value) in [
            ("x-forwarded-host", "evil.example"),
            ("x-forwarded-host", "localhost, evil.example:8000"),
            ("forwarded", "for=192.0.2.7;host=evil.example"),
            ("forwarded", "host=localhost, for=192.0.2.7;Host=\"evil.example:8000\""),
        ] {
            assert_eq!(checked(name, value, true), Err(Kind::Forbidden), "{name}: {value}");
            assert_eq!(checked(name, value, false), Ok(()), "{name}: {value}");
        }
        for (name, value) in [
            ("x-forwarded-host", "localhost:8000, 127.0.0.1"),
            ("forwarded", "for=192.0.2.7;host=\"[::1]:8000\", by=evil.example"),
            ("x-forwarded-for", "evil.example"),
        ] {
            assert_eq!(checked(name, value, true), Ok(()), "{name}: {value}");
        }
    }
}
