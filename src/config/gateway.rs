//! `[gateway]`: where it listens, and where its routes lead.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use actix_web::http::Method;
use actix_web::http::header::HeaderName;
use serde::Deserialize;

use super::cors::{List, Origins};
use super::limits::Limits;
use super::resilience::Resilience;
use super::route::{HostName, ResponseHeaders, Strip};
use super::values::{
    CacheUrl, Methods, Networks, PeerUrls, between, file, optional, optional_between, within,
};

/// `[gateway]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gateway {
    /// The address that clients know.
    pub listen: SocketAddr,
    /// Where a process whose first role this is answers `/readyz` and the like.
    pub management: SocketAddr,
    /// The certificate that clients see, PEM, with what leads to an authority; without one it is plain HTTP.
    #[serde(deserialize_with = "file")]
    pub tls_certificate: Option<PathBuf>,
    /// Its private key, PEM.
    #[serde(deserialize_with = "file")]
    pub tls_key: Option<PathBuf>,
    /// The proxies before the gateway, whose `x-forwarded-for` is believed.
    pub trusted_proxies: Networks,
    /// Where requests are counted against their limits.
    pub limits_url: CacheUrl,
    /// How long a server may take to count one before it counts as away.
    #[serde(deserialize_with = "between::<_, 1, 60_000>")]
    pub limits_timeout: Duration,
    /// What the keys on a server begin with, so that several shops can share one.
    pub limits_prefix: String,
    /// Clients by address, and as many users, that this process can tell apart at once; it takes 32 bytes for each.
    #[serde(deserialize_with = "within::<_, _, 64, 16777216>")]
    pub limits_keys: usize,
    /// How long a browser that came over TLS comes over nothing else (RFC 6797); not said where this is nothing.
    #[serde(deserialize_with = "optional_between::<_, 0, 315_576_000_000>")]
    pub hsts: Option<Duration>,
    /// The origins whose scripts may read answers (Fetch standard).
    pub cors_origins: Origins,
    /// The methods that their scripts may use.
    pub cors_methods: List<Method>,
    /// The request headers that their scripts may set.
    pub cors_headers: List<HeaderName>,
    /// The response headers that their scripts may read.
    pub cors_expose: List<HeaderName>,
    /// Whether browsers send their cookies and certificates with it; only to origins that are named.
    pub cors_credentials: bool,
    /// How long a browser remembers what is allowed; none of them does so for more than a day.
    #[serde(deserialize_with = "between::<_, 0, 86_400_000>")]
    pub cors_max_age: Duration,
    /// The bytes that the answers of all routes with a cache may take.
    #[serde(deserialize_with = "within::<_, _, 0, 1099511627776>")]
    pub cache_size: u64,
    /// The largest that is kept, in bytes.
    #[serde(deserialize_with = "within::<_, _, 0, 1073741824>")]
    pub cache_entry_limit: usize,
    /// Whether answers are compressed.
    pub compress: bool,
    /// What is done when an upstream fails, is slow or has too much to do: `[resilience]`, unless it says otherwise.
    pub resilience: Resilience,
    /// `[gateway.routes.NAME]`
    pub routes: BTreeMap<String, Route>,
    /// `[gateway.upstreams.NAME]`
    #[serde(default)]
    pub upstreams: BTreeMap<String, Upstream>,
}

/// `[gateway.routes.NAME]`: some requests, and what is done with them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Route {
    /// The path that alone takes this route; empty where there is a prefix.
    pub path: String,
    /// The path that takes this route with all that is below it; empty where there is a path.
    pub prefix: String,
    /// The methods that take this route; none is any.
    pub methods: Methods,
    /// The role, or the upstream, that answers; empty is nobody, as if there were no such route.
    pub upstream: String,
    /// Whether somebody has to be signed in.
    pub tokens: Tokens,
    /// The most time a request may take; nothing is `server.request_timeout`.
    #[serde(deserialize_with = "optional_between::<_, 10, 86_400_000>")]
    pub timeout: Option<Duration>,
    /// The largest request body, in bytes; 0 is `server.body_limit`.
    #[serde(deserialize_with = "within::<_, _, 0, 1073741824>")]
    pub body_limit: usize,
    /// How often it may be taken.
    pub limits: Limits,
    /// Whether answers that say that they may be kept are.
    pub cache: bool,
    /// What the upstream is asked for as Host; nothing is what the upstream's own settings say.
    #[serde(deserialize_with = "optional")]
    pub host: Option<HostName>,
    /// What is taken off the path before the upstream is asked.
    pub strip_prefix: Strip,
    /// What comes in place of that, or of the route's own path; empty is nothing.
    pub rewrite: String,
    /// Whether a path may have slashes by percent, which go on as they are.
    pub encoded_slashes: bool,
    /// How long an answer that has begun may pause; nothing is what the upstream's own settings say.
    #[serde(deserialize_with = "optional_between::<_, 10, 86_400_000>")]
    pub read_timeout: Option<Duration>,
    /// Whether a connection may go on with another protocol, such as WebSocket.
    pub upgrade: bool,
    /// How long it may go on then.
    #[serde(deserialize_with = "optional_between::<_, 10, 86_400_000>")]
    pub upgrade_timeout: Option<Duration>,
    /// What answers say, or say no more, whatever the upstream does.
    pub response_headers: ResponseHeaders,
}

/// What a route wants of the token of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tokens {
    /// Nothing: it is not even looked at.
    Ignored,
    /// That it is good, where there is one.
    #[default]
    Checked,
    /// That there is one, and that it is good.
    Required,
    /// That it is an admin's.
    Admin,
}

/// `[gateway.upstreams.NAME]`: who answers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// The addresses; none is the role of that name.
    #[serde(default)]
    pub urls: PeerUrls,
    /// What they are asked for as Host; nothing is what the client asked for.
    #[serde(default, deserialize_with = "optional")]
    pub host: Option<HostName>,
    /// How long an answer that has begun may pause; nothing is `transport.read_timeout`.
    #[serde(default, deserialize_with = "optional_between::<_, 10, 86_400_000>")]
    pub read_timeout: Option<Duration>,
    /// What is done when it fails: `[gateway.resilience]`, unless it says otherwise.
    pub resilience: Resilience,
}
