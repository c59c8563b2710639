//! The gateway role: the one address that clients know.

mod cache;
mod compress;
mod docs;
mod forwarding;
mod health;
mod pages;
pub mod path;
mod prefix;
mod proxy;
mod rewrite;
mod router;
mod routes;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use actix_service::fn_service;
use actix_web::http::header::{HeaderValue, LOCATION, VARY};
use actix_web::web::{Data, ServiceConfig};
use actix_web::{App, HttpRequest, HttpResponse, Responder};
use prometheus::core::Collector;
use rustls::ClientConfig;
use serde::Serialize;
use utoipa::openapi::OpenApi;
use utoipa::{OpenApi as _, ToSchema};

use crate::auth::{Mode, anyone, public};
use crate::config::{self, Networks, Origins, PaymentsUrl, SettingError, Settings};
use crate::limits::Counts;
use crate::middleware::{
    self, HeadLimit, Middleware, Path, RoleService, SecurityHeaders, add_paths, cors, path,
};
use crate::peer::{Report, Trusted};
use crate::readiness::Check;
use crate::role::{Behind, Parts, Role, Surroundings};
use docs::Docs;
use health::Roles;
use pages::{Pages, WantsPage};
use prefix::Below;
use proxy::{Proxy, miss};
use router::Router;
use routes::RouteTable;

/// The role, once per process; cheap to clone. Each worker thread takes its [`Gateway::app`].
#[derive(Clone, Debug)]
pub struct Gateway {
    /// The roles behind the gateway.
    behind: Vec<Behind>,
    trusted_proxies: Networks,
    counts: Counts,
    compress: bool,
    current: Arc<Current>,
    docs: Docs,
    pages: Option<Pages>,
}

#[derive(Debug)]
struct Current {
    version: AtomicU64,
    table: RwLock<Arc<RouteTable>>,
}

impl Role for Gateway {
    const NAME: &'static str = "gateway";
    const ABOUT: &'static str = "The one address that clients know";
    const IS_PUBLIC: bool = true;

