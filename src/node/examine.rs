//! What a start looks at before it begins, and `app check-config` too: whatever stops the one stops the other.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::tls::Tls;
use super::{Role, access, check_peers, document, listening, management_address, roles};
use crate::auth::Verifier;
use crate::config::{self, Effective, Settings};
use crate::role::Parts;
use crate::server;

/// What the settings say of a process.
pub(super) struct Examined {
    pub(super) parts: Parts,
    pub(super) tls: Tls,
}

/// Looks at what of the settings takes more than a look at each: what goes together, and the files that they name. Makes
/// nothing, and asks nobody else.
///
/// # Errors
/// The setting that does not work.
pub(super) async fn examine(
    settings: &Arc<Settings>,
    effective: &Effective,
    running: &[Role],
) -> Result<Examined, config::Error> {
    // What is wrong with the settings alone comes before what they need and do not find.
    for role in Role::ALL {
        role.validate(settings).map_err(|error| effective.explain(error))?;
    }
    let mode = access::mode(settings, effective, running)?;
    check_peers(settings, effective, running, mode)?;
    let tls = Tls::load(settings, effective, running, mode)?;
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
    Ok(Examined { parts, tls })
}

/// Where a process of `roles` listens, and the settings that say so.
fn addresses(settings: &Settings, roles: &[Role]) -> Vec<(String, SocketAddr)> {
    let listens = listening(roles).map(|role| role.listen_address(settings));
    [management_address(settings, roles)].into_iter().chain(listens).collect()
}

/// No two may listen at the same address.
fn check_addresses(
    settings: &Settings,
    effective: &Effective,
    roles: &[Role],
) -> Result<(), config::Error> {
    let addresses = addresses(settings, roles);
    for (n, (key, address)) in addresses.iter().enumerate() {
        let same = addresses[..n].iter().find(|(_, other)| is_same(*address, *other));
        if let Some((other, _)) = same {
            return Err(effective.blame(key, format!("{address} is where {other} is, too")));
        }
    }
    Ok(())
}

/// Whether only one can listen at `a` and `b`. Port 0 is any that is free.
fn is_same(a: SocketAddr, b: SocketAddr) -> bool {
    let is_all = |ip: IpAddr| ip.is_unspecified();
    let covers = a.ip() == b.ip()
        || (is_all(a.ip()) && (a.is_ipv6() || b.is_ipv4()))
        || (is_all(b.ip()) && (b.is_ipv6() || a.is_ipv4()));
    a.port() != 0 && a.port() == b.port() && covers
}

/// Whether the addresses are this machine's, and may be used. Those that are in use are in order: the shop may be
/// running while its configuration is looked at.
///
/// # Errors
/// The setting of one that is not.
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
