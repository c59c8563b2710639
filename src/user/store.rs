//! The queries on accounts.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::model::email_key;
use crate::contract::User;
use crate::storage::StoreError;
use crate::storage::sqlite::Connection;

diesel::table! {
    users (id) {
        id -> Text,
        username -> Text,
        email -> Text,
        email_key -> Text,
        created_at -> Timestamp,
    }
}

type Row = (String, String, String, chrono::NaiveDateTime);

/// Adds `user`; [`StoreError::is_duplicate`] when an account has its e-mail address.
pub(super) async fn insert(connection: &mut Connection, user: &User) -> Result<(), StoreError> {
    let row = (
        users::id.eq(user.id.to_string()),
        users::username.eq(&user.username),
        users::email.eq(&user.email),
        users::email_key.eq(email_key(&user.email)),
        users::created_at.eq(user.created_at.naive_utc()),
    );
    diesel::insert_into(users::table).values(row).execute(connection).await?;
    Ok(())
}

/// The account with `id`, where there is one.
pub(super) async fn find(
    connection: &mut Connection,
    id: Uuid,
) -> Result<Option<User>, StoreError> {
    let columns = (users::id, users::username, users::email, users::created_at);
    let found = users::table.find(id.to_string()).select(columns);
    let row = found.first::<Row>(connection).await.optional()?;
    row.map(user).transpose()
}

fn user((id, username, email, created_at): Row) -> Result<User, StoreError> {
    let id = Uuid::try_parse(&id)
        .map_err(|error| diesel::result::Error::DeserializationError(error.into()))?;
    Ok(User { id, username, email, created_at: created_at.and_utc() })
}
