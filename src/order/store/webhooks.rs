//! Queries on webhooks.

use chrono::NaiveDateTime;
use diesel::prelude::*;
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use uuid::Uuid;

use super::schema::order_webhooks::{self, dsl};
use super::schema::{order_deliveries, order_deliveries::dsl as delivery};
use super::{Store, uuid};
use crate::contract::{Timestamp, now};
use crate::order::webhooks::{Secret, Webhook};
use crate::storage::sql::{in_transaction, read};
use crate::storage::{StoreError, run_to_completion};

/// A row of the table of webhooks. Its Debug output has secrets.
#[derive(Clone, Debug, PartialEq, Queryable, Insertable)]
#[diesel(table_name = order_webhooks)]
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

    /// Removes the webhook with `id`, and what it was to be sent; returns whether there was one.
    pub(in crate::order) async fn remove_webhook(&self, id: Uuid) -> Result<bool, StoreError> {
        let (pool, id) = (self.pool.clone(), id.to_string());
        run_to_completion(&self.limits, async move {
            in_transaction!(&pool, StoreError, connection => {
                // The webhook first: from then on nothing more can be added for it.
                let removed = diesel::delete(order_webhooks::table.find(&id));
                let removed = removed.execute(connection).await?;
                let rest = order_deliveries::table.filter(delivery::webhook_id.eq(&id));
                diesel::delete(rest).execute(connection).await?;
                removed == 1
            })
        })
        .await
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
            let row = in_transaction!(&pool, StoreError, connection => {
                let update = diesel::update(order_webhooks::table.find(id.to_string())).set((
                    dsl::old_secret.eq(dsl::secret.nullable()),
                    dsl::old_until.eq(until.naive_utc()),
                    dsl::secret.eq(secret.expose()),
                ));
                update.get_result::<WebhookRow>(connection).await.optional()?
            })?;
            row.map(Webhook::try_from).transpose()
        })
        .await
    }

    /// Enables the webhook with `id`, and lets it be sent what it has missed. Returns the webhook then.
    pub(in crate::order) async fn enable_webhook(
        &self,
        id: Uuid,
    ) -> Result<Option<Webhook>, StoreError> {
        let (pool, id) = (self.pool.clone(), id.to_string());
        run_to_completion(&self.limits, async move {
            let row = in_transaction!(&pool, StoreError, connection => {
                let update = diesel::update(order_webhooks::table.find(&id));
                let update = update.set(dsl::enabled.eq(true));
                let row = update.get_result::<WebhookRow>(connection).await.optional()?;
                let failed = delivery::webhook_id.eq(&id).and(delivery::status.eq("failed"));
                diesel::update(order_deliveries::table.filter(failed))
                    .set((
                        delivery::status.eq("pending"),
                        delivery::attempts.eq(0),
                        delivery::due_at.eq(now().naive_utc()),
                        delivery::finished_at.eq(None::<NaiveDateTime>),
                    ))
                    .execute(connection)
                    .await?;
                row
            })?;
            row.map(Webhook::try_from).transpose()
        })
        .await
    }
}
