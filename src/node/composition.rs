//! A node: the roles of one process, and how they reach each other.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use actix_web::App;
use actix_web::dev::Server;
use futures_util::future::select_ok;
use futures_util::{FutureExt as _, TryFutureExt as _};
use log::Level;
use rustls::ClientConfig;

use super::roles::{Roles, table};
use super::tls::Tls;
use super::validation::Validated;
use super::{Role, access, asks_away, start_order, topology};
use crate::auth::{self, Guard, Mode};
use crate::config::{self, BrokerUrl, Effective, EventsUrl, PeerUrl, Settings};
use crate::contract::UserClient;
use crate::events::{self, Broker, Bus};
use crate::gateway::Gateway;
use crate::limits;
use crate::middleware::{Draining, HeadLimit, Middleware, RoleService};
use crate::peer::{Endpoint, Peer, State, Trusted, http, local};
use crate::readiness::Check;
use crate::role::{self, Parts, Surroundings};
use crate::server::{
    self, Heartbeats, Listener, Neighbours, Readiness, Reporter, Reports, Threads,
};
use crate::storage;
use crate::telemetry::{Metrics, traces};

/// The endpoints of a role, and its name.
type NamedEndpoints = (&'static str, Rc<[Endpoint]>);

/// One process with its roles; cheap to clone. Every worker thread makes its own services from it.
#[derive(Clone)]
pub(super) struct Node {
    parts: Parts,
    pub(super) draining: Draining,
    pub(super) readiness: Readiness,
    metrics: Metrics,
    pub(super) heartbeats: Heartbeats,
    guard: Guard,
    running: Vec<Role>,
    roles: Roles,
    /// The resilience state of the roles that those here call, by name.
    calls: Arc<[(&'static str, Arc<State>)]>,
    tls: Tls,
    bus: Bus,
}

/// Serves any of the roles, each of which has an application of its own type.
macro_rules! serve {
    ($($variant:ident $field:ident $role:ty,)*) => {
        /// Serves `role` on `listener` with as many threads as the settings say.
        pub(super) fn serve(&self, role: Role, listener: Listener) -> io::Result<Server> {
            let node = self.clone();
            let options = &self.parts.settings.server;
            let cores = || std::thread::available_parallelism().map_or(1, usize::from);
            let workers = if options.workers == 0 { cores() } else { options.workers };
            let threads = Threads { workers, heartbeats: self.heartbeats.clone() };
            match role {
                $(Role::$variant => {
                    let role = built(self.roles.$field.as_ref());
                    server::serve(listener, threads, options, move || {
                        server::measure_queue_time(Role::$variant.name());
                        node.app(role.clone(), node.endpoints(Role::$variant))
                    })
                })*
            }
        }

        /// The endpoints of `role` for this thread: the role itself, which calls others at `known`, or one for each URL.
        fn endpoints_of(&self, role: Role, known: &[NamedEndpoints]) -> Rc<[Endpoint]> {
            let transport = &self.parts.settings.transport;
            match role {
                $(Role::$variant if self.roles.$field.is_some() => {
                    let role = built(self.roles.$field.as_ref());
                    let app = self.app(role, known.to_vec());
                    Rc::new([Endpoint::Local(local::Peer::start(app, transport))])
                })*
                _ => {
                    let urls = role.urls(&self.parts.settings).iter();
                    let peer = |url: &PeerUrl| http::Peer::new(url.uri(), transport, self.tls.client());
                    let secret = self.parts.settings.auth.internal_secret.header();
                    urls.map(|url| Endpoint::Http { peer: peer(url), secret: secret.clone() }).collect()
                }
            }
        }
    };
}

fn built<R: Clone>(role: Option<&R>) -> R {
    role.cloned().unwrap_or_else(|| unreachable!("only roles of this process are served"))
}

impl Node {
    table!(serve);

    pub(super) async fn build(
        effective: &Effective,
        running: &[Role],
        Validated { parts, tls, internal }: Validated,
    ) -> Result<Self, config::Error> {
        let roles = Roles::build(running, &parts).await;
        let roles = roles.map_err(|error| effective.explain(error))?;
        let guard = Guard::new(parts.verifier.clone(), parts.mode, internal);
        let draining = Draining::default();
        let calls = calls(running, &parts.settings).collect::<Arc<_>>();
        let own = [server::callees(reporter(&roles, &calls)), tls.collector()];
        let layers = server::collectors().into_iter();
        let layers = layers.chain(limits::collectors()).chain(storage::collectors());
        let layers = layers.chain(events::collectors()).chain(traces::collectors());
        let collectors = roles.collectors().into_iter().chain(own).chain(layers);
        // The names are constants: one that is there twice would fail every start.
        let metrics = Metrics::new(collectors.collect());
        let metrics = metrics.unwrap_or_else(|error| unreachable!("{error}"));
        Ok(Self {
            metrics,
            heartbeats: Heartbeats::default(),
            readiness: Readiness::new(draining.clone()),
            guard: guard.for_hosts(access::hosts(&parts.settings, parts.mode)),
            draining,
            bus: bus(running, &parts.settings, &tls),
            calls,
            running: running.to_vec(),
            roles,
            tls,
            parts,
        })
    }

    pub(super) fn serve_management(
        &self,
        listener: Listener,
        roles: &[Role],
    ) -> io::Result<Server> {
        let (readiness, metrics) = (self.readiness.clone(), self.metrics.clone());
        let roles = roles.iter().map(|role| role.name()).collect::<Vec<_>>();
        let report = reporter(&self.roles, &self.calls);
        let mut middleware = Middleware {
            guard: self.guard.clone().for_hosts(access::management_hosts(listener.address)),
            ..self.middleware("management")
        };
        // Probes come every few seconds.
        middleware.access = Level::Debug;
        let has_debug = self.parts.settings.management.debug;
        if has_debug {
            middleware.request_timeout = middleware.request_timeout.max(server::LONGEST_PROFILE);
        }
        let topology = topology::of(&self.running, &self.parts.settings, self.guard.mode());
        let heartbeats = self.heartbeats.clone();
        let threads = Threads { workers: 1, heartbeats: heartbeats.clone() };
        let node = self.clone();
        server::serve(listener, threads, &self.parts.settings.server, move || {
            let state = (readiness.clone(), heartbeats.clone(), metrics.clone());
            middleware.clone().app(server::management_routes(
                state,
                roles.clone(),
                report.clone(),
                (topology.clone(), node.neighbours()),
                has_debug,
            ))
        })
    }

    /// The roles of other processes that those here call, for this thread.
    fn neighbours(&self) -> Neighbours {
        let away = asks_away(&self.running, self.guard.mode());
        let away = away.map(|role| (role.name(), self.endpoints_of(role, &[])));
        Neighbours(away.filter(|(_, endpoints)| !endpoints.is_empty()).collect())
    }

    /// The application of `role` on this thread, which calls others at `endpoints`.
    fn app<R: role::Role>(
        &self,
        role: R,
        endpoints: Vec<NamedEndpoints>,
    ) -> App<impl RoleService + use<R>> {
        let all = Role::ALL.iter().map(|role| role.name()).collect();
        let (bus, roles) = (self.bus.clone(), self.roles.clone());
        role.app(Surroundings {
            dead_letters: Box::new(move || bus.dead_letters(roles.logs())),
            middleware: self.middleware(R::NAME),
            endpoints,
            calls: self.calls.clone(),
            health: Box::new(server::health_route(self.readiness.clone(), R::NAME, all)),
            settings: self.parts.settings.clone(),
            tls: self.tls.client(),
        })
    }

    /// The endpoints for this thread of the roles that `role` calls, directly or through others, each after those that it calls.
    fn endpoints(&self, role: Role) -> Vec<NamedEndpoints> {
        let mut asking = vec![role];
        for other in start_order().into_iter().rev() {
            if asking.iter().any(|role| role.asks(Mode::Open).any(|asked| asked == other)) {
                asking.push(other);
            }
        }
        let mut endpoints = Vec::new();
        for asked in asking.into_iter().skip(1).rev() {
            let found = self.endpoints_of(asked, &endpoints);
            if !found.is_empty() {
                endpoints.push((asked.name(), found));
            }
        }
        endpoints
    }

    fn middleware(&self, role: &'static str) -> Middleware {
        let options = &self.parts.settings.server;
        Middleware {
            role,
            scheme: self.tls.scheme(role),
            request_timeout: options.request_timeout,
            body_limit: options.body_limit,
            body_timeout: options.body_timeout,
            head_limit: HeadLimit::of_clients(options.header_limit).behind(),
            draining: self.draining.clone(),
            access: Level::Info,
            guard: self.guard.clone(),
            trusted: Trusted::Everybody,
            metrics: self.metrics.clone(),
            security: None,
            cors: None,
            uploads: &[],
        }
    }

    /// Keeps the verifier of this process up to date, on this thread. Never returns if there is a user role to ask.
    pub(super) async fn follow_keys(self) {
        let interval = self.parts.settings.auth.refresh_interval;
        if let Some(user) = &self.roles.user {
            return auth::follow(self.guard.verifier(), interval, user.key_feed()).await;
        }
        let calls = self.calls.iter().find(|(name, _)| *name == Role::User.name());
        if let Some((_, calls)) = calls {
            let endpoints = self.endpoints_of(Role::User, &[]);
            let users = UserClient::new(Peer::new(calls.clone(), endpoints));
            auth::follow(self.guard.verifier(), interval, async || auth::ask(&users).await).await;
        }
    }

    /// Starts the background tasks of the roles of this process, on this thread.
    pub(super) fn start_tasks(&self) {
        self.roles.start_tasks(&|name| {
            let role = Role::ALL.iter().find(|role| role.name() == name);
            let calls = self.calls.iter().find(|(known, _)| *known == name);
            let asked = role.zip(calls).map(|(role, (_, calls))| {
                let endpoints = self.endpoints_of(*role, &[]);
                Peer::new(calls.clone(), endpoints)
            });
            asked.unwrap_or_else(|| unreachable!("{name} is not asked"))
        });
        events::start(&self.bus, self.roles.logs(), self.roles.consumers());
    }

    /// Completes outstanding notifications of other processes, after the roles have stopped serving.
    pub(super) async fn settle(&self) {
        self.roles.settle().await;
    }

    /// Replaces the gateway's routes by those of `settings`.
    ///
    /// # Errors
    /// The setting that does not work; nothing has changed then.
    pub(super) fn reload(
        &self,
        settings: &Settings,
        effective: &Effective,
    ) -> Result<(), config::Error> {
        let explain = |error| effective.explain(error);
        let tls = self.tls.client_for(settings, effective)?;
        match &self.roles.gateway {
            Some(gateway) => gateway.reload(&settings.gateway, tls).map_err(explain),
            None => Role::Gateway.validate(settings).map_err(explain),
        }
    }

    /// Checks of the dependencies of this process, including roles of other processes.
    pub(super) fn checks(&self) -> Vec<Check> {
        let settings = &self.parts.settings;
        let away = asks_away(&self.running, self.guard.mode()).filter_map(|role| {
            let urls = role.urls(settings);
            let check = || reachable(role.peer_key(), urls, &settings.transport, self.tls.client());
            match urls.is_empty() {
                false => Some(check()),
                true => role.is_optional().then(|| {
                    Check::optional(role.peer_key(), async || Err("it has no URL".into()))
                }),
            }
        });
        let checks = self.roles.checks().into_iter().chain(self.keys_check());
        let takes_part = |role: &Role| role.publishes() || !role.consumers().is_empty();
        let bus = self.bus.check().filter(|_| self.running.iter().any(takes_part));
        checks.chain(bus).chain(away).collect()
    }

    /// Whether tokens can be verified. Optional if the keys come from another process: requests without a token still work.
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
        let is_away = !Role::User.urls(&self.parts.settings).is_empty();
        match &self.roles.user {
            Some(_) => Some(Check::required("auth.keys", ask)),
            None => is_away.then(|| Check::optional("auth.keys", ask)),
        }
    }
}

/// Reports on the upstreams of the gateway in `roles`, and on the peers in `calls`.
fn reporter(roles: &Roles, calls: &Arc<[(&'static str, Arc<State>)]>) -> Reporter {
    let (gateway, peers) = (roles.gateway.clone(), calls.clone());
    Arc::new(move || Reports {
        upstreams: gateway.as_ref().map(Gateway::upstreams),
        peers: peers.iter().map(|(_, state)| state.report()).collect(),
    })
}

/// What carries the events of a process that runs `running`.
fn bus(running: &[Role], settings: &Settings, tls: &Tls) -> Bus {
    if let EventsUrl::Amqp(url) = &settings.events.url {
        return Bus::Broker(broker(url, tls.broker(), Role::ALL));
    }
    let is_away = |role: &Role| !role.consumers().is_empty() && !running.contains(role);
    match running.iter().any(|role| role.publishes()) && Role::ALL.iter().any(is_away) {
        true => Bus::Missing,
        false => Bus::Memory,
    }
}

/// The broker at `url`, with the consumers of `roles`.
pub(super) fn broker(url: &BrokerUrl, tls: Option<Arc<ClientConfig>>, roles: &[Role]) -> Broker {
    let publishers = Role::ALL.iter().filter(|role| role.publishes()).map(|role| role.name());
    let consumers = roles.iter().flat_map(|role| role.consumers()).copied().collect();
    Broker::new(url.clone(), tls, publishers.collect(), consumers)
}

/// The resilience state of each role that a role `running` here asks by itself, and of the user role where it runs
/// elsewhere: every process asks it for keys.
fn calls(
    running: &[Role],
    settings: &Settings,
) -> impl Iterator<Item = (&'static str, Arc<State>)> {
    Role::ALL.iter().filter_map(move |asked| {
        let asks =
            |role: &&Role| !role.is_public() && role.asks(Mode::Open).any(|role| role == *asked);
        let addresses = asked.called_at(running, settings);
        // An optional role that has neither is not called.
        (!addresses.is_empty()).then_some(())?;
        let is_away = !running.contains(asked);
        let for_keys = *asked == Role::User && is_away;
        let caller = running.iter().find(asks).map(|role| role.name());
        let caller = caller.or(for_keys.then_some("auth"))?;
        let name = asked.name();
        let options = settings.peers.resilience.get(name).unwrap_or(&settings.resilience).clone();
        Some((name, Arc::new(State::new(caller, name, addresses, options))))
    })
}

/// Whether something listens at one of `urls`, and is the right one where that shows. Optional: what does not ask that
/// role goes on.
fn reachable(
    name: &'static str,
    urls: &[PeerUrl],
    options: &config::Transport,
    tls: Option<Arc<ClientConfig>>,
) -> Check {
    let connectors = urls.iter().map(|url| http::Connector::new(url.uri(), tls.clone()));
    let connectors = connectors.collect::<Vec<_>>();
    let patience = options.connect_timeout;
    Check::optional(name, move || {
        let probes =
            connectors.iter().map(|connector| connector.clone().probe(patience).boxed_local());
        select_ok(probes).map_ok(|_| ()).err_into()
    })
}
