//! Registration, login, logout, and the keys that verify tokens.

use actix_web::http::header::{CACHE_CONTROL, LOCATION};
use actix_web::web::Data;
use actix_web::{HttpResponse, Responder};
use serde::Serialize;

use super::grants::{begin, end, renew, throttled};
use super::{UserState, owner, taken, write};
use crate::auth::{Audit, Caller};
use crate::contract::{JwkSet, User};
use crate::error::Error;
use crate::middleware::{Fields, NO_STORE};
use crate::user::InternalState;
use crate::user::issuer::Tokens;
use crate::user::model::{Login, NewUser, Renewal};
use crate::user::store::{Changes, Record, Revoke, Write};

/// Registers an account.
///
/// A password must be long, hard to guess, and unrelated to the name and the address.
#[utoipa::path(
    post,
    path = "/auth/register",
    operation_id = "register",
    tag = "sessions",
    request_body = NewUser,
    responses(
        (status = 201, description = "The user", body = User, headers(
            ("Location" = String, description = "The user's dashboard")
        )),
        (status = 409, description = "An account with this e-mail address exists, in any mix of cases"),
    )
)]
pub(in crate::user) async fn register(
    state: Data<UserState>,
    fields: Fields,
    audit: Audit,
) -> Result<impl Responder, Error> {
    let mut new = NewUser::read(fields, state.role.mode)?;
    let password_hash = match new.password.take() {
        Some(password) => {
            throttled(state.throttle.address(audit.address), &audit, None, "by address").await?;
            Some(state.role.hashing.hash("password", password, new.about()).await?)
        }
        None => None,
    };
    let record = Record::new(new.into_user(), password_hash);
    state.users.insert(&record).await.map_err(taken)?;
    audit.note("registered", Some(record.id()), "");
    let location = format!("/auth/dashboard/{}", record.id());
    let mut created = HttpResponse::Created();
    created.insert_header((LOCATION, location)).insert_header((CACHE_CONTROL, NO_STORE));
    Ok(created.json(record.account.user))
}

/// Starts a session.
///
/// An account may have several; beyond the limit, the oldest ends.
#[utoipa::path(
    post,
    path = "/auth/login",
    operation_id = "logIn",
    tag = "sessions",
    request_body = Login,
    responses(
        (status = 200, description = "The session's first tokens", body = Tokens),
        (status = 401, description = "Wrong e-mail address or password"),
        (status = 403, description = "The account is disabled"),
    )
)]
pub(in crate::user) async fn login(
    state: Data<UserState>,
    fields: Fields,
    audit: Audit,
) -> Result<impl Responder, Error> {
    let grant = begin(&state, Login::read(fields)?, &audit).await?;
    Ok(reply(&state.role.issuer.tokens(&grant)?))
}

/// Exchanges a refresh token for new tokens.
///
/// A refresh token is valid once. Because responses get lost, the same request gets the same tokens again for a moment,
/// until the new refresh token is used. Any later use ends the session: the token may be stolen.
#[utoipa::path(
    post,
    path = "/auth/refresh",
    operation_id = "refresh",
    tag = "sessions",
    request_body = Renewal,
    responses(
        (status = 200, description = "New access and refresh tokens", body = Tokens),
        (status = 401, description = "The refresh token is invalid, expired or revoked"),
    )
)]
pub(in crate::user) async fn refresh(
    state: Data<UserState>,
    fields: Fields,
    audit: Audit,
) -> Result<impl Responder, Error> {
    let grant = renew(&state, Renewal::read(fields)?, &audit).await?;
    Ok(reply(&state.role.issuer.tokens(&grant)?))
}

/// Ends the session of a refresh token.
///
/// An unknown token is not an error.
#[utoipa::path(
    post,
    path = "/auth/logout",
    operation_id = "logOut",
    tag = "sessions",
    request_body = Renewal,
    responses((status = 204, description = "The session has ended"))
)]
pub(in crate::user) async fn logout(
    state: Data<UserState>,
    fields: Fields,
    audit: Audit,
) -> Result<impl Responder, Error> {
    end(&state, Renewal::read(fields)?, &audit).await?;
    Ok(HttpResponse::NoContent())
}

/// Ends every session and access token of the caller.
///
/// It takes effect in every process within seconds.
#[utoipa::path(
    post,
    path = "/auth/logout-all",
    operation_id = "logOutEverywhere",
    tag = "sessions",
    responses((status = 204, description = "They have ended"))
)]
pub(in crate::user) async fn logout_all(
    state: Data<UserState>,
    caller: Caller,
    audit: Audit,
) -> Result<impl Responder, Error> {
    let identity = caller.identity()?;
    let user = identity.user;
    let done = (Write::Change(Changes::default()), Revoke::Sessions { except: None });
    write(&state, &audit, user, owner(identity), done).await?;
    audit.note("logout_all", Some(user), "");
    Ok(HttpResponse::NoContent())
}

/// Shows the keys that verify access tokens (RFC 7517).
///
/// They change rarely, and a new key is listed before it signs.
#[utoipa::path(
    get,
    path = "/auth/.well-known/jwks.json",
    operation_id = "showKeys",
    tag = "sessions",
    responses((status = 200, description = "The keys", body = JwkSet))
)]
pub(in crate::user) async fn keys(state: Data<InternalState>) -> impl Responder {
    let keys = state.issuer.keys();
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "public, max-age=60")).json(keys)
}

/// `GET /internal/revocations`: for other roles only.
pub(in crate::user) async fn revocations(
    state: Data<InternalState>,
) -> Result<impl Responder, Error> {
    // Verifiers ask every few seconds and log once that there is no answer.
    let revocations = state.revocations().await;
    Ok(HttpResponse::Ok().json(revocations.map_err(|error| Error::from(error).logged())?))
}

/// A response with tokens, which must not be cached.
pub(super) fn reply(tokens: &impl Serialize) -> HttpResponse {
    HttpResponse::Ok().insert_header((CACHE_CONTROL, NO_STORE)).json(tokens)
}
