//! A user's own account.

use std::time::Duration;

use actix_web::web::Data;
use actix_web::{HttpResponse, Responder};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::grants::throttled;
use super::sessions::reply;
use super::{UserState, ended, owner, write};
use crate::auth::{Audit, Caller};
use crate::contract::{Account, now};
use crate::error::{Error, FieldError};
use crate::middleware::{Fields, MaybeFields};
use crate::peer::Context;
use crate::user::export::{Export, ExportedSession};
use crate::user::hashing::Password;
use crate::user::issuer::AccessToken;
use crate::user::model::{Erasure, PasswordChange, ProfilePatch, about};
use crate::user::store::{Changes, Record, Revoke, Write};

/// How long an export waits for orders, which is less than the gateway waits for the export.
const ORDERS_TIMEOUT: Duration = Duration::from_secs(3);

/// Shows the caller's account.
///
/// It comes from the store, not from the token.
#[utoipa::path(
    get,
    path = "/auth/me",
    operation_id = "showMe",
    tag = "me",
    responses((status = 200, description = "The account", body = Account))
)]
pub(in crate::user) async fn show(
    state: Data<UserState>,
    caller: Caller,
    audit: Audit,
) -> Result<impl Responder, Error> {
    Ok(HttpResponse::Ok().json(own(&state, &caller, &audit).await?.account))
}

/// Changes the caller's name or e-mail address.
///
/// A new address requires the password as well: otherwise a stolen token could take over the account.
#[utoipa::path(
    patch,
    path = "/auth/me",
    operation_id = "changeMe",
    tag = "me",
    request_body(content = ProfilePatch, content_type = "application/merge-patch+json"),
    responses(
        (status = 200, description = "The account as it is now", body = Account),
        (status = 409, description = "An account with this e-mail address exists"),
    )
)]
pub(in crate::user) async fn patch(
    state: Data<UserState>,
    caller: Caller,
    fields: Fields,
    audit: Audit,
) -> Result<impl Responder, Error> {
    let patch = ProfilePatch::read(fields)?;
    let (record, identity) = (own(&state, &caller, &audit).await?, caller.identity()?);
    let before = &record.account.user;
    let (edits, password) = patch.differing(before);
    let required = edits.email.is_some();
    check_password(&state, &record, password, required, &audit, "profile_change_failed").await?;
    let detail = edits.audit_detail(before);
    let changes = Changes::profile(edits.username, edits.email);
    let done = (Write::Change(changes), Revoke::Nothing);
    let account = write(&state, &audit, identity.user, owner(identity), done).await?.account;
    if let Some(detail) = detail {
        audit.note("profile_changed", Some(identity.user), &detail);
    }
    Ok(HttpResponse::Ok().json(account))
}

/// Changes the caller's password.
///
/// All other sessions and all access tokens end. The response has a new access token for this session.
#[utoipa::path(
    put,
    path = "/auth/me/password",
    operation_id = "changePassword",
    tag = "me",
    request_body = PasswordChange,
    responses((status = 200, description = "A new access token", body = AccessToken))
)]
pub(in crate::user) async fn change_password(
    state: Data<UserState>,
    caller: Caller,
    fields: Fields,
    audit: Audit,
) -> Result<impl Responder, Error> {
    let PasswordChange { current, new } = PasswordChange::read(fields)?;
    let (record, identity) = (own(&state, &caller, &audit).await?, caller.identity()?);
    let user = record.id();
    verify(&state, &record, current, &audit, "password_change_failed").await?;
    let about = about(&record.account.user.username, &record.account.user.email);
    let hash = state.role.hashing.hash("newPassword", new, about).await?;
    let revoke = Revoke::Sessions { except: Some(identity.session) };
    let done = (Write::Change(Changes::password(hash)), revoke);
    let record = write(&state, &audit, user, owner(identity), done).await?;
    audit.note("password_changed", Some(user), "other sessions are over");
    Ok(reply(&state.role.issuer.access(&record, identity.session)?))
}

