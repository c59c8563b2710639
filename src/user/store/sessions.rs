//! Queries on sessions.

use chrono::NaiveDateTime;
use diesel::dsl::min;
use diesel::prelude::*;
use diesel::query_builder::SqlQuery;
use diesel::sql_types;
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use uuid::Uuid;

use super::locks::Locks as _;
use super::schema::{revocations, sessions, users};
use super::{Record, Row, Store, uuid};
use crate::contract::Timestamp;
use crate::storage::sql::{in_transaction, on_either, write_one};
use crate::storage::{Prepared, StoreError, run_to_completion};

/// A login of a user and the tokens that follow from it.
#[derive(Clone, Debug)]
pub(in crate::user) struct Session {
    pub(in crate::user) id: Uuid,
    pub(in crate::user) user: Uuid,
    /// The digests of the valid refresh token.
    pub(in crate::user) token: TokenHash,
    pub(in crate::user) created_at: Timestamp,
    /// When a refresh token was last used.
    pub(in crate::user) used_at: Timestamp,
    /// When the refresh token expires.
    pub(in crate::user) expires_at: Timestamp,
}

/// The digests of the two parts of a refresh token.
#[derive(Clone, Debug)]
pub(in crate::user) struct TokenHash {
    pub(in crate::user) family: String,
    pub(in crate::user) secret: String,
}

#[derive(Queryable, Insertable)]
#[diesel(table_name = sessions, treat_none_as_default_value = false)]
struct SessionRow {
    id: String,
    user_id: String,
    family: String,
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
            family: session.token.family.clone(),
            token_hash: session.token.secret.clone(),
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
            token: TokenHash { family: row.family, secret: row.token_hash },
            created_at: row.created_at.and_utc(),
            used_at: row.used_at.and_utc(),
            expires_at: row.expires_at.and_utc(),
        })
    }
}

/// The outcome of the use of a refresh token.
#[derive(Debug)]
pub(in crate::user) enum TokenUse<T> {
    /// It was valid.
    Valid(T),
    /// It was used before: somebody else may have a token of this session.
    Reused { user: Uuid, session: Uuid },
    /// There is no such session, or it has ended.
    Unknown,
}

/// How many rows a sweep deletes per transaction, because on SQLite other writes wait for it.
const SWEEP: i64 = 200;

/// How many sessions of its account a login ends at most: an earlier setting may have allowed more.
const TRIM: i64 = 1000;

impl Store {
    /// Begins `session`, unless its account is gone, disabled, or no longer has `password_hash`. Returns the account. The
    /// oldest of more than `most` sessions end.
    pub(in crate::user) async fn begin(
        &self,
        session: &Session,
        password_hash: &str,
        most: u32,
    ) -> Result<Option<Record>, StoreError> {
        let (pool, row) = (self.pool.clone(), SessionRow::from(session));
        let password_hash = password_hash.to_owned();
        run_to_completion(&self.limits, async move {
            let user = in_transaction!(&pool, StoreError, connection => {
                let user = connection.lock_account(&row.user_id).await?.filter(|user| {
                    !user.disabled && user.password_hash.as_ref() == Some(&password_hash)
                });
                if user.is_some() {
                    let over = sessions::user_id.eq(&row.user_id);
                    let over = over.and(sessions::expires_at.le(row.created_at));
                    diesel::delete(sessions::table.filter(over)).execute(connection).await?;
                    let of_user = sessions::table.filter(sessions::user_id.eq(&row.user_id));
                    let newest_first = (sessions::created_at.desc(), sessions::id.desc());
                    let oldest = of_user.order_by(newest_first).offset(i64::from(most) - 1);
                    let oldest = oldest.limit(TRIM).select(sessions::id);
                    let oldest = oldest.load::<String>(connection).await?;
                    let oldest = sessions::table.filter(sessions::id.eq_any(oldest));
                    diesel::delete(oldest).execute(connection).await?;
                    diesel::insert_into(sessions::table).values(&row).execute(connection).await?;
                }
                user
            })?;
            user.map(Record::try_from).transpose()
        })
        .await
    }

    /// Deletes some of the sessions that have expired by `now` and some of the revocations before `forgotten`, except
    /// those that another transaction is deleting. Returns whether there were any.
    pub(in crate::user) async fn sweep(
        &self,
        now: Timestamp,
        forgotten: Timestamp,
    ) -> Result<bool, StoreError> {
        let (pool, now, forgotten) = (self.pool.clone(), now.naive_utc(), forgotten.naive_utc());
        run_to_completion(&self.limits, async move {
            // Without rows to delete, nothing is written. An index has the first session that expires.
            let first = sessions::table.select(min(sessions::expires_at)).single_value();
            let oldest = revocations::table.select(min(revocations::created_at)).single_value();
            let is_any = on_either!(&mut pool.get().await?, connection => {
                let is_any = diesel::select(first.le(now).or(oldest.lt(forgotten)));
                is_any.get_result::<Option<bool>>(connection).await
            })?;
            if is_any != Some(true) {
                return Ok(false);
            }
            in_transaction!(&pool, StoreError, connection => {
                let lock = connection.skip_locked();
                let ended = delete_some("sessions", "id", "expires_at <= $1", lock);
                let ended = ended.bind::<sql_types::Timestamp, _>(now).execute(connection).await?;
                let old = delete_some("revocations", "user_id", "created_at < $1", lock);
                ended + old.bind::<sql_types::Timestamp, _>(forgotten).execute(connection).await? > 0
            })
        })
        .await
    }

