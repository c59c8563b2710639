//! Queries on requests with an idempotency key.

use chrono::NaiveDateTime;
use diesel::prelude::*;
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use uuid::Uuid;

use super::schema::order_keys::{self, dsl};
use super::{Store, uuid};
use crate::contract::{Timestamp, now};
use crate::error::FieldError;
use crate::order::idempotency::Key;
use crate::storage::sql::{in_transaction, read, write_one};
use crate::storage::{StoreError, run_to_completion};

/// How many keys a sweep deletes per transaction, because on SQLite other writes wait for it.
const SWEEP: i64 = 500;

/// A request that claims its key.
#[derive(Clone, Debug)]
pub(in crate::order) struct Claim {
    pub(in crate::order) user: Uuid,
    pub(in crate::order) key: Key,
    /// The digest of the request.
    pub(in crate::order) fingerprint: String,
    /// The order that it leads to, if the key is new.
    pub(in crate::order) order: Uuid,
    /// How long the request may be under way.
    pub(in crate::order) until: Timestamp,
}

/// What a claim comes to.
#[derive(Clone, Debug)]
pub(in crate::order) enum Claimed {
    /// The request is to be done, and leads to this order.
    Fresh(Uuid),
    /// It was done, and led to this order.
    Done(Uuid),
    /// It was refused because of these fields.
    Refused(Vec<FieldError>),
    /// Another request has the key.
    Other,
    /// The same request is under way.
    UnderWay,
}

/// A row of the table of keys.
#[derive(Clone, Debug, PartialEq, Queryable, Insertable, AsChangeset)]
#[diesel(table_name = order_keys, primary_key(user_id, key), treat_none_as_null = true, treat_none_as_default_value = false)]
pub(super) struct KeyRow {
    pub(super) user_id: String,
    pub(super) key: String,
    fingerprint: String,
    order_id: String,
    claimed_until: NaiveDateTime,
    status: Option<i64>,
    problem: Option<String>,
    created_at: NaiveDateTime,
}

impl From<&Claim> for KeyRow {
    fn from(claim: &Claim) -> Self {
        Self {
            user_id: claim.user.to_string(),
            key: claim.key.to_string(),
            fingerprint: claim.fingerprint.clone(),
            order_id: claim.order.to_string(),
            claimed_until: claim.until.naive_utc(),
            status: None,
            problem: None,
            created_at: now().naive_utc(),
        }
    }
}

impl KeyRow {
    /// What a request with this fingerprint comes to, if it cannot claim the key at `now`.
    fn answer(&self, fingerprint: &str, now: NaiveDateTime) -> Result<Option<Claimed>, StoreError> {
        if self.fingerprint != fingerprint {
            return Ok(Some(Claimed::Other));
        }
        Ok(match (self.status, &self.problem) {
            (Some(_), Some(problem)) => {
                let fields = serde_json::from_str(problem).map_err(StoreError::corrupt)?;
                Some(Claimed::Refused(fields))
            }
            (Some(_), None) => Some(Claimed::Done(uuid(&self.order_id)?)),
            (None, _) if self.claimed_until > now => Some(Claimed::UnderWay),
            (None, _) => None,
        })
    }
}

