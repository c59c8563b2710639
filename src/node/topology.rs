//! What the page for operators draws of a process: its roles, and those that they call.

use super::{Role, asks_away, listening};
use crate::auth::Mode;
use crate::config::{EventsUrl, Settings};
use crate::server::{RolePlace, Topology};

/// The topology of a process that runs `running`.
pub(super) fn of(running: &[Role], settings: &Settings, mode: Mode) -> Topology {
    let listening = listening(running).collect::<Vec<_>>();
    let place = |role: &Role| {
        let is_here = running.contains(role);
        let addresses = if is_here { Vec::new() } else { role.called_at(running, settings) };
        RolePlace { name: role.name(), is_here, is_entrance: listening.contains(role), addresses }
    };
    let away = asks_away(running, mode).collect::<Vec<_>>();
    let roles = Role::ALL.iter().filter(|role| running.contains(role) || away.contains(role));
    let callers = Role::ALL.iter().map(|asked| {
        let asks =
            |role: &&Role| !role.is_public() && role.asks(Mode::Open).any(|role| role == *asked);
        (asked.name(), running.iter().filter(asks).map(|role| role.name()).collect())
    });
    Topology {
        roles: roles.map(place).collect(),
        callers: callers.collect(),
        events: if matches!(settings.events.url, EventsUrl::Amqp(_)) {
            "rabbitmq"
        } else {
            "memory"
        },
        payments: running.contains(&Role::Order).then(|| settings.order.payments_url.provider()),
    }
}
