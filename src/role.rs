//! The interface between a role and the process that runs it.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use actix_web::App;
use actix_web::web::{Bytes, ServiceConfig};
use prometheus::core::Collector;
use rustls::ClientConfig;
use utoipa::openapi::OpenApi;

use crate::auth::{Mode, Verifier};
use crate::config::{PeerUrl, SettingError, Settings};
use crate::events::{Consumer, DeadLetters, Log};
use crate::middleware::{Middleware, RoleService};
use crate::peer::{Endpoint, Peer, State};
use crate::readiness::Check;

/// A role. A process has one value of it, and every worker thread a clone.
pub trait Role: Clone + Send + 'static {
    /// Its name on the command line, in settings and for other roles.
    const NAME: &'static str;
    /// Its description in `--help`.
    const ABOUT: &'static str;
    /// Whether it serves clients. It listens even if all roles run in one process, with the certificate for clients.
    const IS_PUBLIC: bool = false;
    /// Whether the others start without it: they answer 503 where it would be asked.
    const IS_OPTIONAL: bool = false;
    /// Whether it publishes events: [`Role::log`].
    const PUBLISHES: bool = false;
    /// The names of what takes events of other roles: [`Role::consumers`].
    const CONSUMERS: &'static [&'static str] = &[];
    /// The setting of its store.
    const STORE: &'static str = "";
    /// The setting of its URLs in other processes.
    const PEER: &'static str = "";

    /// The roles that it calls; it starts after those that it calls in either mode.
    fn asks(_mode: Mode) -> &'static [&'static str] {
        &[]
    }

    /// The settings `NAME.listen` and `NAME.management`: its address, and the management address of a process whose first role
    /// it is.
    fn addresses(settings: &Settings) -> (SocketAddr, SocketAddr);

    /// The value of [`Role::PEER`].
    fn urls(_settings: &Settings) -> &[PeerUrl] {
        &[]
    }

    /// Checks its settings, also if it does not run in this process; `behind` has the roles behind a public one.
    ///
    /// # Errors
    /// The setting that does not work.
    fn validate(_settings: &Settings, _behind: &[Behind]) -> Result<(), SettingError> {
        Ok(())
    }

    /// Checks what else would make [`Role::build`] fail, without creating anything.
    ///
    /// # Errors
    /// The setting that does not work.
    fn check(_parts: &Parts) -> impl Future<Output = Result<(), SettingError>> {
        async { Ok(()) }
    }

    /// Builds the role.
    ///
    /// # Errors
    /// The setting that does not work.
    fn build(parts: &Parts) -> impl Future<Output = Result<Self, SettingError>>;

    /// Migrates its database; returns the names of the migrations that were applied.
    ///
    /// # Errors
    /// The setting of its store, and why it failed.
    fn migrate(_settings: &Settings) -> impl Future<Output = Result<Vec<String>, SettingError>> {
        async { Ok(Vec::new()) }
    }

    /// The application of one worker thread.
    fn app(self, surroundings: Surroundings) -> App<impl RoleService + use<Self>>;

    /// Checks of its dependencies, except other roles.
    fn checks(&self) -> Vec<Check>;

    /// Its part of the OpenAPI document.
    fn openapi(mode: Mode) -> OpenApi;

    /// Its own metrics.
    fn collectors(&self) -> Vec<Box<dyn Collector>> {
        Vec::new()
    }

    /// Starts its background tasks on this thread: those of which a process has one. `peers` makes those that it calls.
    fn start_tasks(&self, _peers: &dyn Fn(&str) -> Peer) {}

    /// The events that it publishes, for this thread, if [`Role::PUBLISHES`].
    fn log(&self) -> Option<Log> {
        None
    }

    /// The same in a store that has all migrations, for a command.
    ///
    /// # Errors
    /// The setting of its store, and why it cannot be used.
    fn find_log(_settings: &Settings) -> impl Future<Output = Result<Option<Log>, SettingError>> {
        async { Ok(None) }
    }

    /// What takes events of other roles, for this thread: [`Role::CONSUMERS`].
    fn consumers(&self) -> Vec<Consumer> {
        Vec::new()
    }

    /// Completes outstanding notifications of other processes, after it has stopped serving.
    fn settle(&self) -> impl Future<Output = ()> {
        async {}
    }
}

/// A role behind a public one.
#[derive(Clone, Debug)]
pub struct Behind {
    /// Its name.
    pub name: &'static str,
    /// Its URLs; its name where it runs in the same process.
    pub addresses: Vec<String>,
}

/// What a role is built from.
#[derive(Clone)]
pub struct Parts {
    /// The settings.
    pub settings: Arc<Settings>,
    /// Whether tokens are required.
    pub mode: Mode,
    /// The verifier of tokens of this process.
    pub verifier: Arc<Verifier>,
    /// The roles behind a public one.
    pub behind: Vec<Behind>,
    /// Generates the OpenAPI document of the whole shop, which clients see below a path: OpenAPI 3.1 in JSON.
    pub document: fn(Mode, &str) -> Bytes,
}

/// The environment of a role on one worker thread.
pub struct Surroundings {
    /// The middleware.
    pub middleware: Middleware,
    /// The endpoints of the roles that it calls, by name: one for each address.
    pub endpoints: Vec<(&'static str, Rc<[Endpoint]>)>,
    /// The resilience state of those roles, by name.
    pub calls: Arc<[(&'static str, Arc<State>)]>,
    /// Adds the route of its health.
    pub health: Box<dyn FnOnce(&mut ServiceConfig)>,
    /// The settings.
    pub settings: Arc<Settings>,
    /// The TLS configuration of clients.
    pub tls: Option<Arc<ClientConfig>>,
    /// Finds the dead letters of all consumers that this process knows.
    pub dead_letters: Box<dyn Fn() -> DeadLetters>,
}

impl Surroundings {
    /// The application of a role with `routes`.
    pub fn app(self, routes: impl FnOnce(&mut ServiceConfig)) -> App<impl RoleService> {
        let health = self.health;
        self.middleware.app(move |config| {
            health(config);
            routes(config);
        })
    }

    /// The same, with `paths` that take bodies of any size.
    pub fn with_uploads(mut self, paths: &'static [&'static str]) -> Self {
        self.middleware.uploads = paths;
        self
    }

    /// The peer of the role `name`.
    ///
    /// # Panics
    /// When [`Role::asks`] does not name it.
    pub fn peer(&self, name: &str) -> Peer {
        self.optional_peer(name).unwrap_or_else(|| unreachable!("{name} is not asked"))
    }

    /// The peer of the role `name`, which [`Role::asks`] names and which may be [`Role::IS_OPTIONAL`]: `None` if it neither
    /// runs in this process nor has a URL.
    pub fn optional_peer(&self, name: &str) -> Option<Peer> {
        let endpoints = self.endpoints.iter().find(|(known, _)| *known == name);
        let calls = self.calls.iter().find(|(known, _)| *known == name);
        let peer = calls.zip(endpoints);
        peer.map(|((_, calls), (_, endpoints))| Peer::new(calls.clone(), endpoints.clone()))
    }
}
