//! All settings, typed.
//!
//! Four layers, each overriding the one before, key by key: the built-in `config/*.toml`, the same
//! files in `./config` or `--config DIR`, the environment, and `--set KEY=VALUE`. A command may have preferences, below
//! the environment, and needs, above everything.
//!
//! Every number and duration has bounds. Where 0 is allowed, it has a meaning of its own; otherwise the lower bound is the
//! least with which requests are still answered, and at least a millisecond for stores, which count in milliseconds. The
//! upper bound is far beyond any use, and well below where clocks and libraries overflow.

mod cors;
mod environment;
mod events;
mod files;
mod gateway;
mod layers;
mod limits;
mod open_telemetry;
mod pairs;
mod payments;
mod redact;
mod resilience;
mod route;
mod traces;
mod values;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use crate::files::resolve;

pub use cors::{List, Origins};
pub use events::{BrokerUrl, EventsUrl};
pub use gateway::{Gateway, Route, Tokens, Upstream};
pub use layers::{Effective, Error, SettingError, Sources, ValueError, load};
pub use limits::{Limit, Limits, Scope};
pub use payments::{Currency, PaymentsUrl, PublishableKey};
pub use redact::{hide, hide_password};
pub use resilience::Resilience;
pub use route::{HostName, ResponseHeaders, Strip};
pub use traces::{Batch, Compression, Endpoint, Otlp, SamplerKind, Traces};
pub use values::{
    AuthMode, CacheUrl, CertificateNames, DocumentUrl, InternalSecrets, LogFormat, Methods,
    Networks, PeerUrl, PeerUrls, PostgresUrl, SqlUrl, check_filter,
};
use values::{between, file, filter, within};

/// The files of the configuration folder, as built in.
const BUILT_IN: &[(&str, &str)] = &[
    ("default.toml", include_str!("../../config/default.toml")),
    ("gateway.toml", include_str!("../../config/gateway.toml")),
    ("user.toml", include_str!("../../config/user.toml")),
    ("product.toml", include_str!("../../config/product.toml")),
    ("order.toml", include_str!("../../config/order.toml")),
];

/// All settings, checked and typed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The settings of all listeners.
    pub server: Server,
    /// What all roles agree on.
    pub shop: Shop,
    /// Logging.
    pub log: Log,
    /// Traces.
    pub traces: Traces,
    /// The management port of every process.
    pub management: Management,
    /// How roles call each other.
    pub transport: Transport,
    /// What a caller does when another role fails, is slow or overloaded.
    pub resilience: Resilience,
    /// The roles outside this process.
    pub peers: Peers,
    /// How roles of different processes authenticate each other.
    pub mtls: Mtls,
    /// Tokens and access.
    pub auth: Auth,
    /// The gateway role.
    pub gateway: Gateway,
    /// How events get from role to role.
    pub events: Events,
    /// The user role.
    pub user: User,
    /// The product role.
    pub product: Product,
    /// The order role.
    pub order: Order,
}

impl Settings {
    /// Checks combinations of settings.
    ///
    /// # Errors
    /// The setting that must change.
    fn check(&self, effective: &Effective) -> Result<(), Error> {
        if self.gateway.cors_credentials && self.gateway.cors_origins == Origins::Any {
            let problem = "cannot be used with gateway.cors_origins=*; name the origins";
            return Err(effective.blame("gateway.cors_credentials", problem));
        }
        let files = self.own_files().map(|(key, path)| (key, resolve(path))).collect::<Vec<_>>();
        for (n, (key, path)) in files.iter().enumerate() {
            let Some((other, _)) = files[..n].iter().find(|(_, other)| other == path) else {
                continue;
            };
            let mut keys = [*other, *key];
            // The one that was set is the one to change.
            keys.sort_by_key(|key| effective.origin(key) == "built in");
            let problem = format!("is the file of {}, too; each has one of its own", keys[1]);
            return Err(effective.blame(keys[0], problem));
        }
        Ok(())
    }

    /// The files that the program writes, and the settings that name them.
    pub fn own_files(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let accounts = match &self.user.database_url {
            SqlUrl::Sqlite(path) => Some(("user.database_url", &**path)),
            SqlUrl::Postgres(_) => None,
        };
        let catalogue = match &self.product.database_url {
            DocumentUrl::Sqlite(path) => Some(("product.database_url", &**path)),
            DocumentUrl::Mongo(_) => None,
        };
        let orders = match &self.order.database_url {
            SqlUrl::Sqlite(path) => Some(("order.database_url", &**path)),
            SqlUrl::Postgres(_) => None,
        };
        let has_file = self.user.signing_keys.expose_secret().is_empty();
        let keys = has_file.then_some(("user.signing_keys_path", &*self.user.signing_keys_path));
        [accounts, catalogue, orders, keys].into_iter().flatten()
    }
}

