//! Where a request came from, beyond the proxies.

use std::net::IpAddr;

use actix_web::http::header::{HeaderMap, HeaderName};

use super::Origin;
use crate::config::Networks;

/// The addresses that a request came through, the client's first, as each proxy adds that of whoever asks it.
pub const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Who is believed in what they say of where a request came from.
#[derive(Clone, Debug)]
pub enum Trusted {
    /// Whoever reaches a role's own address: that is for the gateway and other roles.
    Everybody,
    /// These proxies.
    Proxies(Networks),
}

impl Trusted {
    fn believes(&self, address: IpAddr) -> bool {
        match self {
            Self::Everybody => true,
            Self::Proxies(networks) => networks.contain(address),
        }
    }

    /// The client whose request came with `headers` from `origin`: the address before the last of those who are
    /// believed, from the back. What comes before it, anybody may have written. A mailbox itself has no address, and is
    /// believed.
    pub fn client(&self, headers: &HeaderMap, origin: Origin) -> Option<IpAddr> {
        if let Origin::Socket(peer) = origin
            && !self.believes(peer)
        {
            return Some(peer);
        }
        let lines = headers.get_all(FORWARDED_FOR).filter_map(|line| line.to_str().ok());
        let hops = lines.flat_map(|line| line.split(',')).collect::<Vec<_>>();
        let mut client = origin.address();
        for hop in hops.iter().rev() {
            let Ok(address) = hop.trim().parse() else { break };
            client = Some(address);
            if !self.believes(address) {
                break;
            }
        }
        client
    }
}

/// What counts as one client: an IPv4 address, or the network of 2^64 addresses that a household gets by IPv6.
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
        trusted.client(&headers, Origin::Socket(peer.parse().unwrap())).unwrap().to_string()
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
}
