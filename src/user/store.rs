//! The queries on accounts.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::model::email_key;
use crate::config::User as Options;
use crate::contract::User;
use crate::storage::sqlite::Pool;
use crate::storage::{StoreError, to_the_end};

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

/// The accounts, for one worker thread.
#[derive(Clone, Debug)]
pub(super) struct Store {
    pool: Pool,
}

impl Store {
    /// The store that `options` name. Opens no connection yet.
    pub(super) fn open(options: &Options) -> Self {
        let path = options.database_url.path();
        Self { pool: Pool::new(path, options.pool_size, options.acquire_timeout) }
    }

    /// Adds `user`; [`StoreError::is_duplicate`] when an account has its e-mail address.
    pub(super) async fn insert(&self, user: &User) -> Result<(), StoreError> {
        let row = (
            users::id.eq(user.id.to_string()),
            users::username.eq(user.username.clone()),
            users::email.eq(user.email.clone()),
            users::email_key.eq(email_key(&user.email)),
            users::created_at.eq(user.created_at.naive_utc()),
        );
        let pool = self.pool.clone();
        to_the_end(async move {
            let insert = diesel::insert_into(users::table).values(row);
            insert.execute(&mut *pool.get().await?).await?;
            Ok(())
        })
        .await
    }

    /// The account with `id`, where there is one.
    pub(super) async fn find(&self, id: Uuid) -> Result<Option<User>, StoreError> {
        let pool = self.pool.clone();
        to_the_end(async move {
            let columns = (users::id, users::username, users::email, users::created_at);
            let found = users::table.find(id.to_string()).select(columns);
            let row = found.first::<Row>(&mut *pool.get().await?).await.optional()?;
            row.map(user).transpose()
        })
        .await
    }

    /// Asks whether the store answers.
    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        self.pool.ping().await
    }
}

fn user((id, username, email, created_at): Row) -> Result<User, StoreError> {
    let id = Uuid::try_parse(&id)
        .map_err(|error| diesel::result::Error::DeserializationError(error.into()))?;
    Ok(User { id, username, email, created_at: created_at.and_utc() })
}
