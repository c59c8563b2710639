//! The management port, for operators and monitoring.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::{Accept, Header as _};
use actix_web::web::{Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, Responder};
use serde_json::json;

use super::ops::{self, Neighbours, Topology};
use super::{Heartbeats, Readiness, State, debug, log_filter};
use crate::auth::{public, roles};
use crate::contract::{HEALTH_PATH, Health};
use crate::error::Error;
use crate::middleware::path;
use crate::peer::Report;
use crate::telemetry::Metrics;

/// The media type of OpenMetrics.
const OPEN_METRICS: &str = "application/openmetrics-text";

/// All management routes, for the state and the metrics of this process, which runs `roles`. `report` gives the state of its
/// upstreams and peers, `topology` what does not change of it, and
/// `neighbours` ask roles elsewhere. `has_debug` adds profiles.
pub fn routes(
    (readiness, heartbeats, metrics): (Readiness, Heartbeats, Metrics),
    roles: Vec<&'static str>,
    report: Reporter,
    (topology, neighbours): (Topology, Neighbours),
    has_debug: bool,
) -> impl FnOnce(&mut ServiceConfig) {
    move |routes| {
        routes
            .app_data(Data::new(readiness))
            .app_data(Data::new(heartbeats))
            .app_data(Data::new(roles))
            .app_data(Data::new(metrics))
            .app_data(Data::new(report))
            .service(path("/metrics").get(public(), show_metrics))
            .service(path("/livez").get(public(), livez))
            .service(path("/readyz").get(public(), readyz))
            .service(path("/version").get(public(), version))
            .configure(log_filter::routes)
            .configure(ops::routes(topology, neighbours));
        if has_debug {
            routes.configure(debug::routes);
        }
    }
}

/// The state of a node's upstreams and peers.
#[derive(Clone, Debug, Default)]
pub struct Reports {
    /// The upstreams of its gateway, if it runs one.
    pub upstreams: Option<Vec<Report>>,
    /// The roles that its roles call.
    pub peers: Vec<Report>,
}

/// Gives the current reports.
pub type Reporter = Arc<dyn Fn() -> Reports + Send + Sync>;

/// The route of the health of `role`, one of `all`, for other roles.
pub fn health_route(
    readiness: Readiness,
    role: &'static str,
    all: Vec<&'static str>,
) -> impl FnOnce(&mut ServiceConfig) {
    move |routes| {
        let health = RoleHealth { role, all, readiness };
        routes.app_data(Data::new(health)).service(path(HEALTH_PATH).get(roles(), show_health));
    }
}

/// The state of a role in a process of several.
struct RoleHealth {
    role: &'static str,
    all: Vec<&'static str>,
    readiness: Readiness,
}

impl RoleHealth {
    /// Whether the role needs the dependency `name`, as in `user.database`, `peers.product`, `auth.keys`.
    fn needs(&self, name: &str) -> bool {
        let owner = name.split('.').next().unwrap_or_default();
        !self.all.contains(&owner) || owner == self.role
    }
}

/// `GET /internal/health`
async fn show_health(health: Data<RoleHealth>) -> impl Responder {
    let (state, missing) = health.readiness.state();
    let others = missing.iter().filter(|name| !health.needs(name)).count();
    let missing = missing.into_iter().filter(|name| health.needs(name)).map(str::to_owned);
    let missing = missing.collect::<Vec<_>>();
    // Dependencies of another role of this process do not count.
    let state = match state {
        State::Degraded | State::Starting if missing.is_empty() && others > 0 => State::Ready,
        state => state,
    };
    HttpResponse::Ok().json(Health { status: state.to_string(), missing })
}

/// `GET /metrics`, for Prometheus: in the format that it prefers
async fn show_metrics(
    request: HttpRequest,
    metrics: Data<Metrics>,
) -> Result<impl Responder, Error> {
    let accepted = Accept::parse(&request).map_or_else(|_| Vec::new(), |accept| accept.ranked());
    let mut kinds = accepted.iter().map(|kind| kind.essence_str());
    let known = kinds.find(|kind| [OPEN_METRICS, "text/plain", "text/*", "*/*"].contains(kind));
    if known == Some(OPEN_METRICS) {
        let kind = format!("{OPEN_METRICS}; version=1.0.0; charset=utf-8");
        return Ok(HttpResponse::Ok().content_type(kind).body(metrics.open_metrics()));
    }
    let text = metrics.text().map_err(Error::internal)?;
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(text))
}

/// `GET /livez`: 200 unless a worker thread is stuck.
async fn livez(heartbeats: Data<Heartbeats>) -> Result<impl Responder, Error> {
    let stuck = heartbeats.stuck();
    if !stuck.is_empty() {
        let cause = format!("{} threads are stuck: {}", stuck.len(), stuck.join(", "));
        return Err(Error::unavailable("a thread that serves requests is stuck", cause));
    }
    Ok(HttpResponse::Ok().json(json!({ "status": "live" })))
}

/// `GET /readyz`: 200 if the process takes requests, otherwise 503; names missing dependencies either way.
async fn readyz(readiness: Data<Readiness>, report: Data<Reporter>) -> impl Responder {
    let (state, missing): (State, _) = readiness.state();
    let status =
        if state.takes_requests() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut body = json!({ "status": state, "missing": missing });
    let Reports { upstreams, peers } = report();
    if let Some(upstreams) = upstreams {
        body["upstreams"] = json!(upstreams);
    }
    body["peers"] = json!(peers);
    HttpResponse::build(status).json(body)
}

/// `GET /version`
async fn version(roles: Data<Vec<&'static str>>) -> impl Responder {
    let (name, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    HttpResponse::Ok().json(json!({ "name": name, "version": version, "roles": **roles }))
}
