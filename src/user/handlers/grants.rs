//! Begins, renews and ends sessions, wherever their clients keep the refresh token.

use uuid::Uuid;

use super::{UserState, write};
use crate::auth::Audit;
use crate::contract::{Timestamp, now};
use crate::error::{Error, Kind};
use crate::user::issuer::{Grant, RefreshToken, account_disabled, invalid_refresh_token};
use crate::user::model::Login;
use crate::user::store::{Actor, Changes, Record, Revoke, TokenUse, Write};
use crate::user::throttle::placeholder_id;

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

/// Waits until an attempt at a password is `counted`, and notes one too many.
///
/// # Errors
/// 429.
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
