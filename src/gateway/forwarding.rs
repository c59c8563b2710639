//! Headers that describe the client to upstreams.
//!
//! `Forwarded` is in RFC 7239, `Via` in RFC 9110, section 7.6.3; most services read the `X-Forwarded-…` headers. The gateway
//! appends to the headers of a trusted proxy, and replaces those of others.

use std::net::IpAddr;

use actix_web::dev::RequestHead;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::http::{Method, Version};

use crate::http1::lines::{digits, says, words};
use crate::peer::forwarded::{self, FORWARDED_HOST};
use crate::peer::{FORWARDED_FOR, FORWARDED_PROTO, Headers};

/// The hop from the client, or the proxy in front, to the gateway.
#[derive(Debug)]
pub(super) struct Hop {
    /// The client's address, by trusted proxies.
    pub(super) client: Option<IpAddr>,
    /// The address of the connection's other end.
    pub(super) peer: Option<IpAddr>,
    /// Whether that is a trusted proxy.
    pub(super) trusted: bool,
    /// The scheme of the connection.
    pub(super) scheme: &'static str,
    /// The version of HTTP on the connection.
    pub(super) version: Version,
}

/// Whether a client, or a `trusted` proxy, may send the header `name`.
pub(super) fn may_pass(name: &HeaderName, trusted: bool) -> bool {
    !is_identity(name) && (trusted || !is_way(name))
}

/// Whether proxies describe the original request by `name`: the client's address, host, scheme, path or method.
fn is_way(name: &HeaderName) -> bool {
    /// Prefixes of headers of content delivery networks and load balancers.
    const FAMILIES: [&str; 5] = ["forwarded", "cf-", "cloudfront-", "fastly-", "akamai-"];
    /// The same, after `x-`.
    const EXPERIMENTAL: [&str; 15] = [
        "forward",
        "original-",
        "originating-",
        "rewrite-",
        "override-",
        "http-method",
        "http-host",
        "real-",
        "proxy",
        "envoy-",
        "azure-",
        "appengine-",
        "vercel-",
        "akamai-",
        "arr-",
    ];
    let name = name.as_str();
    // Headers with these endings have an address: True-Client-IP, CF-Connecting-IP, X-Cluster-Client-IP, Client-IP, …
    if name.ends_with("-ip") || name.ends_with("clientip") {
        return true;
    }
    match name.strip_prefix("x-") {
        Some(name) => {
            matches!(
                name,
                "method"
                    | "method-override"
                    | "host"
                    | "host-override"
                    | "scheme"
                    | "url-scheme"
                    | "proto"
                    | "http-destinationurl"
                    | "custom-ip-authorization"
            ) || EXPERIMENTAL.iter().any(|family| name.starts_with(family))
        }
        None => {
            matches!(name, "front-end-https" | "base-url" | "proxy")
                || FAMILIES.iter().any(|family| name.starts_with(family))
        }
    }
}

/// Whether proxies tell services the user by `name`, which clients must not send. Roles ignore it.
fn is_identity(name: &HeaderName) -> bool {
    /// Prefixes of headers of single sign-on proxies and API gateways.
    const FAMILIES: [&str; 4] = ["impersonate-", "remote-", "ssl-client-", "tailscale-user-"];
    /// The same, after `x-`.
    const EXPERIMENTAL: [&str; 16] = [
        "user-",
        "auth-request-",
        "auth-user",
        "authenticated-",
        "authentik-",
        "webauth-",
        "remote-",
        "goog-authenticated-",
        "goog-iap-",
        "ms-client-principal",
        "amzn-oidc-",
        "consumer-",
        "credential-",
        "hasura-",
        "client-cert",
        "ssl-client-",
    ];
    let name = name.as_str();
    // Most names have no such prefix.
    let Some(name) = name.strip_prefix("x-") else {
        return FAMILIES.iter().any(|family| name.starts_with(family));
    };
    matches!(
        name,
        "user"
            | "username"
            | "role"
            | "roles"
            | "groups"
            | "email"
            | "forwarded-user"
            | "forwarded-email"
            | "forwarded-groups"
            | "forwarded-preferred-username"
            | "forwarded-access-token"
            | "forwarded-client-cert"
    ) || EXPERIMENTAL.iter().any(|family| name.starts_with(family))
}