/// `[server]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// The threads of each listener, at most 512; 0 means one per core.
    #[serde(deserialize_with = "within::<_, _, 0, 512>")]
    pub workers: usize,
    /// The most time a request may take.
    #[serde(deserialize_with = "between::<_, 10, 86_400_000>")]
    pub request_timeout: Duration,
    /// The largest request body, in bytes.
    #[serde(deserialize_with = "within::<_, _, 1, 1073741824>")]
    pub body_limit: usize,
    /// How long an idle client connection is kept.
    #[serde(deserialize_with = "between::<_, 100, 86_400_000>")]
    pub keep_alive: Duration,
    /// How long a client may take to send a request's head.
    #[serde(deserialize_with = "between::<_, 100, 3_600_000>")]
    pub header_timeout: Duration,
    /// The largest head of a request: the names and values of its headers, in bytes.
    #[serde(deserialize_with = "within::<_, _, 1024, 65536>")]
    pub header_limit: usize,
    /// How long a client may take to send or read the next piece of a body.
    #[serde(deserialize_with = "between::<_, 100, 3_600_000>")]
    pub body_timeout: Duration,
    /// How long to accept further requests after SIGTERM; Ctrl-C skips it.
    #[serde(deserialize_with = "between::<_, 0, 3_600_000>")]
    pub drain_delay: Duration,
    /// How long to wait for requests in flight after that.
    #[serde(deserialize_with = "between::<_, 0, 86_400_000>")]
    pub drain_timeout: Duration,
}

/// `[shop]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shop {
    /// The currency of all prices.
    pub currency: Currency,
    /// What the storefront tells Stripe; empty where Stripe does not take the payments.
    pub stripe_publishable_key: PublishableKey,
}

/// `[log]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// The filter, in env_logger's syntax.
    #[serde(deserialize_with = "filter")]
    pub filter: String,
    /// The format of lines.
    pub format: LogFormat,
    /// How long a request takes that is warned of; 0 means none is.
    #[serde(deserialize_with = "between::<_, 0, 86_400_000>")]
    pub slow_request: Duration,
    /// How long a call to a store takes that is warned of; 0 means none is.
    #[serde(deserialize_with = "between::<_, 0, 86_400_000>")]
    pub slow_statement: Duration,
}

/// `[management]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Management {
    /// Whether it makes profiles.
    pub debug: bool,
}

/// `[transport]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transport {
    /// The most calls that wait in a worker's mailbox; further ones get 503.
    #[serde(deserialize_with = "within::<_, _, 2, 1000000>")]
    pub mailbox_capacity: usize,
    /// The most calls of a worker's mailbox under way at once.
    #[serde(deserialize_with = "within::<_, _, 1, 1000000>")]
    pub mailbox_concurrency: usize,
    /// The most connections of each worker to a role in another process.
    #[serde(deserialize_with = "within::<_, _, 1, 65536>")]
    pub pool_size: usize,
    /// How long an idle connection is kept; less than the peer's `server.keep_alive` and `drain_delay`.
    #[serde(deserialize_with = "between::<_, 1, 86_400_000>")]
    pub pool_idle: Duration,
    /// How long opening a connection may take.
    #[serde(deserialize_with = "between::<_, 10, 60_000>")]
    pub connect_timeout: Duration,
    /// How long a response may pause after it has begun.
    #[serde(deserialize_with = "between::<_, 10, 86_400_000>")]
    pub read_timeout: Duration,
}

/// `[peers]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peers {
    /// The base URLs of the user role, unless it runs in this process.
    pub user: PeerUrls,
    /// The base URLs of the product role, unless it runs in this process.
    pub product: PeerUrls,
    /// The base URLs of the order role, unless it runs in this process.
    pub order: PeerUrls,
    /// `[peers.resilience.NAME]`: refines `[resilience]` for one role.
    pub resilience: BTreeMap<String, Resilience>,
}

/// `[events]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Events {
    /// What carries them.
    pub url: EventsUrl,
}

