//! Where a webhook may lead: to the world, and not into the network that the shop stands in (server-side request forgery).
//!
//! A name is looked up when something is sent, and the address that is checked is the one that is connected to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use actix_web::http::Uri;
use tokio::net::lookup_host;
use tokio::sync::Semaphore;
use url::{Host, Url};

use crate::tasks;

/// How many names are looked up at once.
static LOOKUPS: Semaphore = Semaphore::const_new(16);
/// The longest URL, in characters.
const LONGEST: usize = 2048;
/// The networks of IPv4 that are not the world's (<https://www.iana.org/assignments/iana-ipv4-special-registry>), multicast
/// and the way to 6to4: an address, and how many of its bits count.
const NOT_PUBLIC_V4: [([u8; 4], u32); 16] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 31, 196, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
];
/// What the world has of IPv6, and what is not public of it: for protocols (Teredo), documentation, 6to4. So no mapped and
/// no translated address of IPv4 is public, nor a local one.
const WORLD_V6: (u128, u32) = (0x2000 << 112, 3);
const NOT_PUBLIC_V6: [(u128, u32); 4] =
    [(0x2001 << 112, 23), (0x2001_0db8 << 96, 32), (0x2002 << 112, 16), (0x3fff << 112, 20)];

/// Why nothing is sent to a URL.
#[derive(Debug, thiserror::Error)]
pub(super) enum AddressError {
    #[error("must have at most {LONGEST} characters")]
    Length,
    #[error("must be a URL such as https://shop.example/events")]
    Malformed,
    #[error("must begin with https://")]
    Scheme,
    #[error("must have no user name and no password")]
    User,
    #[error("must have no fragment")]
    Fragment,
    #[error("leads to an address that is not public")]
    Private,
    #[error("its host has no address")]
    Unknown,
}

/// Where webhooks may lead.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    /// Whether they may lead to addresses that are not public, and by `http://`.
    pub(super) allow_private: bool,
}

impl Reach {
    /// Reads a URL; what it leads to is checked if it is an address, however it is spelt.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(self, text: &str) -> Result<Url, AddressError> {
        if text.chars().count() > LONGEST {
            return Err(AddressError::Length);
        }
        // The parser would remove them, and add slashes.
        let is_bent = text.contains(|letter: char| letter.is_whitespace() || letter.is_control());
        let has_slashes = text.split_once("://").is_some_and(|(scheme, _)| !scheme.contains('/'));
        let url = Url::parse(text).ok().filter(|_| has_slashes && !is_bent);
        let url = url.ok_or(AddressError::Malformed)?;
        match url.scheme() {
            "https" => {}
            "http" if self.allow_private => {}
            _ => return Err(AddressError::Scheme),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(AddressError::User);
        }
        if url.fragment().is_some() {
            return Err(AddressError::Fragment);
        }
        match url.host() {
            Some(Host::Ipv4(ip)) => self.check(ip.into())?,
            Some(Host::Ipv6(ip)) => self.check(ip.into())?,
            Some(Host::Domain(_)) => {}
            None => return Err(AddressError::Malformed),
        }
        // The client of webhooks reads it, too.
        url.as_str().parse::<Uri>().map_err(|_| AddressError::Malformed)?;
        Ok(url)
    }

    /// An address of the host of `url`; another one with each `attempt`, if it has several.
    ///
    /// # Errors
    /// When it has none that is public.
    pub(super) async fn resolve(
        self,
        url: &Url,
        attempt: usize,
    ) -> Result<SocketAddr, AddressError> {
        let port = url.port_or_known_default().ok_or(AddressError::Malformed)?;
        let addresses = match url.host().ok_or(AddressError::Malformed)? {
            Host::Ipv4(ip) => vec![(ip, port).into()],
            Host::Ipv6(ip) => vec![(ip, port).into()],
            Host::Domain(name) => {
                look_up(name.to_owned(), port).await.ok_or(AddressError::Unknown)?
            }
        };
        if addresses.is_empty() {
            return Err(AddressError::Unknown);
        }
        let is_allowed = |address: &SocketAddr| self.check(address.ip()).is_ok();
        let allowed = addresses.into_iter().filter(is_allowed).collect::<Vec<_>>();
        let turn = attempt.checked_rem(allowed.len()).ok_or(AddressError::Private)?;
        allowed.get(turn).copied().ok_or(AddressError::Private)
    }

    fn check(self, ip: IpAddr) -> Result<(), AddressError> {
        match self.allow_private || is_public(ip) {
            true => Ok(()),
            false => Err(AddressError::Private),
        }
    }
}

