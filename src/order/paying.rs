//! The steps of an order that take several systems: paying, calling off, expiring, giving the money back.
//!
//! A step is stored before it begins, and an order has one at a time. Each of its actions is idempotent: reservations by
//! their ids, charges by the attempt's key, the end by the step that is pending. So whoever finds a step that a crash or a
//! lost answer has left does the rest of it, also if several do at once.
//!
//! Paying: the reservation is committed (from here the pieces are surely the order's), then the customer is charged, then
//! the order is paid. A declined charge moves the pieces to a reservation with another id, so that nobody else gets them
//! meanwhile, and a late request for the old one has no effect. Before pieces are given back, the payment is cancelled at
//! the provider, after which it can never be charged.

use chrono::TimeDelta;
use uuid::Uuid;

use super::OrderState;
use super::payments::{PaymentError, Progress};
use super::reservations::{RESERVED_LONGER, reservation};
use super::step::{Step, illegal, may_move};
use super::store::{Begin, Finish, Record};
use crate::contract::{NewReservation, OrderStatus, now};
use crate::error::{Error, Kind};
use crate::peer::Context;

/// How often a request looks again while other processes work at the same order.
const TRIES: usize = 5;

/// What an attempt to pay comes to.
#[derive(Debug)]
pub(super) enum Paid {
    /// The order is paid.
    Done(Box<Record>),
    /// The bank asks the customer, who answers with this secret.
    Asked(String),
}

/// What a pending step comes to.
enum Settled {
    /// No step is pending.
    Free(Record),
    /// The customer has to answer, or the bank to decide.
    Waits(Record, Option<String>),
}

impl OrderState {
    /// Pays the order by `method`.
    ///
    /// # Errors
    /// 402 when the bank declines, 409 when the order cannot be paid, 503 when the product role or the provider is away.
    pub(super) async fn pay(
        &self,
        mut record: Record,
        method: String,
        context: &Context,
    ) -> Result<Paid, Error> {
        let had_step = record.pending.is_some();
        for _ in 0..TRIES {
            record = match self.settle(record, context).await? {
                Settled::Free(record) => record,
                Settled::Waits(record, Some(secret)) if record.method.as_ref() == Some(&method) => {
                    return Ok(Paid::Asked(secret));
                }
                Settled::Waits(record, _) => self.retreat(record, context).await?.0,
            };
            if record.order.status == OrderStatus::Paid && had_step {
                // This request, or the one before, has paid it.
                return Ok(Paid::Done(record.into()));
            }
            self.check_move(&record, OrderStatus::Paid)?;
            let begin = Begin { step: Step::Charge, method: Some(method.clone()), restock: false };
            match self.orders.begin(record.order.id, begin).await? {
                Some(record) => return self.charge(record, &method, context).await,
                None => record = self.reload(record).await?,
            }
        }
        Err(busy())
    }

    /// Calls the order off.
    ///
    /// # Errors
    /// 409 when it is paid or over, 503 when the product role or the provider is away.
    pub(super) async fn cancel(&self, record: Record, context: &Context) -> Result<Record, Error> {
        self.run(record, Step::Cancel, false, context).await
    }

    /// Gives the money back, and with `restock` the pieces.
    ///
    /// # Errors
    /// 409 when it was not paid, 503 when the product role or the provider is away.
    pub(super) async fn refund(
        &self,
        record: Record,
        restock: bool,
        context: &Context,
    ) -> Result<Record, Error> {
        self.run(record, Step::Refund, restock, context).await
    }

    /// Ends the order with `id`, which was not paid in time, unless somebody else works at it.
    ///
    /// # Errors
    /// When another system is away; the step stays pending.
    pub(super) async fn expire(&self, id: Uuid, context: &Context) -> Result<(), Error> {
        let begin = Begin { step: Step::Expire, method: None, restock: false };
        match self.orders.begin(id, begin).await? {
            Some(record) => self.finish_step(record, context).await.map(drop),
            None => Ok(()),
        }
    }

    /// Marks the order as sent.
    ///
    /// # Errors
    /// 409 when it is not paid.
    pub(super) async fn fulfil(
        &self,
        mut record: Record,
        context: &Context,
    ) -> Result<Record, Error> {
        let (from, to) = (OrderStatus::Paid, OrderStatus::Fulfilled);
        for _ in 0..TRIES {
            record = self.settled(record, context).await?;
            self.check_move(&record, to)?;
            match self.orders.advance(record.order.id, from, to).await? {
                Some(record) => return Ok(record),
                None => record = self.reload(record).await?,
            }
        }
        Err(busy())
    }

