//! The HTTP handlers.

use actix_web::http::header::{LINK, LOCATION};
use actix_web::web::{Data, Path};
use actix_web::{HttpResponse, Responder};
use chrono::Days as CalendarDays;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::OrderState;
use super::idempotency::{IdempotencyKey, MaybeKey};
use super::model::{Days, NewOrder, OrderPage, OrderQuery, Payment, RefundRequest, SummaryQuery};
use super::paying::Paid;
use super::store::{Filter, Record, SummaryRow};
use crate::auth::{Audit, Caller};
use crate::contract::{Money, ORDERS_AT_ONCE, Order, OrderStatus, now};
use crate::error::Error;
use crate::middleware::{Fields, Query};
use crate::peer::Context;

/// Places an order.
///
/// Its pieces are kept until it expires, and cost what they cost now. The same request with the same `Idempotency-Key` gets
/// the same answer.
#[utoipa::path(
    post,
    path = "/orders",
    operation_id = "placeOrder",
    tag = "orders",
    params(IdempotencyKey),
    request_body = NewOrder,
    responses(
        (status = 201, description = "The order", body = Order, headers(
            ("Location" = String, description = "Where it is"),
        )),
        (status = 409, description = "There are too few pieces, or the same request is under way"),
    )
)]
pub(super) async fn place(
    state: Data<OrderState>,
    caller: Caller,
    key: MaybeKey,
    fields: Fields,
    context: Context,
) -> Result<impl Responder, Error> {
    let user = match caller.is_trusted() {
        true => None,
        false => Some(caller.identity()?.user),
    };
    let key = key.check(caller.is_trusted())?;
    let wanted = NewOrder::read(fields, user)?;
    let order = state.place(wanted, key, &context).await?;
    let location = format!("/orders/{}", order.id);
    Ok(HttpResponse::Created().insert_header((LOCATION, location)).json(order))
}

/// Lists the caller's orders, the newest first.
///
/// An admin sees everybody's. Each page's `Link` header leads to the next one.
#[utoipa::path(
    get,
    path = "/orders",
    operation_id = "listOrders",
    tag = "orders",
    params(OrderQuery),
    responses(
        (status = 200, description = "A page", body = Vec<Order>, headers(
            ("Link" = String, description = "Where the next page is, with `rel=\"next\"`; absent on the last"),
        )),
    )
)]
pub(super) async fn list(
    state: Data<OrderState>,
    caller: Caller,
    query: Query,
) -> Result<impl Responder, Error> {
    let page = OrderPage::read(query)?;
    let found = state.orders.list(page.filter(caller.sees_only()?), page.limit_and_one()).await?;
    let (orders, next) = page.cut(found.into_iter().map(|record| record.order).collect());
    let mut response = HttpResponse::Ok();
    if let Some(next) = next {
        response.insert_header((LINK, format!("<{next}>; rel=\"next\"")));
    }
    Ok(response.json(orders))
}

/// `GET /internal/users/{id}/orders`: what the user role exports, the newest first; those `before` one.
pub(super) async fn of_user(
    state: Data<OrderState>,
    id: Path<String>,
    mut query: Query,
) -> Result<impl Responder, Error> {
    let user = Uuid::try_parse(&id).map_err(|_| Error::not_found("user"))?;
    let before = query.optional("before");
    let filter = query.finish(Filter { user: Some(user), before, status: None })?;
    let found = state.orders.list(filter, ORDERS_AT_ONCE).await?;
    Ok(HttpResponse::Ok().json(found.into_iter().map(|record| record.order).collect::<Vec<_>>()))
}

/// Shows an order.
///
/// Only the user who placed it and admins see it.
#[utoipa::path(
    get,
    path = "/orders/{id}",
    operation_id = "showOrder",
    tag = "orders",
    params(("id" = Uuid, Path, description = "The order's id")),
    responses((status = 200, description = "The order", body = Order))
)]
pub(super) async fn show(
    state: Data<OrderState>,
    id: Path<String>,
    caller: Caller,
) -> Result<impl Responder, Error> {
    Ok(HttpResponse::Ok().json(find(&state, &id, &caller).await?.order))
}

/// What the bank asks of the customer.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Challenge {
    /// The secret by which the provider's page asks the customer.
    client_secret: String,
}

/// Pays an order.
///
/// If the answer is lost, ask again: nobody is charged twice.
#[utoipa::path(
    post,
    path = "/orders/{id}/pay",
    operation_id = "payOrder",
    tag = "orders",
    params(("id" = Uuid, Path, description = "The order's id")),
    request_body = Payment,
    responses(
        (status = 200, description = "The order, which is paid", body = Order),
        (status = 202, description = "The bank asks the customer first", body = Challenge),
        (status = 402, description = "The bank declines; another payment method may be tried"),
        (status = 409, description = "The order cannot be paid"),
        (status = 502, description = "The payment provider refuses the request"),
    )
)]
pub(super) async fn pay(
    state: Data<OrderState>,
    id: Path<String>,
    caller: Caller,
    fields: Fields,
    context: Context,
    audit: Audit,
) -> Result<impl Responder, Error> {
    let method = Payment::read(fields)?;
    let record = find(&state, &id, &caller).await?;
    let (id, user) = (record.order.id, record.order.user_id);
    match state.pay(record, method, &context).await {
        Ok(Paid::Done(record)) => {
            audit.note("order_paid", Some(user), &named(&record.order));
            Ok(HttpResponse::Ok().json(record.order))
        }
        Ok(Paid::Asked(client_secret)) => {
            Ok(HttpResponse::Accepted().json(Challenge { client_secret }))
        }
        Err(error) => {
            let why = format!("order {id}: {}", error.chain());
            audit.note("payment_failed", Some(user), &why);
            Err(error)
        }
    }
}

