//! Registration, login, logout, and the keys that verify tokens.

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
use crate::user::issuer::{Grant, RefreshToken, Tokens, account_disabled, invalid_refresh_token};
use crate::user::model::{Login, NewUser, Renewal};
use crate::user::store::{Actor, Changes, Record, Revoke, TokenUse, Write};
use crate::user::throttle::placeholder_id;

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

/// Begins a session of the account that `login` names.
///
/// # Errors
/// 401 if there is none, or the password is wrong; 403 if it is disabled; 429 after too many attempts; the store's errors.
pub(super) async fn begin(state: &UserState, login: Login, audit: &Audit) -> Result<Grant, Error> {
    let throttle = &state.throttle;
    throttled(throttle.address(audit.address), audit, None, "by address").await?;
    let found = match login.address() {
        Some(email) => state.users.find_by_email(&email).await?,
        None => None,
    };
    let user = found.as_ref().map(Record::id);
    // Counted by account, because its address may change.
    let counted = user.unwrap_or_else(|| placeholder_id(&login.email));
    throttled(throttle.account(counted), audit, user, "by account").await?;
    let hash = found.as_ref().and_then(|record| record.password_hash.as_deref());
    let right = state.role.hashing.verify(login.password, hash).await?;
    let (Some(record), true) = (&found, right) else {
        return Err(wrong(audit, user));
    };
    if record.account.disabled {
        audit.note("login_failed", Some(record.id()), "disabled");
        return Err(account_disabled());
    }
    let (session, refresh) = state.role.issuer.session(record.id())?;
    let (hash, most) = (hash.unwrap_or_default(), state.role.options.sessions_per_account);
    let begun = state.users.begin(&session, hash, most);
    // No session starts if the account was changed, disabled or erased in the meantime.
    let record = begun.await?.ok_or_else(|| wrong(audit, Some(record.id())))?;
    audit.note("login", Some(record.id()), "");
    Ok(Grant { record, session: session.id, refresh })
}

/// 401 for a login, whatever was wrong.
fn wrong(audit: &Audit, user: Option<Uuid>) -> Error {
    audit.note("login_failed", user, "");
    Error::unauthorized("wrong e-mail address or password", "Bearer")
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

/// Goes on with the session of the refresh token `used`, which is valid once.
///
/// # Errors
/// 401 without a valid token; the store's errors.
pub(super) async fn renew(
    state: &UserState,
    used: Option<RefreshToken>,
    audit: &Audit,
) -> Result<Grant, Error> {
    if let Some(used) = used {
        let (issuer, at) = (&state.role.issuer, now());
        let refresh = issuer.next(&used)?;
        match state.users.rotate(used.hash(), refresh.hash(), at, issuer.end(at)).await? {
            TokenUse::Valid((record, session)) => {
                audit.note("refreshed", Some(record.id()), "");
                return Ok(Grant { record, session, refresh });
            }
            TokenUse::Reused { user, session } => {
                if let Some(grant) = again(state, &used, at).await? {
                    audit.note("refreshed", Some(user), "with the same token again");
                    return Ok(grant);
                }
                end_family(state, user, session, audit).await?;
                return Err(invalid_refresh_token());
            }
            TokenUse::Unknown => {}
        }
    }
    audit.note("refresh_failed", None, "");
    Err(invalid_refresh_token())
}

/// The same grant again for a token that was `used` shortly before `now`, as long as its successor is unused: for
/// another tab, or a client that lost the response.
async fn again(
    state: &UserState,
    used: &RefreshToken,
    now: Timestamp,
) -> Result<Option<Grant>, Error> {
    let (issuer, leeway) = (&state.role.issuer, state.role.options.refresh_leeway);
    if leeway.is_zero() {
        return Ok(None);
    }
    let next = issuer.successors(used);
    let digests = next.iter().map(RefreshToken::hash).collect();
    let found = state.users.rotated(digests, now - leeway, now).await?;
    let Some((record, session, place)) = found else { return Ok(None) };
    let refresh = next.into_iter().nth(place);
    Ok(refresh.map(|refresh| Grant { record, session, refresh }))
}

/// Ends a session whose token was used twice: one of the two clients is not the owner's.
async fn end_family(
    state: &UserState,
    user: Uuid,
    session: Uuid,
    audit: &Audit,
) -> Result<(), Error> {
    let nothing = Write::Change(Changes::default());
    match write(state, audit, user, Actor::Operator, (nothing, Revoke::Session(session))).await {
        // The account and its sessions have just been erased.
        Err(error) if error.kind() == Kind::NotFound => {}
        outcome => drop(outcome?),
    }
    audit.note("refresh_reused", Some(user), "the session is over");
    Ok(())
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

/// Ends the session of a refresh token, if there is one.
///
/// # Errors
/// The store's errors.
pub(super) async fn end(
    state: &UserState,
    token: Option<RefreshToken>,
    audit: &Audit,
) -> Result<(), Error> {
    let Some(token) = token else { return Ok(()) };
    match state.users.end(token.hash(), now()).await? {
        TokenUse::Valid(user) => audit.note("logout", Some(user), ""),
        TokenUse::Reused { user, session } => end_family(state, user, session, audit).await?,
        TokenUse::Unknown => {}
    }
    Ok(())
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

/// A response with tokens, which must not be cached.
pub(super) fn reply(tokens: &impl Serialize) -> HttpResponse {
    HttpResponse::Ok().insert_header((CACHE_CONTROL, NO_STORE)).json(tokens)
}
