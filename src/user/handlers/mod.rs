//! The HTTP handlers.

pub(super) mod accounts;
pub(super) mod browser;
pub(super) mod dashboard;
mod grants;
pub(super) mod profile;
pub(super) mod sessions;

use uuid::Uuid;

use super::UserState;
use super::store::{Actor, Record, Refusal, Revoke, Write, WriteError};
use crate::auth::{Audit, Identity, token_refused};
use crate::error::{Error, Kind};
use crate::storage::StoreError;

/// 404: there is no such user, or the caller may not know.
fn unknown() -> Error {
    Error::not_found("user")
}

fn taken(error: StoreError) -> Error {
    match error {
        StoreError::Duplicate => {
            Error::new(Kind::Conflict, "an account with this e-mail address exists")
        }
        error => error.into(),
    }
}

/// The owner of the account that `identity` names.
fn owner(identity: &Identity) -> Actor {
    Actor::Owner { generation: identity.generation }
}

/// Writes to the account with `id` as `actor`, and applies `revoke` in the store and in this process. Returns the account
/// after the write, or before its deletion.
///
/// # Errors
/// 401 when the store says that the token has ended; 404 for an unknown account; 409 for an address that is taken, and for
/// the last admin; the store's errors.
async fn write(
    state: &UserState,
    audit: &Audit,
    id: Uuid,
    actor: Actor,
    (done, revoke): (Write, Revoke),
) -> Result<Record, Error> {
    let record = state.users.write(id, actor, done, revoke).await.map_err(|error| match error {
        WriteError::Store(error) => taken(error),
        WriteError::Refused(Refusal::TokenEnded) => ended(audit, actor.user(id)),
        WriteError::Refused(Refusal::Unknown) => unknown(),
        WriteError::Refused(Refusal::LastAdmin) => {
            Error::new(Kind::Conflict, "this is the last enabled admin; make another one first")
        }
    })?;
    if revoke != Revoke::Nothing {
        state.role.issuer.revoke(&record);
    }
    Ok(record)
}

/// 401 for a token that the verifier accepted, but the store says has ended.
fn ended(audit: &Audit, user: Uuid) -> Error {
    let error = token_refused("revoked, by the store");
    audit.note("access_denied", Some(user), &error.chain());
    error
}
