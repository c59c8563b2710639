//! Other people's accounts, for admins.

use actix_web::http::header::LINK;
use actix_web::web::{Data, Path};
use actix_web::{HttpResponse, Responder};
use uuid::Uuid;

use super::{UserState, unknown, write};
use crate::auth::{Audit, Caller, Identity};
use crate::contract::Account;
use crate::error::Error;
use crate::middleware::{Fields, Query};
use crate::user::model::{AccountsQuery, AccountsRequest, RightsPatch, roles_to_text};
use crate::user::store::{Actor, Changes, Revoke, Write};

/// Lists accounts, in the order of registration.
///
/// Each page's `Link` header leads to the next one. The parameters filter the accounts.
#[utoipa::path(
    get,
    path = "/auth/users",
    operation_id = "listAccounts",
    tag = "accounts",
    params(AccountsQuery),
    responses((status = 200, description = "A page", body = Vec<Account>, headers(
        ("Link" = String, description = "Where the next page is, with `rel=\"next\"`; absent on the last")
    )))
)]
pub(in crate::user) async fn list(
    state: Data<UserState>,
    query: Query,
) -> Result<impl Responder, Error> {
    let page = AccountsRequest::read(query)?;
    let (filter, limit) = page.filter();
    let found = state.users.list(filter, limit).await?;
    let (accounts, next) = page.cut(found.into_iter().map(|record| record.account).collect());
    let mut response = HttpResponse::Ok();
    if let Some(next) = next {
        response.insert_header((LINK, format!("<{next}>; rel=\"next\"")));
    }
    Ok(response.json(accounts))
}

/// Changes an account's rights.
///
/// New roles end its access tokens, and its sessions get new ones. Disabling it ends its sessions.
#[utoipa::path(
    patch,
    path = "/auth/users/{id}",
    operation_id = "changeRights",
    tag = "accounts",
    params(("id" = Uuid, Path, description = "The account's id")),
    request_body(content = RightsPatch, content_type = "application/merge-patch+json"),
    responses(
        (status = 200, description = "The account as it is now", body = Account),
        (status = 409, description = "No enabled admin would be left"),
    )
)]
pub(in crate::user) async fn patch(
    state: Data<UserState>,
    id: Path<String>,
    caller: Caller,
    fields: Fields,
    audit: Audit,
) -> Result<impl Responder, Error> {
    let id = Uuid::try_parse(&id).map_err(|_| unknown())?;
    let RightsPatch { roles, disabled } = RightsPatch::read(fields)?;
    let revoke = match (&roles, disabled) {
        (_, Some(true)) => Revoke::Sessions { except: None },
        (Some(_), _) => Revoke::Tokens,
        (None, _) => Revoke::Nothing,
    };
    let changes = Changes::rights(roles.as_deref(), disabled);
    let changed = !changes.is_empty();
    let &Identity { user: by, generation, .. } = caller.identity()?;
    let right = Actor::Admin { user: by, generation };
    let done = (Write::Change(changes), revoke);
    let account = write(&state, &audit, id, right, done).await?.account;
    let roles = roles_to_text(&account.roles);
    let state = if account.disabled { "disabled" } else { "enabled" };
    if changed {
        audit.note("rights_changed", Some(id), &format!("{roles}; {state}; by {by}"));
    }
    Ok(HttpResponse::Ok().json(account))
}

/// Ends every session and access token of a user.
///
/// It takes effect in every process within seconds.
#[utoipa::path(
    delete,
    path = "/auth/users/{id}/sessions",
    operation_id = "endSessions",
    tag = "accounts",
    params(("id" = Uuid, Path, description = "The account's id")),
    responses((status = 204, description = "They have ended"))
)]
pub(in crate::user) async fn end_sessions(
    state: Data<UserState>,
    id: Path<String>,
    caller: Caller,
    audit: Audit,
) -> Result<impl Responder, Error> {
    let id = Uuid::try_parse(&id).map_err(|_| unknown())?;
    let &Identity { user: by, generation, .. } = caller.identity()?;
    let right = Actor::Admin { user: by, generation };
    let done = (Write::Change(Changes::default()), Revoke::Sessions { except: None });
    write(&state, &audit, id, right, done).await?;
    audit.note("sessions_ended", Some(id), &format!("by {by}"));
    Ok(HttpResponse::NoContent())
}
