//! What a user sees first.

use actix_web::web::{Data, Path};
use actix_web::{HttpResponse, Responder};
use log::Level;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{UserState, unknown};
use crate::auth::Caller;
use crate::contract::Dashboard;
use crate::error::Error;
use crate::peer::Context;

/// How many orders it shows.
const RECENT: i64 = 5;

/// Shows a user's dashboard to the user and to admins.
///
/// While the catalogue is away, it has no recommendations and says so in `degraded`.
#[utoipa::path(
    get,
    path = "/auth/dashboard/{id}",
    operation_id = "showDashboard",
    tag = "accounts",
    params(("id" = Uuid, Path, description = "The user's id")),
    responses((status = 200, description = "The dashboard", body = Dashboard))
)]
pub(in crate::user) async fn show(
    state: Data<UserState>,
    id: Path<String>,
    caller: Caller,
    context: Context,
) -> Result<impl Responder, Error> {
    let id = Uuid::try_parse(&id).map_err(|_| unknown())?;
    if !caller.may_see(id) {
        return Err(unknown());
    }
    let user = state.users.find(id).await?.ok_or_else(unknown)?.account.user;
    let (recent_orders, bought) = state.users.recent_orders(id, RECENT).await?;
    let (recommended_products, degraded) = match recommend(&state, &bought, &context).await {
        Ok(products) => (products, Vec::new()),
        Err(error) => {
            let id = context.request_id.as_str();
            // An error that many requests share was logged once already.
            let level = if error.is_logged() { Level::Debug } else { Level::Warn };
            log::log!(level, role = "user", requestId = id; "no recommendations: {}", error.chain());
            (Vec::new(), vec!["product".to_owned()])
        }
    };
    Ok(HttpResponse::Ok().json(Dashboard { user, recommended_products, recent_orders, degraded }))
}

/// What a user sees who has `bought` the products with these ids.
async fn recommend(
    state: &UserState,
    bought: &[String],
    context: &Context,
) -> Result<Vec<Box<RawValue>>, Error> {
    let options = &state.role.options;
    if options.recommendations == 0 {
        return Ok(Vec::new());
    }
    let context = context.within(options.recommendations_timeout);
    state.products.recommended(bought, options.recommendations, &context).await
}
