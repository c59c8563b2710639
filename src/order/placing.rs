//! Placing an order: its pieces are reserved, then one transaction writes it.
//!
//! Whatever ends the process in between, the reservation lapses by itself. A request with an idempotency key is noted first,
//! with the order that it leads to, so that the same request finds the same reservation again.

use chrono::TimeDelta;
use uuid::Uuid;

use super::OrderState;
use super::idempotency::Key;
use super::model::Wanted;
use super::reservations::{RESERVED_LONGER, reservation};
use super::store::{Claim, Claimed, Record};
use crate::config::Currency;
use crate::contract::{Money, NewReservation, Order, OrderLine, OrderStatus, Reservation, now};
use crate::error::{Error, FieldError, Kind};
use crate::peer::Context;
use crate::storage::StoreError;

impl OrderState {
    /// Places the order that is `wanted`, once for each `key`.
    ///
    /// # Errors
    /// 409 when there are too few pieces, or the same request is under way; 422 for products that are not there, and for
    /// a key that another request has.
    pub(super) async fn place(
        &self,
        wanted: Wanted,
        key: Option<Key>,
        context: &Context,
    ) -> Result<Order, Error> {
        let Some(key) = key else {
            return self.order(Uuid::now_v7(), &wanted, None, context).await;
        };
        let claim = Claim {
            user: wanted.user,
            fingerprint: wanted.fingerprint(),
            order: Uuid::now_v7(),
            until: now() + self.rules.lease,
            key,
        };
        let id = match self.orders.claim(&claim).await? {
            Claimed::Fresh(id) => id,
            answered => return self.repeat(answered).await,
        };
        let placed = self.order(id, &wanted, Some(&claim), context).await;
        let Err(error) = placed else { return placed };
        let fields = (error.kind() == Kind::Invalid).then(|| error.fields());
        if let Err(why) = self.orders.unclaim(&claim, fields).await {
            // It can be claimed again when its time is over.
            log::debug!(role = "order"; "a request stays under way: {why}");
        }
        Err(error)
    }

    /// The answer to a request that was made before.
    async fn repeat(&self, answered: Claimed) -> Result<Order, Error> {
        let conflict = || {
            let detail = "the same request is under way; try again";
            Error::new(Kind::Conflict, detail).retry_after(1)
        };
        match answered {
            Claimed::Done(id) => {
                let record = self.orders.find(id).await?.ok_or_else(conflict)?;
                // As it was answered first.
                Ok(Order { status: OrderStatus::Placed, paid_at: None, ..record.order })
            }
            Claimed::Refused(fields) => Err(Error::invalid(fields)),
            Claimed::Other => {
                let detail = "another request has this Idempotency-Key";
                Err(Error::new(Kind::Invalid, detail))
            }
            Claimed::Fresh(_) | Claimed::UnderWay => Err(conflict()),
        }
    }

    /// Reserves the pieces of the order `id`, and writes it.
    async fn order(
        &self,
        id: Uuid,
        wanted: &Wanted,
        claim: Option<&Claim>,
        context: &Context,
    ) -> Result<Order, Error> {
        let window = self.rules.window;
        let new = NewReservation::Lines {
            lines: wanted.lines.clone(),
            seconds: window.as_secs() + RESERVED_LONGER,
        };
        let reserve = async |id| self.products.reserve(reservation(id, 0), &new, context).await;
        let (id, reserved) = match (reserve(id).await, claim) {
            // An earlier try has reserved them, and they have lapsed.
            (Err(error), Some(claim)) if error.kind() == Kind::Conflict => {
                let id = Uuid::now_v7();
                self.orders.redirect(claim, id).await?;
                (id, reserve(id).await)
            }
            (reserved, _) => (id, reserved),
        };
        let reserved = reserved.map_err(of_items)?;
        let record = match self.record(id, wanted, reserved) {
            Ok(record) => record,
            Err(error) => return Err(self.give_up(id, error, context).await),
        };
        match self.orders.insert(&record, claim.map(|claim| &claim.key)).await {
            Ok(()) => Ok(record.order),
            // Whoever took the request for left behind was faster, or slower.
            Err(StoreError::Duplicate) => match claim {
                Some(claim) => {
                    let answered = self.orders.claimed(claim).await?;
                    self.repeat(answered.unwrap_or(Claimed::UnderWay)).await
                }
                None => Err(StoreError::Duplicate.into()),
            },
            // It may have been written.
            Err(error @ StoreError::Connection(_)) => Err(error.into()),
            Err(error) => Err(self.give_up(id, error.into(), context).await),
        }
    }

    /// Gives back the pieces of an order that was not written because of `error`, which it returns.
    async fn give_up(&self, id: Uuid, error: Error, context: &Context) -> Error {
        if let Err(why) = self.products.release(reservation(id, 0), context).await {
            log::debug!(role = "order"; "a reservation is left to lapse: {}", why.chain());
        }
        error
    }

    /// The order of `wanted`, whose pieces are `reserved`.
    fn record(&self, id: Uuid, wanted: &Wanted, reserved: Reservation) -> Result<Record, Error> {
        let (items, total) = lines_of(reserved, self.rules.currency)?;
        let created_at = now();
        Ok(Record::new(Order {
            id,
            user_id: wanted.user,
            status: OrderStatus::Placed,
            items,
            total,
            currency: self.rules.currency.code().to_owned(),
            ship_to: wanted.ship_to.clone(),
            contact: wanted.contact.clone(),
            created_at,
            expires_at: created_at
                + TimeDelta::from_std(self.rules.window).unwrap_or(TimeDelta::zero()),
            paid_at: None,
        }))
    }
}

/// The lines of an order whose pieces are `reserved`, and what they cost together.
///
/// # Errors
/// 422 when that is more than an order can cost, or a price has fractions that `currency` has not.
pub(super) fn lines_of(
    reserved: Reservation,
    currency: Currency,
) -> Result<(Vec<OrderLine>, Money), Error> {
    let too_much = || Error::invalid(vec![FieldError::new("items", "cost more than an order can")]);
    let multiply = |price: Money, quantity: i64| {
        price.minor().checked_mul(quantity).and_then(|minor| Money::from_minor(minor).ok())
    };
    let mut total = 0_i64;
    let mut items = Vec::with_capacity(reserved.lines.len());
    for line in reserved.lines {
        if !currency.has(line.price.minor()) {
            // It was priced before the shop had this currency.
            let detail = format!("cost fractions of a {currency}: {}", line.name);
            return Err(Error::invalid(vec![FieldError::new("items", detail)]));
        }
        let line_total = multiply(line.price, line.quantity).ok_or_else(too_much)?;
        total = total.checked_add(line_total.minor()).ok_or_else(too_much)?;
        items.push(OrderLine {
            product_id: line.product_id,
            name: line.name,
            unit_price: line.price,
            quantity: line.quantity,
            line_total,
        });
    }
    Ok((items, Money::from_minor(total).map_err(|_| too_much())?))
}

/// The error of a reservation in the words of an order: the product role speaks of lines.
fn of_items(error: Error) -> Error {
    if error.kind() != Kind::Invalid {
        return error.of_order();
    }
    let items = error.fields().iter().map(|field| FieldError::new("items", field.detail.clone()));
    Error::invalid(items.collect())
}