/// Adds the client's address and this hop to `headers`, all of which [`may_pass`].
pub(super) fn trace(headers: &mut Headers, hop: &Hop) {
    let peer = hop.peer.map(text);
    let host = headers.get(header::HOST).cloned();
    let mut chain = element(hop, peer.as_deref(), host.as_ref());
    let addresses = match hop.trusted && hop.client != hop.peer {
        true => Some(addresses(headers, hop)),
        false => peer,
    };
    if hop.trusted && headers.contains_key(header::FORWARDED) {
        chain = format!("{}, {chain}", forwarded::plain(joined(headers, header::FORWARDED)));
    }
    set(headers, header::FORWARDED, Some(chain));
    set(headers, FORWARDED_FOR, addresses.filter(|addresses| !addresses.is_empty()));
    if !headers.contains_key(FORWARDED_PROTO) {
        headers.append(FORWARDED_PROTO, HeaderValue::from_static(hop.scheme));
    }
    if !headers.contains_key(FORWARDED_HOST) {
        host.into_iter().for_each(|host| headers.append(FORWARDED_HOST, host));
    }
    let via = match hop.version {
        Version::HTTP_10 => "1.0 shop",
        Version::HTTP_2 => "2.0 shop",
        _ => "1.1 shop",
    };
    headers.append(header::VIA, HeaderValue::from_static(via));
}

/// The protocol to which the client of `head` wants to upgrade (RFC 9110, section 7.8), if its version of HTTP allows that.
/// Other versions of HTTP are not accepted: the gateway would not see the requests that follow.
pub(super) fn upgrade(head: &RequestHead) -> Option<HeaderValue> {
    head.headers.get(header::UPGRADE)?;
    let connection = head.headers.get_all(header::CONNECTION).map(HeaderValue::as_bytes);
    if head.version != Version::HTTP_11 || !says(connection, "upgrade") {
        return None;
    }
    let lines = head.headers.get_all(header::UPGRADE);
    let protocols = lines.flat_map(|line| words(line.as_bytes()));
    let protocols = protocols.filter(|name| !name.is_empty() && !is_http(name));
    let protocols = protocols.collect::<Vec<_>>().join(&b", "[..]);
    HeaderValue::from_bytes(&protocols).ok().filter(|protocols| !protocols.is_empty())
}

/// Whether the upgrade token `name` is a version of HTTP, or TLS below it (RFC 2817). RFC 9113, section 3.1, deprecates
/// `h2c`.
fn is_http(name: &[u8]) -> bool {
    let name = name.to_ascii_lowercase();
    [&b"h2c"[..], b"h2", b"http", b"tls"]
        .contains(&name.split(|byte| *byte == b'/').next().unwrap_or_default())
}

/// Whether `Max-Forwards` is 0, so that the request must not be passed on (RFC 9110, section 7.6.2).
pub(super) fn ends_here(head: &RequestHead) -> bool {
    is_counted(&head.method) && forwards(head.headers.get(header::MAX_FORWARDS)) == Some(0)
}

/// Decrements `Max-Forwards` in `headers`, if it applies to `method`.
pub(super) fn count_down(method: &Method, headers: &mut Headers) {
    if is_counted(method)
        && let Some(left) = forwards(headers.get(header::MAX_FORWARDS))
    {
        headers.insert(header::MAX_FORWARDS, HeaderValue::from(left.saturating_sub(1)));
    }
}

fn is_counted(method: &Method) -> bool {
    matches!(*method, Method::OPTIONS | Method::TRACE)
}

fn forwards(value: Option<&HeaderValue>) -> Option<u64> {
    digits(value?.as_bytes())
}

/// The addresses of the client and of the proxies behind it, in canonical form, without untrusted ones in front.
fn addresses(headers: &Headers, hop: &Hop) -> String {
    let said = (headers.get_all(FORWARDED_FOR), headers.get_all(header::FORWARDED));
    let nodes = forwarded::nodes(said.0, said.1);
    let mut believed = hop.peer.into_iter().collect::<Vec<_>>();
    for address in nodes.iter().rev().filter_map(|node| forwarded::address(node)) {
        believed.push(address);
        if Some(address) == hop.client {
            break;
        }
    }
    let believed = believed.into_iter().rev().map(text);
    believed.collect::<Vec<_>>().join(", ")
}

/// All lines of the header `name` as one list.
fn joined(headers: &Headers, name: HeaderName) -> String {
    let lines = headers.get_all(name).filter_map(|line| line.to_str().ok());
    lines.collect::<Vec<_>>().join(", ")
}

