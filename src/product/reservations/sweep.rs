//! The task that gives back what has lapsed, finishes what a crash has left, and forgets what is long over.

use std::time::Duration;

use tokio::time::sleep;

use super::super::ProductState;

/// How often it looks.
const INTERVAL: Duration = Duration::from_millis(500);

/// Gives back the pieces of reservations that have expired, and forgets those that ended longer than `retention` ago.
/// Never returns.
pub(in crate::product) async fn sweep(state: ProductState, retention: Duration) {
    loop {
        match state.products.sweep(retention, state.cache.clone()).await {
            // There may be more.
            Ok(true) => continue,
            Ok(false) => {}
            // Readiness logs that the store is away.
            Err(error) => {
                log::log!(error.level(), role = "product"; "reservations were not all swept: {error}");
            }
        }
        sleep(INTERVAL).await;
    }
}
