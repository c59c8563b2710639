//! Validates the settings of a process, for a start and for `app check-config`: what fails one fails the other.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::tls::Tls;
use super::{Role, access, check_peers, document, listening, management_address, roles};
use crate::auth::{InternalAccess, Verifier};
use crate::config::{self, Effective, Settings};
use crate::role::Parts;
use crate::server;

/// The result: what a node is built from.
pub(super) struct Validated {
    pub(super) parts: Parts,
    pub(super) tls: Tls,
    pub(super) internal: InternalAccess,
}

/// Validates settings as a whole: combinations of them, and the files that they name. Creates nothing, and sends nothing
/// over the network.
///
/// # Errors
/// The setting that does not work.
pub(super) async fn validate(
    settings: &Arc<Settings>,
    effective: &Effective,
    running: &[Role],
) -> Result<Validated, config::Error> {
    // Errors of the settings themselves come before those of missing files.
    for role in Role::ALL {
        role.validate(settings).map_err(|error| effective.explain(error))?;
    }
    let mode = access::mode(settings, effective, running)?;
    check_peers(settings, effective, running, mode)?;
    let tls = Tls::load(settings, effective, running, mode)?;
    let internal = access::internal(settings, effective, running, mode)?;
    check_addresses(settings, effective, running)?;
    let parts = Parts {
        settings: settings.clone(),
        mode,
        verifier: Arc::new(Verifier::new(&settings.auth)),
        behind: roles::behind(running, settings),
        document: document::document,
    };
    for role in roles::start_order().iter().filter(|role| running.contains(role)) {
        role.check(&parts).await.map_err(|error| effective.explain(error))?;
    }
    Ok(Validated { parts, tls, internal })
}

/// The addresses where a process of `roles` listens, and their settings.
fn addresses(settings: &Settings, roles: &[Role]) -> Vec<(String, SocketAddr)> {
    let listens = listening(roles).map(|role| role.listen_address(settings));
    [management_address(settings, roles)].into_iter().chain(listens).collect()
}

/// Checks that no two listeners have the same address.
fn check_addresses(
    settings: &Settings,
    effective: &Effective,
    roles: &[Role],
) -> Result<(), config::Error> {
    let addresses = addresses(settings, roles);
    for (n, (key, address)) in addresses.iter().enumerate() {
        let same = addresses[..n].iter().find(|(_, other)| is_same(*address, *other));
        if let Some((other, _)) = same {
            return Err(effective.blame(key, format!("{address} is also the address of {other}")));
        }
    }
    Ok(())
}

/// Whether only one listener can have `a` or `b`. Port 0 stands for any free one.
fn is_same(a: SocketAddr, b: SocketAddr) -> bool {
    let is_all = |ip: IpAddr| ip.is_unspecified();
    let covers = a.ip() == b.ip()
        || (is_all(a.ip()) && (a.is_ipv6() || b.is_ipv4()))
        || (is_all(b.ip()) && (b.is_ipv6() || a.is_ipv4()));
    a.port() != 0 && a.port() == b.port() && covers
}

/// Checks that this machine has the addresses and may bind them. Addresses in use are accepted: the shop may be running.
///
/// # Errors
/// The setting of the first address that fails.
pub(super) fn check_listeners(
    settings: &Settings,
    effective: &Effective,
    roles: &[Role],
) -> Result<(), config::Error> {
    let mut addresses = addresses(settings, roles).into_iter();
    addresses.try_for_each(|(key, address)| server::check_bind(&key, address, effective))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_that_listen_at_one_address_are_found() {
        for (a, b, same) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "0.0.0.0:80", true),
            ("[::]:80", "127.0.0.1:80", true),
            ("[::]:80", "0.0.0.0:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("0.0.0.0:80", "[::1]:80", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
        ] {
            assert_eq!(is_same(a.parse().unwrap(), b.parse().unwrap()), same, "{a} {b}");
            assert_eq!(is_same(b.parse().unwrap(), a.parse().unwrap()), same, "{b} {a}");
        }
    }
}
