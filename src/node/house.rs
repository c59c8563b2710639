//! The roles of one process, and the ways from one to the other.

use std::io;
use std::sync::Arc;

use actix_web::App;
use actix_web::dev::Server;
use actix_web::web::ServiceConfig;
use log::Level;
use rustls::ClientConfig;

use super::examine::Examined;
use super::tls::Tls;
use super::{Failure, access, asks_away, document, peer_url, store_key};
use crate::auth::{self, Guard, Hosts, Verifier};
use crate::cli::Role;
use crate::config::{self, Effective, Origins, PeerUrl, Settings};
use crate::contract::UserClient;
use crate::gateway::Gateway;
use crate::middleware::{Draining, Edge, HeadLimit, RoleService, SecurityHeaders, cors};
use crate::peer::{Peer, Trusted, http, local};
use crate::readiness::Check;
use crate::server::{self, Listener, Pulses, Readiness, Threads, Upstreams};
use crate::telemetry::Metrics;
use crate::{gateway, product, user};

/// The roles of this process. Every worker thread makes its own services of it.
#[derive(Clone)]
pub(super) struct House {
    settings: Arc<Settings>,
    pub(super) draining: Draining,
    pub(super) readiness: Readiness,
    metrics: Metrics,
    pub(super) pulses: Pulses,
    guard: Guard,
    roles: Vec<Role>,
    tls: Tls,
    gateway: Gateway,
    user: Option<user::Role>,
    product: Option<product::Role>,
    docs: gateway::Docs,
}

/// The gateway, by the settings alone.
pub(super) fn gateway(
    settings: &Settings,
    effective: &Effective,
) -> Result<Gateway, config::Error> {
    let gateway = Gateway::build(&settings.gateway, &["user", "product"]);
    gateway.map_err(|(key, problem)| effective.blame(&key, problem))
}

impl House {
    pub(super) async fn build(
        settings: Arc<Settings>,
        effective: &Effective,
        roles: &[Role],
        Examined { mode, tls, gateway }: Examined,
    ) -> Result<Self, config::Error> {
        let verifier = Arc::new(Verifier::new(&settings.auth));
        let mut product = None;
        if roles.contains(&Role::Product) {
            let built = product::Role::build(settings.product.clone()).await;
            let blame = |problem| effective.blame(store_key(Role::Product), problem);
            product = Some(built.map_err(blame)?);
        }
        let mut user = None;
        if roles.contains(&Role::User) {
            let (options, auth) = (settings.user.clone(), settings.auth.clone());
            let built = user::Role::build(options, auth, mode, verifier.clone()).await;
            user = Some(built.map_err(|(key, problem)| effective.blame(key, problem))?);
        }
        let guard = Guard::new(verifier, mode).of(access::hosts(&settings, mode));
        let draining = Draining::default();
        let readiness = Readiness::new(draining.clone());
        // Names that are no good would be so on every machine.
        let metrics = Metrics::new().unwrap_or_else(|error| unreachable!("{error}"));
        Ok(Self {
            metrics,
            pulses: Pulses::default(),
            readiness,
            gateway,
            product,
            user,
            draining,
            guard,
            docs: gateway::Docs::new(move || document::document(mode)),
            roles: roles.to_vec(),
            tls,
            settings,
        })
    }

    /// Serves `role` on `listener` with as many threads as the settings say.
    pub(super) fn serve(&self, role: Role, listener: Listener) -> io::Result<Server> {
        let house = self.clone();
        let options = &self.settings.server;
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let workers = if options.workers == 0 { cores() } else { options.workers };
        let threads = Threads { workers, pulses: self.pulses.clone() };
        match role {
            Role::Gateway => server::serve(listener, threads, options, move || house.gateway_app()),
            Role::User => server::serve(listener, threads, options, move || house.user_app()),
            Role::Product => server::serve(listener, threads, options, move || house.product_app()),
        }
    }