/// This hop, from `peer`, in `Forwarded`.
fn element(hop: &Hop, peer: Option<&str>, host: Option<&HeaderValue>) -> String {
    let (before, after) = match hop.peer {
        Some(IpAddr::V6(_)) => ("\"[", "]\""),
        _ => ("", ""),
    };
    let node = peer.unwrap_or("unknown");
    // A host that would need escaping is left out.
    let host = host.and_then(|host| host.to_str().ok());
    let host = host.filter(|host| !host.contains(['"', '\\']));
    let [name, host, end] = host.map_or([""; 3], |host| [";host=\"", host, "\""]);
    ["for=", before, node, after, ";proto=", hop.scheme, name, host, end].concat()
}

/// As `to_string`, but faster for IPv4, without `fmt`.
fn text(address: IpAddr) -> String {
    let IpAddr::V4(address) = address else { return address.to_string() };
    let (mut text, mut length) = ([0; "255.255.255.255".len()], 0);
    let mut push = |byte| {
        text[length] = byte;
        length += 1;
    };
    for (index, octet) in address.octets().into_iter().enumerate() {
        if index > 0 {
            push(b'.');
        }
        if octet > 99 {
            push(b'0' + octet / 100);
        }
        if octet > 9 {
            push(b'0' + octet / 10 % 10);
        }
        push(b'0' + octet % 10);
    }
    // With the exact capacity: spare capacity would cost a copy in the header's value.
    str::from_utf8(&text[..length]).unwrap_or_default().to_owned()
}

