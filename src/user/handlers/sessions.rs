//! Registering, logging in and out, and what verifies tokens.

use actix_web::http::header::{CACHE_CONTROL, LOCATION};
use actix_web::web::Data;
use actix_web::{HttpResponse, Responder};
use serde::Serialize;
use uuid::Uuid;

use super::{UserState, owner, taken, write};
use crate::auth::{Audit, Caller};
use crate::contract::{JwkSet, Timestamp, User, now};
use crate::error::{Error, Kind};
use crate::middleware::{Fields, NO_STORE};
use crate::user::InternalState;
use crate::user::authority::{RefreshToken, Tokens, disabled, not_good};
use crate::user::model::{Login, NewUser, Renewal};
use crate::user::store::{Actor, Changes, Record, Revoke, Used, Write};
use crate::user::throttle::stand_in;

/// Registers an account.
///
/// A password must be long and hard to guess, and have nothing to do with the name or the address.
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
        (status = 409, description = "An account with this e-mail address exists, in some mix of cases"),
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

/// Begins a session.
///
/// An account may have several; for one more than are allowed the oldest ends.
#[utoipa::path(
    post,
    path = "/auth/login",
    operation_id = "logIn",
    tag = "sessions",
    request_body = Login,
    responses(
        (status = 200, description = "Its first tokens", body = Tokens),
        (status = 401, description = "Wrong e-mail address or password"),
        (status = 403, description = "The account is disabled"),
    )
)]
pub(in crate::user) async fn login(
    state: Data<UserState>,
    fields: Fields,
    audit: Audit,
) -> Result<impl Responder, Error> {
    let login = Login::read(fields)?;
    let throttle = &state.throttle;
    throttled(throttle.address(audit.address), &audit, None, "by address").await?;
    let found = match login.address() {
        Some(email) => state.users.find_by_email(&email).await?,
        None => None,
    };
    let user = found.as_ref().map(Record::id);
    // By the account rather than by its address, which may be another in a moment.
    let counted = user.unwrap_or_else(|| stand_in(&login.email));
    throttled(throttle.account(counted), &audit, user, "by account").await?;
    let hash = found.as_ref().and_then(|record| record.password_hash.as_deref());
    let right = state.role.hashing.verify(login.password, hash).await?;
    let (Some(record), true) = (&found, right) else {
        return Err(wrong(&audit, user));
    };
    if record.account.disabled {
        audit.note("login_failed", Some(record.id()), "disabled");
        return Err(disabled());
    }
    let (session, token) = state.role.authority.session(record.id())?;
    let (hash, most) = (hash.unwrap_or_default(), state.role.options.sessions_per_account);
    let begun = state.users.begin(&session, hash, most);
    // Nothing comes of it when it has another password by now, or is disabled or gone.
    let record = begun.await?.ok_or_else(|| wrong(&audit, Some(record.id())))?;
    if let Err(error) = state.users.sweep(session.created_at).await {
        log::warn!(role = "user"; "sessions that have ended stay for now: {error}");
    }
    audit.note("login", Some(record.id()), "");
    Ok(reply(&state.role.authority.tokens(&record, session.id, &token)?))
}

/// 401 for a login, whatever was wrong with it.
fn wrong(audit: &Audit, user: Option<Uuid>) -> Error {
    audit.note("login_failed", user, "");
    Error::unauthorized("wrong e-mail address or password", "Bearer")
}

/// Gives new tokens for a refresh token.
///
/// Each is good once. For a moment the same answer can be had again, until the new one is used, as answers get lost. A use
/// after that ends the session, as somebody else may have the token.
#[utoipa::path(
    post,
    path = "/auth/refresh",
    operation_id = "refresh",
    tag = "sessions",
    request_body = Renewal,
    responses(
        (status = 200, description = "A new one of both", body = Tokens),
        (status = 401, description = "The refresh token is not valid (any more)"),
    )
)]
pub(in crate::user) async fn refresh(
    state: Data<UserState>,
    fields: Fields,
    audit: Audit,
) -> Result<impl Responder, Error> {
    if let Some(used) = Renewal::read(fields)? {
        let (authority, at) = (&state.role.authority, now());
        let token = authority.next(&used)?;
        match state.users.rotate(used.hash(), token.hash(), at, authority.end(at)).await? {
            Used::Good((record, session)) => {
                audit.note("refreshed", Some(record.id()), "");
                return Ok(reply(&authority.tokens(&record, session, &token)?));
            }
            Used::Before { user, session } => {
                if let Some(tokens) = again(&state, &used, at).await? {
                    audit.note("refreshed", Some(user), "with the same token again");
                    return Ok(reply(&tokens));
                }
                end_family(&state, user, session, &audit).await?;
                return Err(not_good());
            }
            Used::Unknown => {}
        }
    }
    audit.note("refresh_failed", None, "");
    Err(not_good())
}

