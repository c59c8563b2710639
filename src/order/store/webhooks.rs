//! Queries on webhooks.

use chrono::NaiveDateTime;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text, Timestamp as SqlTimestamp};
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use uuid::Uuid;

use super::schema::order_webhooks::{self, dsl};
use super::{Store, uuid};
use crate::contract::{Timestamp, now};
use crate::order::webhooks::{Secret, Webhook};
use crate::storage::sql::{in_transaction, read, write_one};
use crate::storage::{StoreError, Turn as _, run_to_completion};

/// The lock of transactions that add a webhook.
const NEW_WEBHOOK: &[u8; 8] = b"app hook";
/// How many deliveries are changed per transaction: other writes wait for it on SQLite, and a call has to end in time.
const BATCH: i64 = 500;

/// Lets a webhook be sent what it has missed, the oldest first, so that the events of a subject stay in order.
const REOPEN: &str = "UPDATE order_deliveries SET status = 'pending', attempts = 0, due_at = $1, finished_at = NULL \
    WHERE webhook_id = $2 AND event_id IN (SELECT event_id FROM order_deliveries \
    WHERE webhook_id = $2 AND status = 'failed' ORDER BY event_id LIMIT $3)";
/// What a disabled webhook was still to be sent has failed.
const FAIL: &str = "UPDATE order_deliveries SET status = 'failed', finished_at = $1 \
    WHERE webhook_id = $2 AND event_id IN (SELECT event_id FROM order_deliveries \
    WHERE webhook_id = $2 AND status = 'pending' LIMIT $3) \
    AND NOT EXISTS (SELECT 1 FROM order_webhooks WHERE id = $2 AND enabled)";
/// Forgets what a webhook was sent, or was to be sent; the time says nothing.
const FORGET: &str = "DELETE FROM order_deliveries WHERE $1 IS NOT NULL \
    AND webhook_id = $2 AND event_id IN (SELECT event_id FROM order_deliveries WHERE webhook_id = $2 LIMIT $3)";

/// A row of the table of webhooks. Its Debug output has secrets.
#[derive(Clone, Debug, PartialEq, Queryable, Insertable, AsChangeset)]
#[diesel(table_name = order_webhooks, treat_none_as_null = true, treat_none_as_default_value = false)]
pub(super) struct WebhookRow {
    pub(super) id: String,
    url: String,
    events: Option<String>,
    description: Option<String>,
    secret: String,
    old_secret: Option<String>,
    old_until: Option<NaiveDateTime>,
    enabled: bool,
    created_at: NaiveDateTime,
    failing_since: Option<NaiveDateTime>,
}

impl TryFrom<&Webhook> for WebhookRow {
    type Error = StoreError;

    fn try_from(webhook: &Webhook) -> Result<Self, StoreError> {
        let events = webhook.events.as_ref().map(serde_json::to_string).transpose();
        Ok(Self {
            id: webhook.id.to_string(),
            url: webhook.url.clone(),
            events: events.map_err(StoreError::corrupt)?,
            description: webhook.description.clone(),
            secret: webhook.secret.expose().to_owned(),
            old_secret: webhook.old_secret.as_ref().map(|(old, _)| old.expose().to_owned()),
            old_until: webhook.old_secret.as_ref().map(|(_, until)| until.naive_utc()),
            enabled: webhook.enabled,
            created_at: webhook.created_at.naive_utc(),
            failing_since: webhook.failing_since.map(|time| time.naive_utc()),
        })
    }
}

impl TryFrom<WebhookRow> for Webhook {
    type Error = StoreError;

    fn try_from(row: WebhookRow) -> Result<Self, StoreError> {
        let events = row.events.map(|text| serde_json::from_str(&text)).transpose();
        let old = row.old_secret.map(Secret::from);
        Ok(Self {
            id: uuid(&row.id)?,
            url: row.url,
            events: events.map_err(StoreError::corrupt)?,
            description: row.description,
            secret: row.secret.into(),
            old_secret: old.zip(row.old_until.map(|time| time.and_utc())),
            enabled: row.enabled,
            created_at: row.created_at.and_utc(),
            failing_since: row.failing_since.map(|time| time.and_utc()),
        })
    }
}

