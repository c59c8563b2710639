//! Every role there is: the one place that knows them all.

use std::fmt;
use std::net::SocketAddr;

use clap::ValueEnum;
use clap::builder::PossibleValue;
use utoipa::openapi::OpenApi;

use crate::auth::Mode;
use crate::config::{PeerUrl, SettingError, Settings};
use crate::events::{Consumer, Log};
use crate::peer::Peer;
use crate::role::{self, Behind, Parts};

/// The table: what a role is in this module, and what it is. Whatever else enumerates roles is derived from it.
macro_rules! table {
    ($macro:ident) => {
        $macro! {
            Gateway gateway crate::gateway::Gateway,
            User user crate::user::Accounts,
            Product product crate::product::Catalogue,
            Order order crate::order::Orders,
        }
    };
}

macro_rules! define {
    ($($variant:ident $field:ident $role:ty,)*) => {
        /// A part of the shop that can run by itself.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "each says itself what it is about")]
        pub enum Role {
            $($variant,)*
        }

        /// The roles of a process.
        #[derive(Clone)]
        pub(super) struct Roles {
            $(pub(super) $field: Option<$role>,)*
        }

        impl Role {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// What the command line, the settings and other roles call it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => <$role as role::Role>::NAME,)* }
            }

            fn about(self) -> &'static str {
                match self { $(Self::$variant => <$role as role::Role>::ABOUT,)* }
            }

            /// Whether it answers clients.
            pub(super) fn is_public(self) -> bool {
                match self { $(Self::$variant => <$role as role::Role>::IS_PUBLIC,)* }
            }

            /// Whether the others start without it.
            pub(super) fn is_optional(self) -> bool {
                match self { $(Self::$variant => <$role as role::Role>::IS_OPTIONAL,)* }
            }

            /// Whether it publishes events.
            pub(super) fn publishes(self) -> bool {
                match self { $(Self::$variant => <$role as role::Role>::PUBLISHES,)* }
            }

            /// The names of what takes events of other roles.
            pub(super) fn consumers(self) -> &'static [&'static str] {
                match self { $(Self::$variant => <$role as role::Role>::CONSUMERS,)* }
            }

            /// The events that it publishes, in the store that `settings` name.
            pub(super) async fn find_log(
                self,
                settings: &Settings,
            ) -> Result<Option<Log>, SettingError> {
                match self { $(Self::$variant => <$role as role::Role>::find_log(settings).await,)* }
            }

            /// The setting that says where its store is.
            pub(super) fn store(self) -> &'static str {
                match self { $(Self::$variant => <$role as role::Role>::STORE,)* }
            }

            /// The setting that says where it is asked when it runs in another process.
            pub(super) fn peer_key(self) -> &'static str {
                match self { $(Self::$variant => <$role as role::Role>::PEER,)* }
            }

            fn asks_by_name(self, mode: Mode) -> &'static [&'static str] {
                match self { $(Self::$variant => <$role as role::Role>::asks(mode),)* }
            }

            fn addresses(self, settings: &Settings) -> (SocketAddr, SocketAddr) {
                match self { $(Self::$variant => <$role as role::Role>::addresses(settings),)* }
            }

            /// Where it is asked when it runs in other processes.
            pub(super) fn urls(self, settings: &Settings) -> &[PeerUrl] {
                match self { $(Self::$variant => <$role as role::Role>::urls(settings),)* }
            }

            /// Looks at its settings alone.
            pub(super) fn validate(self, settings: &Settings) -> Result<(), SettingError> {
                let behind = behind(&[], settings);
                match self {
                    $(Self::$variant => <$role as role::Role>::validate(settings, &behind),)*
                }
            }

            /// Looks at what else stops it from being built.
            pub(super) async fn check(self, parts: &Parts) -> Result<(), SettingError> {
                match self { $(Self::$variant => <$role as role::Role>::check(parts).await,)* }
            }

            /// Brings its tables up to date; the migrations that were applied.
            pub(super) async fn migrate(
                self,
                settings: &Settings,
            ) -> Result<Vec<String>, SettingError> {
                match self { $(Self::$variant => <$role as role::Role>::migrate(settings).await,)* }
            }

            /// Its part of the OpenAPI document.
            pub(super) fn openapi(self, mode: Mode) -> OpenApi {
                match self { $(Self::$variant => <$role as role::Role>::openapi(mode),)* }
            }
        }

        impl Roles {
            /// Those of `roles`, each built after those that it asks.
            pub(super) async fn build(roles: &[Role], parts: &Parts) -> Result<Self, SettingError> {
                let mut built = Self { $($field: None,)* };
                for role in start_order().into_iter().filter(|role| roles.contains(role)) {
                    match role {
                        $(Role::$variant => {
                            built.$field = Some(<$role as role::Role>::build(parts).await?);
                        })*
                    }
                }
                Ok(built)
            }

            /// What they need.
            pub(super) fn checks(&self) -> Vec<crate::readiness::Check> {
                let mut checks = Vec::new();
                $(checks.extend(self.$field.iter().flat_map(role::Role::checks));)*
                checks
            }

            /// Their own metrics.
            pub(super) fn collectors(&self) -> Vec<Box<dyn prometheus::core::Collector>> {
                let mut collectors = Vec::new();
                $(collectors.extend(self.$field.iter().flat_map(role::Role::collectors));)*
                collectors
            }

            /// Starts their background tasks, which call others by `peers`.
            pub(super) fn start_tasks(&self, peers: &dyn Fn(&str) -> Peer) {
                $(if let Some(role) = &self.$field {
                    role::Role::start_tasks(role, peers);
                })*
            }

            /// The events that they publish.
            pub(super) fn logs(&self) -> Vec<Log> {
                let mut logs = Vec::new();
                $(if let Some(role) = &self.$field
                    && <$role as role::Role>::PUBLISHES
                {
                    logs.extend(role::Role::log(role));
                })*
                logs
            }

            /// What takes events.
            pub(super) fn consumers(&self) -> Vec<Consumer> {
                let mut consumers = Vec::new();
                $(if let Some(role) = &self.$field {
                    let of_role = role::Role::consumers(role);
                    let names = of_role.iter().map(|consumer| consumer.name);
                    debug_assert!(names.eq(<$role as role::Role>::CONSUMERS.iter().copied()));
                    consumers.extend(of_role);
                })*
                consumers
            }

            /// Ends what they owe to others.
            pub(super) async fn settle(&self) {
                $(if let Some(role) = &self.$field {
                    role::Role::settle(role).await;
                })*
            }
        }
    };
}