/// `[mtls]`: the three files together, or none of them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mtls {
    /// This process's certificate chain, PEM.
    #[serde(deserialize_with = "file")]
    pub certificate: Option<PathBuf>,
    /// The certificate's private key, PEM.
    #[serde(deserialize_with = "file")]
    pub key: Option<PathBuf>,
    /// The authorities that sign the certificates of roles, PEM.
    #[serde(deserialize_with = "file")]
    pub authority: Option<PathBuf>,
    /// The allowed names in a caller's certificate.
    pub names: CertificateNames,
}

/// The longest `auth.access_ttl`.
pub const MAX_ACCESS_TTL: Duration = Duration::from_secs(86_400);

/// `[auth]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// Whether tokens are required.
    pub mode: AuthMode,
    /// Whether `open` may listen on more than loopback.
    pub open_beyond_loopback: bool,
    /// The issuer of tokens (`iss`).
    pub issuer: String,
    /// The audience of tokens (`aud`).
    pub audience: String,
    /// How long an access token is valid; 10 s to a day.
    #[serde(deserialize_with = "between::<_, 10_000, { MAX_ACCESS_TTL.as_millis() as u64 }>")]
    pub access_ttl: Duration,
    /// The allowed difference between the clocks of two machines; at most 30 s, because revocations are kept a minute
    /// longer than tokens live.
    #[serde(deserialize_with = "between::<_, 0, 30_000>")]
    pub leeway: Duration,
    /// How often a process fetches keys and revocations; 100 ms to 30 s.
    #[serde(deserialize_with = "between::<_, 100, 30_000>")]
    pub refresh_interval: Duration,
    /// What roles of different processes know each other by, without mTLS.
    pub internal_secret: InternalSecrets,
}

/// `[user]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The role's address, unless all roles run in this process.
    pub listen: SocketAddr,
    /// The management address of a process whose first role this is.
    pub management: SocketAddr,
    /// The store of accounts.
    pub database_url: SqlUrl,
    /// The most connections of each worker.
    #[serde(deserialize_with = "within::<_, _, 1, 1000>")]
    pub pool_size: u32,
    /// How long a request may wait for a connection.
    #[serde(deserialize_with = "between::<_, 10, 60_000>")]
    pub acquire_timeout: Duration,
    /// How long the store may take to answer.
    #[serde(deserialize_with = "between::<_, 10, 3_600_000>")]
    pub statement_timeout: Duration,
    /// How many products a dashboard recommends, 0 to 100.
    #[serde(deserialize_with = "within::<_, _, 0, 100>")]
    pub recommendations: u8,
    /// How long a dashboard waits for them.
    #[serde(deserialize_with = "between::<_, 1, 60_000>")]
    pub recommendations_timeout: Duration,
    /// How long a refresh token is valid; a minute to a year.
    #[serde(deserialize_with = "between::<_, 60_000, 31_557_600_000>")]
    pub refresh_ttl: Duration,
    /// The most sessions of an account, 1 to 10,000; one more ends the oldest.
    #[serde(deserialize_with = "within::<_, _, 1, 10000>")]
    pub sessions_per_account: u32,
    /// How long a used refresh token gives the same successor again; 0 to a minute.
    #[serde(deserialize_with = "between::<_, 0, 60_000>")]
    pub refresh_leeway: Duration,
    /// The keys that sign tokens, in the format of the file below, which is ignored if there are any.
    pub signing_keys: SecretString,
    /// The file with the keys. It is read again when it changes.
    pub signing_keys_path: PathBuf,
    /// The most passwords that are hashed at once; 0 means one per two cores.
    #[serde(deserialize_with = "within::<_, _, 0, 1024>")]
    pub hashing_threads: usize,
    /// The most passwords that wait to be hashed; further ones get 503.
    #[serde(deserialize_with = "within::<_, _, 1, 100000>")]
    pub hashing_queue: usize,
    /// Where password attempts are counted.
    pub limits_url: CacheUrl,
    /// How long the server may take to answer before it counts as away.
    #[serde(deserialize_with = "between::<_, 1, 60_000>")]
    pub limits_timeout: Duration,
    /// The prefix of the keys on the server, so that several shops can share one.
    pub limits_prefix: String,
    /// Password attempts per account and minute; 0 means no limit.
    #[serde(deserialize_with = "within::<_, _, 0, 1000000>")]
    pub logins_per_account: u32,
    /// Password attempts per client address and minute; 0 means no limit.
    #[serde(deserialize_with = "within::<_, _, 0, 1000000>")]
    pub logins_per_address: u32,
}

