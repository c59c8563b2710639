//! Checks of request heads beyond those of the parser.
//!
//! The parser refuses ambiguous framing. These checks refuse what another parser behind this one might read differently:
//! several hosts, a target that is not a path, a tunnel.

use actix_web::dev::RequestHead;
use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{Method, Version};
use std::net::Ipv6Addr;

use crate::error::{Error, Kind};
use crate::http1::lines::is_same_host;

/// The longest path and query, in bytes (RFC 9110, section 4.1, requires at least 8,000).
const TARGET: usize = 8192;
/// The most header lines of a client. With those that the gateway adds, they must fit into a role's limit.
const LINES: usize = 80;
/// What the gateway adds to a head for a role, in bytes and in lines.
const ADDED: (usize, usize) = (4096, 16);

/// The limits of request heads.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimit {
    bytes: usize,
    lines: usize,
}

impl HeadLimit {
    /// The limits for clients: names and values of `bytes` in total.
    pub fn of_clients(bytes: usize) -> Self {
        Self { bytes, lines: LINES }
    }

    /// The limits for requests through a gateway that has these limits for its clients.
    pub fn behind(self) -> Self {
        Self { bytes: self.bytes + ADDED.0, lines: self.lines + ADDED.1 }
    }
}

/// Checks `request`, and removes headers that no client sends on purpose.
///
/// # Errors
/// 400, 414 or 431. The connection must be closed afterwards.
pub(super) fn check(head: &mut RequestHead, limit: HeadLimit) -> Result<(), Error> {
    let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if target > TARGET {
        return Err(Error::new(
            Kind::TargetTooLong,
            format!("the path is longer than {TARGET} bytes"),
        ));
    }
    let (mut lines, mut bytes, mut odd) = (0, 0, false);
    for (name, value) in &head.headers {
        lines += 1;
        bytes += name.as_str().len() + value.len();
        odd |= name.as_str().contains('_');
    }
    if lines > limit.lines || bytes > limit.bytes {
        let detail = format!("more than {} header lines or {} bytes", limit.lines, limit.bytes);
        return Err(Error::new(Kind::HeadTooLarge, detail));
    }
    if odd {
        // CGI and its successors do not distinguish x_user from x-user.
        head.headers.retain(|name, _| !name.as_str().contains('_'));
    }
    check_target(head)?;
    check_host(head)?;
    if let Some(authority) =
        head.uri.authority().filter(|_| !head.headers.contains_key(header::HOST))
    {
        // RFC 9112, section 3.2.2: the host of the target replaces the header.
        let host = HeaderValue::from_str(authority.as_str());
        head.headers.insert(header::HOST, host.map_err(Error::internal)?);
    }
    Ok(())
}

fn refuse(detail: &'static str) -> Result<(), Error> {
    Err(Error::new(Kind::Malformed, detail))
}

/// Whether the target is `*`, the server as a whole, which is valid only for OPTIONS (RFC 9110, section 9.3.7).
pub(super) fn asks_of_all(head: &RequestHead) -> bool {
    head.method == Method::OPTIONS && head.uri.path() == "*"
}

/// A path, an absolute URL, or `*` for OPTIONS (RFC 9112, section 3.2). The fourth form is for tunnels.
fn check_target(head: &RequestHead) -> Result<(), Error> {
    match head.uri.path().starts_with('/') {
        _ if head.method == Method::CONNECT => refuse("CONNECT is not supported"),
        true => Ok(()),
        false if asks_of_all(head) => Ok(()),
        false => refuse("the target must be a path"),
    }
}

/// One host, and the same one in an absolute URL (RFC 9112, sections 3.2 and 3.2.2).
fn check_host(head: &RequestHead) -> Result<(), Error> {
    let mut hosts = head.headers.get_all(header::HOST).map(|host| host.as_bytes());
    let host = hosts.next();
    if hosts.next().is_some() {
        return refuse("more than one Host header");
    }
    let target = head.uri.authority().map(|authority| authority.as_str());
    if target.is_some_and(|target| target.contains('@')) {
        return refuse("the target must not name a user");
    }
    match (host, target) {
        (Some(host), _) if !is_host(host) => refuse("invalid Host header"),
        (Some(host), Some(target))
            if !is_same_host(head.uri.scheme_str(), host, target.as_bytes()) =>
        {
            refuse("the target and the Host header differ")
        }
        // Even with an absolute URL (RFC 9112, section 3.2).
        (None, _) if head.version > Version::HTTP_10 => refuse("missing Host header"),
        _ => Ok(()),
    }
}

/// `uri-host [ ":" port ]` (RFC 9110, section 7.2, and RFC 3986, section 3.2.2).
fn is_host(host: &[u8]) -> bool {
    let Ok(host) = str::from_utf8(host) else { return false };
    let (is_name, rest) = match host.strip_prefix('[').map(|literal| literal.split_once(']')) {
        Some(Some((literal, rest))) => (is_ip_literal(literal), rest),
        Some(None) => return false,
        None => {
            let (name, rest) = host.split_at(host.find(':').unwrap_or(host.len()));
            (is_name(name.as_bytes()), rest)
        }
    };
    let digits = rest.strip_prefix(':').unwrap_or(rest);
    let is_port = digits.bytes().all(|byte| byte.is_ascii_digit())
        && (digits.is_empty() || digits.parse::<u16>().is_ok());
    is_name && is_port && (rest.is_empty() || rest.starts_with(':'))
}

