//! Reloads the configuration while the process runs.

use std::rc::Rc;

use tokio::signal::unix::Signal;
use tokio::sync::Mutex;

use super::composition::Node;
use crate::config::{self, Effective, Settings, Sources};
use crate::tasks;

/// The prefixes of the settings that a reload changes.
const RELOADED: [&str; 4] =
    ["gateway.cache_", "gateway.resilience.", "gateway.routes.", "gateway.upstreams."];

/// Starts a task on this thread that reloads `sources` at each `hangup`. It logs invalid settings, which change nothing, and
/// settings that differ from `running` and need a restart.
pub(super) fn follow(hangup: Signal, node: Node, sources: Sources, running: Effective) {
    // All starts of the task share one signal: none is lost in between.
    let shared = Rc::new((Mutex::new(hangup), node, sources, running));
    tasks::supervise("reload", move || {
        let shared = shared.clone();
        async move {
            let (hangup, node, sources, running) = &*shared;
            let mut hangup = hangup.lock().await;
            while hangup.recv().await.is_some() {
                reload(node, sources, running);
            }
        }
    });
}

fn reload(node: &Node, sources: &Sources, running: &Effective) {
    match load(node, sources) {
        Ok(effective) => {
            log::info!("the configuration was read again");
            // Compared with the settings at the start: other settings have not changed since.
            for key in running.differences(&effective).filter(|key| !is_reloaded(key)) {
                log::warn!(key; "{key} has changed: restart required");
            }
        }
        Err(error) => log::error!("the configuration stays as it is: {error}"),
    }
}

fn load(node: &Node, sources: &Sources) -> Result<Effective, config::Error> {
    let (settings, effective): (Settings, Effective) = config::load(sources)?;
    node.reload(&settings, &effective)?;
    Ok(effective)
}

fn is_reloaded(key: &str) -> bool {
    RELOADED.iter().any(|prefix| key.starts_with(prefix))
}
