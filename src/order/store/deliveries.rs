//! Queries on what webhooks are sent. Of the pending deliveries of one subject to one webhook, only the first is tried; the
//! others wait for it.

use chrono::NaiveDateTime;
use diesel::QueryableByName;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text, Timestamp as SqlTimestamp};
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use uuid::Uuid;

use super::Store;
use super::schema::order_deliveries::{self, dsl};
use super::schema::{order_webhooks, order_webhooks::dsl as webhook};
use super::webhooks::WebhookRow;
use crate::contract::{Event, Timestamp, now};
use crate::events::Refusal;
use crate::order::webhooks::{Attempt, Webhook};
use crate::storage::sql::{in_transaction, on_either, read};
use crate::storage::{StoreError, run_to_completion};

/// How many deliveries a sweep deletes per transaction, because on SQLite other writes wait for it.
const SWEEP: i64 = 500;

/// The first deliveries of their subjects that are due.
const DUE: &str = "SELECT event_id FROM order_deliveries AS due \
    WHERE webhook_id = $1 AND status = 'pending' AND due_at <= $2 AND NOT EXISTS \
    (SELECT 1 FROM order_deliveries AS earlier WHERE earlier.webhook_id = due.webhook_id \
    AND earlier.subject = due.subject AND earlier.status = 'pending' AND earlier.sequence < due.sequence) \
    ORDER BY due_at LIMIT $3";

/// An event on its way to a webhook.
#[derive(Clone, Debug, Queryable, Insertable)]
#[diesel(table_name = order_deliveries)]
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

impl Store {
    /// Takes events: each webhook that wants one is to be sent it.
    pub(in crate::order) async fn take_for_webhooks(
        &self,
        events: Vec<Event>,
    ) -> Result<(), Refusal> {
        // Most shops have none, and write nothing.
        if self.webhooks().await?.is_empty() {
            return Ok(());
        }
        let pool = self.pool.clone();
        let taken = run_to_completion(&self.limits, async move {
            in_transaction!(&pool, StoreError, connection => {
                let rows = order_webhooks::table.filter(webhook::enabled.eq(true));
                for row in rows.load::<WebhookRow>(connection).await? {
                    let webhook = Webhook::try_from(row)?;
                    for event in events.iter().filter(|event| webhook.wants(&event.kind)) {
                        let delivery = Delivery::new(&webhook, event)?;
                        let insert = diesel::insert_into(order_deliveries::table).values(delivery);
                        insert.on_conflict_do_nothing().execute(connection).await?;
                    }
                }
            })
        });
        Ok(taken.await?)
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
                query.load::<Due>(connection).await
            })?;
            if due.is_empty() {
                return Ok(Vec::new());
            }
            // In one order, so that processes do not wait for each other.
            due.sort_unstable_by(|one, other| one.event_id.cmp(&other.event_id));
            in_transaction!(&pool, StoreError, connection => {
                let mut claimed = Vec::new();
                for Due { event_id } in due {
                    let free = dsl::status.eq("pending").and(dsl::due_at.le(now));
                    let free = order_deliveries::table.find((&webhook, event_id)).filter(free);
                    let claim = diesel::update(free);
                    let claim = claim.set((dsl::due_at.eq(until), dsl::attempts.eq(dsl::attempts + 1)));
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
                if diesel::update(mine).set(outcome).execute(connection).await? == 1 {
                    let others = dsl::webhook_id.eq(&delivery.webhook_id);
                    let others = others.and(dsl::subject.eq(&delivery.subject));
                    let others = others.and(dsl::status.eq("pending"));
                    let others = diesel::update(order_deliveries::table.filter(others));
                    others.set(dsl::due_at.eq(now)).execute(connection).await?;
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
                let is_mine = dsl::status.eq("pending").and(dsl::attempts.eq(delivery.attempts));
                let mine = order_deliveries::table.find(key).filter(is_mine);
                if diesel::update(mine).set(outcome).execute(connection).await? == 1 {
                    let others = dsl::webhook_id.eq(&delivery.webhook_id);
                    let others = others.and(dsl::subject.eq(&delivery.subject));
                    let others = others.and(dsl::status.eq("pending"));
                    let others = diesel::update(order_deliveries::table.filter(others));
                    others.set(dsl::due_at.eq(next)).execute(connection).await?;
                }
            })
        })
        .await
    }

    /// Disables the webhook of `delivery`, whose last attempt has failed; returns whether it was enabled. What it was still to
    /// be sent has failed.
    pub(in crate::order) async fn give_up(
        &self,
        delivery: &Delivery,
        attempt: &Attempt,
    ) -> Result<bool, StoreError> {
        let (pool, delivery) = (self.pool.clone(), delivery.clone());
        let outcome = Outcome::of(attempt);
        run_to_completion(&self.limits, async move {
            in_transaction!(&pool, StoreError, connection => {
                let enabled = order_webhooks::table.find(&delivery.webhook_id);
                let enabled = diesel::update(enabled.filter(webhook::enabled.eq(true)));
                let disabled = enabled.set(webhook::enabled.eq(false)).execute(connection).await?;
                let key = (&delivery.webhook_id, &delivery.event_id);
                let mine = order_deliveries::table.find(key).filter(dsl::status.eq("pending"));
                diesel::update(mine).set(outcome).execute(connection).await?;
                let rest = dsl::webhook_id.eq(&delivery.webhook_id).and(dsl::status.eq("pending"));
                diesel::update(order_deliveries::table.filter(rest))
                    .set((dsl::status.eq("failed"), dsl::finished_at.eq(now().naive_utc())))
                    .execute(connection)
                    .await?;
                disabled == 1
            })
        })
        .await
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

    /// Forgets some of the deliveries that ended before `horizon`; returns whether there were any.
    pub(in crate::order) async fn sweep_deliveries(
        &self,
        horizon: Timestamp,
    ) -> Result<bool, StoreError> {
        let (pool, horizon) = (self.pool.clone(), horizon.naive_utc());
        run_to_completion(&self.limits, async move {
            let old = read!(
                &pool,
                {
                    let old = order_deliveries::table.filter(dsl::finished_at.lt(horizon));
                    let old = old.order_by(dsl::finished_at);
                    old.limit(SWEEP).select((dsl::webhook_id, dsl::event_id))
                },
                load::<(String, String)>
            )?;
            if old.is_empty() {
                return Ok(false);
            }
            in_transaction!(&pool, StoreError, connection => {
                for key in old {
                    let old = order_deliveries::table.find(key);
                    let old = old.filter(dsl::finished_at.is_not_null());
                    diesel::delete(old).execute(connection).await?;
                }
                true
            })
        })
        .await
    }
}
