//! Deletes expired sessions and revocations in the background.

use std::time::Duration;

use tokio::time::sleep;

use super::Accounts;
use super::store::Store;
use crate::contract::now;

/// The pause after a sweep that left nothing to delete.
const PERIOD: Duration = Duration::from_secs(60);
/// The pause before the tables are looked for again.
const STARTING: Duration = Duration::from_secs(1);

impl Accounts {
    /// Deletes expired sessions and revocations, again and again. Any number of processes may do so at once.
    pub(super) async fn sweep(self) {
        while !self.state.is_prepared() {
            sleep(STARTING).await;
        }
        let users = Store::open(&self.options, self.state.clone());
        loop {
            match users.sweep(now(), self.issuer.forgotten()).await {
                // There may be more.
                Ok(true) => {}
                Ok(false) => sleep(PERIOD).await,
                Err(error) => {
                    // Readiness logs that the store is away, full or read-only.
                    log::log!(error.level(), role = "user"; "expired sessions are not deleted yet: {error}");
                    sleep(PERIOD).await;
                }
            }
        }
    }
}
