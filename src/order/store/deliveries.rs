//! Queries on what webhooks are sent. Of the pending deliveries of one subject to one webhook, only the first is tried; the
//! others wait for it.

use std::collections::{HashMap, HashSet};

use chrono::NaiveDateTime;
use diesel::QueryableByName;
use diesel::dsl::max;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text, Timestamp as SqlTimestamp};
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use uuid::Uuid;

use super::Store;
use super::schema::order_deliveries::{self, dsl};
use super::schema::{order_webhooks, order_webhooks::dsl as webhook};
use crate::contract::{Event, Timestamp, now};
use crate::events::Refusal;
use crate::order::webhooks::{Attempt, Webhook};
use crate::storage::sql::{in_transaction, on_either, read, write_one};
use crate::storage::{Prepared, StoreError, run_to_completion};

/// How many deliveries a sweep deletes per transaction, because on SQLite other writes wait for it.
const SWEPT: i64 = 500;
const SWEEP: &str = "DELETE FROM order_deliveries WHERE (webhook_id, event_id) IN \
    (SELECT webhook_id, event_id FROM order_deliveries WHERE finished_at < $1 ORDER BY finished_at LIMIT $2)";

/// The first deliveries of their subjects that are due; those before them are found by their subject, as [`is_pending`] says.
const DUE: &str = "SELECT event_id FROM order_deliveries AS due \
    WHERE webhook_id = $1 AND status = 'pending' AND due_at <= $2 AND NOT EXISTS \
    (SELECT 1 FROM order_deliveries AS earlier WHERE earlier.webhook_id = due.webhook_id \
    AND earlier.subject = due.subject AND earlier.status || '' = 'pending' AND earlier.sequence < due.sequence) \
    ORDER BY due_at LIMIT $3";

/// An event on its way to a webhook.
#[derive(Clone, Debug, Queryable, Insertable)]
#[diesel(table_name = order_deliveries, treat_none_as_default_value = false)]
pub(in crate::order) struct Delivery {
    webhook_id: String,
    pub(in crate::order) event_id: String,
    pub(in crate::order) kind: String,
    pub(in crate::order) subject: String,
    sequence: i64,
    pub(in crate::order) event: String,
    pub(in crate::order) status: String,
    /// How often it was tried, an attempt that is under way included.
    pub(in crate::order) attempts: i64,
    pub(in crate::order) due_at: NaiveDateTime,
    pub(in crate::order) http_status: Option<i64>,
    pub(in crate::order) error: Option<String>,
    pub(in crate::order) created_at: NaiveDateTime,
    pub(in crate::order) finished_at: Option<NaiveDateTime>,
}

impl Delivery {
    fn new(webhook: &Webhook, event: &Event) -> Result<Self, StoreError> {
        let now = now().naive_utc();
        Ok(Self {
            webhook_id: webhook.id.to_string(),
            event_id: event.id.to_string(),
            kind: event.kind.clone(),
            subject: event.subject.clone(),
            sequence: event.sequence,
            event: serde_json::to_string(event).map_err(StoreError::corrupt)?,
            status: "pending".into(),
            attempts: 0,
            due_at: now,
            http_status: None,
            error: None,
            created_at: now,
            finished_at: None,
        })
    }

    /// What waits for it, or for a delivery behind it. An index finds it by its sequence.
    #[diesel::dsl::auto_type(no_type_alias)]
    fn behind<'a>(&'a self) -> _ {
        let webhook_id: &'a str = &self.webhook_id;
        let subject: &'a str = &self.subject;
        let sequence: i64 = self.sequence;
        let of_subject = dsl::webhook_id.eq(webhook_id).and(dsl::subject.eq(subject));
        of_subject.and(dsl::sequence.ge(sequence)).and(is_pending())
    }
}

#[derive(QueryableByName)]
struct Due {
    #[diesel(sql_type = Text)]
    event_id: String,
}

/// The columns that an attempt changes; `None` leaves a value as it is.
#[derive(AsChangeset)]
#[diesel(table_name = order_deliveries)]
struct Outcome {
    status: Option<&'static str>,
    due_at: Option<NaiveDateTime>,
    http_status: Option<Option<i64>>,
    error: Option<Option<String>>,
    finished_at: Option<NaiveDateTime>,
}

impl Outcome {
    fn of(attempt: &Attempt) -> Self {
        Self {
            status: None,
            due_at: None,
            http_status: Some(attempt.status.map(i64::from)),
            error: Some(attempt.error.clone()),
            finished_at: None,
        }
    }
}

/// Whether it is still to be sent, of a delivery that is found by its event or its subject. No index has this expression:
/// without statistics, PostgreSQL would rather read all that are pending.
#[diesel::dsl::auto_type]
fn is_pending() -> _ {
    let pending: &'static str = "pending";
    dsl::status.concat("").eq(pending)
}