impl Store {
    /// Stores a new webhook, unless there are `most` already; returns whether there were fewer.
    pub(in crate::order) async fn add_webhook(
        &self,
        webhook: &Webhook,
        most: i64,
    ) -> Result<bool, StoreError> {
        let (pool, row) = (self.pool.clone(), WebhookRow::try_from(webhook)?);
        run_to_completion(&self.limits, async move {
            in_transaction!(&pool, StoreError, connection => {
                connection.turn(NEW_WEBHOOK).await?;
                let count = order_webhooks::table.count().get_result::<i64>(connection).await?;
                if count >= most {
                    return Ok(false);
                }
                diesel::insert_into(order_webhooks::table).values(row).execute(connection).await? == 1
            })
        })
        .await
    }

    /// All webhooks, the oldest first.
    pub(in crate::order) async fn webhooks(&self) -> Result<Vec<Webhook>, StoreError> {
        let pool = self.pool.clone();
        run_to_completion(&self.limits, async move {
            let rows = read!(&pool, order_webhooks::table.order_by(dsl::id), load::<WebhookRow>)?;
            rows.into_iter().map(Webhook::try_from).collect()
        })
        .await
    }

    /// The webhook with `id`, if there is one.
    pub(in crate::order) async fn webhook(&self, id: Uuid) -> Result<Option<Webhook>, StoreError> {
        let pool = self.pool.clone();
        run_to_completion(&self.limits, async move {
            let found = order_webhooks::table.find(id.to_string());
            let row = read!(&pool, found, first::<WebhookRow>, optional)?;
            row.map(Webhook::try_from).transpose()
        })
        .await
    }

    /// Removes the webhook with `id`, and what it was to be sent; returns whether there was one. What is cut off in the
    /// middle leaves a webhook that is disabled, and goes on when it is asked for again.
    pub(in crate::order) async fn remove_webhook(&self, id: Uuid) -> Result<bool, StoreError> {
        let disabled = self.set_enabled(id, false).await?;
        while self.in_batches(FORGET, id).await? {}
        let (pool, id) = (self.pool.clone(), id.to_string());
        run_to_completion(&self.limits, async move {
            write_one!(&pool, diesel::delete(order_webhooks::table.find(id)), execute)
        })
        .await?;
        Ok(disabled.is_some())
    }

    /// Gives the webhook with `id` a new secret; the one before signs, too, until `until`. Returns the webhook then.
    pub(in crate::order) async fn rotate_webhook(
        &self,
        id: Uuid,
        secret: Secret,
        until: Timestamp,
    ) -> Result<Option<Webhook>, StoreError> {
        let pool = self.pool.clone();
        run_to_completion(&self.limits, async move {
            let update = diesel::update(order_webhooks::table.find(id.to_string())).set((
                dsl::old_secret.eq(dsl::secret.nullable()),
                dsl::old_until.eq(until.naive_utc()),
                dsl::secret.eq(secret.expose().to_owned()),
            ));
            let row = write_one!(&pool, update, get_result::<WebhookRow>, optional)?;
            row.map(Webhook::try_from).transpose()
        })
        .await
    }

    /// Enables the webhook with `id`, and lets it be sent what it has missed. Returns the webhook then.
    pub(in crate::order) async fn enable_webhook(
        &self,
        id: Uuid,
    ) -> Result<Option<Webhook>, StoreError> {
        let enabled = self.set_enabled(id, true).await?;
        while self.in_batches(REOPEN, id).await? {}
        Ok(enabled)
    }

    /// Marks some of what a disabled webhook was still to be sent as failed; returns whether there may be more.
    pub(in crate::order) async fn fail_deliveries(&self, id: Uuid) -> Result<bool, StoreError> {
        self.in_batches(FAIL, id).await
    }

    async fn set_enabled(&self, id: Uuid, enabled: bool) -> Result<Option<Webhook>, StoreError> {
        let pool = self.pool.clone();
        run_to_completion(&self.limits, async move {
            let update = diesel::update(order_webhooks::table.find(id.to_string()));
            let none = None::<NaiveDateTime>;
            let update = update.set((dsl::enabled.eq(enabled), dsl::failing_since.eq(none)));
            let row = write_one!(&pool, update, get_result::<WebhookRow>, optional)?;
            row.map(Webhook::try_from).transpose()
        })
        .await
    }

    /// Runs `change` on some deliveries of the webhook `id`, now; returns whether there may be more.
    async fn in_batches(&self, change: &'static str, id: Uuid) -> Result<bool, StoreError> {
        let pool = self.pool.clone();
        run_to_completion(&self.limits, async move {
            let change = diesel::sql_query(change).bind::<SqlTimestamp, _>(now().naive_utc());
            let change = change.bind::<Text, _>(id.to_string()).bind::<BigInt, _>(BATCH);
            let changed = write_one!(&pool, change, execute)?;
            Ok(changed as i64 == BATCH)
        })
        .await
    }
}