table!(define);
pub(super) use table;

impl Role {
    /// The roles that it asks.
    pub(super) fn asks(self, mode: Mode) -> impl Iterator<Item = Self> {
        let names = self.asks_by_name(mode);
        Self::ALL.iter().copied().filter(move |role| names.contains(&role.name()))
    }

    /// The addresses at which a process that runs `running` calls it: its name in the same process, else its URLs. An
    /// optional role may have neither.
    pub(super) fn called_at(self, running: &[Self], settings: &Settings) -> Vec<String> {
        match running.contains(&self) {
            true => vec![self.name().to_owned()],
            false => self.urls(settings).iter().map(PeerUrl::to_string).collect(),
        }
    }

    /// Where it listens, and the setting that says so.
    pub(super) fn listen_address(self, settings: &Settings) -> (String, SocketAddr) {
        (format!("{}.listen", self.name()), self.addresses(settings).0)
    }

    /// Where a process whose first role it is tells how it is, and the setting that says so.
    pub(super) fn management_address(self, settings: &Settings) -> (String, SocketAddr) {
        (format!("{}.management", self.name()), self.addresses(settings).1)
    }
}

/// The roles behind a public one, for a process that runs `running`.
pub(super) fn behind(running: &[Role], settings: &Settings) -> Vec<Behind> {
    let behind = Role::ALL.iter().filter(|role| !role.is_public());
    let behind = behind
        .map(|role| Behind { name: role.name(), addresses: role.called_at(running, settings) });
    behind.collect()
}

/// The roles, each after those that it asks however it is asked who somebody is; they stop in the reverse.
pub(super) fn start_order() -> Vec<Role> {
    let mut order = Vec::new();
    while order.len() < Role::ALL.len() {
        let is_next = |role: &&Role| {
            !order.contains(*role) && role.asks(Mode::Open).all(|asked| order.contains(&asked))
        };
        // A test holds that no role asks itself, be it by others.
        let Some(next) = Role::ALL.iter().find(is_next) else { return Role::ALL.to_vec() };
        order.push(*next);
    }
    order
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl ValueEnum for Role {
    fn value_variants<'a>() -> &'a [Self] {
        Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name()).help(self.about()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn each_role_starts_after_those_that_it_asks() {
        assert_eq!(start_order(), [Role::Product, Role::Order, Role::User, Role::Gateway]);
    }

    #[test]
    fn a_role_elsewhere_has_an_address_for_each_of_its_urls() {
        for (urls, elsewhere) in [("", 0), ("http://127.0.0.1:1,http://127.0.0.1:2", 2)] {
            let overrides = vec![("peers.order".to_owned(), urls.to_owned())];
            let sources = config::Sources { overrides, ..config::Sources::default() };
            let settings = config::load(&sources).unwrap().0;
            let count = |running: &[Role]| Role::Order.called_at(running, &settings).len();
            assert_eq!((count(&[Role::Gateway]), count(Role::ALL)), (elsewhere, 1));
        }
    }

    #[test]
    fn a_role_that_asks_another_names_one_that_there_is() {
        for role in Role::ALL {
            for mode in [Mode::Open, Mode::Enforced] {
                assert_eq!(role.asks(mode).count(), role.asks_by_name(mode).len(), "{role}");
            }
        }
    }
}
