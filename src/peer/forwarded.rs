//! Parses the forwarding headers of proxies.
//!
//! `X-Forwarded-For` has addresses separated by commas: plain, in brackets, with a port, or with both. `Forwarded` (RFC 7239)
//! has elements, whose `for` is such a node, `unknown`, or an obfuscated name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use actix_web::http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};

use crate::http1::lines::words;

/// The host that the client asked for.
pub const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The nodes in `X-Forwarded-For`, the client first; if there are none, those in `Forwarded`.
pub fn nodes<'a>(
    addresses: impl Iterator<Item = &'a HeaderValue>,
    elements: impl Iterator<Item = &'a HeaderValue>,
) -> Vec<&'a [u8]> {
    let named = addresses.flat_map(|line| words(line.as_bytes()));
    let named = named.filter(|node| !node.is_empty()).collect::<Vec<_>>();
    if !named.is_empty() {
        return named;
    }
    let elements = elements.flat_map(|line| split(line.as_bytes(), b','));
    elements
        .filter_map(|element| pairs(element).find_map(|(name, node)| is_for(name).then_some(node)))
        .collect()
}

/// The hosts in `X-Forwarded-Host` and in `Forwarded`: those that proxies were asked for.
pub fn hosts(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let named = headers.get_all(FORWARDED_HOST).flat_map(|line| words(line.as_bytes()));
    let elements = headers.get_all(FORWARDED).flat_map(|line| split(line.as_bytes(), b','));
    let pairs = elements.flat_map(pairs).filter(|(name, _)| name.eq_ignore_ascii_case(b"host"));
    named.chain(pairs.map(|(_, host)| unquoted(host)))
}

/// `text` without the quotes around it.
fn unquoted(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(text)
}

/// The address of a node, without its port, if it has one. A mapped IPv6 address becomes IPv4.
pub fn address(node: &[u8]) -> Option<IpAddr> {
    let node = std::str::from_utf8(unquoted(node)).ok()?;
    if let Some(bracketed) = node.strip_prefix('[') {
        let (address, rest) = bracketed.split_once(']')?;
        return is_port(rest).then(|| version6(address)).flatten();
    }
    let address = match node.find(':') {
        None => node.parse::<Ipv4Addr>().ok()?.into(),
        // One colon precedes a port; more than one are an IPv6 address.
        Some(at) => match node[..at].parse::<Ipv4Addr>() {
            Ok(address) if is_port(&node[at..]) => address.into(),
            Ok(_) => return None,
            Err(_) => return version6(node),
        },
    };
    Some(address)
}

/// `address` without its zone after `%`.
fn version6(address: &str) -> Option<IpAddr> {
    let address = address.split('%').next().unwrap_or(address);
    address.parse::<Ipv6Addr>().ok().map(|address| IpAddr::from(address).to_canonical())
}

/// `[ ":" node-port ]` (RFC 7239, section 6): digits, or an obfuscated name.
fn is_port(text: &str) -> bool {
    let Some(port) = text.strip_prefix(':') else { return text.is_empty() };
    let digits = (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
    let name = port.strip_prefix('_');
    let name = name.filter(|name| !name.is_empty());
    digits
        || name.is_some_and(|name| {
            name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        })
}

/// `elements` of `Forwarded` with mapped addresses as IPv4.
pub fn plain(elements: String) -> String {
    if !elements.to_ascii_lowercase().contains(":ffff:") {
        return elements;
    }
    let pair = |text: &[u8]| {
        let whole = String::from_utf8_lossy(text.trim_ascii()).into_owned();
        let Some((name, node)) = whole.split_once('=') else { return whole };
        let is_node = is_for(name.as_bytes()) || name.eq_ignore_ascii_case("by");
        match address(node.as_bytes()).filter(|_| is_node && node.contains("::")) {
            Some(IpAddr::V4(address)) => format!("{name}={address}"),
            _ => whole,
        }
    };
    let element = |text: &[u8]| {
        let pairs = split(text, b';').into_iter().map(pair);
        pairs.collect::<Vec<_>>().join(";")
    };
    let elements = split(elements.as_bytes(), b',').into_iter().map(element);
    elements.collect::<Vec<_>>().join(", ")
}

fn is_for(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"for")
}

/// The names and values of an element of `Forwarded`.
fn pairs(element: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    split(element, b';').into_iter().filter_map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        Some((pair[..at].trim_ascii(), pair[at + 1..].trim_ascii()))
    })
}

/// The parts of `text` between unquoted separators.
fn split(text: &[u8], separator: u8) -> Vec<&[u8]> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            _ if *byte == separator && !is_quoted => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_an_address_in_every_form_in_use() {
        for (node, found) in [
            ("203.0.113.7", "203.0.113.7"),
            ("203.0.113.7:4711", "203.0.113.7"),
            ("\"203.0.113.7:4711\"", "203.0.113.7"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("\"[2001:DB8::1]:_port\"", "2001:db8::1"),
            ("fe80::1%eth0", "fe80::1"),
            ("[fe80::1%25eth0]:80", "fe80::1"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            ("[::ffff:cb00:7107]:80", "203.0.113.7"),
            ("::1", "::1"),
        ] {
            let found = found.parse::<IpAddr>().unwrap();
            assert_eq!(address(node.as_bytes()), Some(found), "{node}");
        }
        for none in [
            "",
            "unknown",
            "_hidden",
            "\"_SEVKISEK\"",
            "unix:",
            "shop.example",
            "203.0.113",
            "203.0.113.7:",
            "203.0.113.7:port",
            "203.0.113.7:123456",
            "[203.0.113.7]",
            "[2001:db8::1",
            "[2001:db8::1]x",
            "\"",
            "1",
        ] {
            assert_eq!(address(none.as_bytes()), None, "{none}");
        }
        assert_eq!(address(b"\xff"), None);
    }

    fn found(addresses: &[&'static str], elements: &[&'static str]) -> Vec<String> {
        let lines = |all: &[&'static str]| {
            all.iter().map(|line| HeaderValue::from_static(line)).collect::<Vec<_>>()
        };
        let (addresses, elements) = (lines(addresses), lines(elements));
        let nodes = nodes(addresses.iter(), elements.iter());
        nodes.iter().map(|node| String::from_utf8_lossy(node).into_owned()).collect()
    }

    #[test]
    fn nodes_stand_in_order_over_all_lines() {
        assert_eq!(found(&["a, b,,", "c"], &["for=d"]), ["a", "b", "c"]);
        let elements = [
            "For=\"[2001:db8:cafe::17]:4711\";proto=https, proto=http;FOR=192.0.2.60;by=203.0.113.43",
            "by=_x;host=\"a,b;for=z\\\"\", for=unknown",
        ];
        let nodes = ["\"[2001:db8:cafe::17]:4711\"", "192.0.2.60", "unknown"];
        assert_eq!(found(&[], &elements), nodes);
        assert_eq!(found(&[" "], &["for=1.2.3.4"]), ["1.2.3.4"]);
    }

    #[test]
    fn what_is_ipv4_is_written_so() {
        let same = "for=192.0.2.7;host=\"a\", by=\"[2001:db8::1]\"";
        assert_eq!(plain(same.to_owned()), same);
        let mapped =
            "for=\"[::ffff:192.0.2.7]:80\";host=\"::ffff:1.2.3.4\", For=\"[2001:db8::ffff:1]\"";
        let said = "for=192.0.2.7;host=\"::ffff:1.2.3.4\", For=\"[2001:db8::ffff:1]\"";
        assert_eq!(plain(mapped.to_owned()), said);
    }
}
