//! What a role is to the process that runs it.

use std::net::SocketAddr;
use std::sync::Arc;

use actix_web::App;
use actix_web::web::{Bytes, ServiceConfig};
use rustls::ClientConfig;
use utoipa::openapi::OpenApi;

use crate::auth::{Mode, Verifier};
use crate::config::{PeerUrl, SettingError, Settings};
use crate::middleware::{Edge, RoleService};
use crate::peer::{Endpoint, Peer, State};
use crate::readiness::Check;

/// A role: what it is called, what it needs, and what it does. A process has one value of it, of which every worker thread
/// takes a clone.
pub trait Role: Clone + Send + 'static {
    /// What the command line, the settings and other roles call it.
    const NAME: &'static str;
    /// What `--help` says of it.
    const ABOUT: &'static str;
    /// Whether it answers clients. It listens even where every role is in one process, and shows them a certificate of
    /// their own.
    const IS_PUBLIC: bool = false;
    /// The setting that says where its store is.
    const STORE: &'static str = "";
    /// The setting that says where it is asked when it runs in another process.
    const PEER: &'static str = "";

    /// The roles that it asks; it starts after those that it asks in either mode.
    fn asks(_mode: Mode) -> &'static [&'static str] {
        &[]
    }

    /// Where it listens, and where a process whose first role it is answers `/readyz` and the like: the settings
    /// `NAME.listen` and `NAME.management`.
    fn addresses(settings: &Settings) -> (SocketAddr, SocketAddr);

    /// What that setting says.
    fn url(_settings: &Settings) -> Option<&PeerUrl> {
        None
    }

    /// Looks at its settings alone, whether it runs in this process or not; `behind` are the names of the roles that are
    /// behind a public one.
    ///
    /// # Errors
    /// The setting that does not work.
    fn validate(_settings: &Settings, _behind: &[&'static str]) -> Result<(), SettingError> {
        Ok(())
    }

    /// Looks at what else stops [`Role::build`], and makes nothing.
    ///
    /// # Errors
    /// The setting that does not work.
    fn check(_parts: &Parts) -> impl Future<Output = Result<(), SettingError>> {
        async { Ok(()) }
    }

    /// The role, once what it needs of this process is there.
    ///
    /// # Errors
    /// The setting that does not work.
    fn build(parts: &Parts) -> impl Future<Output = Result<Self, SettingError>>;

    /// Brings its tables up to date; the migrations that were applied.
    ///
    /// # Errors
    /// Why it could not, by the setting of its store.
    fn migrate(_settings: &Settings) -> impl Future<Output = Result<Vec<String>, SettingError>> {
        async { Ok(Vec::new()) }
    }

    /// The application of one worker thread.
    fn app(self, surroundings: Surroundings) -> App<impl RoleService + use<Self>>;

    /// What it needs to be ready, other roles excepted.
    fn checks(&self) -> Vec<Check>;

    /// Its part of the OpenAPI document.
    fn openapi(mode: Mode) -> OpenApi;

    /// Ends what it owes to others, once it answers nobody any more.
    fn settle(&self) -> impl Future<Output = ()> {
        async {}
    }
}

/// What roles are made of.
#[derive(Clone)]
pub struct Parts {
    /// The settings.
    pub settings: Arc<Settings>,
    /// Whether everybody is asked who they are.
    pub mode: Mode,
    /// What verifies tokens in this process.
    pub verifier: Arc<Verifier>,
    /// The names of the roles that are behind a public one.
    pub behind: Vec<&'static str>,
    /// Makes the OpenAPI document of the whole shop: JSON, OpenAPI 3.1.
    pub document: fn(Mode) -> Bytes,
}

/// What is around a role on one worker thread.
pub struct Surroundings {
    /// What is done with each request before and after its handler.
    pub edge: Edge,
    /// Where the roles are that it asks, by name.
    pub endpoints: Vec<(&'static str, Endpoint)>,
    /// What is known of roles that are asked, by name.
    pub calls: Arc<[(&'static str, Arc<State>)]>,
    /// Adds the route by which it tells other roles how it is.
    pub health: Box<dyn FnOnce(&mut ServiceConfig)>,
    /// The settings.
    pub settings: Arc<Settings>,
    /// How what is at `https` is asked.
    pub tls: Option<Arc<ClientConfig>>,
}

impl Surroundings {
    /// The application of a role whose routes are `routes`.
    pub fn app(self, routes: impl FnOnce(&mut ServiceConfig)) -> App<impl RoleService> {
        let health = self.health;
        self.edge.app(move |config| {
            health(config);
            routes(config);
        })
    }

    /// The way to the role that is called `name`.
    ///
    /// # Panics
    /// When the role does not say that it asks it.
    pub fn peer(&self, name: &str) -> Peer {
        let endpoint = self.endpoints.iter().find(|(known, _)| *known == name);
        let calls = self.calls.iter().find(|(known, _)| *known == name);
        let peer = calls
            .zip(endpoint)
            .map(|((_, calls), (_, endpoint))| Peer::new(calls.clone(), [endpoint.clone()]));
        peer.unwrap_or_else(|| unreachable!("{name} is not asked"))
    }
}