/// The text between brackets.
fn is_ip_literal(literal: &str) -> bool {
    let is_future = |text: &str| {
        let parts = text.split_once('.');
        parts.is_some_and(|(version, address)| {
            let of_version = |byte: u8| byte.is_ascii_hexdigit();
            let of_address = |byte: u8| byte == b':' || is_plain(byte);
            !version.is_empty()
                && version.bytes().all(of_version)
                && !address.is_empty()
                && address.bytes().all(of_address)
        })
    };
    literal.parse::<Ipv6Addr>().is_ok() || literal.strip_prefix(['v', 'V']).is_some_and(is_future)
}

/// A registered name, or an address of IPv4.
fn is_name(name: &[u8]) -> bool {
    let mut rest = name;
    while let Some((first, behind)) = rest.split_first() {
        rest = match (first, behind) {
            (b'%', [a, b, behind @ ..]) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => behind,
            (byte, _) if is_plain(*byte) => behind,
            _ => return false,
        };
    }
    !name.is_empty()
}

/// Unreserved, or a sub-delimiter except the comma, which ends a value in HTTP lists.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderName;

    use super::*;

    fn head(target: &str, headers: &[(&str, &str)]) -> RequestHead {
        let mut head = RequestHead::default();
        head.uri = target.parse().unwrap();
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            head.headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        head
    }

    fn kind(target: &str, headers: &[(&str, &str)]) -> Option<Kind> {
        let limit = HeadLimit::of_clients(1000);
        check(&mut head(target, headers), limit).err().map(|error| error.kind())
    }

    #[test]
    fn a_head_is_bounded() {
        let long = format!("/{}", "x".repeat(TARGET));
        assert_eq!(kind(&long, &[("host", "shop")]), Some(Kind::TargetTooLong));
        assert_eq!(kind(&long[1..], &[("host", "shop")]), Some(Kind::Malformed));
        let large = "x".repeat(1000);
        assert_eq!(kind("/", &[("host", "s"), ("x", &large)]), Some(Kind::HeadTooLarge));
        assert_eq!(kind("/", &[("host", "s"), ("x", &large[20..])]), None);
        let mut many = vec![("x", "1"); LINES - 1];
        many.push(("host", "shop"));
        assert_eq!(kind("/", &many), None);
        many.push(("x", "1"));
        assert_eq!(kind("/", &many), Some(Kind::HeadTooLarge));
        let behind = HeadLimit::of_clients(1000).behind();
        assert!(check(&mut head("/", &many), behind).is_ok());
    }

    #[test]
    fn all_can_be_asked_for_options_alone() {
        let mut head = head("*", &[("host", "shop")]);
        assert!(check(&mut head, HeadLimit::of_clients(1000)).is_err());
        head.method = Method::OPTIONS;
        assert!(check(&mut head, HeadLimit::of_clients(1000)).is_ok());
    }

    #[test]
    fn there_is_one_host() {
        for good in [
            "shop",
            "shop:8000",
            "shop:",
            "[::1]:8000",
            "[::1]",
            "[v1.a:b]",
            "127.0.0.1",
            "a-b.example",
            "a_b",
            "%41",
        ] {
            assert_eq!(kind("/", &[("host", good)]), None, "{good}");
        }
        for bad in [
            "",
            "a, b",
            "a b",
            "a/b",
            "user@shop",
            "shop?x",
            "shop#x",
            "shop:80a",
            "shop:-1",
            "shop:65536",
            "a:b",
            "a:1:2",
            ":80",
            "::1",
            "[::1",
            "[::1]x",
            "[shop]",
            "[]",
            "[::1%25eth0]",
            "[v.a]",
            "a%4",
            "a%zz",
            "a[b]",
        ] {
            assert_eq!(kind("/", &[("host", bad)]), Some(Kind::Malformed), "{bad}");
        }
        assert_eq!(kind("/", &[]), Some(Kind::Malformed));
        assert_eq!(kind("/", &[("host", "shop"), ("host", "shop")]), Some(Kind::Malformed));
        assert_eq!(kind("http://shop/", &[]), Some(Kind::Malformed));
        assert_eq!(kind("http://SHOP/", &[("host", "shop")]), None);
        for (target, host) in [
            ("http://shop:80/", "shop"),
            ("http://shop/", "Shop:80"),
            ("http://shop:/", "shop:80"),
            ("https://[::1]:443/", "[::1]"),
        ] {
            assert_eq!(kind(target, &[("host", host)]), None, "{target} {host}");
        }
        for (target, host) in [
            ("http://shop:443/", "shop"),
            ("https://shop/", "shop:80"),
            ("http://shop:8080/", "shop"),
        ] {
            assert_eq!(kind(target, &[("host", host)]), Some(Kind::Malformed), "{target} {host}");
        }
        assert_eq!(kind("http://other/", &[("host", "shop")]), Some(Kind::Malformed));
        assert_eq!(kind("http://me@shop/", &[("host", "shop")]), Some(Kind::Malformed));
    }

    #[test]
    fn the_host_of_a_whole_url_is_where_all_look_for_it() {
        let mut head = head("http://shop.example/page", &[]);
        head.version = Version::HTTP_10;
        assert!(check(&mut head, HeadLimit::of_clients(1000)).is_ok());
        assert_eq!(head.headers.get("host").unwrap(), "shop.example");
    }

    #[test]
    fn names_with_an_underscore_go() {
        let mut head = head("/", &[("host", "shop"), ("x_user_id", "1"), ("x-a", "2")]);
        assert!(check(&mut head, HeadLimit::of_clients(1000)).is_ok());
        assert_eq!(head.headers.len(), 2);
        assert!(!head.headers.contains_key("x_user_id"));
    }
}
