//! Events: a role writes what has happened into its outbox, in the transaction in which it happens; a relay publishes
//! it, in order; consumers in other roles take it.
//!
//! Delivery is at least once and in order for each subject: a consumer takes an event again after a crash, and its effect is
//! the same.

mod amqp;
mod backlog;
mod consumer;
mod counters;
mod dead_letters;
mod lease;
mod letters;
mod log;

use std::rc::Rc;

pub use amqp::Broker;
pub use consumer::{Consumer, Refusal};
pub use dead_letters::{DeadLetterError, DeadLetters, Decision};
pub(crate) use log::record;
pub use log::{Log, News, created};

use crate::metrics::Collectors;
use crate::readiness::Check;
use crate::tasks;

/// What carries events from role to role.
#[derive(Clone, Debug)]
pub enum Bus {
    /// This process, in which all consumers run.
    Memory,
    /// Nothing: events wait in the log, because some consumers run elsewhere.
    Missing,
    /// RabbitMQ.
    Broker(Broker),
}

impl Bus {
    /// A check of it, if it can be missing.
    pub fn check(&self) -> Option<Check> {
        match self {
            Self::Memory => None,
            Self::Missing => Some(Check::optional("events", async || {
                Err("events.url is memory://, and roles elsewhere take events, which wait until AMQP_URL is set"
                    .into())
            })),
            Self::Broker(broker) => Some(broker.check()),
        }
    }

    /// The dead letters that a process has which can read `logs`.
    pub fn dead_letters(&self, logs: Vec<Log>) -> DeadLetters {
        match self {
            Self::Memory => DeadLetters::Logs(logs),
            Self::Missing => DeadLetters::Untaken(logs),
            Self::Broker(broker) => DeadLetters::Broker(broker.clone()),
        }
    }
}

/// What becomes of the events of a process.
pub fn collectors() -> Collectors {
    counters::collectors()
}

/// Publishes what is in `logs` by `bus`, and gives it to the `consumers` of this process.
pub fn start(bus: &Bus, logs: Vec<Log>, consumers: Vec<Consumer>) {
    let takers = match bus {
        Bus::Memory => consumers.iter().map(|consumer| consumer.name).collect(),
        Bus::Missing | Bus::Broker(_) => vec![lease::BROKER],
    };
    for log in &logs {
        let (relayed, watched, takers) = (log.clone(), log.clone(), takers.clone());
        tasks::supervise("event_relay", move || relayed.clone().relay());
        tasks::supervise("event_backlog", move || watched.clone().watch(takers.clone()));
    }
    let consumers = consumers.into_iter().map(Rc::new).collect::<Vec<_>>();
    match bus {
        Bus::Missing => {}
        Bus::Memory => logs.into_iter().for_each(|log| start_in_memory(log, &consumers)),
        Bus::Broker(broker) => start_by_broker(broker, logs, consumers),
    }
}

fn start_in_memory(log: Log, consumers: &[Rc<Consumer>]) {
    for consumer in consumers {
        let (log, consumer) = (log.clone(), consumer.clone());
        tasks::supervise(consumer.name, move || consumer.clone().follow(log.clone()));
    }
    let names = consumers.iter().map(|consumer| consumer.name).collect::<Vec<_>>();
    tasks::supervise("event_sweep", move || log.clone().sweep(names.clone()));
}

fn start_by_broker(broker: &Broker, logs: Vec<Log>, consumers: Vec<Rc<Consumer>>) {
    if logs.is_empty() && consumers.is_empty() {
        return;
    }
    let connected = broker.clone();
    tasks::supervise("event_broker", move || connected.clone().stay_connected());
    for log in logs {
        let (publisher, published) = (broker.clone(), log.clone());
        tasks::supervise("event_publisher", move || publisher.clone().publish(published.clone()));
        let (replayer, replayed) = (broker.clone(), log.clone());
        tasks::supervise("event_replay", move || replayer.clone().replay(replayed.clone()));
        tasks::supervise("event_sweep", move || log.clone().sweep(vec![lease::BROKER]));
    }
    for consumer in consumers {
        let broker = broker.clone();
        tasks::supervise(consumer.name, move || broker.clone().consume(consumer.clone()));
    }
}
