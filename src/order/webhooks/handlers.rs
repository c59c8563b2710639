//! The HTTP handlers.

use std::time::{Duration, Instant};

use actix_web::http::header::LOCATION;
use actix_web::web::{Data, Path};
use actix_web::{HttpResponse, Responder};
use chrono::TimeDelta;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::model::{EventTypes, NewWebhook, too_many};
use super::{Attempt, Secret, Webhook};
use crate::auth::{Audit, Caller};
use crate::contract::{Event, Timestamp, in_microseconds, now};
use crate::error::Error;
use crate::middleware::Fields;
use crate::order::OrderState;
use crate::order::store::Delivery;
use crate::peer::Context;

/// The most webhooks of a shop.
const MOST: i64 = 50;
/// How many deliveries are listed.
const LISTED: i64 = 50;
/// For how long the secret before signs, too.
const OVERLAP: TimeDelta = TimeDelta::hours(24);
/// How much sooner than its caller the attempt of a test gives up.
const MARGIN: Duration = Duration::from_millis(500);

/// Who is told of events.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::order) struct WebhookView {
    /// Its id.
    id: Uuid,
    /// Where events are sent.
    #[schema(example = "https://shop.example/events")]
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = EventTypes)]
    events: Option<Vec<String>>,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = String, example = "the warehouse")]
    description: Option<String>,
    /// Whether events are sent.
    enabled: bool,
    /// When it was registered.
    #[schema(value_type = String, format = DateTime)]
    #[serde(serialize_with = "in_microseconds")]
    created_at: Timestamp,
    /// What signs the events; only in the answers to its registration and to its rotation.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = String, pattern = "^whsec_[0-9A-Za-z+/]{43}=$", example = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDszNyjVVw6eA=")]
    secret: Option<String>,
}

impl WebhookView {
    /// With its secret, which is shown once.
    fn with_secret(webhook: Webhook) -> Self {
        let secret = Some(webhook.secret.expose().to_owned());
        Self { secret, ..webhook.into() }
    }
}

impl From<Webhook> for WebhookView {
    fn from(webhook: Webhook) -> Self {
        let Webhook { id, url, events, description, enabled, created_at, .. } = webhook;
        Self { id, url, events, description, enabled, created_at, secret: None }
    }
}

/// An event on its way to a webhook, or at its end.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::order) struct DeliveryView {
    /// The event's id, which is the `webhook-id` of each attempt.
    #[schema(value_type = Uuid)]
    event_id: String,
    /// The event's type.
    #[serde(rename = "type")]
    #[schema(example = "shop.order.paid")]
    kind: String,
    /// What the event is about.
    subject: String,
    /// `pending`, `delivered`, or `failed`: it is not sent again unless the webhook is enabled again.
    #[schema(pattern = "^(pending|delivered|failed)$", example = "delivered")]
    status: String,
    /// How often it was tried.
    #[schema(minimum = 0)]
    attempts: i64,
    /// The status of the last answer, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = u16, example = 204)]
    http_status: Option<i64>,
    /// Why the last attempt has failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = String, example = "answered 500")]
    error: Option<String>,
    /// Since when it is to be sent.
    #[schema(value_type = String, format = DateTime)]
    #[serde(serialize_with = "in_microseconds")]
    created_at: Timestamp,
    /// When it is tried again, while it is pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = String, format = DateTime)]
    next_attempt_at: Option<String>,
    /// When it was delivered, or has failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = String, format = DateTime)]
    finished_at: Option<String>,
}

impl From<Delivery> for DeliveryView {
    fn from(delivery: Delivery) -> Self {
        let text = |time: chrono::NaiveDateTime| {
            time.and_utc().to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
        };
        Self {
            event_id: delivery.event_id,
            kind: delivery.kind,
            subject: delivery.subject,
            next_attempt_at: delivery.finished_at.is_none().then(|| text(delivery.due_at)),
            status: delivery.status,
            attempts: delivery.attempts,
            http_status: delivery.http_status,
            error: delivery.error,
            created_at: delivery.created_at.and_utc(),
            finished_at: delivery.finished_at.map(text),
        }
    }
}

