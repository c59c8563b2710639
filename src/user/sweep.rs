//! Deletes what has ended by itself, in the background.

use std::time::Duration;

use log::Level;
use tokio::time::sleep;

use super::Accounts;
use super::store::Store;
use crate::contract::now;
use crate::storage::StoreError;

/// How long there is nothing to do once all that has ended is gone.
const PERIOD: Duration = Duration::from_secs(60);
/// How soon it is looked again whether the tables are there.
const STARTING: Duration = Duration::from_secs(1);

impl Accounts {
    /// Deletes sessions and revocations that have ended, again and again. Any number of processes may do so at once.
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
                    let level = match error {
                        StoreError::Failed(_) => Level::Warn,
                        _ => Level::Debug,
                    };
                    log::log!(level, role = "user"; "sessions that have ended stay for now: {error}");
                    sleep(PERIOD).await;
                }
            }
        }
    }
}
