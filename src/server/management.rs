//! The management port, for operators and monitoring.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::web::{Data, ServiceConfig};
use actix_web::{HttpResponse, Responder};
use serde_json::json;

use super::{Pulses, Readiness, State};
use crate::auth::public;
use crate::contract::{HEALTH_PATH, Health};
use crate::error::Error;
use crate::middleware::path;
use crate::peer::Report;
use crate::telemetry::Metrics;

/// Every management route, over the state of this process, its threads and what it counts; `roles` are those that it
/// runs. `calls` tells how those are that it asks.
pub fn routes(
    (readiness, pulses, metrics): (Readiness, Pulses, Metrics),
    roles: Vec<&'static str>,
    calls: Calls,
) -> impl FnOnce(&mut ServiceConfig) {
    move |routes| {
        routes
            .app_data(Data::new(readiness))
            .app_data(Data::new(pulses))
            .app_data(Data::new(roles))
            .app_data(Data::new(metrics))
            .app_data(Data::new(calls))
            .service(path("/metrics").get(public(), count))
            .service(path("/livez").get(public(), livez))
            .service(path("/readyz").get(public(), readyz))
            .service(path("/version").get(public(), version));
    }
}

/// The state of a process's upstreams and peers.
#[derive(Clone, Debug, Default)]
pub struct Called {
    /// The upstreams of its gateway, if it has one.
    pub upstreams: Option<Vec<Report>>,
    /// The roles that its roles call.
    pub peers: Vec<Report>,
}

/// Reports that state.
pub type Calls = Arc<dyn Fn() -> Called + Send + Sync>;

/// The route of the health of `role`, one of `all`, for other roles.
pub fn health_route(
    readiness: Readiness,
    role: &'static str,
    all: Vec<&'static str>,
) -> impl FnOnce(&mut ServiceConfig) {
    move |routes| {
        let own = Own { role, all, readiness };
        routes.app_data(Data::new(own)).service(path(HEALTH_PATH).get(public(), health));
    }
}

/// The state of a role in a process of several.
struct Own {
    role: &'static str,
    all: Vec<&'static str>,
    readiness: Readiness,
}

impl Own {
    /// Whether the role needs the dependency `name`, as in `user.database`, `peers.product`, `auth.keys`.
    fn needs(&self, name: &str) -> bool {
        let owner = name.split('.').next().unwrap_or_default();
        !self.all.contains(&owner) || owner == self.role
    }
}

/// `GET /internal/health`
async fn health(own: Data<Own>) -> impl Responder {
    let (state, missing) = own.readiness.state();
    let others = missing.iter().filter(|name| !own.needs(name)).count();
    let missing = missing.into_iter().filter(|name| own.needs(name)).map(str::to_owned);
    let missing = missing.collect::<Vec<_>>();
    // Dependencies of another role of this process do not count.
    let state = match state {
        State::Degraded | State::Starting if missing.is_empty() && others > 0 => State::Ready,
        state => state,
    };
    HttpResponse::Ok().json(Health { status: state.to_string(), missing })
}

/// `GET /metrics`, for Prometheus
async fn count(metrics: Data<Metrics>, calls: Data<Calls>) -> Result<impl Responder, Error> {
    let Called { upstreams, peers } = calls();
    let reports = upstreams.unwrap_or_default().into_iter().chain(peers);
    let breakers = reports.map(|report| (report.caller, report.name, report.breaker as i64));
    metrics.set_breakers(breakers);
    let text = metrics.text().map_err(Error::internal)?;
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(text))
}

/// `GET /livez`: 200 unless a worker thread is stuck.
async fn livez(pulses: Data<Pulses>) -> Result<impl Responder, Error> {
    let stuck = pulses.stuck();
    if !stuck.is_empty() {
        let cause = format!("{} threads are stuck: {}", stuck.len(), stuck.join(", "));
        return Err(Error::unavailable("a thread that serves requests is stuck", cause));
    }
    Ok(HttpResponse::Ok().json(json!({ "status": "live" })))
}

/// `GET /readyz`: 200 if the process takes requests, otherwise 503; names missing dependencies either way.
async fn readyz(readiness: Data<Readiness>, calls: Data<Calls>) -> impl Responder {
    let (state, missing): (State, _) = readiness.state();
    let status =
        if state.takes_requests() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut body = json!({ "status": state, "missing": missing });
    let Called { upstreams, peers } = calls();
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