/// `[product]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Product {
    /// The role's address, unless all roles run in this process.
    pub listen: SocketAddr,
    /// The management address of a process whose first role this is.
    pub management: SocketAddr,
    /// The store of the catalogue.
    pub database_url: DocumentUrl,
    /// The most connections of each worker.
    #[serde(deserialize_with = "within::<_, _, 1, 1000>")]
    pub pool_size: u32,
    /// How long a request may wait for a connection.
    #[serde(deserialize_with = "between::<_, 10, 60_000>")]
    pub acquire_timeout: Duration,
    /// How long the store may take to answer.
    #[serde(deserialize_with = "between::<_, 10, 3_600_000>")]
    pub statement_timeout: Duration,
    /// Where responses are cached.
    pub cache_url: CacheUrl,
    /// How long a cached response is fresh.
    #[serde(deserialize_with = "between::<_, 10, 31_557_600_000>")]
    pub cache_ttl: Duration,
    /// How long after that it is served while one caller refreshes it.
    #[serde(deserialize_with = "between::<_, 0, 31_557_600_000>")]
    pub cache_stale: Duration,
    /// How long the absence of a product is cached.
    #[serde(deserialize_with = "between::<_, 10, 31_557_600_000>")]
    pub cache_absent_ttl: Duration,
    /// The largest response that is cached, in bytes.
    #[serde(deserialize_with = "within::<_, _, 0, 1073741824>")]
    pub cache_entry_limit: usize,
    /// The total size of cached responses in this process, in bytes; a server has its own limit.
    #[serde(deserialize_with = "within::<_, _, 0, 1099511627776>")]
    pub cache_size: u64,
    /// How long the server may take to answer before it counts as away.
    #[serde(deserialize_with = "between::<_, 1, 60_000>")]
    pub cache_timeout: Duration,
    /// The prefix of the keys on the server, so that several shops can share one.
    pub cache_prefix: String,
    /// How long reservations that were released, have lapsed or were moved are kept, and which orders were counted; a minute
    /// to ten years.
    #[serde(deserialize_with = "between::<_, 60_000, 315_576_000_000>")]
    pub reservation_retention: Duration,
}

/// `[order]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// The role's address, unless all roles run in this process.
    pub listen: SocketAddr,
    /// The management address of a process whose first role this is.
    pub management: SocketAddr,
    /// The store of orders.
    pub database_url: SqlUrl,
    /// The most connections of each worker.
    #[serde(deserialize_with = "within::<_, _, 1, 1000>")]
    pub pool_size: u32,
    /// How long a request may wait for a connection.
    #[serde(deserialize_with = "between::<_, 10, 60_000>")]
    pub acquire_timeout: Duration,
    /// How long the store may take to answer.
    #[serde(deserialize_with = "between::<_, 10, 3_600_000>")]
    pub statement_timeout: Duration,
    /// For how long an order can be paid; 1 s to a day without the minute that its pieces are kept longer.
    #[serde(deserialize_with = "between::<_, 1_000, 86_340_000>")]
    pub payment_window: Duration,
    /// For how long an idempotency key gets its first answer again; a minute to a year.
    #[serde(deserialize_with = "between::<_, 60_000, 31_557_600_000>")]
    pub idempotency_ttl: Duration,
    /// The most streams of events that a process has open at once; further ones get 503.
    #[serde(deserialize_with = "within::<_, _, 1, 1000000>")]
    pub listeners: usize,
    /// Who takes payments.
    pub payments_url: PaymentsUrl,
    /// The secret key of the provider's API.
    pub payments_key: SecretString,
    /// The secret by which the provider signs its webhooks.
    pub payments_webhook_secret: SecretString,
    /// How long the provider may take to answer.
    #[serde(deserialize_with = "between::<_, 10, 60_000>")]
    pub payments_timeout: Duration,
    /// How long the receiver of a webhook may take to answer.
    #[serde(deserialize_with = "between::<_, 10, 60_000>")]
    pub webhooks_timeout: Duration,
    /// How long deliveries that have ended are kept; two days, in which an event may come again, to ten years.
    #[serde(deserialize_with = "between::<_, 172_800_000, 315_576_000_000>")]
    pub webhooks_retention: Duration,
    /// Whether webhooks may lead to addresses that are not public, and by `http://`.
    pub webhooks_allow_private: bool,
}