/// Cancels an order that is not paid.
///
/// Its pieces can be ordered again, and it can never be paid.
#[utoipa::path(
    post,
    path = "/orders/{id}/cancel",
    operation_id = "cancelOrder",
    tag = "orders",
    params(("id" = Uuid, Path, description = "The order's id")),
    responses(
        (status = 200, description = "The order, which is cancelled", body = Order),
        (status = 409, description = "It is paid, or over"),
    )
)]
pub(super) async fn cancel(
    state: Data<OrderState>,
    id: Path<String>,
    caller: Caller,
    context: Context,
) -> Result<impl Responder, Error> {
    let record = find(&state, &id, &caller).await?;
    Ok(HttpResponse::Ok().json(state.cancel(record, &context).await?.order))
}

/// Marks a paid order as sent.
///
/// It can still be refunded.
#[utoipa::path(
    post,
    path = "/orders/{id}/fulfil",
    operation_id = "fulfilOrder",
    tag = "orders",
    params(("id" = Uuid, Path, description = "The order's id")),
    responses(
        (status = 200, description = "The order, which is fulfilled", body = Order),
        (status = 409, description = "It is not paid, or fulfilled already"),
    )
)]
pub(super) async fn fulfil(
    state: Data<OrderState>,
    id: Path<String>,
    caller: Caller,
    context: Context,
) -> Result<impl Responder, Error> {
    let record = find(&state, &id, &caller).await?;
    Ok(HttpResponse::Ok().json(state.fulfil(record, &context).await?.order))
}

/// Gives the money for an order back.
///
/// With `restock`, its pieces can be ordered again. If the answer is lost, ask again: the money is given back once.
#[utoipa::path(
    post,
    path = "/orders/{id}/refund",
    operation_id = "refundOrder",
    tag = "orders",
    params(("id" = Uuid, Path, description = "The order's id")),
    request_body = RefundRequest,
    responses(
        (status = 200, description = "The order, which is refunded", body = Order),
        (status = 409, description = "It was not paid, or is refunded already"),
        (status = 502, description = "The payment provider refuses the request"),
    )
)]
pub(super) async fn refund(
    state: Data<OrderState>,
    id: Path<String>,
    caller: Caller,
    fields: Fields,
    context: Context,
    audit: Audit,
) -> Result<impl Responder, Error> {
    let restock = RefundRequest::read(fields)?;
    let record = find(&state, &id, &caller).await?;
    let order = state.refund(record, restock, &context).await?.order;
    audit.note("order_refunded", Some(order.user_id), &named(&order));
    Ok(HttpResponse::Ok().json(order))
}

/// The orders of one day in one state.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DaySummary {
    /// The date, in UTC.
    #[schema(format = Date)]
    day: String,
    /// The state that they are in now.
    status: OrderStatus,
    /// How many.
    #[schema(minimum = 1)]
    orders: i64,
    /// What they cost together.
    total: Money,
}

impl From<SummaryRow> for DaySummary {
    fn from(row: SummaryRow) -> Self {
        let SummaryRow { day, status, orders, total } = row;
        // More than an amount can be is shown as the most.
        let total = Money::from_minor(total).unwrap_or(Money::MAX);
        Self { day, status, orders, total }
    }
}

/// Sums up the orders by day and state.
///
/// The day is the one on which they were placed, in UTC, the state the one that they are in now. The newest day comes first.
#[utoipa::path(
    get,
    path = "/orders/summary",
    operation_id = "summarizeOrders",
    tag = "orders",
    params(SummaryQuery),
    responses((status = 200, description = "Days and states that have orders", body = Vec<DaySummary>))
)]
pub(super) async fn summary(
    state: Data<OrderState>,
    query: Query,
) -> Result<impl Responder, Error> {
    let Days(days) = Days::read(query)?;
    let first = now().date_naive() - CalendarDays::new(u64::from(days) - 1);
    let rows = state.orders.summary(first.to_string()).await?;
    Ok(HttpResponse::Ok().json(rows.into_iter().map(DaySummary::from).collect::<Vec<_>>()))
}

/// The order `id`, if the caller may see it.
async fn find(state: &OrderState, id: &str, caller: &Caller) -> Result<Record, Error> {
    let unknown = || Error::not_found("order");
    let id = Uuid::try_parse(id).map_err(|_| unknown())?;
    let found = state.orders.find(id).await?;
    found.filter(|record| caller.may_see(record.order.user_id)).ok_or_else(unknown)
}

/// An order in the audit log.
fn named(order: &Order) -> String {
    format!("order {}, {} {}", order.id, order.total, order.currency)
}
