//! Routing on one worker thread: the route table with this thread's connections to the upstreams.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use rustls::ClientConfig;

use super::Gateway;
use super::routes::{Route, RouteMatch, RouteTable};
use crate::config::{PeerUrl, Transport};
use crate::peer::{Endpoint, Peer, http};

/// A route table with one thread's peers.
pub(super) struct WorkerRoutes {
    version: u64,
    pub(super) table: Arc<RouteTable>,
    /// The upstream of each route.
    peers: Vec<Peer>,
    /// The names of the routes, for the log.
    pub(super) names: Vec<Rc<str>>,
}

/// A request's route, and the table that it belongs to, which a reload may replace.
#[derive(Clone)]
pub(super) struct RoutedRequest {
    pub(super) worker: Rc<WorkerRoutes>,
    pub(super) index: usize,
}

impl RoutedRequest {
    pub(super) fn route(&self) -> &Route {
        self.worker.table.route(self.index)
    }

    /// Whether the upstream is a role, which does not know the proxies in front of the gateway.
    pub(super) fn is_role(&self) -> bool {
        self.worker.table.upstreams[self.route().upstream].urls.is_empty()
    }

    pub(super) fn upstream(&self) -> &Peer {
        &self.worker.peers[self.index]
    }
}

/// The router of a worker thread, which follows the gateway's route table.
pub(super) struct Router {
    gateway: Gateway,
    roles: Vec<(&'static str, Rc<[Endpoint]>)>,
    transport: Transport,
    tls: Option<Arc<ClientConfig>>,
    current: RefCell<Rc<WorkerRoutes>>,
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").finish_non_exhaustive()
    }
}

impl Router {
    /// The router of `gateway`, with the endpoints of `roles`.
    pub(super) fn new(
        gateway: Gateway,
        roles: Vec<(&'static str, Rc<[Endpoint]>)>,
        transport: Transport,
        tls: Option<Arc<ClientConfig>>,
    ) -> Self {
        let (version, table) = gateway.table();
        let routes = build(version, table, &roles, &transport, &tls);
        Self { gateway, roles, transport, tls, current: RefCell::new(Rc::new(routes)) }
    }

    /// The newest routes. Requests under way keep theirs.
    pub(super) fn current(&self) -> Rc<WorkerRoutes> {
        let mut current = self.current.borrow_mut();
        if current.version != self.gateway.version() {
            let (version, table) = self.gateway.table();
            *current = Rc::new(build(version, table, &self.roles, &self.transport, &self.tls));
        }
        current.clone()
    }

    /// The route of a request with `method` for `path`.
    pub(super) fn find(
        &self,
        method: &actix_web::http::Method,
        path: &str,
    ) -> Result<RoutedRequest, RouteMatch> {
        let worker = self.current();
        match worker.table.find(method, path) {
            RouteMatch::Route(index) => Ok(RoutedRequest { worker, index }),
            other => Err(other),
        }
    }
}

fn build(
    version: u64,
    table: Arc<RouteTable>,
    roles: &[(&'static str, Rc<[Endpoint]>)],
    transport: &Transport,
    tls: &Option<Arc<ClientConfig>>,
) -> WorkerRoutes {
    let endpoints = table.upstreams.iter().map(|upstream| {
        if upstream.urls.is_empty() {
            // RouteTable::compile has seen that there is one.
            let role = roles.iter().find(|(name, _)| *name == upstream.name);
            return role.map(|(_, endpoints)| endpoints.clone()).unwrap_or_else(|| Rc::new([]));
        }
        let tls = table.tls.as_ref().or(tls.as_ref());
        let client = |url: &PeerUrl| http::Peer::new(url.uri(), transport, tls.cloned());
        let endpoints = upstream.urls.iter().map(client).map(Endpoint::http);
        endpoints.collect::<Rc<_>>()
    });
    let endpoints = endpoints.collect::<Vec<_>>();
    let peer = |route: &Route| {
        let state = table.upstreams[route.upstream].state.clone();
        let endpoints = endpoints[route.upstream].iter().cloned();
        let endpoints = endpoints.map(|endpoint| match (endpoint, route.read_timeout) {
            (Endpoint::Http { peer, secret }, Some(patience)) => {
                Endpoint::Http { peer: peer.with_read_timeout(patience), secret }
            }
            (endpoint, _) => endpoint,
        });
        Peer::new(state, endpoints.collect::<Rc<_>>())
    };
    let peers = table.routes().iter().map(peer).collect();
    let names = table.routes().iter().map(|route| Rc::from(route.name.as_str())).collect();
    WorkerRoutes { version, table, peers, names }
}
