//! A payment provider to play with: no money moves. Its payments are in the order role's store, as those of a real provider
//! outlive the order role's processes.

use std::time::Duration;

use tokio::time::sleep;
use uuid::Uuid;

use super::{PaymentError, Progress};
use crate::contract::Order;
use crate::order::store::{SandboxIntent, SandboxState, Store};
use crate::storage::StoreError;

/// How long a `slow` payment takes.
const SLOW: Duration = Duration::from_secs(2);

/// The payment methods, and what becomes of them.
const METHODS: [(&str, Method); 5] = [
    ("ok", Method::Ok),
    ("declined", Method::Declined),
    ("slow", Method::Slow),
    ("lost-answer", Method::LostAnswer),
    ("twice", Method::Twice),
];

/// What becomes of a payment.
#[derive(Clone, Copy, Debug)]
enum Method {
    /// It succeeds.
    Ok,
    /// The bank declines.
    Declined,
    /// It succeeds after a while.
    Slow,
    /// It succeeds, and the answer is lost.
    LostAnswer,
    /// The request arrives twice.
    Twice,
}

/// The provider.
#[derive(Clone, Debug)]
pub(in crate::order) struct Sandbox {
    store: Store,
    patience: Duration,
}

impl From<StoreError> for PaymentError {
    fn from(error: StoreError) -> Self {
        Self::Away(error.to_string())
    }
}

impl From<SandboxIntent> for Progress {
    fn from(intent: SandboxIntent) -> Self {
        match intent.state {
            SandboxState::Open => Self::Open,
            SandboxState::Succeeded => Self::Succeeded,
            SandboxState::Cancelled => Self::Cancelled,
        }
    }
}

/// A payment that the provider should know.
fn known(intent: Option<SandboxIntent>) -> Result<SandboxIntent, PaymentError> {
    intent.ok_or_else(|| PaymentError::Refused("there is no such payment".into()))
}

impl Sandbox {
    /// A provider that keeps its payments in `store`, and of which callers expect an answer within `patience`.
    pub(super) fn new(store: Store, patience: Duration) -> Self {
        Self { store, patience }
    }

    pub(super) async fn open(&self, order: &Order) -> Result<String, PaymentError> {
        let name = format!("sandbox_{}", order.id.simple());
        self.store.sandbox_open(name.clone(), order.total, order.currency.clone()).await?;
        Ok(name)
    }

    pub(super) async fn confirm(
        &self,
        intent: &str,
        key: String,
        method: &str,
    ) -> Result<Progress, PaymentError> {
        let found = METHODS.iter().find(|(name, _)| *name == method);
        let Some((_, method)) = found else {
            let names = METHODS.map(|(name, _)| name).join(", ");
            return Err(PaymentError::Method(format!("must be one of the sandbox: {names}")));
        };
        let declined =
            matches!(method, Method::Declined).then(|| "the card was declined".to_owned());
        if matches!(method, Method::Slow) {
            if SLOW > self.patience {
                sleep(self.patience).await;
                return Err(PaymentError::Away("it is slow".into()));
            }
            sleep(SLOW).await;
        }
        let confirm =
            || self.store.sandbox_confirm(intent.to_owned(), key.clone(), declined.clone());
        let mut confirmed = known(confirm().await?)?;
        if matches!(method, Method::Twice) {
            confirmed = known(confirm().await?)?;
        }
        match (method, confirmed) {
            (Method::LostAnswer, _) => Err(PaymentError::Away("its answer was lost".into())),
            (_, SandboxIntent { state: SandboxState::Open, declined: Some(reason) }) => {
                Err(PaymentError::Declined(reason))
            }
            (_, SandboxIntent { state: SandboxState::Cancelled, .. }) => {
                Err(PaymentError::Refused("the payment was cancelled".into()))
            }
            (_, intent) => Ok(intent.into()),
        }
    }

    pub(super) async fn find(&self, intent: &str) -> Result<Progress, PaymentError> {
        Ok(known(self.store.sandbox_find(intent.to_owned()).await?)?.into())
    }

    pub(super) async fn cancel(&self, intent: &str) -> Result<Progress, PaymentError> {
        let (from, to) = (SandboxState::Open, SandboxState::Cancelled);
        Ok(known(self.store.sandbox_move(intent.to_owned(), from, to).await?)?.into())
    }

    pub(super) async fn refund(&self, intent: &str, _: Uuid) -> Result<(), PaymentError> {
        let (from, to) = (SandboxState::Succeeded, SandboxState::Cancelled);
        known(self.store.sandbox_move(intent.to_owned(), from, to).await?).map(drop)
    }
}