impl Store {
    /// Takes events: each webhook that wants one is to be sent it. What was taken before is ignored.
    pub(in crate::order) async fn take_for_webhooks(
        &self,
        events: Vec<Event>,
    ) -> Result<(), Refusal> {
        for webhook in self.webhooks().await?.into_iter().filter(|webhook| webhook.enabled) {
            let sent = events.iter().filter(|event| webhook.is_sent(event));
            let deliveries = sent.map(|event| Delivery::new(&webhook, event));
            let deliveries = deliveries.collect::<Result<Vec<_>, _>>()?;
            if !deliveries.is_empty() {
                self.add_deliveries(webhook.id.to_string(), deliveries).await?;
            }
        }
        Ok(())
    }

    /// Adds those of `deliveries` that are not there to what `webhook` is to be sent, unless it is gone or disabled. One whose
    /// subject waits for the end of a pause waits, too.
    async fn add_deliveries(
        &self,
        webhook: String,
        deliveries: Vec<Delivery>,
    ) -> Result<(), StoreError> {
        let pool = self.pool.clone();
        let subjects = deliveries.iter().map(|delivery| delivery.subject.clone());
        let subjects = subjects.collect::<HashSet<_>>();
        run_to_completion(&self.limits, async move {
            in_transaction!(&pool, StoreError, connection => {
                let known = order_webhooks::table.find(&webhook);
                let known = known.select(webhook::enabled).first::<bool>(connection).await;
                if known.optional()? != Some(true) {
                    return Ok(());
                }
                let waiting = dsl::webhook_id.eq(&webhook).and(is_pending());
                let waiting = waiting.and(dsl::subject.eq_any(&subjects));
                let waiting = order_deliveries::table.filter(waiting).group_by(dsl::subject);
                let waiting = waiting.select((dsl::subject, max(dsl::due_at)));
                let waiting = waiting.load::<(String, Option<NaiveDateTime>)>(connection).await?;
                let waiting = waiting.into_iter().collect::<HashMap<_, _>>();
                for mut delivery in deliveries {
                    if let Some(Some(due)) = waiting.get(&delivery.subject) {
                        delivery.due_at = delivery.due_at.max(*due);
                    }
                    let insert = diesel::insert_into(order_deliveries::table).values(delivery);
                    insert.on_conflict_do_nothing().execute(connection).await?;
                }
            })
        })
        .await
    }

    /// Claims at most `most` deliveries to `webhook` that are due, of a subject each; nobody else tries them before `until`.
    pub(in crate::order) async fn claim_deliveries(
        &self,
        webhook: Uuid,
        most: usize,
        until: Timestamp,
    ) -> Result<Vec<Delivery>, StoreError> {
        let (pool, webhook) = (self.pool.clone(), webhook.to_string());
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        run_to_completion(&self.limits, async move {
            let (now, until) = (now().naive_utc(), until.naive_utc());
            let mut due = on_either!(&mut pool.get().await?, connection => {
                let query = diesel::sql_query(DUE).bind::<Text, _>(&webhook);
                let query = query.bind::<SqlTimestamp, _>(now).bind::<BigInt, _>(most);
                Prepared(query).load::<Due>(connection).await
            })?;
            if due.is_empty() {
                return Ok(Vec::new());
            }
            // In one order, so that processes do not wait for each other.
            due.sort_unstable_by(|one, other| one.event_id.cmp(&other.event_id));
            in_transaction!(&pool, StoreError, connection => {
                let mut claimed = Vec::new();
                for Due { event_id } in due {
                    let free = is_pending().and(dsl::due_at.le(now));
                    let free = order_deliveries::table.find((&webhook, event_id)).filter(free);
                    let claim = diesel::update(free);
                    let claim = claim.set((dsl::due_at.eq(until), dsl::attempts.eq(dsl::attempts + 1)));
                    let claim = Prepared(claim.returning(order_deliveries::all_columns));
                    claimed.extend(claim.get_result::<Delivery>(connection).await.optional()?);
                }
                claimed
            })
        })
        .await
    }

    /// Notes that `delivery` has arrived: the next one of its subject may follow.
    pub(in crate::order) async fn note_delivered(
        &self,
        delivery: &Delivery,
        attempt: &Attempt,
    ) -> Result<(), StoreError> {
        let (pool, delivery, now) = (self.pool.clone(), delivery.clone(), now().naive_utc());
        let (status, finished_at) = (Some("delivered"), Some(now));
        let outcome = Outcome { status, finished_at, ..Outcome::of(attempt) };
        run_to_completion(&self.limits, async move {
            in_transaction!(&pool, StoreError, connection => {
                let key = (&delivery.webhook_id, &delivery.event_id);
                let mine = order_deliveries::table.find(key).filter(dsl::status.ne("delivered"));
                if Prepared(diesel::update(mine).set(outcome)).execute(connection).await? == 1 {
                    let others = diesel::update(order_deliveries::table.filter(delivery.behind()));
                    Prepared(others.set(dsl::due_at.eq(now))).execute(connection).await?;
                }
            })
        })
        .await
    }