    fn asks(_: Mode) -> &'static [&'static str] {
        &["user", "product", "order"]
    }

    fn addresses(settings: &Settings) -> (SocketAddr, SocketAddr) {
        (settings.gateway.listen, settings.gateway.management)
    }

    fn validate(settings: &Settings, behind: &[Behind]) -> Result<(), SettingError> {
        RouteTable::compile(&settings.gateway, behind).map(drop)
    }

    async fn build(parts: &Parts) -> Result<Self, SettingError> {
        let (options, settings) = (&parts.settings.gateway, &parts.settings);
        let is_stripe = matches!(settings.order.payments_url, PaymentsUrl::Stripe(_));
        if options.pages && is_stripe && settings.shop.stripe_publishable_key.as_str().is_empty() {
            log::warn!(
                role = Self::NAME;
                "shop.stripe_publishable_key is empty: nobody can pay in /shop, where Stripe takes the payments"
            );
        }
        let table = RwLock::new(Arc::new(RouteTable::compile(options, &parts.behind)?));
        let current = Arc::new(Current { version: AtomicU64::new(0), table });
        Ok(Self {
            behind: parts.behind.clone(),
            trusted_proxies: options.trusted_proxies.clone(),
            counts: Counts::new(options),
            compress: options.compress,
            current,
            docs: Docs::new((parts.document, parts.mode)),
            pages: Pages::new(&parts.settings, parts.mode),
        })
    }

    fn app(self, surroundings: Surroundings) -> App<impl RoleService + use<>> {
        let Surroundings { middleware, endpoints, settings, tls, .. } = surroundings;
        let options = &settings.gateway;
        let middleware = Middleware {
            head_limit: HeadLimit::of_clients(settings.server.header_limit),
            security: Some(SecurityHeaders::new(options.hsts)),
            cors: cors_policy(options),
            trusted: Trusted::Proxies(self.trusted_proxies.clone()),
            ..middleware
        };
        let trusted_proxies = self.trusted_proxies.clone();
        let proxy = Rc::new(Proxy {
            router: Router::new(self.clone(), endpoints.clone(), settings.transport.clone(), tls),
            limiter: self.counts.limiter(),
            own: paths().iter().map(Path::pattern).collect(),
            pages: self.pages.clone().map(Rc::new),
            compress: self.compress,
            scheme: middleware.scheme,
            trusted_proxies: trusted_proxies.clone(),
            bounds: middleware.bounds(),
        });
        let roles = Data::new(Roles(endpoints));
        middleware.app_behind(proxy, |routes| {
            routes.app_data(Data::new(trusted_proxies));
            configure(routes, roles, self.docs, self.pages);
        })
    }

    fn collectors(&self) -> Vec<Box<dyn Collector>> {
        vec![cache::collector()]
    }

    fn checks(&self) -> Vec<Check> {
        let counts = self.counts.limiter().readiness().map(|check| {
            let (gateway, check) = (self.clone(), Rc::new(check));
            Check::optional(check.name, move || {
                let check = gateway.table().1.has_limits().then(|| check.clone());
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

    /// Only the gateway's own routes.
    fn openapi(mode: Mode) -> OpenApi {
        middleware::document(GatewayApi::openapi(), &paths(), mode)
    }
}

/// The CORS policy, if one is set.
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

impl Gateway {
    /// Replaces the routes on all threads; requests under way keep the old ones. `tls` is for upstreams over `https`.
    ///
    /// # Errors
    /// The setting that does not work; nothing has changed then.
    pub fn reload(
        &self,
        options: &config::Gateway,
        tls: Option<Arc<ClientConfig>>,
    ) -> Result<(), SettingError> {
        let mut table = RouteTable::compile(options, &self.behind)?;
        table.tls = tls;
        let (_, before) = self.table();
        table.inherit(&before);
        before.cache.hand_over(&table.cache);
        *self.current.table.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
        self.current.version.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// The state of its upstreams.
    pub fn upstreams(&self) -> Vec<Report> {
        self.table().1.upstreams.iter().map(|upstream| upstream.state.report()).collect()
    }

    fn version(&self) -> u64 {
        self.current.version.load(Ordering::Acquire)
    }

    fn table(&self) -> (u64, Arc<RouteTable>) {
        // The version first: if the table is replaced in between, the thread takes it again.
        let version = self.version();
        let table = self.current.table.read().unwrap_or_else(PoisonError::into_inner);
        (version, table.clone())
    }
}

/// The gateway's own routes; all others go to the proxy.
fn configure(routes: &mut ServiceConfig, roles: Data<Roles>, docs: Docs, pages: Option<Pages>) {
    routes.app_data(roles).app_data(Data::new(docs)).app_data(Data::new(pages));
    add_paths(routes, paths());
    routes.default_service(fn_service(miss));
}

/// The paths that the gateway answers itself. They have no parameters, because every proxied path is compared with them.
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

/// The OpenAPI description of the handlers.
#[derive(utoipa::OpenApi)]
#[openapi(
    paths(welcome, health::show, docs::document, docs::page, docs::script, docs::style),
    tags((name = "gateway", description = "The shop's own address"))
)]
struct GatewayApi;

/// The answer of `GET /`.
#[derive(Serialize, ToSchema)]
struct Welcome {
    #[schema(value_type = String, example = "API Gateway is Running")]
    message: &'static str,
}

/// Shows that the gateway is running.
///
/// It does not ask the roles. Clients that ask for a page first, as browsers do, are led to the storefront, unless the pages are
/// turned off.
#[utoipa::path(
    get,
    path = "/",
    operation_id = "welcome",
    tag = "gateway",
    responses(
        (status = 200, description = "It is running", body = Welcome),
        (status = 303, description = "The storefront is elsewhere", headers(
            ("Location" = String, description = "The path of the storefront")
        )),
    )
)]
async fn welcome(
    WantsPage(is_page): WantsPage,
    Below(below): Below,
    pages: Data<Option<Pages>>,
    request: HttpRequest,
) -> impl Responder {
    let vary = (VARY, HeaderValue::from_static("accept"));
    if is_page && pages.is_some() {
        let query = Some(request.query_string()).filter(|query| !query.is_empty());
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let shop = below.unwrap_or_default() + pages::SHOP + &query;
        return HttpResponse::SeeOther()
            .insert_header(vary)
            .insert_header((LOCATION, shop))
            .finish();
    }
    HttpResponse::Ok().insert_header(vary).json(Welcome { message: "API Gateway is Running" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_documented_and_nothing_else() {
        assert_eq!(middleware::differences(&Gateway::openapi(Mode::Enforced), &paths()), [""; 0]);
    }
}