fn set(headers: &mut Headers, name: HeaderName, text: Option<String>) {
    match text.and_then(|text| HeaderValue::try_from(text).ok()) {
        Some(value) => headers.insert(name, value),
        None => headers.remove(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(peer: &str, trusted: bool) -> Hop {
        let peer = peer.parse().ok();
        Hop { client: peer, peer, trusted, scheme: "http", version: Version::HTTP_11 }
    }

    fn headers(lines: &[(&str, &str)]) -> Headers {
        let mut headers = Headers::new();
        for (name, value) in lines {
            headers.append(name.parse().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn line(headers: &Headers, name: &str) -> String {
        joined(headers, name.parse().unwrap())
    }

    #[test]
    fn what_strangers_say_is_replaced() {
        let mut lines = headers(&[
            ("host", "shop.example"),
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil.example"),
            ("forwarded", "for=6.6.6.6"),
            ("via", "1.0 fred"),
        ]);
        lines.retain(|name| may_pass(name, false));
        trace(&mut lines, &hop("192.0.2.7", false));
        assert_eq!(line(&lines, "x-forwarded-for"), "192.0.2.7");
        assert_eq!(line(&lines, "x-forwarded-proto"), "http");
        assert_eq!(line(&lines, "x-forwarded-host"), "shop.example");
        let forwarded = "for=192.0.2.7;proto=http;host=\"shop.example\"";
        assert_eq!(line(&lines, "forwarded"), forwarded);
        assert_eq!(line(&lines, "via"), "1.0 fred, 1.1 shop");
    }

    #[test]
    fn what_proxies_say_that_are_trusted_is_added_to() {
        let mut lines = headers(&[
            ("host", "shop.internal"),
            ("x-forwarded-for", "6.6.6.6, 192.0.2.7"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "shop.example"),
            ("forwarded", "for=192.0.2.7;proto=https"),
        ]);
        let client = "192.0.2.7".parse().ok();
        trace(&mut lines, &Hop { client, ..hop("2001:db8::1", true) });
        assert_eq!(line(&lines, "x-forwarded-for"), "192.0.2.7, 10.0.0.1, 2001:db8::1");
        assert_eq!(line(&lines, "x-forwarded-proto"), "https");
        assert_eq!(line(&lines, "x-forwarded-host"), "shop.example");
        let added = "for=\"[2001:db8::1]\";proto=http;host=\"shop.internal\"";
        assert_eq!(line(&lines, "forwarded"), format!("for=192.0.2.7;proto=https, {added}"));
    }

    #[test]
    fn addresses_are_passed_on_in_their_plainest_form() {
        let mut lines = headers(&[
            ("x-forwarded-for", "6.6.6.6, [::ffff:192.0.2.7]:4711"),
            ("x-forwarded-for", "unknown, [2001:db8::9]:80"),
            ("forwarded", "for=\"[::ffff:192.0.2.7]:4711\";proto=https"),
        ]);
        let client = "192.0.2.7".parse().ok();
        trace(&mut lines, &Hop { client, ..hop("10.0.0.1", true) });
        assert_eq!(line(&lines, "x-forwarded-for"), "192.0.2.7, 2001:db8::9, 10.0.0.1");
        let said = "for=192.0.2.7;proto=https, for=10.0.0.1;proto=http";
        assert_eq!(line(&lines, "forwarded"), said);
        let mut lines = headers(&[("forwarded", "for=\"192.0.2.7:4711\", for=10.0.0.2")]);
        trace(&mut lines, &Hop { client, ..hop("10.0.0.1", true) });
        assert_eq!(line(&lines, "x-forwarded-for"), "192.0.2.7, 10.0.0.2, 10.0.0.1");
    }

    #[test]
    fn only_trusted_proxies_say_more_of_the_way() {
        for name in [
            "x-forwarded-for",
            "forwarded",
            "x-forwarded-port",
            "x-forwarded-prefix",
            "X-Forwarded",
            "X-Forward-For",
            "Forwarded-For",
            "X-Original-Forwarded-For",
            "x-real-ip",
            "X-Client-IP",
            "Client-IP",
            "True-Client-IP",
            "CF-Connecting-IP",
            "CF-Connecting-IPv6",
            "CF-Pseudo-IPv4",
            "CF-IPCountry",
            "CF-Visitor",
            "Fastly-Client-IP",
            "Fastly-SSL",
            "Fly-Client-IP",
            "DO-Connecting-IP",
            "X-Cluster-Client-IP",
            "X-Originating-IP",
            "X-Azure-ClientIP",
            "X-Azure-SocketIP",
            "X-Sucuri-ClientIP",
            "X-ProxyUser-Ip",
            "WL-Proxy-Client-IP",
            "X-Nf-Client-Connection-Ip",
            "X-AppEngine-User-IP",
            "X-Envoy-External-Address",
            "CloudFront-Viewer-Address",
            "CloudFront-Forwarded-Proto",
            "X-Custom-IP-Authorization",
            "x-original-url",
            "X-Original-URI",
            "X-Original-Host",
            "X-Original-Method",
            "X-Rewrite-URL",
            "X-Override-URL",
            "X-Envoy-Original-Path",
            "X-Http-Destinationurl",
            "X-Proxy-URL",
            "X-Http-Method",
            "X-Http-Method-Override",
            "X-Method-Override",
            "X-Host",
            "X-Http-Host-Override",
            "X-Scheme",
            "X-Url-Scheme",
            "Front-End-Https",
            "Proxy",
        ] {
            let name = name.parse().unwrap();
            assert!(may_pass(&name, true) && !may_pass(&name, false), "{name}");
        }
        for name in [
            "host",
            "user-agent",
            "accept",
            "content-type",
            "cookie",
            "via",
            "cache-control",
            "idempotency-key",
            "x-request-id",
            "x-requested-with",
            "x-client-version",
            "x-csrf-token",
            "x-skip",
            "cdn-loop",
            "ship",
        ] {
            assert!(may_pass(&name.parse().unwrap(), false), "{name}");
        }
    }

    #[test]
    fn a_host_that_nobody_names_is_not_made_up_by_strangers() {
        let mut lines = headers(&[("x-forwarded-host", "evil.example")]);
        lines.retain(|name| may_pass(name, false));
        trace(&mut lines, &hop("192.0.2.7", false));
        assert_eq!(line(&lines, "x-forwarded-host"), "");
    }

    #[test]
    fn an_address_is_written_as_everywhere() {
        for address in ["0.0.0.0", "192.0.2.7", "255.255.255.255", "2001:db8::1"] {
            assert_eq!(text(address.parse().unwrap()), address);
        }
    }

    #[test]
    fn nobody_outside_says_who_they_are() {
        for name in [
            "X-User",
            "x-user-id",
            "x-roles",
            "Remote-Groups",
            "x-forwarded-groups",
            "X-Auth-Request-Email",
            "x-amzn-oidc-data",
            "X-Client-Cert",
            "Impersonate-User",
        ] {
            assert!(!may_pass(&name.parse().unwrap(), true), "{name}");
        }
        for name in ["user-agent", "x-auth-token", "x-api-key", "authorization"] {
            assert!(may_pass(&name.parse().unwrap(), false), "{name}");
        }
    }
}
