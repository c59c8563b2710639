//! Queries on accounts.

use diesel::prelude::*;
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use uuid::Uuid;

use super::actor::{ADMINS, Actor, Refusal, WriteError};
use super::locks::Locks as _;
use super::schema::{revocations, sessions, users};
use super::{Record, Row, Store, revocation};
use crate::contract::{Event, Revocation, Timestamp, UserRole, now};
use crate::events::{creation, record};
use crate::storage::sql::{in_transaction, read, write_one};
use crate::storage::{StoreError, Turn as _, run_to_completion};
use crate::telemetry::Span;
use crate::user::email::email_key;
use crate::user::model::{Filter, roles_to_text};

/// The lock of transactions that may remove an admin: two admins who resign at once would leave none.
const RIGHTS: &[u8; 8] = b"app admi";

/// New values for an account; `None` leaves a value as it is.
#[derive(Clone, Debug, Default, AsChangeset)]
#[diesel(table_name = users)]
pub(in crate::user) struct Changes {
    username: Option<String>,
    email: Option<String>,
    email_key: Option<String>,
    password_hash: Option<String>,
    roles: Option<String>,
    disabled: Option<bool>,
}

impl Changes {
    pub(in crate::user) fn profile(username: Option<String>, email: Option<String>) -> Self {
        let email_key = email.as_deref().map(email_key);
        Self { username, email, email_key, ..Self::default() }
    }

    pub(in crate::user) fn password(hash: String) -> Self {
        Self { password_hash: Some(hash), ..Self::default() }
    }

    pub(in crate::user) fn rights(roles: Option<&[UserRole]>, disabled: Option<bool>) -> Self {
        Self { roles: roles.map(roles_to_text), disabled, ..Self::default() }
    }

    /// Whether nothing changes.
    pub(in crate::user) fn is_empty(&self) -> bool {
        let Self { username, email, email_key: _, password_hash, roles, disabled } = self;
        let texts = [username, email, password_hash, roles];
        texts.iter().all(|text| text.is_none()) && disabled.is_none()
    }
}

/// A write to an account.
#[derive(Clone, Debug)]
pub(in crate::user) enum Write {
    /// Changes it, or nothing.
    Change(Changes),
    /// Deletes it with its sessions.
    Delete,
}

/// What a write revokes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::user) enum Revoke {
    /// Nothing.
    Nothing,
    /// All access tokens; sessions stay and get new ones.
    Tokens,
    /// This session, and all access tokens.
    Session(Uuid),
    /// Every session except this one, and all access tokens.
    Sessions { except: Option<Uuid> },
}

impl Store {
    /// Inserts `record`; [`StoreError::Duplicate`] when an account has its e-mail address.
    pub(in crate::user) async fn insert(&self, record: &Record) -> Result<(), StoreError> {
        let row = Row::from(record);
        let pool = self.pool.clone();
        run_to_completion(&self.limits, async move {
            write_one!(&pool, diesel::insert_into(users::table).values(row), execute)
        })
        .await
        .map(drop)
    }

    /// The account with `id`, if there is one.
    pub(in crate::user) async fn find(&self, id: Uuid) -> Result<Option<Record>, StoreError> {
        let pool = self.pool.clone();
        run_to_completion(&self.limits, async move {
            let found = users::table.find(id.to_string());
            let row = read!(&pool, found, first::<Row>, optional)?;
            row.map(Record::try_from).transpose()
        })
        .await
    }

    /// The account with the address `email`, in any mix of cases.
    pub(in crate::user) async fn find_by_email(
        &self,
        email: &str,
    ) -> Result<Option<Record>, StoreError> {
        let filter = Filter { email: Some(email.to_owned()), ..Filter::default() };
        Ok(self.list(filter, 1).await?.pop())
    }

    /// At most `limit` accounts that match `filter`, by id.
    pub(in crate::user) async fn list(
        &self,
        filter: Filter,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        let pool = self.pool.clone();
        run_to_completion(&self.limits, async move {
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows = read!(
                &pool,
                {
                    let mut query = users::table.order_by(users::id).limit(limit).into_boxed();
                    if let Some(after) = filter.after {
                        query = query.filter(users::id.gt(after.to_string()));
                    }
                    if let Some(email) = &filter.email {
                        query = query.filter(users::email_key.eq(email_key(email)));
                    }
                    if let Some(role) = filter.role {
                        query = query.filter(users::roles.like(format!("%{role}%")));
                    }
                    if let Some(disabled) = filter.disabled {
                        query = query.filter(users::disabled.eq(disabled));
                    }
                    query
                },
                load::<Row>
            )?;
            rows.into_iter().map(Record::try_from).collect()
        })
        .await
    }

