//! Reading the configuration again while the process runs.

use std::rc::Rc;

use tokio::signal::unix::Signal;
use tokio::sync::Mutex;

use super::house::House;
use crate::config::{self, Effective, Settings, Sources};
use crate::tasks;

/// What may change while the process runs: the keys begin with one of these.
const RELOADED: [&str; 4] =
    ["gateway.cache_", "gateway.resilience.", "gateway.routes.", "gateway.upstreams."];

/// Has a task of this thread read `sources` again whenever `hangup` comes, and make of them what can be made of them.
/// What does not work is told in the log, and what was before stays; so is what differs from `running` and takes a restart.
pub(super) fn follow(hangup: Signal, house: House, sources: Sources, running: Effective) {
    // One signal for all starts of the task: what comes in between is not lost.
    let all = Rc::new((Mutex::new(hangup), house, sources, running));
    tasks::supervise("reload", move || {
        let all = all.clone();
        async move {
            let (hangup, house, sources, running) = &*all;
            let mut hangup = hangup.lock().await;
            while hangup.recv().await.is_some() {
                reload(house, sources, running);
            }
        }
    });
}

fn reload(house: &House, sources: &Sources, running: &Effective) {
    match load(house, sources) {
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

fn load(house: &House, sources: &Sources) -> Result<Effective, config::Error> {
    let (settings, effective): (Settings, Effective) = config::load(sources)?;
    house.reload(&settings, &effective)?;
    Ok(effective)
}

fn is_reloaded(key: &str) -> bool {
    RELOADED.iter().any(|prefix| key.starts_with(prefix))
}
