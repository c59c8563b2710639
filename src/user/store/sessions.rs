//! Queries on sessions.

use chrono::NaiveDateTime;
use diesel::prelude::*;
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use uuid::Uuid;

use super::schema::{sessions, users};
use super::{Record, Row, Store, uuid};
use crate::contract::Timestamp;
use crate::storage::sql::on_either;
use crate::storage::{StoreError, to_the_end};

/// A time that a user logged in, and what goes on from it.
#[derive(Clone, Debug)]
pub(in crate::user) struct Session {
    pub(in crate::user) id: Uuid,
    pub(in crate::user) user: Uuid,
    /// The digest of the refresh token that is good.
    pub(in crate::user) token_hash: String,
    pub(in crate::user) created_at: Timestamp,
    /// When a refresh token was last used.
    pub(in crate::user) used_at: Timestamp,
    /// When the refresh token ends.
    pub(in crate::user) expires_at: Timestamp,
}

#[derive(Queryable, Insertable)]
#[diesel(table_name = sessions)]
struct SessionRow {
    id: String,
    user_id: String,
    token_hash: String,
    created_at: NaiveDateTime,
    used_at: NaiveDateTime,
    expires_at: NaiveDateTime,
}

impl From<&Session> for SessionRow {
    fn from(session: &Session) -> Self {
        Self {
            id: session.id.to_string(),
            user_id: session.user.to_string(),
            token_hash: session.token_hash.clone(),
            created_at: session.created_at.naive_utc(),
            used_at: session.used_at.naive_utc(),
            expires_at: session.expires_at.naive_utc(),
        }
    }
}

impl TryFrom<SessionRow> for Session {
    type Error = StoreError;

    fn try_from(row: SessionRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: uuid(&row.id)?,
            user: uuid(&row.user_id)?,
            token_hash: row.token_hash,
            created_at: row.created_at.and_utc(),
            used_at: row.used_at.and_utc(),
            expires_at: row.expires_at.and_utc(),
        })
    }
}

/// What became of a refresh token that was used.
#[derive(Debug)]
pub(in crate::user) enum Rotated {
    /// Another has taken its place; of whose account it is.
    Done(Record),
    /// It was used before: its session is over. Whose it was.
    Reused(Uuid),
    /// There is no such session, or it has ended.
    Unknown,
}

impl Store {
    /// Begins `session`, unless its account is gone, disabled, or has another password than `password_hash` by
    /// now. Gives the account as it is.
    pub(in crate::user) async fn begin(
        &self,
        session: &Session,
        password_hash: &str,
    ) -> Result<Option<Record>, StoreError> {
        let (pool, row) = (self.pool()?, SessionRow::from(session));
        let password_hash = password_hash.to_owned();
        to_the_end(&self.limits, async move {
            let user = on_either!(&mut pool.get().await?, connection => {
                connection.transaction::<_, diesel::result::Error, _>(async |connection| {
                    // Writing to the account keeps it as it is until the session is there.
                    let good = users::disabled.eq(false).and(users::password_hash.eq(&password_hash));
                    let good = diesel::update(users::table.find(&row.user_id).filter(good));
                    let user = good.set(users::disabled.eq(false));
                    let user = user.get_result::<Row>(connection).await.optional()?;
                    if user.is_some() {
                        let over = sessions::expires_at.le(row.created_at);
                        diesel::delete(sessions::table.filter(over)).execute(connection).await?;
                        diesel::insert_into(sessions::table).values(&row).execute(connection).await?;
                    }
                    Ok(user)
                })
                .await
            })?;
            user.map(Record::try_from).transpose()
        })
        .await
    }

    /// Puts `next` in the place of the refresh token with the digest `used` of the session with its id. When it is
    /// another's place by now, the session is over.
    pub(in crate::user) async fn rotate(
        &self,
        used: String,
        next: &Session,
    ) -> Result<Rotated, StoreError> {
        let (pool, next) = (self.pool()?, SessionRow::from(next));
        to_the_end(&self.limits, async move {
            let row = on_either!(&mut pool.get().await?, connection => {
                connection.transaction::<_, diesel::result::Error, _>(async |connection| {
                    let good = sessions::token_hash.eq(&used);
                    let good = good.and(sessions::expires_at.gt(next.used_at));
                    let update = diesel::update(sessions::table.find(&next.id).filter(good)).set((
                        sessions::token_hash.eq(&next.token_hash),
                        sessions::used_at.eq(next.used_at),
                        sessions::expires_at.eq(next.expires_at),
                    ));
                    let user = update.returning(sessions::user_id);
                    let user = user.get_result::<String>(connection).await.optional()?;
                    let Some(user) = user else { return Ok(None) };
                    let row = users::table.find(&user).filter(users::disabled.eq(false));
                    row.first::<Row>(connection).await.optional()
                })
                .await
            })?;
            if let Some(row) = row {
                return Ok(Rotated::Done(Record::try_from(row)?));
            }
            let session = sessions::table.find(next.id);
            let user = on_either!(&mut pool.get().await?, connection => {
                let delete = diesel::delete(session).returning((sessions::user_id, sessions::expires_at));
                delete.get_result::<(String, NaiveDateTime)>(connection).await.optional()
            })?;
            match user {
                Some((user, end)) if end > next.used_at => Ok(Rotated::Reused(uuid(&user)?)),
                _ => Ok(Rotated::Unknown),
            }
        })
        .await
    }

    /// Ends the session with `id`, when `token_hash` is the digest of its refresh token. Whose it was.
    pub(in crate::user) async fn end(
        &self,
        id: Uuid,
        token_hash: String,
    ) -> Result<Option<Uuid>, StoreError> {
        let pool = self.pool()?;
        to_the_end(&self.limits, async move {
            let session = sessions::table.find(id.to_string());
            let session = session.filter(sessions::token_hash.eq(token_hash));
            let user = on_either!(&mut pool.get().await?, connection => {
                let delete = diesel::delete(session).returning(sessions::user_id);
                delete.get_result::<String>(connection).await.optional()
            })?;
            user.as_deref().map(uuid).transpose()
        })
        .await
    }

    /// The sessions of `user`, in the order in which they began.
    pub(in crate::user) async fn sessions(&self, user: Uuid) -> Result<Vec<Session>, StoreError> {
        let pool = self.pool()?;
        to_the_end(&self.limits, async move {
            let all = sessions::table.filter(sessions::user_id.eq(user.to_string()));
            let all = all.order_by(sessions::created_at);
            let rows = on_either!(&mut pool.get().await?, connection => {
                all.load::<SessionRow>(connection).await
            })?;
            rows.into_iter().map(Session::try_from).collect()
        })
        .await
    }
}
