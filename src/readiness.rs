//! Checks of the dependencies of a role.

use std::fmt;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use tokio::time::timeout;

use crate::error::Cause;

/// How long a dependency may take to answer before it counts as missing.
const PATIENCE: Duration = Duration::from_secs(1);

type Probe = Box<dyn Fn() -> LocalBoxFuture<'static, Result<(), Cause>>>;

/// A check of one dependency. Belongs to the thread that made it.
pub struct Check {
    /// Its name in `/readyz`, as in `user.database`.
    pub name: &'static str,
    /// Whether the role is useless without it. A process becomes ready once every required dependency has been there. A
    /// dependency that is lost later is reported, but does not make the process unready: all replicas would leave at
    /// once, and with them the features that still work.
    pub required: bool,
    probe: Probe,
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Check {
    /// A check of a required dependency.
    pub fn required<F>(name: &'static str, probe: impl Fn() -> F + 'static) -> Self
    where
        F: Future<Output = Result<(), Cause>> + 'static,
    {
        Self { name, required: true, probe: Box::new(move || Box::pin(probe())) }
    }

    /// A check of an optional dependency.
    pub fn optional<F>(name: &'static str, probe: impl Fn() -> F + 'static) -> Self
    where
        F: Future<Output = Result<(), Cause>> + 'static,
    {
        Self { required: false, ..Self::required(name, probe) }
    }

    /// Runs the check.
    ///
    /// # Errors
    /// Why the dependency is missing, for the log.
    pub async fn ask(&self) -> Result<(), Cause> {
        timeout(PATIENCE, (self.probe)())
            .await
            .unwrap_or_else(|_| Err("no answer within 1s".into()))
    }
}
