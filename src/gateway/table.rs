//! The plan as one worker thread uses it: with ways to the upstreams, which do not leave their thread.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use rustls::ClientConfig;

use super::Gateway;
use super::plan::{Found, Plan, Route};
use crate::config::Transport;
use crate::peer::{Endpoint, Peer, http};

/// One plan and the ways to its upstreams.
pub(super) struct Table {
    version: u64,
    pub(super) plan: Arc<Plan>,
    /// The upstream of each route.
    peers: Vec<Peer>,
    /// What the routes are called in the log.
    pub(super) names: Vec<Rc<str>>,
}

/// A request's route, and the table that it is of: a later one may have others.
#[derive(Clone)]
pub(super) struct Routed {
    pub(super) table: Rc<Table>,
    pub(super) place: usize,
}

impl Routed {
    pub(super) fn route(&self) -> &Route {
        self.table.plan.route(self.place)
    }

    /// Whether a role answers, which knows nothing of what is before the gateway.
    pub(super) fn is_role(&self) -> bool {
        self.table.plan.upstreams[self.route().upstream].urls.is_empty()
    }

    pub(super) fn upstream(&self) -> &Peer {
        &self.table.peers[self.place]
    }
}

/// The table of a worker thread, which follows the gateway's plan.
pub(super) struct Tables {
    gateway: Gateway,
    roles: Vec<(&'static str, Endpoint)>,
    transport: Transport,
    tls: Option<Arc<ClientConfig>>,
    current: RefCell<Rc<Table>>,
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tables").finish_non_exhaustive()
    }
}

impl Tables {
    /// Those of `gateway`, which reaches `roles` as given.
    pub(super) fn new(
        gateway: Gateway,
        roles: Vec<(&'static str, Endpoint)>,
        transport: Transport,
        tls: Option<Arc<ClientConfig>>,
    ) -> Self {
        let (version, plan) = gateway.plan();
        let table = build(version, plan, &roles, &transport, &tls);
        Self { gateway, roles, transport, tls, current: RefCell::new(Rc::new(table)) }
    }

    /// The table of the newest plan. Requests that have begun go on with theirs.
    pub(super) fn current(&self) -> Rc<Table> {
        let mut current = self.current.borrow_mut();
        if current.version != self.gateway.version() {
            let (version, plan) = self.gateway.plan();
            *current = Rc::new(build(version, plan, &self.roles, &self.transport, &self.tls));
        }
        current.clone()
    }

    /// The route of a request by `method` for `path`.
    pub(super) fn find(
        &self,
        method: &actix_web::http::Method,
        path: &str,
    ) -> Result<Routed, Found> {
        let table = self.current();
        match table.plan.find(method, path) {
            Found::Route(place) => Ok(Routed { table, place }),
            other => Err(other),
        }
    }
}

fn build(
    version: u64,
    plan: Arc<Plan>,
    roles: &[(&'static str, Endpoint)],
    transport: &Transport,
    tls: &Option<Arc<ClientConfig>>,
) -> Table {
    let endpoints = plan.upstreams.iter().map(|upstream| {
        if upstream.urls.is_empty() {
            // Plan::compile has seen that there is one.
            let role = roles.iter().find(|(name, _)| *name == upstream.name);
            return role.map(|(_, endpoint)| endpoint.clone()).into_iter().collect();
        }
        let tls = plan.tls.as_ref().or(tls.as_ref());
        let endpoint = |url| Endpoint::Http(http::Peer::new(url, transport, tls.cloned()));
        let endpoints = upstream.urls.iter().map(endpoint);
        endpoints.collect::<Vec<_>>()
    });
    let endpoints = endpoints.collect::<Vec<_>>();
    let peer = |route: &Route| {
        let state = plan.upstreams[route.upstream].state.clone();
        let endpoints = endpoints[route.upstream].iter().cloned();
        let endpoints = endpoints.map(|endpoint| match (endpoint, route.read_timeout) {
            (Endpoint::Http(peer), Some(patience)) => Endpoint::Http(peer.with_patience(patience)),
            (endpoint, _) => endpoint,
        });
        Peer::new(state, endpoints.collect::<Rc<_>>())
    };
    let peers = plan.routes().iter().map(peer).collect();
    let names = plan.routes().iter().map(|route| Rc::from(route.name.as_str())).collect();
    Table { version, plan, peers, names }
}
