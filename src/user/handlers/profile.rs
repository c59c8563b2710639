//! A user's own account.

use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::Data;
use actix_web::{HttpResponse, Responder};
use serde_json::json;

use super::sessions::{reply, throttled};
use super::{Shared, unknown, write};
use crate::auth::{Audit, Caller};
use crate::contract::now;
use crate::edge::Fields;
use crate::error::{Error, FieldError, Kind};
use crate::user::model::{PasswordChange, ProfilePatch, about};
use crate::user::store::{Changes, Ending, Record, Write};

/// `GET /auth/me`
pub(in crate::user) async fn show(
    shared: Data<Shared>,
    caller: Caller,
) -> Result<impl Responder, Error> {
    Ok(HttpResponse::Ok().json(own(&shared, &caller).await?.account))
}

/// `PATCH /auth/me`
pub(in crate::user) async fn patch(
    shared: Data<Shared>,
    caller: Caller,
    fields: Fields,
    audit: Audit,
) -> Result<impl Responder, Error> {
    let (username, email) = ProfilePatch::read(fields)?.into_parts();
    let user = caller.identity()?.user;
    let changes = Changes::profile(username, email);
    let changed = !changes.are_none();
    let record = write(&shared, user, Write::Change(changes), Ending::Nothing).await?;
    if changed {
        audit.note("profile_changed", Some(user), "");
    }
    Ok(HttpResponse::Ok().json(record.account))
}

/// `PUT /auth/me/password`: other sessions end, and so does every access token that is out. The answer has one
/// for this session, which goes on.
pub(in crate::user) async fn change_password(
    shared: Data<Shared>,
    caller: Caller,
    fields: Fields,
    audit: Audit,
) -> Result<impl Responder, Error> {
    let PasswordChange { current, new } = PasswordChange::read(fields)?;
    let (record, identity) = (own(&shared, &caller).await?, caller.identity()?);
    let user = record.id();
    throttled(shared.role.throttle.account(&record.account.user.email), &audit, Some(user))?;
    if !shared.role.hashing.verify(current, record.password_hash.as_deref()).await? {
        audit.note("password_change_failed", Some(user), "");
        let wrong = FieldError::new("currentPassword", "is not your password");
        return Err(Error::invalid(vec![wrong]));
    }
    let about = about(&record.account.user.username, &record.account.user.email);
    let hash = shared.role.hashing.hash("newPassword", new, about).await?;
    let ending = Ending::Sessions { except: Some(identity.session) };
    // Not when the caller was signed out or disabled while the passwords were hashed.
    let changes = Write::Change(Changes::password(hash).if_still(identity.generation));
    let changed = write(&shared, user, changes, ending).await;
    let record = changed.map_err(|error| match error.kind() {
        Kind::NotFound => Error::unauthorized("sign in again", "Bearer"),
        _ => error,
    })?;
    audit.note("password_changed", Some(user), "other sessions are over");
    Ok(reply(&shared.role.authority.tokens(&record, identity.session, None)?))
}

/// `DELETE /auth/me`
pub(in crate::user) async fn erase(
    shared: Data<Shared>,
    caller: Caller,
    audit: Audit,
) -> Result<impl Responder, Error> {
    let user = caller.identity()?.user;
    write(&shared, user, Write::Delete, Ending::Sessions { except: None }).await?;
    audit.note("account_erased", Some(user), "");
    Ok(HttpResponse::NoContent())
}

/// `GET /auth/me/export`: everything that is held on the user, but for what would let somebody in.
pub(in crate::user) async fn export(
    shared: Data<Shared>,
    caller: Caller,
    audit: Audit,
) -> Result<impl Responder, Error> {
    let record = own(&shared, &caller).await?;
    let sessions = shared.users.sessions(record.id()).await?;
    let sessions = sessions.iter().map(|session| {
        json!({
            "id": session.id,
            "createdAt": session.created_at,
            "usedAt": session.used_at,
            "expiresAt": session.expires_at,
        })
    });
    let export = json!({
        "exportedAt": now(),
        "account": record.account,
        "hasPassword": record.password_hash.is_some(),
        "sessions": sessions.collect::<Vec<_>>(),
    });
    audit.note("exported", Some(record.id()), "");
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(export))
}

/// The caller's account. One that has been erased since is nobody's.
async fn own(shared: &Shared, caller: &Caller) -> Result<Record, Error> {
    shared.users.find(caller.identity()?.user).await?.ok_or_else(unknown)
}