/// Erases the caller's account and its sessions.
///
/// This requires the password as well, if the account has one.
#[utoipa::path(
    delete,
    path = "/auth/me",
    operation_id = "eraseMe",
    tag = "me",
    request_body = Erasure,
    responses(
        (status = 204, description = "Both are gone"),
        (status = 409, description = "It is the last enabled admin's"),
    )
)]
pub(in crate::user) async fn erase(
    state: Data<UserState>,
    caller: Caller,
    fields: MaybeFields,
    audit: Audit,
) -> Result<impl Responder, Error> {
    let password = Erasure::read(fields.0)?.current_password;
    let (record, identity) = (own(&state, &caller, &audit).await?, caller.identity()?);
    check_password(&state, &record, password, true, &audit, "erasure_failed").await?;
    let done = (Write::Delete, Revoke::Sessions { except: None });
    write(&state, &audit, identity.user, owner(identity), done).await?;
    audit.note("account_erased", Some(identity.user), "");
    Ok(HttpResponse::NoContent())
}

/// Exports everything that is stored about the caller, except credentials.
///
/// This is the copy that data protection law requires. While the order role is away or slow, it has no orders and says so in
/// `degraded`.
#[utoipa::path(
    get,
    path = "/auth/me/export",
    operation_id = "exportMe",
    tag = "me",
    responses((status = 200, description = "What is stored", body = Export))
)]
pub(in crate::user) async fn export(
    state: Data<UserState>,
    caller: Caller,
    audit: Audit,
    context: Context,
) -> Result<impl Responder, Error> {
    let record = own(&state, &caller, &audit).await?;
    let sessions = state.users.sessions(record.id()).await?;
    let orders = orders(&state, record.id(), &context.within(ORDERS_TIMEOUT)).await;
    audit.note("exported", Some(record.id()), "");
    let export = Export {
        exported_at: now(),
        account: record.account,
        has_password: record.password_hash.is_some(),
        sessions: sessions.into_iter().map(ExportedSession::from).collect(),
        degraded: if orders.is_some() { Vec::new() } else { vec!["order"] },
        orders: orders.unwrap_or_default(),
    };
    Ok(HttpResponse::Ok().json(export))
}

/// The orders of `user`; `None` while the order role is away or slow.
async fn orders(state: &UserState, user: Uuid, context: &Context) -> Option<Vec<Box<RawValue>>> {
    let orders = state.orders.as_ref()?.of_user(user, context).await;
    let log = |error: &Error| {
        let id = context.request_id.as_str();
        log::warn!(role = "user", requestId = id; "an export without orders: {}", error.chain());
    };
    orders.inspect_err(log).ok()
}

/// The caller's account.
///
/// # Errors
/// 401 when the store says that the token has ended, even if this process does not know it yet.
async fn own(state: &UserState, caller: &Caller, audit: &Audit) -> Result<Record, Error> {
    let identity = caller.identity()?;
    let good =
        |record: &Record| record.generation == identity.generation && !record.account.disabled;
    let found = state.users.find(identity.user).await?.filter(good);
    found.ok_or_else(|| ended(audit, identity.user))
}

/// Verifies the `password` of a request, if it has one. One is `required` only if the account has a password.
///
/// # Errors
/// 422 when it is missing, or wrong, which is audited as `failed`; 429 after too many attempts.
async fn check_password(
    state: &UserState,
    record: &Record,
    password: Option<Password>,
    required: bool,
    audit: &Audit,
    failed: &str,
) -> Result<(), Error> {
    match password {
        Some(password) => verify(state, record, password, audit, failed).await,
        None if required && record.password_hash.is_some() => Err(bad_password("is required")),
        None => Ok(()),
    }
}

/// Verifies `password`, and counts the attempt by account and by client address.
///
/// # Errors
/// As [`check_password`].
async fn verify(
    state: &UserState,
    record: &Record,
    password: Password,
    audit: &Audit,
    failed: &str,
) -> Result<(), Error> {
    let (user, throttle) = (record.id(), &state.throttle);
    throttled(throttle.address(audit.address), audit, Some(user), "by address").await?;
    throttled(throttle.account(user), audit, Some(user), "by account").await?;
    match state.role.hashing.verify(password, record.password_hash.as_deref()).await? {
        true => Ok(()),
        false => {
            audit.note(failed, Some(user), "");
            Err(bad_password("is not your password"))
        }
    }
}

fn bad_password(why: &'static str) -> Error {
    Error::invalid(vec![FieldError::new("currentPassword", why)])
}
