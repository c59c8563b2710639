//! Events: a role writes what has happened into its outbox, in the transaction in which it happens; a relay publishes
//! it, in order; consumers in other roles take it.
//!
//! Delivery is at least once and in order for each subject: a consumer takes an event again after a crash, and its effect is
//! the same.

mod consumer;
mod log;

use std::rc::Rc;

pub use consumer::{Consumer, Refusal};
pub(crate) use log::record;
pub use log::{Log, News};

use crate::tasks;

/// Publishes what is in `logs` to the `consumers` of this process.
pub fn start(logs: Vec<Log>, consumers: &[Consumer]) {
    for log in logs {
        let relay = log.clone();
        tasks::supervise("event_relay", move || relay.clone().relay());
        for consumer in consumers {
            let (log, consumer) = (log.clone(), Rc::new(consumer.clone()));
            tasks::supervise(consumer.name, move || consumer.clone().follow(log.clone()));
        }
    }
}
