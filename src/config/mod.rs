//! What can be set, where it may be set, and what is wrong with it.
//!
//! Four layers, each overriding the one before, key by key: the built-in `config/*.toml`, the same
//! files in `./config` or `--config DIR`, the environment, and `--set KEY=VALUE`.
//!
//! Every number and duration has bounds. Where 0 is allowed it says something of its own; else the lower bound is the
//! least with which requests are still answered, and nothing that counts in milliseconds, as stores do, gets none of
//! them. The upper bound is far beyond any use, and well below where clocks and libraries overflow.

mod cors;
mod environment;
mod files;
mod gateway;
mod layers;
mod limits;
mod redact;
mod resilience;
mod route;
mod values;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;

pub use cors::{List, Origins};
pub use gateway::{Gateway, Route, Tokens, Upstream};
pub use layers::{Effective, Error, SettingError, Sources, ValueError, load};
pub use limits::{Limit, Limits, Scope};
pub use redact::{hide, hide_password};
pub use resilience::Resilience;
pub use route::{HostName, ResponseHeaders, Strip};
pub use values::{
    AuthMode, CacheUrl, CertificateNames, DocumentUrl, LogFormat, Methods, Networks, PeerUrl,
    PeerUrls, PostgresUrl, SqlUrl,
};
use values::{between, file, filter, optional, within};

/// Every setting there is, checked and typed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What every listener shares.
    pub server: Server,
    /// What is written to standard error, and how.
    pub log: Log,
    /// How roles call each other.
    pub transport: Transport,
    /// What a caller does when another role fails, is slow or has too much to do.
    pub resilience: Resilience,
    /// Where roles outside this process are.
    pub peers: Peers,
    /// How roles of different processes know each other.
    pub mtls: Mtls,
    /// Who may do what, and how it is known who asks.
    pub auth: Auth,
    /// The gateway role.
    pub gateway: Gateway,
    /// The user role.
    pub user: User,
    /// The product role.
    pub product: Product,
}

impl Settings {
    /// What two settings say that does not go together.
    ///
    /// # Errors
    /// A line that begins with the key of the one that has to change.
    fn check(&self, effective: &Effective) -> Result<(), Error> {
        if self.gateway.cors_credentials && self.gateway.cors_origins == Origins::Any {
            let problem = "cannot go with gateway.cors_origins=*; name the origins";
            return Err(effective.blame("gateway.cors_credentials", problem));
        }
        Ok(())
    }
}

/// `[server]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Threads for each listener, at most 512, as many as the server can tell apart; 0 is one per core.
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
    /// How long a client may take for the next piece of a body that it sends or is sent.
    #[serde(deserialize_with = "between::<_, 100, 3_600_000>")]
    pub body_timeout: Duration,
    /// How long to go on accepting after SIGTERM; Ctrl-C skips it.
    #[serde(deserialize_with = "between::<_, 0, 3_600_000>")]
    pub drain_delay: Duration,
    /// How long to wait for what is in flight after that.
    #[serde(deserialize_with = "between::<_, 0, 86_400_000>")]
    pub drain_timeout: Duration,
}

/// `[log]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Which lines are written, in env_logger's filter syntax.
    #[serde(deserialize_with = "filter")]
    pub filter: String,
    /// For people or for machines.
    pub format: LogFormat,
}

/// `[transport]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transport {
    /// Calls that may wait in a worker's mailbox; one more is answered 503. A process asks two things at once of itself.
    #[serde(deserialize_with = "within::<_, _, 2, 1000000>")]
    pub mailbox_capacity: usize,
    /// Calls that a worker's mailbox has under way at once.
    #[serde(deserialize_with = "within::<_, _, 1, 1000000>")]
    pub mailbox_concurrency: usize,
    /// Connections that each worker may keep to a role elsewhere.
    #[serde(deserialize_with = "within::<_, _, 1, 65536>")]
    pub pool_size: usize,
    /// How long such a connection is kept unused; less than the peer's `server.keep_alive` and `drain_delay`.
    #[serde(deserialize_with = "between::<_, 1, 86_400_000>")]
    pub pool_idle: Duration,
    /// How long opening one may take.
    #[serde(deserialize_with = "between::<_, 10, 60_000>")]
    pub connect_timeout: Duration,
    /// How long an answer that has begun may pause.
    #[serde(deserialize_with = "between::<_, 10, 86_400_000>")]
    pub read_timeout: Duration,
}

/// `[peers]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peers {
    /// The user role's base URL, unless it runs in this process.
    #[serde(deserialize_with = "optional")]
    pub user: Option<PeerUrl>,
    /// The product role's base URL, unless it runs in this process.
    #[serde(deserialize_with = "optional")]
    pub product: Option<PeerUrl>,
    /// `[peers.resilience.NAME]`: what is otherwise for one role, here or elsewhere.
    pub resilience: BTreeMap<String, Resilience>,
}

/// `[mtls]`: the three files together, or none of them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mtls {
    /// What this process shows to other roles, and to those that ask it: PEM, with what leads to the authority.
    #[serde(deserialize_with = "file")]
    pub certificate: Option<PathBuf>,
    /// The certificate's private key, PEM.
    #[serde(deserialize_with = "file")]
    pub key: Option<PathBuf>,
    /// The certificates of the authorities by which another role is believed, PEM.
    #[serde(deserialize_with = "file")]
    pub authority: Option<PathBuf>,
    /// The names of which a caller's certificate must have one.
    pub names: CertificateNames,
}

