//! The client's address behind proxies.

use std::net::IpAddr;
use std::sync::Once;

use actix_web::http::header::{FORWARDED, HeaderMap, HeaderName};

use super::forwarded;
use crate::config::Networks;

/// The addresses that a request passed, the client's first: each proxy appends the address of its caller.
pub const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The scheme by which a request has come to the first proxy.
pub const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Whose forwarding headers are trusted.
#[derive(Clone, Debug)]
pub enum Trusted {
    /// Everybody's, at a role's own address, which only the gateway and other roles use.
    Everybody,
    /// These proxies.
    Proxies(Networks),
}

impl Trusted {
    /// Whether the forwarding headers of `address` are trusted.
    pub fn believes(&self, address: IpAddr) -> bool {
        match self {
            Self::Everybody => true,
            Self::Proxies(networks) => networks.contain(address),
        }
    }

    /// The scheme by which the client has sent a request with `headers`, on a connection from `peer` or by a mailbox, if
    /// somebody who is trusted says so.
    pub fn scheme(&self, headers: &HeaderMap, peer: Option<IpAddr>) -> Option<&'static str> {
        let said = headers.get(FORWARDED_PROTO)?;
        let is_believed = peer.is_none_or(|peer| self.believes(peer));
        ["http", "https"].into_iter().find(|scheme| is_believed && said == scheme)
    }

    /// The client of a request with `headers` on a connection from `peer`: from the end of the list, the first address that is
    /// not a trusted proxy's. Anybody may have written the entries before it. An entry that is not an address is skipped: it
    /// hides one proxy or client, but not those before it.
    pub fn client(&self, headers: &HeaderMap, peer: IpAddr) -> IpAddr {
        if !self.believes(peer) {
            return peer;
        }
        let nodes = forwarded::nodes(headers.get_all(FORWARDED_FOR), headers.get_all(FORWARDED));
        let mut client = peer;
        for node in nodes.iter().rev() {
            let Some(address) = forwarded::address(node) else {
                complain(node);
                continue;
            };
            client = address;
            if !self.believes(address) {
                break;
            }
        }
        client
    }
}

/// Logs once that a proxy sends `node` instead of an address, so that its clients cannot be told apart.
fn complain(node: &[u8]) {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        let node = String::from_utf8_lossy(&node[..node.len().min(64)]).into_owned();
        log::warn!(
            node;
            "a proxy says that a request came from {node:?}, which is no address; such entries of \
             x-forwarded-for and forwarded are passed over"
        );
    });
}

/// The address that counts as one client: an IPv4 address, or an IPv6 /64 network.
pub fn network(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => u128::from(address) & !u128::from(u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    #[test]
    fn neighbours_by_ipv6_are_one_client() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }

    fn seen(peer: &str, proxies: &str, said: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in said {
            headers.append(FORWARDED_FOR, HeaderValue::from_str(line).unwrap());
        }
        let trusted = Trusted::Proxies(Networks::try_from(proxies.to_owned()).unwrap());
        trusted.client(&headers, peer.parse().unwrap()).to_string()
    }

    #[test]
    fn only_proxies_that_are_trusted_are_believed() {
        assert_eq!(seen("192.0.2.7", "", &["1.2.3.4"]), "192.0.2.7");
        assert_eq!(seen("192.0.2.7", "10.0.0.0/8", &["1.2.3.4"]), "192.0.2.7");
        assert_eq!(seen("10.0.0.1", "10.0.0.0/8", &["6.6.6.6, 1.2.3.4"]), "1.2.3.4");
        assert_eq!(seen("10.0.0.1", "10.0.0.0/8", &["6.6.6.6", "1.2.3.4, 10.9.9.9"]), "1.2.3.4");
        assert_eq!(seen("10.0.0.1", "10.0.0.0/8", &["nonsense"]), "10.0.0.1");
        assert_eq!(seen("10.0.0.1", "10.0.0.0/8", &[]), "10.0.0.1");
    }

    #[test]
    fn a_scheme_is_what_somebody_trusted_says() {
        let trusted = Trusted::Proxies(Networks::try_from("10.0.0.0/8".to_owned()).unwrap());
        let scheme = |said: &'static str, peer: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.append(FORWARDED_PROTO, HeaderValue::from_static(said));
            trusted.scheme(&headers, peer.map(|peer| peer.parse().unwrap()))
        };
        assert_eq!(scheme("https", Some("10.0.0.1")), Some("https"));
        assert_eq!(scheme("http", None), Some("http"));
        assert_eq!(scheme("https", Some("192.0.2.7")), None);
        assert_eq!(scheme("gopher", Some("10.0.0.1")), None);
        assert_eq!(trusted.scheme(&HeaderMap::new(), None), None);
    }

    #[test]
    fn ports_and_brackets_make_no_client_another() {
        let seen = |said: &[&str]| seen("10.0.0.1", "10.0.0.0/8, 2001:db8:1::/48", said);
        assert_eq!(seen(&["203.0.113.7:4711"]), "203.0.113.7");
        assert_eq!(seen(&["6.6.6.6, [2001:db8::1]:4711, [2001:db8:1::2]:80"]), "2001:db8::1");
        assert_eq!(seen(&["6.6.6.6, 203.0.113.7:4711, ::ffff:10.0.0.9"]), "203.0.113.7");
    }

    #[test]
    fn what_is_no_address_is_passed_over() {
        let seen = |said: &[&str]| seen("10.0.0.1", "10.0.0.0/8", said);
        assert_eq!(seen(&["203.0.113.7, unknown, 10.0.0.2"]), "203.0.113.7");
        assert_eq!(seen(&["203.0.113.7, unix:"]), "203.0.113.7");
        assert_eq!(seen(&["unknown", "_hidden"]), "10.0.0.1");
        assert_eq!(seen(&["nonsense, 203.0.113.7"]), "203.0.113.7");
    }

    #[test]
    fn forwarded_is_read_where_there_is_no_other_list() {
        let mut headers = HeaderMap::new();
        let said = "for=6.6.6.6, for=\"[2001:db8::7]:4711\";proto=https, for=10.0.0.2";
        headers.append(FORWARDED, HeaderValue::from_static(said));
        let trusted = Trusted::Proxies(Networks::try_from("10.0.0.0/8".to_owned()).unwrap());
        let client = |headers: &HeaderMap, peer: &str| {
            trusted.client(headers, peer.parse().unwrap()).to_string()
        };
        assert_eq!(client(&headers, "10.0.0.1"), "2001:db8::7");
        assert_eq!(client(&headers, "192.0.2.7"), "192.0.2.7");
        headers.append(FORWARDED_FOR, HeaderValue::from_static("203.0.113.7"));
        assert_eq!(client(&headers, "10.0.0.1"), "203.0.113.7");
    }
}
