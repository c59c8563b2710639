//! Sessions of browsers, which keep the refresh token in a cookie that no script sees.

use actix_web::http::header::SET_COOKIE;
use actix_web::web::Data;
use actix_web::{HttpResponse, Responder};

use super::UserState;
use super::grants::{begin, end, renew};
use super::sessions::reply;
use crate::auth::Audit;
use crate::error::{Error, Kind};
use crate::middleware::Fields;
use crate::user::cookie::{self, SessionCookie};
use crate::user::issuer::{AccessToken, Grant};
use crate::user::model::Login;

/// Starts a session of a browser.
///
/// As a login, but the refresh token is in a cookie, which no script sees and no page of another origin uses.
#[utoipa::path(
    post,
    path = "/auth/session",
    operation_id = "signIn",
    tag = "sessions",
    request_body = Login,
    responses(
        (status = 200, description = "The session's first access token", body = AccessToken, headers(
            ("Set-Cookie" = String, description = "`__Secure-session`, with the refresh token")
        )),
        (status = 401, description = "Wrong e-mail address or password"),
        (status = 403, description = "The account is disabled, or the request is from a page of another origin"),
    )
)]
pub(in crate::user) async fn sign_in(
    state: Data<UserState>,
    fields: Fields,
    audit: Audit,
) -> Result<impl Responder, Error> {
    let grant = begin(&state, Login::read(fields)?, &audit).await?;
    granted(&state, &grant)
}

/// Exchanges the cookie of a browser's session for a new access token and the next cookie.
///
/// The cookie's refresh token is valid once, with the same exceptions as for a refresh. A cookie that is invalid is removed.
#[utoipa::path(
    post,
    path = "/auth/session/renew",
    operation_id = "renewSession",
    tag = "sessions",
    security(("session" = [])),
    responses(
        (status = 200, description = "A new access token", body = AccessToken, headers(
            ("Set-Cookie" = String, description = "`__Secure-session`, with the next refresh token")
        )),
        (status = 401, description = "There is no cookie, or its refresh token is invalid, expired or revoked", headers(
            ("Set-Cookie" = String, description = "Removes the cookie")
        )),
        (status = 403, description = "The request is from a page of another origin"),
    )
)]
pub(in crate::user) async fn renew_session(
    state: Data<UserState>,
    cookie: SessionCookie,
    audit: Audit,
) -> Result<impl Responder, Error> {
    match renew(&state, cookie.0, &audit).await {
        Ok(grant) => granted(&state, &grant),
        Err(error) if error.kind() == Kind::Unauthorized => {
            Err(error.header(SET_COOKIE, cookie::removed()?))
        }
        Err(error) => Err(error),
    }
}

/// Ends the session of a browser and removes its cookie.
///
/// Without a cookie, and with an invalid one, there is nothing to end.
#[utoipa::path(
    delete,
    path = "/auth/session",
    operation_id = "signOut",
    tag = "sessions",
    security((), ("session" = [])),
    responses(
        (status = 204, description = "The session has ended", headers(
            ("Set-Cookie" = String, description = "Removes the cookie")
        )),
        (status = 403, description = "The request is from a page of another origin"),
    )
)]
pub(in crate::user) async fn sign_out(
    state: Data<UserState>,
    cookie: SessionCookie,
    audit: Audit,
) -> Result<impl Responder, Error> {
    end(&state, cookie.0, &audit).await?;
    Ok(HttpResponse::NoContent().insert_header((SET_COOKIE, cookie::removed()?)).finish())
}

/// The response with the access token of `grant`, and its refresh token in the cookie.
fn granted(state: &UserState, grant: &Grant) -> Result<HttpResponse, Error> {
    let access = state.role.issuer.access(&grant.record, grant.session)?;
    let cookie = cookie::set(&grant.refresh, state.role.options.refresh_ttl)?;
    let mut response = reply(&access);
    response.headers_mut().insert(SET_COOKIE, cookie);
    Ok(response)
}
