//! What a client says of itself and what is true of it.

use std::net::IpAddr;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::config::Networks;
use crate::transport::FORWARDED_FOR;

/// Headers by which proxies tell services who a user is. Nobody outside may say so; no role believes one.
const IDENTITY: [HeaderName; 10] = [
    HeaderName::from_static("x-user"),
    HeaderName::from_static("x-user-id"),
    HeaderName::from_static("x-user-email"),
    HeaderName::from_static("x-user-role"),
    HeaderName::from_static("x-user-roles"),
    HeaderName::from_static("x-remote-user"),
    HeaderName::from_static("remote-user"),
    HeaderName::from_static("x-forwarded-user"),
    HeaderName::from_static("x-forwarded-email"),
    HeaderName::from_static("x-forwarded-groups"),
];

/// Takes from `headers` what only the gateway may say, and says it: where the client is, of whom `peer` is
/// the last hop.
pub(super) fn introduce(headers: &mut HeaderMap, peer: Option<IpAddr>, proxies: &Networks) {
    for name in &IDENTITY {
        headers.remove(name);
    }
    let address = peer.map(|peer| client(headers, peer, proxies));
    headers.remove(FORWARDED_FOR);
    let value = address.and_then(|address| HeaderValue::from_str(&address.to_string()).ok());
    if let Some(value) = value {
        headers.insert(FORWARDED_FOR, value);
    }
}

/// The address before the last of the proxies that are trusted, from the back: what comes before it, anybody
/// may have written.
fn client(headers: &HeaderMap, peer: IpAddr, proxies: &Networks) -> IpAddr {
    if !proxies.contain(peer) {
        return peer;
    }
    let lines = headers.get_all(FORWARDED_FOR).filter_map(|line| line.to_str().ok());
    let hops = lines.flat_map(|line| line.split(',')).collect::<Vec<_>>();
    let mut client = peer;
    for hop in hops.iter().rev() {
        let Ok(address) = hop.trim().parse() else { break };
        client = address;
        if !proxies.contain(address) {
            break;
        }
    }
    client
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(peer: &str, proxies: &str, said: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in said {
            headers.append(FORWARDED_FOR, HeaderValue::from_str(line).unwrap());
        }
        let proxies = Networks::try_from(proxies.to_owned()).unwrap();
        introduce(&mut headers, Some(peer.parse().unwrap()), &proxies);
        let lines = headers.get_all(FORWARDED_FOR).collect::<Vec<_>>();
        assert_eq!(lines.len(), 1);
        lines[0].to_str().unwrap().to_owned()
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
    fn nobody_outside_says_who_they_are() {
        let mut headers = HeaderMap::new();
        for name in IDENTITY {
            headers.append(name, HeaderValue::from_static("admin"));
        }
        introduce(&mut headers, None, &Networks::default());
        assert_eq!(headers.len(), 0);
    }
}
