//! The health of the shop, role by role, for external monitors.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::Data;
use actix_web::{HttpResponse, Responder};
use futures_util::future::join_all;
use serde::Serialize;
use utoipa::ToSchema;

use crate::contract::{Health, health};
use crate::peer::{Context, Endpoint};

/// How long a role may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// The roles behind the gateway, by name.
pub(super) struct Roles(pub(super) Vec<(&'static str, Rc<[Endpoint]>)>);

/// The status in `/health`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Overall {
    /// Every role is ready.
    Ok,
    /// Some roles miss a dependency, or are away.
    Degraded,
    /// All roles are away.
    Down,
}

/// The health of the shop.
#[derive(Serialize, ToSchema)]
struct Shop {
    status: Overall,
    /// The health of each role; `away` if it does not answer.
    roles: BTreeMap<&'static str, Health>,
}

/// Shows the health of the shop, role by role.
///
/// It asks every role, and waits at most a second.
#[utoipa::path(
    get,
    path = "/health",
    operation_id = "health",
    tag = "gateway",
    responses(
        (status = 200, description = "At least one role answers", body = Shop),
        (status = 503, description = "No role answers", body = Shop)
    )
)]
pub(super) async fn show(roles: Data<Roles>, context: Context) -> impl Responder {
    let context = context.within(PATIENCE);
    let answers = join_all(roles.0.iter().map(|(_, role)| best(role, &context))).await;
    let overall = overall(&answers);
    let status =
        if overall == Overall::Down { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let names = roles.0.iter().map(|(name, _)| *name);
    let body = Shop { status: overall, roles: names.zip(answers).collect() };
    HttpResponse::build(status).insert_header((CACHE_CONTROL, "no-store")).json(body)
}

/// The health of the role at `endpoints`: that of the process that is best off.
async fn best(endpoints: &[Endpoint], context: &Context) -> Health {
    let answers = join_all(endpoints.iter().map(|endpoint| health(endpoint, context))).await;
    let answers = answers.into_iter().flatten();
    answers.max_by_key(|health| health.status == "ready").unwrap_or_else(away)
}

fn away() -> Health {
    Health { status: "away".into(), missing: Vec::new() }
}

fn overall(roles: &[Health]) -> Overall {
    if roles.iter().all(|role| role.status == "ready") {
        Overall::Ok
    } else if roles.iter().all(|role| role.status == "away") {
        Overall::Down
    } else {
        Overall::Degraded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_roles_are_summed_up() {
        let of = |statuses: &[&str]| {
            let role = |status: &&str| Health { status: (*status).to_owned(), missing: Vec::new() };
            overall(&statuses.iter().map(role).collect::<Vec<_>>())
        };
        assert_eq!(of(&["ready", "ready"]), Overall::Ok);
        assert_eq!(of(&["ready", "away"]), Overall::Degraded);
        assert_eq!(of(&["degraded", "ready"]), Overall::Degraded);
        assert_eq!(of(&["away", "away"]), Overall::Down);
    }
}