    /// Does the rest of a step that somebody has left.
    ///
    /// # Errors
    /// When another system is away; the step stays pending.
    pub(super) async fn resume(&self, record: Record, context: &Context) -> Result<(), Error> {
        match self.settle(record, context).await? {
            Settled::Waits(record, _) if record.order.expires_at <= now() => {
                self.retreat(record, context).await.map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Makes the order paid if the provider has charged it. Others finish an attempt that has come to nothing: it may have
    /// just begun. Returns the order if this has made it paid.
    ///
    /// # Errors
    /// When another system is away.
    pub(super) async fn settle_payment(
        &self,
        record: Record,
        context: &Context,
    ) -> Result<Option<Record>, Error> {
        let record = match record.pending {
            Some((Step::Retreat, _)) => self.retreat(record, context).await?.0,
            _ => record,
        };
        let is_open = matches!(record.pending, None | Some((Step::Charge, _)));
        let Some(intent) = &record.intent else { return Ok(None) };
        if record.order.status != OrderStatus::Placed || !is_open {
            return Ok(None);
        }
        if self.payments.find(intent).await? != Progress::Succeeded {
            return Ok(None);
        }
        let record = match record.pending {
            Some(_) => record,
            // An attempt that was taken for failed has charged it after all.
            None => {
                let begin = Begin { step: Step::Charge, method: None, restock: false };
                match self.orders.begin(record.order.id, begin).await? {
                    Some(record) => record,
                    // Whoever works at it learns of the charge, too.
                    None => return Ok(None),
                }
            }
        };
        let record = self.charged(record, context).await?;
        Ok(Some(record).filter(|record| record.order.status == OrderStatus::Paid))
    }

    /// Does `step` from beginning to end.
    async fn run(
        &self,
        mut record: Record,
        step: Step,
        restock: bool,
        context: &Context,
    ) -> Result<Record, Error> {
        for _ in 0..TRIES {
            record = self.settled(record, context).await?;
            self.check_move(&record, step.target())?;
            let begin = Begin { step, method: None, restock };
            record = match self.orders.begin(record.order.id, begin).await? {
                Some(begun) => self.finish_step(begun, context).await?,
                None => self.reload(record).await?,
            };
            if record.order.status == step.target() {
                return Ok(record);
            }
        }
        Err(busy())
    }

    /// The order when no step is pending any more.
    async fn settled(&self, record: Record, context: &Context) -> Result<Record, Error> {
        match self.settle(record, context).await? {
            Settled::Free(record) => Ok(record),
            Settled::Waits(record, _) => Ok(self.retreat(record, context).await?.0),
        }
    }

    /// Does the rest of the step that is pending in `record`, if there is one. An attempt to pay is not made again: the
    /// provider says what has become of it.
    async fn settle(&self, record: Record, context: &Context) -> Result<Settled, Error> {
        match record.pending {
            None => Ok(Settled::Free(record)),
            Some((Step::Charge, _)) => match &record.intent {
                None => Ok(Settled::Free(self.retreat(record, context).await?.0)),
                Some(intent) => match self.payments.find(intent).await? {
                    Progress::Succeeded => self.charged(record, context).await.map(Settled::Free),
                    Progress::ActionRequired(secret) => Ok(Settled::Waits(record, Some(secret))),
                    Progress::Processing => Ok(Settled::Waits(record, None)),
                    Progress::Open | Progress::Cancelled => {
                        Ok(Settled::Free(self.retreat(record, context).await?.0))
                    }
                },
            },
            Some((Step::Retreat, _)) => Ok(Settled::Free(self.retreat(record, context).await?.0)),
            Some(_) => self.finish_step(record, context).await.map(Settled::Free),
        }
    }

    /// Makes the attempt to pay that has begun in `record`.
    async fn charge(&self, record: Record, method: &str, context: &Context) -> Result<Paid, Error> {
        let (id, attempt) = (record.order.id, record.attempts);
        let pieces = reservation(id, record.reservation);
        match self.products.commit(pieces, context).await {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), Kind::Conflict | Kind::NotFound) => {
                let (record, is_kept) = self.retreat(record, context).await?;
                if is_kept {
                    // Another request has taken this attempt for one that was left.
                    return Err(busy());
                }
                let record = self.run(record, Step::Expire, false, context).await?;
                return Err(illegal(record.order.status, OrderStatus::Paid));
            }
            Err(error) => {
                // Nothing was charged. If this fails, too, the attempt is settled later.
                let _ = self.orders.finish(&record, Finish::default()).await;
                return Err(error);
            }
        }
        if record.order.total.minor() == 0 {
            return self.done(record, context).await;
        }
        let intent = match &record.intent {
            Some(intent) => intent.clone(),
            None => match self.payments.open(&record.order).await {
                Ok(intent) => match self.orders.set_intent(&record, intent.clone()).await? {
                    true => intent,
                    // Another request has taken this attempt for one that was left, and may have given the pieces back.
                    false => return Err(busy()),
                },
                Err(error) => {
                    self.retreat(record, context).await?;
                    return Err(error.into());
                }
            },
        };
        let confirmed = self.payments.confirm((&intent, id, attempt), method).await;
        let progress = match confirmed {
            // The answer was lost: what has become of it?
            Err(PaymentError::Away(why)) => match self.payments.find(&intent).await {
                Ok(Progress::Open) => Err(PaymentError::Away(why)),
                found => found,
            },
            outcome => outcome,
        };
        match progress {
            Ok(Progress::Succeeded) => self.done(record, context).await,
            Ok(Progress::ActionRequired(secret)) => Ok(Paid::Asked(secret)),
            Ok(Progress::Processing) => {
                let error = PaymentError::Away("the bank has not decided".into());
                Err(error.into())
            }
            // It may still be charged; the attempt stays pending.
            Err(error @ PaymentError::Away(_)) => Err(error.into()),
            Ok(Progress::Open | Progress::Cancelled) => {
                self.retreat(record, context).await?;
                Err(PaymentError::Refused("the payment was not confirmed".into()).into())
            }
            Err(error) => {
                self.retreat(record, context).await?;
                Err(error.into())
            }
        }
    }

    /// Ends an attempt to pay that came to nothing: the pieces go to the next reservation, which is held again. That is a
    /// step of its own, so that an attempt which charges after all does not count on pieces that are about to move. Also
    /// returns whether there were any.
    async fn retreat(&self, record: Record, context: &Context) -> Result<(Record, bool), Error> {
        let switched = match record.pending {
            Some((Step::Charge, _)) => self.orders.switch(&record, Step::Retreat).await?,
            _ => Some(record.clone()),
        };
        let Some(record) = switched else { return Ok((self.reload(record).await?, true)) };
        let reservation = self.move_pieces(&record, context).await?;
        let record = self.end(record, Finish { status: None, reservation }).await?;
        Ok((record, reservation.is_some()))
    }

    /// Moves the pieces of an attempt to pay to the next reservation, once; returns its number, unless there are none.
    async fn move_pieces(&self, record: &Record, context: &Context) -> Result<Option<i64>, Error> {
        let (id, next) = (record.order.id, record.attempts);
        let from = reservation(id, record.reservation);
        let left = record.order.expires_at.signed_duration_since(now()).max(TimeDelta::zero());
        let seconds = u64::try_from(left.num_seconds()).unwrap_or_default() + RESERVED_LONGER;
        let moved = NewReservation::From { from, seconds };
        match self.products.reserve(reservation(id, next), &moved, context).await {
            Ok(_) => Ok(Some(next)),
            // There is nothing to move: it was never reserved, or has lapsed.
            Err(error) if error.kind() == Kind::Conflict => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Ends an attempt to pay of which the provider says that it has charged the customer. That may have been an attempt
    /// before, and somebody may have taken this one for failed: the pieces are committed wherever they are.
    async fn charged(&self, record: Record, context: &Context) -> Result<Record, Error> {
        let mut kept = self.commit(&record, record.reservation, context).await?;
        if kept.is_none()
            && let Some(next) = self.move_pieces(&record, context).await?
        {
            kept = self.commit(&record, next, context).await?;
        }
        if kept.is_some() {
            let status = Some(OrderStatus::Paid);
            return self.end(record, Finish { status, reservation: kept }).await;
        }
        let current = self.reload(record.clone()).await?;
        if (current.pending.is_none(), current.attempts) != (false, record.attempts) {
            // Others have ended it, and know more of the pieces.
            return Ok(current);
        }
        self.give_back(&record).await?;
        let status = Some(OrderStatus::Expired);
        self.end(record, Finish { status, reservation: None }).await
    }

    /// Gives the money back for an order that was charged when its pieces were gone.
    async fn give_back(&self, record: &Record) -> Result<(), Error> {
        let Some(intent) = &record.intent else { return Ok(()) };
        self.payments.refund(intent, record.order.id).await?;
        let id = record.order.id;
        log::warn!(role = "order"; "order {id} was charged when its pieces were gone, and refunded");
        Ok(())
    }

    /// Commits the reservation `number` of the order; returns the number unless the pieces are gone from there.
    async fn commit(
        &self,
        record: &Record,
        number: i64,
        context: &Context,
    ) -> Result<Option<i64>, Error> {
        match self.products.commit(reservation(record.order.id, number), context).await {
            Ok(_) => Ok(Some(number)),
            Err(error) if matches!(error.kind(), Kind::Conflict | Kind::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Ends an attempt to pay that has charged the customer.
    async fn done(&self, record: Record, context: &Context) -> Result<Paid, Error> {
        let mut record = self.paid(record).await?;
        for _ in 0..TRIES {
            match record.order.status {
                OrderStatus::Placed => {}
                // It is over, and the customer has the money back.
                status @ (OrderStatus::Cancelled | OrderStatus::Expired) => {
                    return Err(illegal(status, OrderStatus::Paid));
                }
                _ => return Ok(Paid::Done(record.into())),
            }
            // Another request took this attempt for failed, before it has charged.
            record = match self.settle_payment(record.clone(), context).await? {
                Some(paid) => paid,
                None => self.reload(record).await?,
            };
        }
        Err(busy())
    }

    /// Does the rest of a step other than paying.
    async fn finish_step(&self, record: Record, context: &Context) -> Result<Record, Error> {
        let Some((step, _)) = record.pending else { return Ok(record) };
        let pieces = reservation(record.order.id, record.reservation);
        let mut charged = false;
        match (step, &record.intent) {
            (_, None) => {}
            (Step::Refund, Some(intent)) => {
                if let Err(error) = self.payments.refund(intent, record.order.id).await {
                    if !matches!(error, PaymentError::Away(_)) {
                        self.end(record, Finish::default()).await?;
                    }
                    return Err(error.into());
                }
            }
            (_, Some(intent)) => {
                // The pieces stay until it is known whether somebody has paid for them.
                let kept = self.commit(&record, record.reservation, context).await?;
                charged = self.payments.cancel(intent).await? == Progress::Succeeded;
                if charged && kept.is_none() {
                    self.give_back(&record).await?;
                    charged = false;
                }
            }
        }
        if charged {
            return self.paid(record).await;
        }
        if step != Step::Refund || record.restock {
            self.products.release(pieces, context).await?;
        }
        let status = Some(step.target());
        self.end(record, Finish { status, reservation: None }).await
    }

    /// Marks the order as paid.
    async fn paid(&self, record: Record) -> Result<Record, Error> {
        self.end(record, Finish { status: Some(OrderStatus::Paid), reservation: None }).await
    }

    /// Ends the step that is pending in `record`. Returns the order as it is then, whoever has ended it.
    async fn end(&self, record: Record, finish: Finish) -> Result<Record, Error> {
        match self.orders.finish(&record, finish).await? {
            Some(record) => Ok(record),
            None => self.reload(record).await,
        }
    }

    async fn reload(&self, record: Record) -> Result<Record, Error> {
        let found = self.orders.find(record.order.id).await?;
        found.ok_or_else(|| Error::not_found("order"))
    }

    /// Checks that the order may become `to`.
    fn check_move(&self, record: &Record, to: OrderStatus) -> Result<(), Error> {
        let status = match record.order.status {
            OrderStatus::Placed if to == OrderStatus::Paid && record.order.expires_at <= now() => {
                OrderStatus::Expired
            }
            status => status,
        };
        if may_move(status, to) { Ok(()) } else { Err(illegal(status, to)) }
    }
}

/// 409 for an order at which others work.
fn busy() -> Error {
    Error::new(Kind::Conflict, "another request changes the order; try again").retry_after(1)
}