    /// Notes that an attempt at `delivery` has failed: it and those behind it wait until `next`.
    pub(in crate::order) async fn note_failed(
        &self,
        delivery: &Delivery,
        attempt: &Attempt,
        next: Timestamp,
    ) -> Result<(), StoreError> {
        let (pool, delivery, next) = (self.pool.clone(), delivery.clone(), next.naive_utc());
        let outcome = Outcome { due_at: Some(next), ..Outcome::of(attempt) };
        run_to_completion(&self.limits, async move {
            in_transaction!(&pool, StoreError, connection => {
                let key = (&delivery.webhook_id, &delivery.event_id);
                let is_mine = is_pending().and(dsl::attempts.eq(delivery.attempts));
                let mine = order_deliveries::table.find(key).filter(is_mine);
                if Prepared(diesel::update(mine).set(outcome)).execute(connection).await? == 1 {
                    let others = diesel::update(order_deliveries::table.filter(delivery.behind()));
                    Prepared(others.set(dsl::due_at.eq(next))).execute(connection).await?;
                }
            })
        })
        .await
    }

    /// Disables the webhook of `delivery`, whose last attempt has failed; returns whether it was enabled. The rest of what it
    /// was to be sent fails by [`Store::fail_deliveries`].
    pub(in crate::order) async fn give_up(
        &self,
        delivery: &Delivery,
        attempt: &Attempt,
    ) -> Result<bool, StoreError> {
        let (pool, delivery) = (self.pool.clone(), delivery.clone());
        let (status, finished_at) = (Some("failed"), Some(now().naive_utc()));
        let outcome = Outcome { status, finished_at, ..Outcome::of(attempt) };
        run_to_completion(&self.limits, async move {
            in_transaction!(&pool, StoreError, connection => {
                let enabled = order_webhooks::table.find(&delivery.webhook_id);
                let enabled = diesel::update(enabled.filter(webhook::enabled.eq(true)));
                let disabled = enabled.set(webhook::enabled.eq(false)).execute(connection).await?;
                let key = (&delivery.webhook_id, &delivery.event_id);
                let mine = order_deliveries::table.find(key).filter(is_pending());
                diesel::update(mine).set(outcome).execute(connection).await?;
                disabled == 1
            })
        })
        .await
    }

    /// Notes since when `webhook` fails; `None` when it has taken an event.
    pub(in crate::order) async fn set_failing(
        &self,
        webhook: Uuid,
        since: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let (pool, webhook) = (self.pool.clone(), webhook.to_string());
        run_to_completion(&self.limits, async move {
            let update = diesel::update(order_webhooks::table.find(webhook));
            let since = since.map(|time| time.naive_utc());
            write_one!(&pool, update.set(webhook::failing_since.eq(since)), execute)
        })
        .await
        .map(drop)
    }

    /// At most `most` deliveries to `webhook`, the newest event first.
    pub(in crate::order) async fn deliveries(
        &self,
        webhook: Uuid,
        most: i64,
    ) -> Result<Vec<Delivery>, StoreError> {
        let (pool, webhook) = (self.pool.clone(), webhook.to_string());
        run_to_completion(&self.limits, async move {
            let found = order_deliveries::table.filter(dsl::webhook_id.eq(webhook));
            read!(&pool, found.order_by(dsl::event_id.desc()).limit(most), load::<Delivery>)
        })
        .await
    }

    /// Forgets some of the deliveries that ended before `horizon`; returns whether there may be more.
    pub(in crate::order) async fn sweep_deliveries(
        &self,
        horizon: Timestamp,
    ) -> Result<bool, StoreError> {
        let (pool, horizon) = (self.pool.clone(), horizon.naive_utc());
        run_to_completion(&self.limits, async move {
            let old = order_deliveries::table.filter(dsl::finished_at.lt(horizon));
            let old = old.order_by(dsl::finished_at).limit(1).select(dsl::event_id);
            if read!(&pool, old, first::<String>, optional)?.is_none() {
                return Ok(false);
            }
            let delete = diesel::sql_query(SWEEP).bind::<SqlTimestamp, _>(horizon);
            let deleted = write_one!(&pool, delete.bind::<BigInt, _>(SWEPT), execute)?;
            Ok(deleted as i64 == SWEPT)
        })
        .await
    }
}
