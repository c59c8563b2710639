//! Whether this process asks everybody who they are.

use super::{Role, all_in_one, listening};
use crate::auth::{AUDIT, Hosts, Mode};
use crate::config::{self, AuthMode, Effective, Settings};
use crate::server::Listener;

/// The mode of a process that runs `roles`.
///
/// # Errors
/// When it would be open to more than this machine, and nobody said that it may.
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
        // A proxy on this machine is there for others.
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
                "open lets everybody in who reaches {address} ({key}); listen on 127.0.0.1, say enforced, or \
                 set auth.open_beyond_loopback=true where that is meant"
            );
            Err(effective.blame("auth.mode", problem))
        }
        _ => Ok(Mode::Open),
    }
}

/// Whom a process of `mode` answers: where it is open for this machine alone, those who name this machine. A page from
/// elsewhere whose name leads here all of a sudden (DNS rebinding) still names itself.
pub(super) fn hosts(settings: &Settings, mode: Mode) -> Hosts {
    match mode {
        Mode::Open if !settings.auth.open_beyond_loopback => Hosts::Loopback,
        _ => Hosts::Any,
    }
}

/// Says in the log that nobody is asked, where that is so.
pub(super) fn warn(mode: Mode, listeners: &[(Role, Listener)]) {
    if mode == Mode::Open {
        let addresses = listeners.iter().map(|(_, listener)| listener.address.to_string());
        let addresses = addresses.collect::<Vec<_>>().join(", ");
        log::warn!(
            // Told whatever the filter says.
            target: AUDIT, event = "auth_open";
            "auth.mode is open: whoever reaches {addresses} needs no token to use the shop"
        );
    }
}