    pub(super) fn serve_management(
        &self,
        listener: Listener,
        roles: &[Role],
    ) -> io::Result<Server> {
        let (readiness, metrics) = (self.readiness.clone(), self.metrics.clone());
        let roles = roles.iter().map(|role| role.name()).collect::<Vec<_>>();
        let gateway = self.gateway.clone();
        let tell = move || serde_json::json!(gateway.upstreams());
        let upstreams: Upstreams =
            self.roles.contains(&Role::Gateway).then(|| std::sync::Arc::new(tell) as _);
        // It has nothing that is the shop's, and is asked for by whatever name it has where that is looked after.
        let mut edge = Edge { guard: self.guard.clone().of(Hosts::Any), ..self.edge("management") };
        // Probes come every few seconds and are nobody's news.
        edge.access = Level::Debug;
        let pulses = self.pulses.clone();
        let threads = Threads { workers: 1, pulses: pulses.clone() };
        server::serve(listener, threads, &self.settings.server, move || {
            let told = (readiness.clone(), pulses.clone(), metrics.clone());
            let (roles, upstreams) = (roles.clone(), upstreams.clone());
            edge.clone().app(server::management_routes(told, roles, upstreams))
        })
    }

    fn gateway_app(&self) -> App<impl RoleService + use<>> {
        let product = self.product_peer();
        let user = self.user_peer(&product);
        let peers = vec![("user", user), ("product", product)];
        let options = &self.settings.gateway;
        let security = Some(SecurityHeaders::new(options.hsts));
        let head_limit = HeadLimit::of_clients(self.settings.server.header_limit);
        let edge =
            Edge { head_limit, security, cors: cors_policy(options), ..self.edge("gateway") };
        let (docs, tls) = (self.docs.clone(), self.tls.client());
        self.gateway.app(edge, peers, &self.settings.transport, docs, tls)
    }

    fn user_app(&self) -> App<impl RoleService + use<>> {
        self.user_app_with(self.product_peer())
    }

    fn user_app_with(&self, product: Peer) -> App<impl RoleService + use<>> {
        let routes = self.user.as_ref().map(|user| user.routes(product));
        self.role_app("user", routes)
    }

    /// The application of the role that is called `name`, where it is in this process: its `routes`, and the one by
    /// which it tells how it is.
    fn role_app<F: FnOnce(&mut ServiceConfig)>(
        &self,
        name: &'static str,
        routes: Option<F>,
    ) -> App<impl RoleService + use<F>> {
        let health = server::health_route(self.readiness.clone(), name);
        self.edge(name).app(move |config| {
            health(config);
            routes.into_iter().for_each(|routes| routes(config));
        })
    }

    fn product_app(&self) -> App<impl RoleService + use<>> {
        let routes = self.product.as_ref().map(product::Role::routes).transpose();
        // House::build has seen that they can be had.
        let routes = routes.unwrap_or_else(|error| unreachable!("{error}"));
        self.role_app("product", routes)
    }

    /// The way to the user role: the role itself on this thread, or its URL.
    fn user_peer(&self, product: &Peer) -> Peer {
        let start =
            || local::Peer::start(self.user_app_with(product.clone()), &self.settings.transport);
        self.peer(Role::User, self.user.as_ref().map(|_| start()))
    }

    /// The way to the product role: the role itself on this thread, or its URL.
    fn product_peer(&self) -> Peer {
        let start = || local::Peer::start(self.product_app(), &self.settings.transport);
        self.peer(Role::Product, self.product.as_ref().map(|_| start()))
    }

    fn peer(&self, role: Role, here: Option<local::Peer>) -> Peer {
        match (here, peer_url(&self.settings, role).2) {
            (Some(peer), _) => Peer::Local(peer),
            (None, Some(url)) => {
                Peer::Http(http::Peer::new(url, &self.settings.transport, self.tls.client()))
            }
            (None, None) => unreachable!("check_peers has seen to it"),
        }
    }

