//! The gateway role: the one address that clients know.

mod cache;
mod compress;
mod docs;
mod forwarding;
mod health;
pub mod limit;
mod path;
mod plan;
mod prefix;
mod proxy;
mod rewrite;
mod table;
pub mod upstream;

use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use actix_service::fn_service;
use actix_web::web::{Data, ServiceConfig};
use actix_web::{App, HttpResponse, Responder};
use rustls::ClientConfig;
use serde::Serialize;
use utoipa::openapi::OpenApi;
use utoipa::{OpenApi as _, ToSchema};

use crate::auth::{Mode, anyone, public};
use crate::config::{self, Networks, Transport};
use crate::middleware::{self, Edge, Path, RoleService, path};
use crate::peer::{Peer, Trusted};
use crate::readiness::Check;
pub use docs::Docs;
use health::Roles;
use limit::Limiter;
use plan::Plan;
use proxy::{Proxy, miss};
use table::Tables;

use upstream::Report;

/// The role, as far as a process has one of it; cheap to clone. Each worker thread takes its [`Gateway::app`].
#[derive(Clone, Debug)]
pub struct Gateway {
    roles: &'static [&'static str],
    trusted_proxies: Networks,
    limits: limit::Shared,
    compress: bool,
    scheme: &'static str,
    current: Arc<Current>,
}

#[derive(Debug)]
struct Current {
    version: AtomicU64,
    plan: RwLock<Arc<Plan>>,
}

impl Gateway {
    /// The gateway that `options` describe, in a process that reaches `roles` by name.
    ///
    /// # Errors
    /// The setting that does not work, and what is wrong with it.
    pub fn build(
        options: &config::Gateway,
        roles: &'static [&'static str],
    ) -> Result<Self, (String, String)> {
        let plan = RwLock::new(Arc::new(Plan::compile(options, roles)?));
        let current = Arc::new(Current { version: AtomicU64::new(0), plan });
        let limits = limit::Shared::new(options);
        limits.open().map_err(|problem| ("gateway.limits_url".to_owned(), problem))?;
        let trusted_proxies = options.trusted_proxies.clone();
        let compress = options.compress;
        let scheme = if options.tls_certificate.is_some() { "https" } else { "http" };
        Ok(Self { roles, trusted_proxies, limits, compress, scheme, current })
    }

    /// Takes other routes from now on, on all threads; requests that have begun go on with those of before. What is
    /// elsewhere over `https` is reached with `tls`.
    ///
    /// # Errors
    /// The setting that does not work, and what is wrong with it; nothing has changed then.
    pub fn reload(
        &self,
        options: &config::Gateway,
        tls: Option<Arc<ClientConfig>>,
    ) -> Result<(), (String, String)> {
        let mut plan = Plan::compile(options, self.roles)?;
        plan.tls = tls;
        let (_, before) = self.plan();
        plan.inherit(&before);
        before.answers.hand_over(&plan.answers);
        *self.current.plan.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(plan);
        self.current.version.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// What it needs.
    pub fn checks(&self) -> Vec<Check> {
        let counts = self.limiter().readiness().map(|check| {
            let (gateway, check) = (self.clone(), Rc::new(check));
            Check::optional(check.name, move || {
                let check = gateway.plan().1.has_limits().then(|| check.clone());
                async move {
                    match check {
                        Some(check) => check.ask().await,
                        None => Ok(()),
                    }
                }
            })
        });
        counts.into_iter().collect()
    }

    /// How its upstreams are.
    pub fn upstreams(&self) -> Vec<Report> {
        self.plan().1.upstreams.iter().map(|upstream| upstream.state.report()).collect()
    }

    fn limiter(&self) -> Limiter {
        // Gateway::build has seen that it can be had.
        self.limits.open().unwrap_or_else(|error| unreachable!("{error}"))
    }

    fn version(&self) -> u64 {
        self.current.version.load(Ordering::Acquire)
    }

    fn plan(&self) -> (u64, Arc<Plan>) {
        // The version first: a plan that comes in between is taken again.
        let version = self.version();
        let plan = self.current.plan.read().unwrap_or_else(PoisonError::into_inner);
        (version, plan.clone())
    }

    /// The application of one worker thread behind `edge`, which reaches the roles by `peers`, and what is elsewhere over
    /// `https` with `tls`.
    pub fn app(
        &self,
        edge: Edge,
        peers: Vec<(&'static str, Peer)>,
        transport: &Transport,
        docs: Docs,
        tls: Option<Arc<ClientConfig>>,
    ) -> App<impl RoleService + use<>> {
        let trusted_proxies = self.trusted_proxies.clone();
        let roles = Data::new(Roles(peers.clone()));
        let tables = Tables::new(self.clone(), peers, transport.clone(), tls);
        let bounds = edge.bounds();
        let proxy = Rc::new(Proxy {
            tables,
            limiter: self.limiter(),
            own: paths().iter().map(Path::pattern).collect(),
            compress: self.compress,
            scheme: self.scheme,
            trusted_proxies: trusted_proxies.clone(),
            bounds,
        });
        let edge = Edge { trusted: Trusted::Proxies(trusted_proxies), ..edge };
        edge.app_behind(proxy, |routes| configure(routes, roles, docs))
    }
}

/// Every route of the role itself; all others are the operator's.
fn configure(routes: &mut ServiceConfig, roles: Data<Roles>, docs: Docs) {
    routes.app_data(roles).app_data(Data::new(docs));
    for path in paths() {
        routes.service(path);
    }
    routes.default_service(fn_service(miss));
}

/// What the gateway answers itself. None has a parameter: all that is proxied is held against these paths first.
fn paths() -> Vec<Path> {
    vec![
        path("/").with_any_query().get(anyone(), welcome),
        path("/health").get(public(), health::show),
        path("/openapi.json").get(public(), docs::document),
        path("/docs").with_any_query().get(public(), docs::page),
        path("/docs/page.js").with_any_query().get(public(), docs::script),
        path("/docs/page.css").with_any_query().get(public(), docs::style),
    ]
}

/// What handlers say of themselves.
#[derive(utoipa::OpenApi)]
#[openapi(
    paths(welcome, health::show, docs::document, docs::page, docs::script, docs::style),
    tags((name = "gateway", description = "The shop's own address"))
)]
struct Written;

/// The role's part of the OpenAPI document, where `auth.mode` is `mode`. What else it leads to is not its own.
pub fn openapi(mode: Mode) -> OpenApi {
    middleware::document(Written::openapi(), &paths(), mode)
}

/// That the shop is there.
#[derive(Serialize, ToSchema)]
struct Welcome {
    #[schema(value_type = String, example = "API Gateway is Running")]
    message: &'static str,
}

/// Says that the shop is there.
///
/// It is answered by the gateway alone, and says nothing of the roles.
#[utoipa::path(
    get,
    path = "/",
    operation_id = "welcome",
    tag = "gateway",
    responses((status = 200, description = "It is", body = Welcome))
)]
async fn welcome() -> impl Responder {
    HttpResponse::Ok().json(Welcome { message: "API Gateway is Running" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_documented_and_nothing_else() {
        assert_eq!(middleware::differences(&openapi(Mode::Enforced), &paths()), [""; 0]);
    }
}
