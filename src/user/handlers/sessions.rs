//! Registering, logging in and out, and what verifies tokens.

use actix_web::http::header::{CACHE_CONTROL, LOCATION};
use actix_web::web::Data;
use actix_web::{HttpResponse, Responder};
use uuid::Uuid;

use super::{Shared, taken, write};
use crate::auth::{Audit, Caller};
use crate::contract::now;
use crate::edge::Fields;
use crate::error::{Error, Kind};
use crate::user::Trust;
use crate::user::authority::{RefreshToken, Tokens, disabled, not_good};
use crate::user::model::{Login, NewUser};
use crate::user::store::{Changes, Ending, Record, Used, Write};

/// `POST /auth/register`
pub(in crate::user) async fn register(
    shared: Data<Shared>,
    fields: Fields,
    audit: Audit,
) -> Result<impl Responder, Error> {
    let mut new = NewUser::read(fields, shared.role.mode)?;
    let password_hash = match new.password.take() {
        Some(password) => {
            throttled(shared.role.throttle.address(audit.address), &audit, None)?;
            Some(shared.role.hashing.hash("password", password, new.about()).await?)
        }
        None => None,
    };
    let record = Record::new(new.into_user(), password_hash);
    shared.users.insert(&record).await.map_err(taken)?;
    audit.note("registered", Some(record.id()), "");
    let location = format!("/auth/dashboard/{}", record.id());
    Ok(HttpResponse::Created().insert_header((LOCATION, location)).json(record.account.user))
}

/// `POST /auth/login`
pub(in crate::user) async fn login(
    shared: Data<Shared>,
    fields: Fields,
    audit: Audit,
) -> Result<impl Responder, Error> {
    let login = Login::read(fields)?;
    throttled(shared.role.throttle.address(audit.address), &audit, None)?;
    throttled(shared.role.throttle.account(&login.email), &audit, None)?;
    let found = match login.address() {
        Some(email) => shared.users.find_by_email(&email).await?,
        None => None,
    };
    let hash = found.as_ref().and_then(|record| record.password_hash.as_deref());
    let right = shared.role.hashing.verify(login.password, hash).await?;
    let (Some(record), true) = (&found, right) else {
        return Err(wrong(&audit, found.map(|record| record.id())));
    };
    if record.account.disabled {
        audit.note("login_failed", Some(record.id()), "disabled");
        return Err(disabled());
    }
    let (session, token) = shared.role.authority.session(record.id())?;
    let begun = shared.users.begin(&session, record.password_hash.as_deref().unwrap_or_default());
    // Nothing comes of it when it has another password by now, or is disabled or gone.
    let record = begun.await?.ok_or_else(|| wrong(&audit, Some(record.id())))?;
    if let Err(error) = shared.users.sweep(session.created_at).await {
        log::warn!(role = "user"; "sessions that have ended stay for now: {error}");
    }
    audit.note("login", Some(record.id()), "");
    Ok(reply(&shared.role.authority.tokens(&record, session.id, Some(&token))?))
}

/// 401 for a login, whatever was wrong with it.
fn wrong(audit: &Audit, user: Option<Uuid>) -> Error {
    audit.note("login_failed", user, "");
    Error::unauthorized("wrong e-mail address or password", "Bearer")
}

/// `POST /auth/refresh`
pub(in crate::user) async fn refresh(
    shared: Data<Shared>,
    fields: Fields,
    audit: Audit,
) -> Result<impl Responder, Error> {
    if let Some(used) = refresh_token(fields)? {
        let (token, at) = (used.next()?, now());
        let end = shared.role.authority.end(at);
        match shared.users.rotate(used.hash(), token.hash(), at, end).await? {
            Used::Good((record, session)) => {
                audit.note("refreshed", Some(record.id()), "");
                return Ok(reply(&shared.role.authority.tokens(&record, session, Some(&token))?));
            }
            Used::Before { user, session } => {
                end_family(&shared, user, session, &audit).await?;
                return Err(not_good());
            }
            Used::Unknown => {}
        }
    }
    audit.note("refresh_failed", None, "");
    Err(not_good())
}

/// Ends a session of which somebody else has a token: who has the newest cannot be told.
async fn end_family(
    shared: &Shared,
    user: Uuid,
    session: Uuid,
    audit: &Audit,
) -> Result<(), Error> {
    let nothing = Write::Change(Changes::default());
    match write(shared, user, nothing, Ending::Session(session)).await {
        // Erased in this moment, with its sessions.
        Err(error) if error.kind() == Kind::NotFound => {}
        outcome => drop(outcome?),
    }
    audit.note("refresh_reused", Some(user), "the session is over");
    Ok(())
}

/// `POST /auth/logout`: ends the session of a refresh token. One that is not known has no session.
pub(in crate::user) async fn logout(
    shared: Data<Shared>,
    fields: Fields,
    audit: Audit,
) -> Result<impl Responder, Error> {
    if let Some(token) = refresh_token(fields)? {
        match shared.users.end(token.hash(), now()).await? {
            Used::Good(user) => audit.note("logout", Some(user), ""),
            Used::Before { user, session } => end_family(&shared, user, session, &audit).await?,
            Used::Unknown => {}
        }
    }
    Ok(HttpResponse::NoContent())
}

/// `POST /auth/logout-all`: ends every session of the caller, and the access tokens.
pub(in crate::user) async fn logout_all(
    shared: Data<Shared>,
    caller: Caller,
    audit: Audit,
) -> Result<impl Responder, Error> {
    let user = caller.identity()?.user;
    let ending = Ending::Sessions { except: None };
    write(&shared, user, Write::Change(Changes::default()), ending).await?;
    audit.note("logout_all", Some(user), "");
    Ok(HttpResponse::NoContent())
}

/// `GET /auth/.well-known/jwks.json` (RFC 7517), and `GET /internal/jwks.json` for other roles
pub(in crate::user) async fn keys(trust: Data<Trust>) -> impl Responder {
    let keys = trust.authority.keys();
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "public, max-age=60")).json(keys)
}

/// `GET /internal/revocations`: for other roles; the gateway does not lead here.
pub(in crate::user) async fn revocations(trust: Data<Trust>) -> Result<impl Responder, Error> {
    let horizon = trust.authority.horizon();
    Ok(HttpResponse::Ok().json(trust.users.revocations(horizon).await?))
}

fn refresh_token(mut fields: Fields) -> Result<Option<RefreshToken>, Error> {
    let text = fields.required::<String>("refreshToken");
    fields.finish(text).map(|text| RefreshToken::parse(&text))
}

pub(super) fn throttled(
    outcome: Result<(), Error>,
    audit: &Audit,
    user: Option<Uuid>,
) -> Result<(), Error> {
    outcome.inspect_err(|error| {
        debug_assert_eq!(error.kind(), Kind::TooManyRequests);
        audit.note("throttled", user, "");
    })
}

/// Tokens are for nobody but who asked.
pub(super) fn reply(tokens: &Tokens) -> HttpResponse {
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(tokens)
}