/// What somebody gets who shows a token again that was `used` a moment before `now`, while nobody has used what came of it:
/// another tab, or a client that lost the answer.
async fn again(
    state: &UserState,
    used: &RefreshToken,
    now: Timestamp,
) -> Result<Option<Tokens>, Error> {
    let (authority, leeway) = (&state.role.authority, state.role.options.refresh_leeway);
    if leeway.is_zero() {
        return Ok(None);
    }
    let next = authority.successors(used);
    let digests = next.iter().map(RefreshToken::hash).collect();
    let found = state.users.rotated(digests, now - leeway, now).await?;
    let Some((record, session, place)) = found else { return Ok(None) };
    next.get(place).map(|token| authority.tokens(&record, session, token)).transpose()
}

/// Ends a session of which somebody else has a token: who has the newest cannot be told.
async fn end_family(
    state: &UserState,
    user: Uuid,
    session: Uuid,
    audit: &Audit,
) -> Result<(), Error> {
    let nothing = Write::Change(Changes::default());
    match write(state, audit, user, Actor::Operator, (nothing, Revoke::Session(session))).await {
        // Erased in this moment, with its sessions.
        Err(error) if error.kind() == Kind::NotFound => {}
        outcome => drop(outcome?),
    }
    audit.note("refresh_reused", Some(user), "the session is over");
    Ok(())
}

/// Ends the session of a refresh token.
///
/// One that is not known has no session, which is no error.
#[utoipa::path(
    post,
    path = "/auth/logout",
    operation_id = "logOut",
    tag = "sessions",
    request_body = Renewal,
    responses((status = 204, description = "It is over"))
)]
pub(in crate::user) async fn logout(
    state: Data<UserState>,
    fields: Fields,
    audit: Audit,
) -> Result<impl Responder, Error> {
    if let Some(token) = Renewal::read(fields)? {
        match state.users.end(token.hash(), now()).await? {
            Used::Good(user) => audit.note("logout", Some(user), ""),
            Used::Before { user, session } => end_family(&state, user, session, &audit).await?,
            Used::Unknown => {}
        }
    }
    Ok(HttpResponse::NoContent())
}

/// Ends every session of the caller, and the access tokens.
///
/// That takes effect everywhere within seconds.
#[utoipa::path(
    post,
    path = "/auth/logout-all",
    operation_id = "logOutEverywhere",
    tag = "sessions",
    responses((status = 204, description = "They are over"))
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

/// Gives the keys that verify access tokens (RFC 7517).
///
/// They change rarely, and the next one is here before it signs.
#[utoipa::path(
    get,
    path = "/auth/.well-known/jwks.json",
    operation_id = "showKeys",
    tag = "sessions",
    responses((status = 200, description = "The keys", body = JwkSet))
)]
pub(in crate::user) async fn keys(state: Data<InternalState>) -> impl Responder {
    let keys = state.authority.keys();
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "public, max-age=60")).json(keys)
}

/// `GET /internal/revocations`: for other roles; the gateway does not lead here.
pub(in crate::user) async fn revocations(
    state: Data<InternalState>,
) -> Result<impl Responder, Error> {
    // Verifiers ask every few seconds and log once that there is no answer.
    let revocations = state.revocations().await;
    Ok(HttpResponse::Ok().json(revocations.map_err(|error| Error::from(error).logged())?))
}

pub(super) async fn throttled(
    counted: impl Future<Output = Result<(), Error>>,
    audit: &Audit,
    user: Option<Uuid>,
    how: &str,
) -> Result<(), Error> {
    counted.await.inspect_err(|error| {
        debug_assert_eq!(error.kind(), Kind::TooManyRequests);
        audit.note("throttled", user, how);
    })
}

/// Tokens are for nobody but who asked.
pub(super) fn reply(tokens: &impl Serialize) -> HttpResponse {
    HttpResponse::Ok().insert_header((CACHE_CONTROL, NO_STORE)).json(tokens)
}