/// How the attempt to send a test event has ended.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::order) struct TestResult {
    /// Whether the receiver has taken it.
    delivered: bool,
    /// The status of its answer, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = u16, example = 204)]
    http_status: Option<u16>,
    /// Why it has not arrived.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = String, example = "no answer within 10s")]
    error: Option<String>,
}

impl From<Attempt> for TestResult {
    fn from(attempt: Attempt) -> Self {
        let delivered = attempt.is_success();
        Self { delivered, http_status: attempt.status, error: attempt.error }
    }
}

/// Registers a webhook.
///
/// From now on events are sent to the URL as Standard Webhooks says: at least once, and in order for each order. The answer
/// has the secret that signs them, which is not shown again.
#[utoipa::path(
    post,
    path = "/webhooks",
    operation_id = "registerWebhook",
    tag = "webhooks",
    request_body = NewWebhook,
    responses(
        (status = 201, description = "The webhook, with its secret", body = WebhookView, headers(
            ("Location" = String, description = "Where it is"),
        )),
        (status = 409, description = "There are 50 webhooks already"),
    )
)]
pub(in crate::order) async fn register(
    state: Data<OrderState>,
    caller: Caller,
    fields: Fields,
    audit: Audit,
) -> Result<impl Responder, Error> {
    let new = NewWebhook::read(fields, state.receivers.reach)?;
    let webhook = Webhook {
        id: Uuid::now_v7(),
        url: new.url,
        events: new.events.map(|events| events.0),
        description: new.description.map(|description| description.0),
        secret: Secret::new()?,
        old_secret: None,
        enabled: true,
        created_at: now(),
        failing_since: None,
    };
    if !state.orders.add_webhook(&webhook, MOST).await? {
        return Err(too_many(MOST));
    }
    note(&audit, "webhook_registered", &caller, &webhook);
    let location = format!("/webhooks/{}", webhook.id);
    let view = WebhookView::with_secret(webhook);
    Ok(HttpResponse::Created().insert_header((LOCATION, location)).json(view))
}

/// Lists all webhooks, the oldest first.
///
/// There are at most 50.
#[utoipa::path(
    get,
    path = "/webhooks",
    operation_id = "listWebhooks",
    tag = "webhooks",
    responses((status = 200, description = "The webhooks", body = Vec<WebhookView>))
)]
pub(in crate::order) async fn list(state: Data<OrderState>) -> Result<impl Responder, Error> {
    let webhooks = state.orders.webhooks().await?;
    let views = webhooks.into_iter().map(WebhookView::from).collect::<Vec<_>>();
    Ok(HttpResponse::Ok().json(views))
}

/// Shows a webhook.
///
/// Its secret is not shown.
#[utoipa::path(
    get,
    path = "/webhooks/{id}",
    operation_id = "showWebhook",
    tag = "webhooks",
    params(("id" = Uuid, Path, description = "The webhook's id")),
    responses((status = 200, description = "The webhook", body = WebhookView))
)]
pub(in crate::order) async fn show(
    state: Data<OrderState>,
    id: Path<String>,
) -> Result<impl Responder, Error> {
    Ok(HttpResponse::Ok().json(WebhookView::from(find(&state, &id).await?)))
}

/// Deletes a webhook.
///
/// It is sent nothing more, and what it was sent is forgotten.
#[utoipa::path(
    delete,
    path = "/webhooks/{id}",
    operation_id = "removeWebhook",
    tag = "webhooks",
    params(("id" = Uuid, Path, description = "The webhook's id")),
    responses((status = 204, description = "It is deleted"))
)]
pub(in crate::order) async fn remove(
    state: Data<OrderState>,
    id: Path<String>,
    caller: Caller,
    audit: Audit,
) -> Result<impl Responder, Error> {
    let webhook = find(&state, &id).await?;
    if !state.orders.remove_webhook(webhook.id).await? {
        return Err(unknown());
    }
    note(&audit, "webhook_deleted", &caller, &webhook);
    Ok(HttpResponse::NoContent().finish())
}