    fn edge(&self, role: &'static str) -> Edge {
        Edge {
            role,
            request_timeout: self.settings.server.request_timeout,
            body_limit: self.settings.server.body_limit,
            body_timeout: self.settings.server.body_timeout,
            head_limit: HeadLimit::of_clients(self.settings.server.header_limit).behind(),
            draining: self.draining.clone(),
            access: Level::Info,
            guard: self.guard.clone(),
            trusted: Trusted::Everybody,
            metrics: self.metrics.clone(),
            security: None,
            cors: None,
        }
    }

    /// Keeps the verifier of this process up to date, on this thread. Never returns; where nobody can be asked,
    /// it does nothing.
    pub(super) async fn follow_keys(self) {
        if self.user.is_some() || self.settings.peers.user.is_some() {
            let here = self.user.as_ref().map(|user| {
                let app = self.edge("user").app(user.internal_routes());
                local::Peer::start(app, &self.settings.transport)
            });
            let users = UserClient::new(self.peer(Role::User, here));
            auth::follow(self.guard.verifier(), users, self.settings.auth.refresh_interval).await;
        }
    }

    /// Ends what the roles of this process owe to others, once they answer nobody any more.
    pub(super) async fn settle(&self) {
        if let Some(product) = &self.product {
            product.settle().await;
        }
    }

    /// Takes what `settings` say of the gateway's routes from now on.
    ///
    /// # Errors
    /// The setting that does not work; nothing has changed then.
    pub(super) fn reload(
        &self,
        settings: &Settings,
        effective: &Effective,
    ) -> Result<(), config::Error> {
        let tls = self.tls.client_for(settings, effective)?;
        let reloaded = self.gateway.reload(&settings.gateway, tls);
        reloaded.map_err(|(key, problem)| effective.blame(&key, problem))
    }

    /// What the roles of this process need, other roles among it.
    pub(super) fn checks(&self) -> Result<Vec<Check>, Failure> {
        let user = self.user.iter().flat_map(user::Role::checks);
        let product =
            self.product.as_ref().map(product::Role::checks).transpose().map_err(Failure::Other)?;
        let product = product.into_iter().flatten();
        let away = asks_away(&self.roles, self.guard.mode()).filter_map(|role| {
            let (key, _, url) = peer_url(&self.settings, role);
            Some(reachable(key, url?.clone(), &self.settings.transport, self.tls.client()))
        });
        let gateway = self.roles.contains(&Role::Gateway).then(|| self.gateway.checks());
        let gateway = gateway.into_iter().flatten();
        Ok(gateway.chain(user).chain(product).chain(self.keys_check()).chain(away).collect())
    }

    /// Whether tokens can be verified. Where that takes another process, what needs no token goes on without.
    fn keys_check(&self) -> Option<Check> {
        let ask = {
            let verifier = self.guard.verifier();
            move || {
                let verifier = verifier.clone();
                async move {
                    verifier.complete().await;
                    Ok(())
                }
            }
        };
        match (&self.user, &self.settings.peers.user) {
            (Some(_), _) => Some(Check::required("auth.keys", ask)),
            (None, Some(_)) => Some(Check::optional("auth.keys", ask)),
            (None, None) => None,
        }
    }
}

/// What scripts of other origins may do at the gateway; nothing where that is not set.
fn cors_policy(options: &config::Gateway) -> Option<cors::Policy> {
    let origins = match &options.cors_origins {
        Origins::None => return None,
        Origins::Any => None,
        Origins::Named(named) => Some(named.clone()),
    };
    Some(cors::Policy::new(&cors::Options {
        origins,
        methods: options.cors_methods.0.clone(),
        headers: options.cors_headers.0.clone(),
        expose: options.cors_expose.0.clone(),
        credentials: options.cors_credentials,
        max_age: options.cors_max_age,
    }))
}

/// Whether something listens at `url`, and is the right one where that shows. Optional: what does not ask that role
/// goes on.
fn reachable(
    name: &'static str,
    url: PeerUrl,
    options: &config::Transport,
    tls: Option<Arc<ClientConfig>>,
) -> Check {
    let way = http::Way::new(&url, tls);
    let patience = options.connect_timeout;
    Check::optional(name, move || way.clone().probe(patience))
}
