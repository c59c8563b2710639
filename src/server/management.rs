//! What a process tells those who run it, on a port of its own.

use actix_web::http::StatusCode;
use actix_web::web::{Data, ServiceConfig};
use actix_web::{HttpResponse, Responder};
use serde_json::json;

use super::{Readiness, State};
use crate::auth::public;
use crate::edge::path;

/// Every management route, over the state in `readiness`; `roles` are those of this process.
pub fn routes(readiness: Readiness, roles: Vec<&'static str>) -> impl FnOnce(&mut ServiceConfig) {
    move |routes| {
        routes
            .app_data(Data::new(readiness))
            .app_data(Data::new(roles))
            .service(path("/livez").get(public(), livez))
            .service(path("/readyz").get(public(), readyz))
            .service(path("/version").get(public(), version));
    }
}

/// `GET /livez`: 200 as long as the process answers at all.
async fn livez() -> impl Responder {
    HttpResponse::Ok().json(json!({ "status": "live" }))
}

/// `GET /readyz`: 200 when requests should come, else 503; names what is missing either way.
async fn readyz(readiness: Data<Readiness>) -> impl Responder {
    let (state, missing): (State, _) = readiness.state();
    let status =
        if state.takes_requests() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    HttpResponse::build(status).json(json!({ "status": state, "missing": missing }))
}

/// `GET /version`: what runs here.
async fn version(roles: Data<Vec<&'static str>>) -> impl Responder {
    let (name, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    HttpResponse::Ok().json(json!({ "name": name, "version": version, "roles": **roles }))
}