/// Gives a webhook a new secret.
///
/// For 24 hours events are signed by the secret before, too.
#[utoipa::path(
    post,
    path = "/webhooks/{id}/rotate",
    operation_id = "rotateWebhook",
    tag = "webhooks",
    params(("id" = Uuid, Path, description = "The webhook's id")),
    responses((status = 200, description = "The webhook, with its new secret", body = WebhookView))
)]
pub(in crate::order) async fn rotate(
    state: Data<OrderState>,
    id: Path<String>,
    caller: Caller,
    audit: Audit,
) -> Result<impl Responder, Error> {
    let (secret, until) = (Secret::new()?, now() + OVERLAP);
    let rotated = state.orders.rotate_webhook(parse(&id)?, secret, until).await?;
    let webhook = rotated.ok_or_else(unknown)?;
    note(&audit, "webhook_rotated", &caller, &webhook);
    Ok(HttpResponse::Ok().json(WebhookView::with_secret(webhook)))
}

/// Enables a webhook.
///
/// One is disabled when its receiver answers 410, or has not taken an event for more than a day. It is then sent what it has
/// missed until it was disabled.
#[utoipa::path(
    post,
    path = "/webhooks/{id}/enable",
    operation_id = "enableWebhook",
    tag = "webhooks",
    params(("id" = Uuid, Path, description = "The webhook's id")),
    responses((status = 200, description = "The webhook, which is enabled", body = WebhookView))
)]
pub(in crate::order) async fn enable(
    state: Data<OrderState>,
    id: Path<String>,
    caller: Caller,
    audit: Audit,
) -> Result<impl Responder, Error> {
    let webhook = state.orders.enable_webhook(parse(&id)?).await?.ok_or_else(unknown)?;
    note(&audit, "webhook_enabled", &caller, &webhook);
    Ok(HttpResponse::Ok().json(WebhookView::from(webhook)))
}

/// Sends a webhook an event of the type `shop.webhook.test`.
///
/// It is sent once, at once, and also if the webhook is disabled.
#[utoipa::path(
    post,
    path = "/webhooks/{id}/test",
    operation_id = "testWebhook",
    tag = "webhooks",
    params(("id" = Uuid, Path, description = "The webhook's id")),
    responses((status = 200, description = "How that has ended", body = TestResult))
)]
pub(in crate::order) async fn test(
    state: Data<OrderState>,
    id: Path<String>,
    context: Context,
) -> Result<impl Responder, Error> {
    let webhook = find(&state, &id).await?;
    let event = Event::of_test(webhook.id);
    let body = serde_json::to_string(&event).map_err(Error::internal)?;
    let left = context.deadline.saturating_duration_since(Instant::now() + MARGIN);
    let message = (&*event.id.to_string(), &*body);
    let attempt = state.receivers.send(&webhook, message, None, 0, left).await;
    Ok(HttpResponse::Ok().json(TestResult::from(attempt)))
}

/// Lists the last 50 deliveries to a webhook.
///
/// The newest event comes first.
#[utoipa::path(
    get,
    path = "/webhooks/{id}/deliveries",
    operation_id = "listDeliveries",
    tag = "webhooks",
    params(("id" = Uuid, Path, description = "The webhook's id")),
    responses((status = 200, description = "The deliveries", body = Vec<DeliveryView>))
)]
pub(in crate::order) async fn deliveries(
    state: Data<OrderState>,
    id: Path<String>,
) -> Result<impl Responder, Error> {
    let webhook = find(&state, &id).await?;
    let deliveries = state.orders.deliveries(webhook.id, LISTED).await?;
    let views = deliveries.into_iter().map(DeliveryView::from).collect::<Vec<_>>();
    Ok(HttpResponse::Ok().json(views))
}

fn unknown() -> Error {
    Error::not_found("webhook")
}

fn parse(id: &str) -> Result<Uuid, Error> {
    Uuid::try_parse(id).map_err(|_| unknown())
}

async fn find(state: &OrderState, id: &str) -> Result<Webhook, Error> {
    state.orders.webhook(parse(id)?).await?.ok_or_else(unknown)
}

/// Says in the audit log what `caller` has done to `webhook`. Its URL may have a secret in it, as chats have them.
fn note(audit: &Audit, event: &str, caller: &Caller, webhook: &Webhook) {
    audit.note(event, caller.user(), &format!("webhook {}", webhook.id));
}