    /// Applies `write` to the account with `id` on behalf of `actor`, and `revoke`, in one transaction. Returns the account
    /// after the write, or before its deletion.
    ///
    /// # Errors
    /// A [`Refusal`], or the store's error.
    pub(in crate::user) async fn write(
        &self,
        id: Uuid,
        actor: Actor,
        write: Write,
        revoke: Revoke,
    ) -> Result<Record, WriteError> {
        let pool = self.pool.clone();
        let (changes, deletes) = match write {
            Write::Change(changes) => (changes, false),
            Write::Delete => (Changes::default(), true),
        };
        let erased = Event::user_erased(id);
        let mut making = match deletes {
            true => creation(|| erased.kind.clone()),
            false => Span::default(),
        };
        let traceparent = making.traceparent();
        let written = run_to_completion(&self.limits, async move {
            let written = in_transaction!(&pool, WriteError, connection => {
                if actor.may_take_rights(deletes) {
                    connection.turn(RIGHTS).await?;
                }
                if let Some(condition) = actor.condition(id) {
                    let row = connection.lock_account(&condition.user).await?;
                    row.filter(|row| condition.holds(row)).ok_or(Refusal::TokenEnded)?;
                }
                let id = id.to_string();
                let step = i64::from(revoke != Revoke::Nothing);
                let next = users::generation.eq(users::generation + step);
                let update = diesel::update(users::table.find(&id)).set((next, &changes));
                let row = update.get_result::<Row>(connection).await.optional()?;
                let row = row.ok_or(Refusal::Unknown)?;
                if deletes {
                    diesel::delete(users::table.find(&id)).execute(connection).await?;
                    record!(connection, "user", erased, traceparent);
                }
                if actor.takes_own_rights(&row, deletes) {
                    let admins = users::disabled.eq(false).and(users::roles.like(ADMINS));
                    let other = users::table.filter(admins).select(users::id);
                    let other = other.first::<String>(connection).await.optional()?;
                    other.ok_or(Refusal::LastAdmin)?;
                }
                if revoke == Revoke::Nothing {
                    return Ok(row);
                }
                let of_user = sessions::table.filter(sessions::user_id.eq(&id));
                match revoke {
                    Revoke::Nothing | Revoke::Tokens => {}
                    Revoke::Session(session) => {
                        let one = of_user.filter(sessions::id.eq(session.to_string()));
                        diesel::delete(one).execute(connection).await?;
                    }
                    Revoke::Sessions { except } => {
                        let except = except.map_or_else(String::new, |id| id.to_string());
                        let others = of_user.filter(sessions::id.ne(except));
                        diesel::delete(others).execute(connection).await?;
                    }
                }
                let values = (
                    revocations::user_id.eq(&id),
                    revocations::generation.eq(row.generation),
                    revocations::created_at.eq(now().naive_utc()),
                );
                let insert = diesel::insert_into(revocations::table).values(values);
                let upsert = insert.on_conflict(revocations::user_id).do_update().set(values);
                upsert.execute(connection).await?;
                row
            });
            match written {
                Ok(row) => Ok(Ok(Record::try_from(row)?)),
                Err(WriteError::Refused(refusal)) => Ok(Err(refusal)),
                Err(WriteError::Store(error)) => Err(error),
            }
        });
        let record = written.await??;
        making.succeed();
        Ok(record)
    }

    /// The revocations since `horizon`.
    pub(in crate::user) async fn revocations(
        &self,
        horizon: Timestamp,
    ) -> Result<Vec<Revocation>, StoreError> {
        let pool = self.pool.clone();
        run_to_completion(&self.limits, async move {
            let late = revocations::created_at.ge(horizon.naive_utc());
            let late = revocations::table.filter(late);
            let rows = read!(&pool, late, load::<_>)?;
            rows.into_iter().map(revocation).collect()
        })
        .await
    }
}
