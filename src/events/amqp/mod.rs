//! Events by RabbitMQ: one connection for the process, on its main thread.

mod consumer;
mod dead_letters;
mod publisher;
mod replay;
mod stream;
mod topology;

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::FieldTable;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Event as Sign,
    PublisherConfirm,
};
use rustls::ClientConfig;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::dead_letters::DeadLetterError;
use crate::config::BrokerUrl;
use crate::contract::now;
use crate::readiness::Check;
use crate::storage::StoreError;
use crate::tasks;

/// What traces call it, as OpenTelemetry does.
const SYSTEM: &str = "rabbitmq";

/// How long the broker may take to answer when a connection is made.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a connection is looked at that says nothing.
const INTERVAL: Duration = Duration::from_secs(1);
/// The pause after a failure; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// The code of an end that is no failure.
const CLOSED: u16 = 200;

/// Why events did not get to the broker, or from it. All of it is tried again.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Broker(#[from] lapin::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the broker refused a message")]
    Refused,
    #[error("there is no queue {0}")]
    NoQueue(String),
    #[error("another process publishes them meanwhile")]
    Overtaken,
    #[error("the connection is lost")]
    Lost,
    #[error("a queue does not answer")]
    Silent,
}

/// The broker, as this process sees it.
#[derive(Clone)]
pub struct Broker(Arc<Inner>);

struct Inner {
    url: BrokerUrl,
    tls: Option<Arc<ClientConfig>>,
    /// The roles that publish events.
    publishers: Vec<&'static str>,
    /// The consumers of all roles.
    consumers: Vec<&'static str>,
    link: watch::Sender<Link>,
}

/// The connection, or why there is none.
enum Link {
    Starting,
    Down(String),
    Up(Arc<Connection>),
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").finish_non_exhaustive()
    }
}

impl Broker {
    /// The broker at `url`, by which the roles `publishers` publish events for `consumers`. Opens no connection yet.
    pub fn new(
        url: BrokerUrl,
        tls: Option<Arc<ClientConfig>>,
        publishers: Vec<&'static str>,
        consumers: Vec<&'static str>,
    ) -> Self {
        let link = watch::Sender::new(Link::Starting);
        Self(Arc::new(Inner { url, tls, publishers, consumers, link }))
    }

    /// Connects, for a command, and stays connected as long as this thread's tasks run.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn connected(self) -> Result<Self, DeadLetterError> {
        let connected = self.clone();
        tasks::supervise("event_broker", move || connected.clone().stay_connected());
        match self.link().await {
            Ok(_) => Ok(self),
            Err(why) => Err(DeadLetterError::Broker(why)),
        }
    }

    /// The connection, once it is known whether there is one; why there is none.
    async fn link(&self) -> Result<Arc<Connection>, String> {
        let mut link = self.0.link.subscribe();
        let known = link.wait_for(|link| !matches!(link, Link::Starting)).await;
        match known.as_deref() {
            Ok(Link::Up(connection)) => Ok(connection.clone()),
            Ok(Link::Down(why)) => Err(why.clone()),
            // Its sender is our own.
            Ok(Link::Starting) | Err(_) => Err("there is no connection yet".into()),
        }
    }

    /// Checks that it answers, and takes messages.
    pub fn check(&self) -> Check {
        let broker = self.clone();
        Check::optional("events.url", move || {
            let broker = broker.clone();
            async move {
                let connection = broker.link().await?;
                if connection.status().blocked() {
                    return Err("it takes no messages, as with a full disk".into());
                }
                let channel = connection.create_channel().await?;
                Ok(channel.close(CLOSED, "".into()).await?)
            }
        })
    }

    /// Keeps a connection. Never returns.
    pub(super) async fn stay_connected(self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let why = match timeout(PATIENCE, self.connect()).await {
                Ok(Ok(connection)) => {
                    pause = FIRST_PAUSE;
                    log::info!("connected to the broker of events");
                    let connection = Arc::new(connection);
                    self.0.link.send_replace(Link::Up(connection.clone()));
                    let why = end_of(&connection).await;
                    log::warn!("the connection to the broker of events is lost: {why}");
                    why
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {PATIENCE:?}"),
            };
            self.0.link.send_replace(Link::Down(why));
            sleep(pause).await;
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }

    async fn connect(&self) -> lapin::Result<Connection> {
        let tls = self.0.tls.clone();
        let properties = ConnectionProperties::default().with_connection_name("shop".into());
        let connect = async move |uri, _| stream::connect(uri, tls.clone()).await;
        Connection::connector(self.0.url.parsed(), stream::runtime(), connect, properties).await
    }

    fn connection(&self) -> Result<Arc<Connection>, Failure> {
        let Link::Up(connection) = &*self.0.link.borrow() else { return Err(Failure::Lost) };
        Ok(connection.clone())
    }

    /// A channel that confirms what is published.
    async fn channel(&self) -> Result<Channel, Failure> {
        let channel = self.connection()?.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(channel)
    }

    /// Runs `session` whenever there is a connection, after a pause that doubles while sessions are short. It ends with the
    /// connection, whatever it waits for.
    async fn repeat(
        &self,
        name: &'static str,
        mut session: impl AsyncFnMut() -> Result<(), Failure>,
    ) {
        let mut pause = FIRST_PAUSE;
        loop {
            let mut link = self.0.link.subscribe();
            // Its sender is our own.
            let _ = link.wait_for(|link| matches!(link, Link::Up(_))).await;
            let begun = tokio::time::Instant::now();
            let outcome = tokio::select! {
                outcome = session() => outcome,
                _ = link.changed() => Err(Failure::Lost),
            };
            if let Err(error) = outcome {
                // Readiness logs that the broker or a store is away.
                log::debug!(task = name; "events wait: {error}");
            }
            pause = if begun.elapsed() > LONGEST_PAUSE { FIRST_PAUSE } else { pause };
            sleep(pause).await;
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }
}

/// Waits until `connection` is lost; says why.
async fn end_of(connection: &Connection) -> String {
    let mut signs = pin!(connection.events_listener());
    loop {
        let sign = timeout(INTERVAL, signs.next()).await.ok().flatten();
        match sign {
            Some(Sign::ConnectionBlocked(why)) => {
                log::warn!("the broker takes no events, they wait: {why}");
            }
            Some(Sign::ConnectionUnblocked) => log::info!("the broker takes events again"),
            Some(Sign::Error(error)) if !connection.status().connected() => {
                return error.to_string();
            }
            _ if !connection.status().connected() => return "it is closed".into(),
            _ => {}
        }
    }
}

/// The properties of a message that is sent now, and survives a restart of the broker.
fn durable(headers: FieldTable) -> BasicProperties {
    BasicProperties::default()
        .with_content_type("application/cloudevents+json".into())
        .with_delivery_mode(2)
        .with_timestamp(now().timestamp().unsigned_abs())
        .with_headers(headers)
}

/// Publishes a message; the broker says by the answer that it has it.
async fn publish(
    channel: &Channel,
    (exchange, key): (&str, &str),
    body: &[u8],
    properties: BasicProperties,
) -> lapin::Result<PublisherConfirm> {
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    channel.basic_publish(exchange.into(), key.into(), options, body, properties).await
}

/// Waits until the broker has a message; whether a queue has taken it.
async fn confirmed(confirm: PublisherConfirm) -> Result<bool, Failure> {
    match confirm.await? {
        Confirmation::Ack(returned) => Ok(returned.is_none()),
        Confirmation::Nack(_) | Confirmation::NotRequested => Err(Failure::Refused),
    }
}

/// A message of what is always JSON.
fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_else(|error| unreachable!("{error}"))
}
