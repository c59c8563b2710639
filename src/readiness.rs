//! What a role needs, and whether it is there.

use std::fmt;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use tokio::time::timeout;

use crate::error::Cause;

/// How long a dependency may take to answer before it counts as missing.
const PATIENCE: Duration = Duration::from_secs(1);

type Probe = Box<dyn Fn() -> LocalBoxFuture<'static, Result<(), Cause>>>;

/// A dependency and the way to ask whether it is there. Belongs to the thread that made it.
pub struct Check {
    /// What it is called in `/readyz`, as in `user.database`.
    pub name: &'static str,
    /// Whether the role can do nothing without it. A process is ready once every required dependency
    /// has been there; what goes missing later is named, but does not take the process out of service:
    /// every replica would leave at once, and what still works would be gone with the rest.
    pub required: bool,
    probe: Probe,
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Check {
    /// A dependency without which nothing works.
    pub fn required<F>(name: &'static str, probe: impl Fn() -> F + 'static) -> Self
    where
        F: Future<Output = Result<(), Cause>> + 'static,
    {
        Self { name, required: true, probe: Box::new(move || Box::pin(probe())) }
    }

    /// A dependency whose absence leaves something to do.
    pub fn optional<F>(name: &'static str, probe: impl Fn() -> F + 'static) -> Self
    where
        F: Future<Output = Result<(), Cause>> + 'static,
    {
        Self { required: false, ..Self::required(name, probe) }
    }

    /// Asks.
    ///
    /// # Errors
    /// Why it is not there, in words for the log.
    pub async fn ask(&self) -> Result<(), Cause> {
        timeout(PATIENCE, (self.probe)())
            .await
            .unwrap_or_else(|_| Err("no answer within 1s".into()))
    }
}
