//! Reading the configuration again while the process runs.

use tokio::signal::unix::Signal;

use super::house::House;
use crate::config::{self, Effective, Settings, Sources};

/// What may change while the process runs: the keys begin with one of these.
const RELOADED: [&str; 4] =
    ["gateway.cache_", "gateway.resilience.", "gateway.routes.", "gateway.upstreams."];

/// Reads `sources` again whenever `hangup` comes, and makes of them what can be made of them. What does not work is
/// told in the log, and what was before stays; so is what differs from `running` and takes a restart. Never returns.
pub(super) async fn follow(mut hangup: Signal, house: House, sources: Sources, running: Effective) {
    while hangup.recv().await.is_some() {
        match load(&house, &sources) {
            Ok(effective) => {
                log::info!("the configuration was read again");
                // By what the process began with: nothing else of it has changed meanwhile.
                for key in running.differences(&effective).filter(|key| !is_reloaded(key)) {
                    log::warn!(key; "{key} is another now, which takes a restart");
                }
            }
            Err(error) => log::error!("the configuration stays as it is: {error}"),
        }
    }
    std::future::pending().await
}

fn load(house: &House, sources: &Sources) -> Result<Effective, config::Error> {
    let (settings, effective): (Settings, Effective) = config::load(sources)?;
    house.reload(&settings, &effective)?;
    Ok(effective)
}

fn is_reloaded(key: &str) -> bool {
    RELOADED.iter().any(|prefix| key.starts_with(prefix))
}
