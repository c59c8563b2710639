//! HTTP in, HTTP out.

pub(super) mod accounts;
pub(super) mod dashboard;
pub(super) mod profile;
pub(super) mod sessions;

use uuid::Uuid;

use super::Shared;
use super::store::{Ending, Record, Write};
use crate::error::{Error, Kind};
use crate::storage::StoreError;

/// 404, whether there is no such user or it is none of the caller's business.
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

/// Does `done` to an account, ends what `ending` says, and makes that hold in this process. Gives the account
/// as it then is, or was.
async fn write(shared: &Shared, id: Uuid, done: Write, ending: Ending) -> Result<Record, Error> {
    let horizon = shared.role.authority.horizon();
    let written = shared.users.write(id, done, ending, horizon).await.map_err(taken)?;
    let record = written.ok_or_else(unknown)?;
    if ending != Ending::Nothing {
        shared.role.authority.revoke(&record);
    }
    Ok(record)
}
