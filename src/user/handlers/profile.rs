//! A user's own account.

use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::Data;
use actix_web::{HttpResponse, Responder};

use super::sessions::{reply, throttled};
use super::{Shared, ended, owner, write};
use crate::auth::{Audit, Caller};
use crate::contract::{Account, now};
use crate::edge::Fields;
use crate::error::{Error, FieldError};
use crate::user::authority::Tokens;
use crate::user::export::{Export, ExportedSession};
use crate::user::model::{PasswordChange, ProfilePatch, about};
use crate::user::store::{Changes, Ending, Record, Write};

/// Shows the caller's account.
#[utoipa::path(
    get,
    path = "/auth/me",
    operation_id = "showMe",
    tag = "me",
    responses((status = 200, description = "The account", body = Account))
)]
pub(in crate::user) async fn show(
    shared: Data<Shared>,
    caller: Caller,
    audit: Audit,
) -> Result<impl Responder, Error> {
    Ok(HttpResponse::Ok().json(own(&shared, &caller, &audit).await?.account))
}

/// Changes the caller's name or e-mail address.
#[utoipa::path(
    patch,
    path = "/auth/me",
    operation_id = "changeMe",
    tag = "me",
    request_body(content((ProfilePatch = "application/json"), (ProfilePatch = "application/merge-patch+json"))),
    responses(
        (status = 200, description = "The account as it is now", body = Account),
        (status = 409, description = "An account with this e-mail address exists"),
    )
)]
pub(in crate::user) async fn patch(
    shared: Data<Shared>,
    caller: Caller,
    fields: Fields,
    audit: Audit,
) -> Result<impl Responder, Error> {
    let (username, email) = ProfilePatch::read(fields)?.into_parts();
    let identity = caller.identity()?;
    let changes = Changes::profile(username, email);
    let changed = !changes.are_none();
    let done = (Write::Change(changes), Ending::Nothing);
    let record = write(&shared, &audit, identity.user, owner(identity), done).await?;
    if changed {
        audit.note("profile_changed", Some(identity.user), "");
    }
    Ok(HttpResponse::Ok().json(record.account))
}

/// Changes the caller's password.
///
/// Other sessions end, and so does every access token that is out. The answer has one for this session, which
/// goes on.
#[utoipa::path(
    put,
    path = "/auth/me/password",
    operation_id = "changePassword",
    tag = "me",
    request_body = PasswordChange,
    responses((status = 200, description = "A new access token", body = Tokens))
)]
pub(in crate::user) async fn change_password(
    shared: Data<Shared>,
    caller: Caller,
    fields: Fields,
    audit: Audit,
) -> Result<impl Responder, Error> {
    let PasswordChange { current, new } = PasswordChange::read(fields)?;
    let (record, identity) = (own(&shared, &caller, &audit).await?, caller.identity()?);
    let user = record.id();
    let throttle = &shared.role.throttle;
    throttled(throttle.address(audit.address), &audit, Some(user), "by address")?;
    throttled(throttle.user(user), &audit, Some(user), "by account")?;
    if !shared.role.hashing.verify(current, record.password_hash.as_deref()).await? {
        audit.note("password_change_failed", Some(user), "");
        let wrong = FieldError::new("currentPassword", "is not your password");
        return Err(Error::invalid(vec![wrong]));
    }
    let about = about(&record.account.user.username, &record.account.user.email);
    let hash = shared.role.hashing.hash("newPassword", new, about).await?;
    let ending = Ending::Sessions { except: Some(identity.session) };
    let done = (Write::Change(Changes::password(hash)), ending);
    let record = write(&shared, &audit, user, owner(identity), done).await?;
    audit.note("password_changed", Some(user), "other sessions are over");
    Ok(reply(&shared.role.authority.tokens(&record, identity.session, None)?))
}

/// Erases the caller's account and its sessions.
#[utoipa::path(
    delete,
    path = "/auth/me",
    operation_id = "eraseMe",
    tag = "me",
    responses(
        (status = 204, description = "Both are gone"),
        (status = 409, description = "It is the last enabled admin's"),
    )
)]
pub(in crate::user) async fn erase(
    shared: Data<Shared>,
    caller: Caller,
    audit: Audit,
) -> Result<impl Responder, Error> {
    let identity = caller.identity()?;
    let done = (Write::Delete, Ending::Sessions { except: None });
    write(&shared, &audit, identity.user, owner(identity), done).await?;
    audit.note("account_erased", Some(identity.user), "");
    Ok(HttpResponse::NoContent())
}

/// Gives everything that is held on the caller, but for what would let somebody in.
#[utoipa::path(
    get,
    path = "/auth/me/export",
    operation_id = "exportMe",
    tag = "me",
    responses((status = 200, description = "What is held", body = Export))
)]
pub(in crate::user) async fn export(
    shared: Data<Shared>,
    caller: Caller,
    audit: Audit,
) -> Result<impl Responder, Error> {
    let record = own(&shared, &caller, &audit).await?;
    let sessions = shared.users.sessions(record.id()).await?;
    audit.note("exported", Some(record.id()), "");
    let export = Export {
        exported_at: now(),
        account: record.account,
        has_password: record.password_hash.is_some(),
        sessions: sessions.into_iter().map(ExportedSession::from).collect(),
    };
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(export))
}

/// The caller's account.
///
/// # Errors
/// 401 when the token has ended by what is stored, whether this process knows or not.
async fn own(shared: &Shared, caller: &Caller, audit: &Audit) -> Result<Record, Error> {
    let identity = caller.identity()?;
    let good =
        |record: &Record| record.generation == identity.generation && !record.account.disabled;
    let found = shared.users.find(identity.user).await?.filter(good);
    found.ok_or_else(|| ended(audit, identity.user))
}