impl Store {
    /// Claims a key for a request. A request that was left unanswered when its time was over is taken up again, with the
    /// order that it had.
    pub(in crate::order) async fn claim(&self, claim: &Claim) -> Result<Claimed, StoreError> {
        let (pool, new) = (self.pool.clone(), KeyRow::from(claim));
        run_to_completion(&self.limits, async move {
            let (key, now) = ((new.user_id.clone(), new.key.clone()), new.created_at);
            let (fingerprint, until) = (new.fingerprint.clone(), new.claimed_until);
            let order = new.order_id.clone();
            let known = in_transaction!(&pool, StoreError, connection => {
                let insert = diesel::insert_into(order_keys::table).values(&new);
                let inserted = insert.on_conflict_do_nothing().execute(connection).await?;
                if inserted == 1 {
                    return Ok(None);
                }
                let left = dsl::status.is_null().and(dsl::claimed_until.le(now));
                let left = left.and(dsl::fingerprint.eq(&new.fingerprint));
                let take = diesel::update(order_keys::table.find(key.clone()).filter(left));
                let taken = take.set(dsl::claimed_until.eq(until));
                let taken = taken.returning(dsl::order_id).get_result::<String>(connection);
                let taken = taken.await.optional()?;
                let row = order_keys::table.find(key).first::<KeyRow>(connection).await?;
                Some((row, taken.is_some()))
            })?;
            match known {
                None => Ok(Claimed::Fresh(uuid(&order)?)),
                Some((row, true)) => Ok(Claimed::Fresh(uuid(&row.order_id)?)),
                Some((row, false)) => {
                    Ok(row.answer(&fingerprint, now)?.unwrap_or(Claimed::UnderWay))
                }
            }
        })
        .await
    }

    /// What the request of `claim` came to, if it was answered.
    pub(in crate::order) async fn claimed(
        &self,
        claim: &Claim,
    ) -> Result<Option<Claimed>, StoreError> {
        let (pool, fingerprint) = (self.pool.clone(), claim.fingerprint.clone());
        let key = (claim.user.to_string(), claim.key.to_string());
        run_to_completion(&self.limits, async move {
            let row = read!(&pool, order_keys::table.find(key), first::<KeyRow>, optional)?;
            let answer = row.map(|row| row.answer(&fingerprint, now().naive_utc())).transpose()?;
            Ok(answer.flatten())
        })
        .await
    }

    /// Answers the request of `claim` with the `fields` that were refused, or without them lets it be tried again.
    pub(in crate::order) async fn unclaim(
        &self,
        claim: &Claim,
        fields: Option<&[FieldError]>,
    ) -> Result<(), StoreError> {
        let pool = self.pool.clone();
        let key = (claim.user.to_string(), claim.key.to_string());
        let problem = fields.map(serde_json::to_string).transpose();
        let problem = problem.map_err(StoreError::corrupt)?;
        run_to_completion(&self.limits, async move {
            let open = order_keys::table.find(key).filter(dsl::status.is_null());
            let update = diesel::update(open).set((
                problem.as_ref().map(|_| dsl::status.eq(422)),
                problem.map(|problem| dsl::problem.eq(problem)),
                dsl::claimed_until.eq(now().naive_utc()),
            ));
            write_one!(&pool, update, execute)
        })
        .await
        .map(drop)
    }

    /// Gives the request of `claim` another order to lead to.
    pub(in crate::order) async fn redirect(
        &self,
        claim: &Claim,
        order: Uuid,
    ) -> Result<(), StoreError> {
        let pool = self.pool.clone();
        let key = (claim.user.to_string(), claim.key.to_string());
        run_to_completion(&self.limits, async move {
            let open = order_keys::table.find(key).filter(dsl::status.is_null());
            let update = diesel::update(open).set(dsl::order_id.eq(order.to_string()));
            write_one!(&pool, update, execute)
        })
        .await
        .map(drop)
    }

    /// Forgets some of the keys from before `horizon`; returns whether there were any.
    pub(in crate::order) async fn sweep_keys(
        &self,
        horizon: Timestamp,
    ) -> Result<bool, StoreError> {
        let (pool, horizon) = (self.pool.clone(), horizon.naive_utc());
        run_to_completion(&self.limits, async move {
            let old = read!(
                &pool,
                {
                    let old = order_keys::table.filter(dsl::created_at.lt(horizon));
                    old.order_by(dsl::created_at).limit(SWEEP).select((dsl::user_id, dsl::key))
                },
                load::<(String, String)>
            )?;
            if old.is_empty() {
                return Ok(false);
            }
            in_transaction!(&pool, StoreError, connection => {
                for key in old {
                    diesel::delete(order_keys::table.find(key)).execute(connection).await?;
                }
                true
            })
        })
        .await
    }
}