/// The longest `auth.access_ttl`.
pub const MAX_ACCESS_TTL: Duration = Duration::from_secs(86_400);

/// `[auth]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// Who may do what.
    pub mode: AuthMode,
    /// Whether `open` may listen on more than loopback.
    pub open_beyond_loopback: bool,
    /// Who says in a token that it is theirs (`iss`).
    pub issuer: String,
    /// For whom tokens are (`aud`).
    pub audience: String,
    /// How long an access token is good for; 10 s to a day.
    #[serde(deserialize_with = "between::<_, 10_000, { MAX_ACCESS_TTL.as_millis() as u64 }>")]
    pub access_ttl: Duration,
    /// How far the clocks of two machines may be apart; at most 30 s, as revocations are remembered a minute longer than
    /// tokens live.
    #[serde(deserialize_with = "between::<_, 0, 30_000>")]
    pub leeway: Duration,
    /// How often a process asks for the keys and for whose tokens have ended; 100 ms to 30 s.
    #[serde(deserialize_with = "between::<_, 100, 30_000>")]
    pub refresh_interval: Duration,
}

/// `[user]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Where the role answers, unless a gateway in this process does for it.
    pub listen: SocketAddr,
    /// Where a process whose first role this is answers `/readyz` and the like.
    pub management: SocketAddr,
    /// Where accounts are kept.
    pub database_url: SqlUrl,
    /// Connections for each worker.
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
    /// How long a refresh token is good for; a minute to a year.
    #[serde(deserialize_with = "between::<_, 60_000, 31_557_600_000>")]
    pub refresh_ttl: Duration,
    /// Sessions that one account may have at once, 1 to 10,000; the oldest ends for one more.
    #[serde(deserialize_with = "within::<_, _, 1, 10000>")]
    pub sessions_per_account: u32,
    /// How long a refresh token that was just used gives the same successor again; 0 to a minute.
    #[serde(deserialize_with = "between::<_, 0, 60_000>")]
    pub refresh_leeway: Duration,
    /// The keys that sign tokens, in the form of the file below; the file is left alone when there are any.
    pub signing_keys: SecretString,
    /// The file that has them. It is read again when it changes.
    pub signing_keys_path: PathBuf,
    /// Passwords that are hashed at once; 0 is one for every two cores.
    #[serde(deserialize_with = "within::<_, _, 0, 1024>")]
    pub hashing_threads: usize,
    /// Passwords that may wait for that; one more is answered 503.
    #[serde(deserialize_with = "within::<_, _, 1, 100000>")]
    pub hashing_queue: usize,
    /// Where passwords that are tried are counted.
    pub limits_url: CacheUrl,
    /// How long a server may take to count one before it counts as away.
    #[serde(deserialize_with = "between::<_, 1, 60_000>")]
    pub limits_timeout: Duration,
    /// What the keys on a server begin with, so that several shops can share one.
    pub limits_prefix: String,
    /// Tries to log in to one account that are taken a minute; 0 is any number.
    #[serde(deserialize_with = "within::<_, _, 0, 1000000>")]
    pub logins_per_account: u32,
    /// Passwords from one client address that are taken a minute; 0 is any number.
    #[serde(deserialize_with = "within::<_, _, 0, 1000000>")]
    pub logins_per_address: u32,
}

/// `[product]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Product {
    /// Where the role answers, unless a gateway in this process does for it.
    pub listen: SocketAddr,
    /// Where a process whose first role this is answers `/readyz` and the like.
    pub management: SocketAddr,
    /// Where the catalogue is kept.
    pub database_url: DocumentUrl,
    /// Connections for each worker.
    #[serde(deserialize_with = "within::<_, _, 1, 1000>")]
    pub pool_size: u32,
    /// How long a request may wait for a connection.
    #[serde(deserialize_with = "between::<_, 10, 60_000>")]
    pub acquire_timeout: Duration,
    /// How long the store may take to answer.
    #[serde(deserialize_with = "between::<_, 10, 3_600_000>")]
    pub statement_timeout: Duration,
    /// Where answers are cached.
    pub cache_url: CacheUrl,
    /// How long an answer is served from the cache as it is.
    #[serde(deserialize_with = "between::<_, 10, 31_557_600_000>")]
    pub cache_ttl: Duration,
    /// How long after that it may be served while one caller asks the store again.
    #[serde(deserialize_with = "between::<_, 0, 31_557_600_000>")]
    pub cache_stale: Duration,
    /// How long it is remembered that a product does not exist.
    #[serde(deserialize_with = "between::<_, 10, 31_557_600_000>")]
    pub cache_absent_ttl: Duration,
    /// The largest answer that is cached, in bytes.
    #[serde(deserialize_with = "within::<_, _, 0, 1073741824>")]
    pub cache_entry_limit: usize,
    /// The bytes that all answers together may take in this process; a server has a limit of its own.
    #[serde(deserialize_with = "within::<_, _, 0, 1099511627776>")]
    pub cache_size: u64,
    /// How long a server may take to answer before it counts as away.
    #[serde(deserialize_with = "between::<_, 1, 60_000>")]
    pub cache_timeout: Duration,
    /// What the keys on a server begin with, so that several shops can share one.
    pub cache_prefix: String,
}
