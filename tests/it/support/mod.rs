//! Starting the shop, and asking it.

mod balancer;
mod client;
mod process;
mod servers;

pub(crate) use balancer::Balancer;
pub(crate) use client::{Answer, Client};
pub(crate) use process::{Process, Shop, Storage, Topology};
pub(crate) use servers::{Kind, Server};

use std::time::{Duration, Instant};

/// How long a test waits for what should happen soon.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        actix_rt::time::sleep(Duration::from_millis(10)).await;
    }
}
