//! Payments, taken by a provider: one payment (intent) an order, which succeeds at most once.
//!
//! An intent is opened without being confirmed; each attempt to pay confirms it with a key of its own. Whether a lost
//! answer was a charge is asked afterwards; a cancelled intent can never be charged.

mod durations;
mod sandbox;
mod stripe;

use std::sync::Arc;
use std::time::Instant;

use rustls::ClientConfig;
use uuid::Uuid;

use super::store::Store;
use crate::config::{self, PaymentsUrl, SettingError};
use crate::contract::Order;
use crate::error::{Error, FieldError, Kind};
use crate::telemetry::Span;
pub(super) use durations::collector;
use sandbox::Sandbox;
use stripe::Stripe;

/// How far a payment is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The customer was charged.
    Succeeded,
    /// Nothing was charged; it can be confirmed.
    Open,
    /// The bank asks the customer, who answers with this secret.
    ActionRequired(String),
    /// The bank has not decided yet.
    Processing,
    /// It was cancelled, and nothing was charged.
    Cancelled,
}

/// Why a request to the provider has no result.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum PaymentError {
    /// The bank declines, for a reason that the customer may know. Nothing was charged.
    #[error("declined: {0}")]
    Declined(String),
    /// The provider does not know the payment method. Nothing was charged.
    #[error("the payment method is refused: {0}")]
    Method(String),
    /// The provider refuses the request. Nothing was charged.
    #[error("the payment provider refuses: {0}")]
    Refused(String),
    /// No answer: the request may have had an effect.
    #[error("no answer from the payment provider: {0}")]
    Away(String),
}

impl From<PaymentError> for Error {
    fn from(error: PaymentError) -> Self {
        match error {
            PaymentError::Declined(reason) => Self::new(Kind::PaymentDeclined, reason),
            PaymentError::Method(why) => Self::invalid(vec![FieldError::new("paymentMethod", why)]),
            PaymentError::Refused(_) => {
                let detail = "the payment provider refuses the request";
                Self::new(Kind::BadGateway, detail).caused_by(error)
            }
            PaymentError::Away(_) => {
                let detail = "the payment provider does not answer; try again";
                Self::unavailable(detail, error)
            }
        }
    }
}

/// The provider, for one worker thread.
#[derive(Clone)]
pub(super) enum Payments {
    /// The order role plays one.
    Sandbox(Box<Sandbox>),
    Stripe(Stripe),
}

/// The TLS configuration of clients of the provider, which threads share, if it takes one.
pub(super) type ClientTls = Option<Arc<ClientConfig>>;

/// Checks the settings of the provider.
///
/// # Errors
/// The setting that does not work.
pub(super) fn client_tls(options: &config::Order) -> Result<ClientTls, SettingError> {
    match &options.payments_url {
        PaymentsUrl::Sandbox => Ok(None),
        PaymentsUrl::Stripe(base) => stripe::client_tls(options, base),
    }
}

impl Payments {
    /// The provider that `options` name; a sandbox keeps its payments in `store`.
    pub(super) fn new(options: &config::Order, tls: ClientTls, store: Store) -> Self {
        match &options.payments_url {
            PaymentsUrl::Sandbox => Self::played(options, store),
            PaymentsUrl::Stripe(base) => Self::Stripe(Stripe::new(options, base, tls)),
        }
    }

    /// A sandbox that keeps its payments in `store`.
    pub(super) fn played(options: &config::Order, store: Store) -> Self {
        Self::Sandbox(Box::new(Sandbox::new(store, options.payments_timeout)))
    }

    /// Opens the payment of `order`, unless it is open; returns its name.
    ///
    /// # Errors
    /// Why there is none. Nothing was charged.
    pub(super) async fn open(&self, order: &Order) -> Result<String, PaymentError> {
        self.traced("payments.open", async {
            match self {
                Self::Sandbox(sandbox) => sandbox.open(order).await,
                Self::Stripe(stripe) => stripe.open(order).await,
            }
        })
        .await
    }

    /// Attempt number `attempt` to charge the payment `intent` of `order` by `method`. The same attempt again has no effect.
    ///
    /// # Errors
    /// Why nothing was charged, or [`PaymentError::Away`].
    pub(super) async fn confirm(
        &self,
        (intent, order, attempt): (&str, Uuid, i64),
        method: &str,
    ) -> Result<Progress, PaymentError> {
        let key = format!("order-{order}-{attempt}");
        self.traced("payments.confirm", async {
            match self {
                Self::Sandbox(sandbox) => sandbox.confirm(intent, key, method).await,
                Self::Stripe(stripe) => stripe.confirm(intent, key, method).await,
            }
        })
        .await
    }

    /// How far the payment `intent` is.
    ///
    /// # Errors
    /// When the provider does not know it, or does not answer.
    pub(super) async fn find(&self, intent: &str) -> Result<Progress, PaymentError> {
        self.traced("payments.find", async {
            match self {
                Self::Sandbox(sandbox) => sandbox.find(intent).await,
                Self::Stripe(stripe) => stripe.find(intent).await,
            }
        })
        .await
    }

    /// Cancels the payment `intent`, unless it has succeeded; returns which of the two it is.
    ///
    /// # Errors
    /// When the provider does not know it, or does not answer.
    pub(super) async fn cancel(&self, intent: &str) -> Result<Progress, PaymentError> {
        self.traced("payments.cancel", async {
            match self {
                Self::Sandbox(sandbox) => sandbox.cancel(intent).await,
                Self::Stripe(stripe) => stripe.cancel(intent).await,
            }
        })
        .await
    }

    /// Gives the money of the payment `intent` of `order` back, once.
    ///
    /// # Errors
    /// Why it was not given back, or [`PaymentError::Away`].
    pub(super) async fn refund(&self, intent: &str, order: Uuid) -> Result<(), PaymentError> {
        self.traced("payments.refund", async {
            match self {
                Self::Sandbox(sandbox) => sandbox.refund(intent, order).await,
                Self::Stripe(stripe) => stripe.refund(intent, order).await,
            }
        })
        .await
    }

    /// `call`, which is measured, and a part of the trace by this `name`.
    async fn traced<T>(
        &self,
        name: &'static str,
        call: impl Future<Output = Result<T, PaymentError>>,
    ) -> Result<T, PaymentError> {
        let system = match self {
            Self::Sandbox(_) => "sandbox",
            Self::Stripe(_) => "stripe",
        };
        let mut span = Span::outside(name, system);
        let begun = Instant::now();
        let outcome = span.within(call).await;
        durations::count(system, name, &outcome, begun.elapsed());
        match &outcome {
            Ok(_) => span.succeed(),
            Err(PaymentError::Declined(_)) => span.fail("declined", false),
            Err(PaymentError::Method(_)) => span.fail("method", false),
            Err(PaymentError::Refused(_)) => span.fail("refused", true),
            Err(PaymentError::Away(_)) => span.fail("away", true),
        }
        outcome
    }
}
