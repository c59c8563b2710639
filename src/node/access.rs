//! Whether this process requires tokens.

use std::net::SocketAddr;

use super::{Role, all_in_one, listening};
use crate::auth::{AUDIT, Hosts, InternalAccess, Mode, Reason};
use crate::config::{self, AuthMode, Effective, Settings};
use crate::server::Listener;

/// The mode of a process that runs `roles`.
///
/// # Errors
/// When it would be open beyond this machine without `auth.open_beyond_loopback`.
pub(super) fn mode(
    settings: &Settings,
    effective: &Effective,
    roles: &[Role],
) -> Result<Mode, config::Error> {
    let mut addresses = listening(roles).map(|role| role.listen_address(settings));
    let exposed = addresses.find(|(_, address)| !address.ip().is_loopback());
    let open = match settings.auth.mode {
        AuthMode::Open => true,
        AuthMode::Enforced => false,
        // A proxy on this machine forwards requests from elsewhere.
        AuthMode::Auto => {
            let proxied = !settings.gateway.trusted_proxies.is_empty();
            all_in_one(roles) && exposed.is_none() && !proxied
        }
    };
    if !open {
        return Ok(Mode::Enforced);
    }
    match exposed {
        Some((key, address)) if !settings.auth.open_beyond_loopback => {
            let problem = format!(
                "open lets in anyone who reaches {address} ({key}); listen on 127.0.0.1, say enforced, or \
                 set auth.open_beyond_loopback=true where that is meant"
            );
            Err(effective.blame("auth.mode", problem))
        }
        _ => Ok(Mode::Open),
    }
}

/// Who may call routes for other roles in a process of `mode` that runs `roles`.
///
/// # Errors
/// When nothing would tell other roles from anybody who reaches this process.
pub(super) fn internal(
    settings: &Settings,
    effective: &Effective,
    roles: &[Role],
    mode: Mode,
) -> Result<InternalAccess, config::Error> {
    let secrets = &settings.auth.internal_secret;
    if settings.mtls.certificate.is_some() {
        return Ok(InternalAccess::Certificate);
    }
    if !secrets.is_empty() {
        return Ok(InternalAccess::Secret(secrets.clone()));
    }
    let behind = listening(roles).filter(|role| !role.is_public());
    let mut addresses = behind.map(|role| role.listen_address(settings));
    match addresses.find(|(_, address)| !address.ip().is_loopback()) {
        _ if mode == Mode::Open => Ok(InternalAccess::Anybody),
        None => Ok(InternalAccess::Loopback),
        Some((key, address)) => {
            let problem = format!(
                "nothing tells other roles from anybody who reaches {address} ({key}); set a secret that all roles \
                 have, or the files of mtls, or listen on 127.0.0.1"
            );
            Err(effective.blame("auth.internal_secret", problem))
        }
    }
}

/// The hosts that a process of `mode` answers for: only this machine's names if it is open to this machine alone. A page
/// of another site whose name now resolves to this machine (DNS rebinding) sends its own name.
pub(super) fn hosts(settings: &Settings, mode: Mode) -> Hosts {
    match mode {
        Mode::Open if !settings.auth.open_beyond_loopback => Hosts::Loopback(Reason::Open),
        _ => Hosts::Any,
    }
}

/// The hosts that a management port at `address` answers for: what it shows and changes is no page's of another site
/// either, and monitoring from elsewhere may know it by any name.
pub(super) fn management_hosts(address: SocketAddr) -> Hosts {
    match address.ip().is_loopback() {
        true => Hosts::Loopback(Reason::Management),
        false => Hosts::Any,
    }
}

/// Logs a warning if no tokens are required.
pub(super) fn warn(mode: Mode, listeners: &[(Role, Listener)]) {
    if mode == Mode::Open {
        let addresses = listeners.iter().map(|(_, listener)| listener.address.to_string());
        let addresses = addresses.collect::<Vec<_>>().join(", ");
        log::warn!(
            // Logged whatever the filter.
            target: AUDIT, event = "auth_open";
            "auth.mode is open: anyone who reaches {addresses} can use the shop without a token"
        );
    }
}