    /// Replaces the refresh token `used`, if it is valid at `now`, by `next`, which is valid until `expires_at`. Returns
    /// its account and session.
    pub(in crate::user) async fn rotate(
        &self,
        used: TokenHash,
        next: TokenHash,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<TokenUse<(Record, Uuid)>, StoreError> {
        let (pool, family, now) = (self.pool.clone(), used.family.clone(), now.naive_utc());
        let rotated = run_to_completion(&self.limits, async move {
            let rotated = in_transaction!(&pool, StoreError, connection => {
                let good = sessions::family.eq(&used.family).and(sessions::token_hash.eq(&used.secret));
                let good = good.and(sessions::expires_at.gt(now));
                let update = diesel::update(sessions::table.filter(good)).set((
                    sessions::token_hash.eq(&next.secret),
                    sessions::used_at.eq(now),
                    sessions::expires_at.eq(expires_at.naive_utc()),
                ));
                let of = Prepared(update.returning((sessions::id, sessions::user_id)));
                let of = of.get_result::<(String, String)>(connection).await.optional()?;
                let Some((id, user)) = of else { return Ok(None) };
                let row = users::table.find(&user).filter(users::disabled.eq(false));
                let row = row.first::<Row>(connection).await.optional()?;
                row.map(|row| (row, id))
            })?;
            rotated.map(|(row, id)| Ok((Record::try_from(row)?, uuid(&id)?))).transpose()
        });
        match rotated.await? {
            Some(rotated) => Ok(TokenUse::Valid(rotated)),
            None => self.find_reuse(family, now).await,
        }
    }

    /// The account and the session whose valid refresh token is one of `next`, if it replaced another at `since` or later;
    /// and its index.
    pub(in crate::user) async fn rotated(
        &self,
        next: Vec<TokenHash>,
        since: Timestamp,
        now: Timestamp,
    ) -> Result<Option<(Record, Uuid, usize)>, StoreError> {
        let Some(family) = next.as_slice().first().map(|next| next.family.clone()) else {
            return Ok(None);
        };
        let pool = self.pool.clone();
        run_to_completion(&self.limits, async move {
            let secrets = next.iter().map(|next| next.secret.clone()).collect::<Vec<_>>();
            let good = sessions::family.eq(family).and(sessions::token_hash.eq_any(secrets));
            let good = good.and(sessions::expires_at.gt(now.naive_utc()));
            let good = good.and(sessions::used_at.ge(since.naive_utc()));
            let enabled = users::disabled.eq(false);
            let found = on_either!(&mut pool.get().await?, connection => {
                let found = sessions::table.filter(good).first::<SessionRow>(connection).await;
                let Some(session) = found.optional()? else { return Ok(None) };
                let row = users::table.find(&session.user_id).filter(enabled);
                let row = row.first::<Row>(connection).await.optional()?;
                row.map(|row| (row, session))
            });
            let Some((row, session)) = found else { return Ok(None) };
            let place = next.iter().position(|next| next.secret == session.token_hash);
            let (record, id) = (Record::try_from(row)?, uuid(&session.id)?);
            Ok(place.map(|place| (record, id, place)))
        })
        .await
    }

    /// Ends the session whose valid refresh token is `used`; returns its owner.
    pub(in crate::user) async fn end(
        &self,
        used: TokenHash,
        now: Timestamp,
    ) -> Result<TokenUse<Uuid>, StoreError> {
        let (pool, family) = (self.pool.clone(), used.family.clone());
        let ended = run_to_completion(&self.limits, async move {
            let good = sessions::family.eq(used.family).and(sessions::token_hash.eq(used.secret));
            let delete = diesel::delete(sessions::table.filter(good));
            let delete = delete.returning(sessions::user_id);
            let user = write_one!(&pool, delete, get_result::<String>, optional)?;
            user.as_deref().map(uuid).transpose()
        });
        match ended.await? {
            Some(user) => Ok(TokenUse::Valid(user)),
            None => self.find_reuse(family, now.naive_utc()).await,
        }
    }

    /// The outcome for a token that is not the valid one of its session.
    async fn find_reuse<T: 'static>(
        &self,
        family: String,
        now: NaiveDateTime,
    ) -> Result<TokenUse<T>, StoreError> {
        let pool = self.pool.clone();
        run_to_completion(&self.limits, async move {
            let live = sessions::family.eq(family).and(sessions::expires_at.gt(now));
            let live = sessions::table.filter(live).select((sessions::id, sessions::user_id));
            let found = on_either!(&mut pool.get().await?, connection => {
                live.first::<(String, String)>(connection).await.optional()
            })?;
            match found {
                Some((id, user)) => {
                    Ok(TokenUse::Reused { user: uuid(&user)?, session: uuid(&id)? })
                }
                None => Ok(TokenUse::Unknown),
            }
        })
        .await
    }

    /// The sessions of `user`, in the order in which they began.
    pub(in crate::user) async fn sessions(&self, user: Uuid) -> Result<Vec<Session>, StoreError> {
        let pool = self.pool.clone();
        run_to_completion(&self.limits, async move {
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

/// Deletes at most [`SWEEP`] rows of `table` with `condition`; the query for their keys ends with `lock`.
fn delete_some(table: &str, key: &str, condition: &str, lock: &str) -> SqlQuery {
    let some = format!("SELECT {key} FROM {table} WHERE {condition} LIMIT {SWEEP} {lock}");
    diesel::sql_query(format!("DELETE FROM {table} WHERE {key} IN ({some})"))
}