/// The addresses of the host `name`; `None` if it has none. A lookup takes a thread until it ends, also when nobody waits for
/// it any more, so there is a limit to them.
async fn look_up(name: String, port: u16) -> Option<Vec<SocketAddr>> {
    let permit = LOOKUPS.acquire().await.ok()?;
    let lookup = tasks::detach(async move {
        let found = lookup_host((name, port)).await;
        drop(permit);
        found.ok().map(Iterator::collect)
    });
    lookup.await.ok()?
}

/// Whether `ip` is an address of the world.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !NOT_PUBLIC_V4.iter().any(|network| is_in_v4(ip, *network)),
        IpAddr::V6(ip) => {
            is_in_v6(ip, WORLD_V6) && !NOT_PUBLIC_V6.iter().any(|network| is_in_v6(ip, *network))
        }
    }
}

fn is_in_v4(ip: Ipv4Addr, (network, bits): ([u8; 4], u32)) -> bool {
    (ip.to_bits() ^ u32::from_be_bytes(network)) >> (32 - bits) == 0
}

fn is_in_v6(ip: Ipv6Addr, (network, bits): (u128, u32)) -> bool {
    (ip.to_bits() ^ network) >> (128 - bits) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORLD: Reach = Reach { allow_private: false };
    const ANYWHERE: Reach = Reach { allow_private: true };

    #[test]
    fn the_world_is_public_and_what_is_near_is_not() {
        for ip in ["1.1.1.1", "172.15.0.1", "172.32.0.1", "100.63.0.1", "100.128.0.1", "223.1.1.1"]
        {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["2606:4700::1111", "2a00::1", "2001:200::1", "2003::1", "3ffe::1"] {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.19.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "ff02::1",
        ] {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn a_url_leads_to_the_world_by_https() {
        for url in
            ["https://example.com/a?b=c", "https://1.1.1.1", "https://[2606:4700::1111]:8443/"]
        {
            assert!(WORLD.parse(url).is_ok(), "{url}");
        }
        let long = format!("https://example.com/{}", "a".repeat(2048));
        for url in [
            "",
            "example.com",
            "http://example.com",
            "ftp://example.com",
            "https://",
            "https:example.com",
            "https://example.com/ a",
            "https://user@example.com",
            "https://:password@example.com",
            "https://example.com/#top",
            &long,
            "https://127.0.0.1",
            "https://127.1",
            "https://2130706433",
            "https://0x7f.1",
            "https://0177.0.0.1",
            "https://127.0.0.1.",
            "https://①②⑦.0.0.1",
            "https://[::1]",
            "https://[::ffff:127.0.0.1]",
            "https://[::ffff:7f00:1]",
            "https://[64:ff9b::7f00:1]",
            "https://169.254.169.254/latest/meta-data",
        ] {
            assert!(WORLD.parse(url).is_err(), "{url}");
        }
        for url in ["http://127.0.0.1:1", "https://[::1]", "http://localhost"] {
            assert!(ANYWHERE.parse(url).is_ok(), "{url}");
        }
        assert!(ANYWHERE.parse("ftp://localhost").is_err());
    }

    #[actix_rt::test]
    async fn a_name_is_checked_by_its_address() {
        let resolve = async |reach: Reach, url: &str| {
            reach.resolve(&Url::parse(url).unwrap(), 7).await.map_err(|error| error.to_string())
        };
        for url in ["https://localhost", "https://127.0.0.1", "https://[::1]"] {
            let why = resolve(WORLD, url).await.unwrap_err();
            assert_eq!(why, "leads to an address that is not public", "{url}");
        }
        let found = resolve(ANYWHERE, "http://localhost:81").await.unwrap();
        assert!(found.ip().is_loopback() && found.port() == 81);
    }
}
