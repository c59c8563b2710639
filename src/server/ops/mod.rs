//! The page for operators: how the process is, what it calls, and which requests were slow or failed.

mod arrows;
mod families;
mod neighbours;
mod state;
mod stores;
mod topology;

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpResponse, Responder};
use futures_util::future::join;
use serde::Serialize;

use super::{Heartbeats, Readiness, Reporter};
use crate::auth::public;
use crate::error::Error;
use crate::middleware::{NO_STORE, path};
use crate::peer::Context;
use crate::telemetry::{KeptTrace, Metrics, lines_of, trace_of, watch_traces};
use families::Families;
use state::{Condition, OpsState};

pub use neighbours::Neighbours;
pub use topology::{RolePlace, Topology};

/// The page loads only its own scripts, style and data, and draws its icon itself; it cannot be framed.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// For how long traces are recorded after somebody has looked at the page.
const WATCHED: Duration = Duration::from_secs(600);

const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// What the page consists of besides itself.
const PARTS: [(&str, &str); 8] = [
    ("/ops/ops.css", include_str!("page/ops.css")),
    ("/ops/ops.js", include_str!("page/ops.js")),
    ("/ops/dom.js", include_str!("page/dom.js")),
    ("/ops/health.js", include_str!("page/health.js")),
    ("/ops/map.js", include_str!("page/map.js")),
    ("/ops/numbers.js", include_str!("page/numbers.js")),
    ("/ops/requests.js", include_str!("page/requests.js")),
    ("/ops/tables.js", include_str!("page/tables.js")),
];

static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The routes, for a process with this `topology` and `neighbours`.
pub(super) fn routes(
    topology: Topology,
    neighbours: Neighbours,
) -> impl FnOnce(&mut ServiceConfig) {
    move |routes| {
        routes
            .app_data(Data::new(topology))
            .app_data(Data::new(neighbours))
            .service(path("/ops").with_any_query().get(public(), page))
            .service(path("/ops/state").get(public(), show_state))
            .service(path("/ops/requests/{id}").get(public(), show_request));
        for (name, text) in PARTS {
            let kind = if name.ends_with(".css") { CSS } else { JAVASCRIPT };
            let part = move || std::future::ready(answer(kind, text));
            routes.service(path(name).with_any_query().get(public(), part));
        }
    }
}

/// `GET /ops`
async fn page() -> impl Responder {
    answer("text/html; charset=utf-8", include_str!("page/ops.html"))
}

fn answer(kind: &'static str, text: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, kind))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((REFERRER_POLICY, "no-referrer"))
        .body(text)
}

/// `GET /ops/state`: asks the dependencies anew, and has traces recorded for the next ten minutes.
async fn show_state(
    (topology, neighbours): (Data<Topology>, Data<Neighbours>),
    context: Context,
    readiness: Data<Readiness>,
    heartbeats: Data<Heartbeats>,
    metrics: Data<Metrics>,
    report: Data<Reporter>,
) -> impl Responder {
    watch_traces(WATCHED);
    let (neighbours, ()) = join(neighbours.ask(&context), readiness.refresh()).await;
    let (status, missing) = readiness.state();
    let (history, stuck) = (readiness.history(), heartbeats.stuck());
    let condition = Condition { status, missing, neighbours, history, stuck };
    let (since, families) = (FIRST.elapsed(), Families(metrics.families()));
    let state = OpsState::new(since, &topology, condition, &report(), &families);
    HttpResponse::Ok().insert_header((CACHE_CONTROL, NO_STORE)).json(state)
}

/// What this process knows of a request.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct KnownRequest {
    trace: Option<KeptTrace>,
    /// Lines of the log, the oldest first.
    lines: Vec<String>,
}

/// `GET /ops/requests/{id}`, by the id of a request or of its trace.
async fn show_request(id: web::Path<String>) -> Result<impl Responder, Error> {
    let trace = trace_of(&id);
    let mut lines = lines_of(&id);
    if let Some(trace) = trace.as_ref().filter(|_| lines.is_empty()) {
        lines = lines_of(&trace.trace_id);
    }
    if trace.is_none() && lines.is_empty() {
        return Err(Error::not_found("request"));
    }
    let known = KnownRequest { trace: trace.map(|trace| (*trace).clone()), lines };
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, NO_STORE)).json(known))
}
