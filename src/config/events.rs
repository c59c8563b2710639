//! The settings of events: what carries them from role to role.

use lapin::uri::{AMQPScheme, AMQPUri};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::ValueError;
use super::layers::value_error;

const WANTED: &str = "memory:// or amqp://USER:PASSWORD@HOST";
/// The options of a URL that are known; others, such as those of Erlang's client, would be ignored.
const OPTIONS: [&str; 5] =
    ["auth_mechanism", "channel_max", "connection_timeout", "frame_max", "heartbeat"];
/// How often the connection shows that it lives, in seconds; twice as long without a sign, and it is lost.
const HEARTBEAT: u16 = 5;
/// The largest frame in bytes. The client has room for 64 of them; a longer message takes several.
const FRAME_MAX: u32 = 16_384;

/// What carries events; the scheme picks it.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub enum EventsUrl {
    /// `memory://`: this process.
    Memory,
    /// `amqp://…` or `amqps://…`: RabbitMQ.
    Amqp(BrokerUrl),
}

/// The URL of a broker.
#[derive(Clone, Debug)]
pub struct BrokerUrl(SecretString);

impl BrokerUrl {
    /// Whether it is reached over TLS.
    pub fn is_secure(&self) -> bool {
        self.parsed().scheme == AMQPScheme::AMQPS
    }

    /// Its parts.
    pub fn parsed(&self) -> AMQPUri {
        // Its constructor has parsed it.
        let mut uri = self.0.expose_secret().parse::<AMQPUri>().unwrap_or_default();
        uri.query.heartbeat.get_or_insert(HEARTBEAT);
        uri.query.frame_max.get_or_insert(FRAME_MAX);
        uri
    }
}

impl TryFrom<String> for EventsUrl {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        if text == "memory://" {
            return Ok(Self::Memory);
        }
        let is_amqp = text.starts_with("amqp://") || text.starts_with("amqps://");
        let parsed = url::Url::parse(&text).ok().filter(|url| is_amqp && url.has_host());
        let Some(url) = parsed.filter(|_| text.parse::<AMQPUri>().is_ok()) else {
            return Err(value_error!(
                "not the URL of what carries events; use {WANTED}, where /, ?, #, @, : and % of a password are %2F, \
                 %3F, %23, %40, %3A and %25"
            ));
        };
        match url.query_pairs().find(|(name, _)| !OPTIONS.contains(&&**name)) {
            Some(_) => Err(value_error!("its options can be {}", OPTIONS.join(", "))),
            None => Ok(Self::Amqp(BrokerUrl(text.into()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_carried_by_this_process_or_by_a_broker() {
        let parse = |text: &str| EventsUrl::try_from(text.to_owned());
        assert!(matches!(parse("memory://"), Ok(EventsUrl::Memory)));
        for (good, is_secure) in [
            ("amqp://broker", false),
            ("amqp://u:p%40ss@broker:5673/shop?heartbeat=10", false),
            ("amqps://u:p@broker/%2f", true),
        ] {
            match parse(good) {
                Ok(EventsUrl::Amqp(url)) => assert_eq!(url.is_secure(), is_secure, "{good}"),
                other => panic!("{good}: {other:?}"),
            }
        }
        for bad in [
            "",
            "memory://x",
            "amqp",
            "amqp://",
            "redis://broker",
            "amqp://broker:port",
            "amqp://broker?heartbeat=x",
            "amqps://broker?verify=verify_peer",
        ] {
            let told = parse(bad).map(drop);
            assert!(told.is_err(), "{bad}");
        }
        let told = format!("{:?}", parse("amqp://u:s3cret@broker"));
        assert!(!told.contains("s3cret"), "{told}");
    }
}
