//! `[gateway]`: the listener, and the routes.

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
    CacheUrl, Methods, Networks, PeerUrls, between, file, optional, optional_between, within, words,
};

/// `[gateway]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gateway {
    /// The address for clients.
    pub listen: SocketAddr,
    /// The management address of a process whose first role this is.
    pub management: SocketAddr,
    /// The certificate chain for clients, PEM; without it, the gateway speaks plain HTTP.
    #[serde(deserialize_with = "file")]
    pub tls_certificate: Option<PathBuf>,
    /// The certificate's private key, PEM.
    #[serde(deserialize_with = "file")]
    pub tls_key: Option<PathBuf>,
    /// The proxies in front of the gateway, whose `x-forwarded-for` is trusted.
    pub trusted_proxies: Networks,
    /// Where requests are counted.
    pub limits_url: CacheUrl,
    /// How long the server may take to answer before it counts as away.
    #[serde(deserialize_with = "between::<_, 1, 60_000>")]
    pub limits_timeout: Duration,
    /// The prefix of the keys on the server, so that several shops can share one.
    pub limits_prefix: String,
    /// How many client addresses, and how many users, this process counts at once; each takes 32 bytes.
    #[serde(deserialize_with = "within::<_, _, 64, 16777216>")]
    pub limits_keys: usize,
    /// How long browsers use only TLS (RFC 6797); `None` does not send the header.
    #[serde(deserialize_with = "optional_between::<_, 0, 315_576_000_000>")]
    pub hsts: Option<Duration>,
    /// The origins whose scripts may read responses (Fetch standard).
    pub cors_origins: Origins,
    /// The methods that their scripts may use.
    pub cors_methods: List<Method>,
    /// The request headers that their scripts may set.
    pub cors_headers: List<HeaderName>,
    /// The response headers that their scripts may read.
    pub cors_expose: List<HeaderName>,
    /// Whether browsers send cookies and certificates; only for named origins.
    pub cors_credentials: bool,
    /// How long browsers cache the policy; they limit it to a day.
    #[serde(deserialize_with = "between::<_, 0, 86_400_000>")]
    pub cors_max_age: Duration,
    /// The total size of cached responses, in bytes.
    #[serde(deserialize_with = "within::<_, _, 0, 1099511627776>")]
    pub cache_size: u64,
    /// The largest response that is cached, in bytes.
    #[serde(deserialize_with = "within::<_, _, 0, 1073741824>")]
    pub cache_entry_limit: usize,
    /// Whether responses are compressed.
    pub compress: bool,
    /// Whether the storefront and the administration are served.
    pub pages: bool,
    /// The other origins from which they may load pictures.
    pub image_origins: Origins,
    /// What happens when an upstream fails, is slow or overloaded; refines `[resilience]`.
    pub resilience: Resilience,
    /// `[gateway.routes.NAME]`
    pub routes: BTreeMap<String, Route>,
    /// `[gateway.upstreams.NAME]`
    #[serde(default)]
    pub upstreams: BTreeMap<String, Upstream>,
}

/// `[gateway.routes.NAME]`: a set of requests and where they go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Route {
    /// The exact path; empty if there is a prefix.
    pub path: String,
    /// The path that matches with everything below it; empty if there is an exact path.
    pub prefix: String,
    /// The methods of the route; empty means any.
    pub methods: Methods,
    /// The role or upstream; empty removes the route.
    pub upstream: String,
    /// Whether a token is required.
    pub tokens: Tokens,
    /// The most time a request may take; `None` means `server.request_timeout`.
    #[serde(deserialize_with = "optional_between::<_, 10, 86_400_000>")]
    pub timeout: Option<Duration>,
    /// The largest request body, in bytes; 0 means `server.body_limit`.
    #[serde(deserialize_with = "within::<_, _, 0, 1099511627776>")]
    pub body_limit: usize,
    /// The rate limits.
    pub limits: Limits,
    /// Whether responses are cached if their headers allow it.
    pub cache: bool,
    /// The Host header for the upstream; `None` means the upstream's own setting.
    #[serde(deserialize_with = "optional")]
    pub host: Option<HostName>,
    /// The prefix to remove from the path for the upstream.
    pub strip_prefix: Strip,
    /// What replaces that prefix, or the route's path; may be empty.
    pub rewrite: String,
    /// Whether paths may have encoded slashes, which are passed on unchanged.
    pub encoded_slashes: bool,
    /// How long a response may pause after it has begun; `None` means the upstream's own setting.
    #[serde(deserialize_with = "optional_between::<_, 10, 86_400_000>")]
    pub read_timeout: Option<Duration>,
    /// Whether a connection may switch to another protocol, such as WebSocket.
    pub upgrade: bool,
    /// How long such a connection may last.
    #[serde(deserialize_with = "optional_between::<_, 10, 86_400_000>")]
    pub upgrade_timeout: Option<Duration>,
    /// Headers that are set on or removed from responses.
    pub response_headers: ResponseHeaders,
}

words!(Tokens: "ignored" Ignored, "checked" Checked, "required" Required, "admin" Admin);

/// What a route requires of a request's token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Tokens {
    /// Nothing.
    Ignored,
    /// That it is valid if there is one.
    #[default]
    Checked,
    /// A valid token.
    Required,
    /// An admin's token.
    Admin,
}

/// `[gateway.upstreams.NAME]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// The addresses; empty means the role of that name.
    #[serde(default)]
    pub urls: PeerUrls,
    /// The Host header for the upstream; `None` keeps the client's.
    #[serde(default, deserialize_with = "optional")]
    pub host: Option<HostName>,
    /// How long a response may pause after it has begun; `None` means `transport.read_timeout`.
    #[serde(default, deserialize_with = "optional_between::<_, 10, 86_400_000>")]
    pub read_timeout: Option<Duration>,
    /// What happens when it fails; refines `[gateway.resilience]`.
    pub resilience: Resilience,
}
