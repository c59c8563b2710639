//! The types of single settings: each says in words what it wants when it gets something else.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use actix_web::http::header::HeaderValue;
use actix_web::http::uri::Authority;
use actix_web::http::{Method, Uri};
use ipnet::{IpNet, Ipv4Net};
use mongodb::options::{Acknowledgment, ReadPreference, WriteConcern};
use rustls::pki_types::DnsName;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, de};
use tokio_postgres::config::Host;

use super::layers::{ValueError, value_error};
use super::redact::{is_scheme, quote};
use crate::files::is_of_file;

/// Parses `30s`, `1m 30s`, `250ms`.
fn duration<'de, D: Deserializer<'de>>(input: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(input)?;
    humantime::parse_duration(&text).map_err(|_| {
        de::Error::custom(format!("{} is not a duration, such as 250ms, 30s or 2m", quote(&text)))
    })
}

/// A duration from `MIN` to `MAX` milliseconds; the empty string is none.
pub(super) fn optional_between<'de, D, const MIN: u64, const MAX: u64>(
    input: D,
) -> Result<Option<Duration>, D::Error>
where
    D: Deserializer<'de>,
{
    match String::deserialize(input)? {
        text if text.is_empty() => Ok(None),
        text => between::<_, MIN, MAX>(de::value::StringDeserializer::new(text)).map(Some),
    }
}

/// The parts of `text` between commas, without white space and empty ones.
pub(super) fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// A duration from `MIN` to `MAX` milliseconds.
pub(super) fn between<'de, D, const MIN: u64, const MAX: u64>(
    input: D,
) -> Result<Duration, D::Error>
where
    D: Deserializer<'de>,
{
    let (min, max) = (Duration::from_millis(MIN), Duration::from_millis(MAX));
    let found = duration(input)?;
    Some(found).filter(|found| (min..=max).contains(found)).ok_or_else(|| {
        let [min, max] = [min, max].map(humantime::format_duration);
        de::Error::custom(format!("must be from {min} to {max}"))
    })
}

/// A whole number from `MIN` to `MAX`.
pub(super) fn within<'de, D, T, const MIN: u64, const MAX: u64>(input: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64>,
{
    let number = input.deserialize_any(Whole)?;
    let number = number.filter(|number| (MIN..=MAX).contains(number));
    let fits = number.and_then(|number| T::try_from(number).ok());
    fits.ok_or_else(|| de::Error::custom(format!("must be a whole number from {MIN} to {MAX}")))
}

/// A whole number or its digits, and nothing for all else: no half is rounded, and `true` is not 1.
struct Whole;

impl de::Visitor<'_> for Whole {
    type Value = Option<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number")
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Some(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(number.try_into().ok())
    }

    fn visit_u128<E>(self, number: u128) -> Result<Self::Value, E> {
        Ok(number.try_into().ok())
    }

    fn visit_i128<E>(self, number: i128) -> Result<Self::Value, E> {
        Ok(number.try_into().ok())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(text.parse().ok())
    }
}

/// Which lines are written, as env_logger reads it, which itself would go on without what it cannot read, and takes a
/// misspelt level for the name of a module.
pub(super) fn filter<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    let text = String::deserialize(input)?;
    check_filter(&text).map_err(de::Error::custom)?;
    Ok(text)
}

/// Why a text is no filter of log lines.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// A part of it cannot be read.
    #[error(transparent)]
    Syntax(#[from] env_filter::ParseError),
    /// A level is misspelt.
    #[error("{word} is not a level; did you mean {meant}?")]
    Level {
        /// What stands there, quoted.
        word: String,
        /// What was probably meant.
        meant: &'static str,
    },
}

/// Checks a filter of log lines, in env_logger's syntax.
///
/// # Errors
/// As [`FilterError`] says.
pub fn check_filter(text: &str) -> Result<(), FilterError> {
    env_filter::Builder::new().try_parse(text)?;
    let names = text.split('/').next().unwrap_or_default();
    let misspelt = parts(names).filter(|part| !part.contains('=')).find_map(misspelt_level);
    match misspelt {
        Some((word, meant)) => Err(FilterError::Level { word: quote(word), meant }),
        None => Ok(()),
    }
}

/// The level that was meant by a `word` that is nearly one, or is one elsewhere.
fn misspelt_level(word: &str) -> Option<(&str, &'static str)> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    const ELSEWHERE: [(&str, &str); 8] = [
        ("warning", "warn"),
        ("none", "off"),
        ("all", "trace"),
        ("verbose", "trace"),
        ("fatal", "error"),
        ("critical", "error"),
        ("silent", "off"),
        ("quiet", "off"),
    ];
    let lower = word.to_lowercase();
    let is_near = |level: &&str| {
        let allowed = if level.len() > 3 { 2 } else { 1 };
        (1..=allowed).contains(&distance(level, &lower))
    };
    let elsewhere = ELSEWHERE.iter().find(|(name, _)| *name == lower).map(|(_, level)| *level);
    let is_level = LEVELS.contains(&&*lower);
    let meant = elsewhere.or_else(|| LEVELS.into_iter().find(is_near)).filter(|_| !is_level);
    meant.map(|level| (word, level))
}

/// How many letters have to be put in, left out, changed or swapped with the next to make `b` of `a`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let changed = rows[i][j] + usize::from(x != y);
            let mut least = changed.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i - 1] == *y && *x == b[j - 1] {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// The empty string is an unset value.
pub(super) fn optional<'de, D, T>(input: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err = ValueError>,
{
    let text = String::deserialize(input)?;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(de::Error::custom)
}

/// The path of a file; the empty string is an unset value.
pub(super) fn file<'de, D: Deserializer<'de>>(input: D) -> Result<Option<PathBuf>, D::Error> {
    let text = String::deserialize(input)?;
    Ok(Some(text).filter(|text| !text.is_empty()).map(PathBuf::from))
}

/// Reads `$name` from one of the words of its variants.
macro_rules! words {
    ($name:ident: $($word:literal $variant:ident),*) => {
        impl TryFrom<String> for $name {
            type Error = $crate::config::ValueError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                match text.as_str() {
                    $($word => Ok(Self::$variant),)*
                    _ => {
                        let words = [$($word),*].join(", ");
                        Err($crate::config::layers::value_error!("must be one of {words}"))
                    }
                }
            }
        }
    };
}
pub(super) use words;

words!(LogFormat: "auto" Auto, "human" Human, "json" Json);
words!(AuthMode: "auto" Auto, "open" Open, "enforced" Enforced);

/// `auto`, `human` or `json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum LogFormat {
    /// Human on a terminal, JSON elsewhere.
    Auto,
    /// One line for a person.
    Human,
    /// One JSON object a line.
    Json,
}

/// `auto`, `open` or `enforced`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum AuthMode {
    /// Open where all roles run in this process and the gateway listens on loopback, behind no proxy; else enforced.
    Auto,
    /// Some requests need no token, whoever sends them.
    Open,
    /// Every request is allowed what its token allows.
    Enforced,
}

/// IP addresses and networks, as in `10.0.0.0/8, 192.0.2.1`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `address` is one of them.
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

impl TryFrom<String> for Networks {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        let network = |part: &str| {
            let address = part.parse::<IpAddr>().map(IpNet::from);
            let network = address.or_else(|_| part.parse::<IpNet>());
            network.map(canonical).map_err(|_| {
                value_error!("{} is not an address or network, such as 10.0.0.0/8", quote(part))
            })
        };
        parts(&text).map(network).collect::<Result<_, _>>().map(Self)
    }
}

/// `network`, which is one of IPv4 if all of its addresses are such, however they are written.
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(mapped) = network else { return network };
    let address = mapped.addr().to_ipv4_mapped();
    let length = mapped.prefix_len().checked_sub(96);
    let both = address.zip(length).map(|(address, length)| Ipv4Net::new(address, length));
    both.and_then(Result::ok).map_or(network, IpNet::V4)
}

/// HTTP methods, as in `GET, POST`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Methods(Vec<Method>);

impl Methods {
    /// In the order in which they were given.
    pub fn as_slice(&self) -> &[Method] {
        &self.0
    }
}

impl TryFrom<String> for Methods {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        let method = |part: &str| {
            let known = Method::from_bytes(part.as_bytes()).ok();
            let known = known.filter(|_| part.bytes().all(|byte| byte.is_ascii_uppercase()));
            known
                .ok_or_else(|| value_error!("{} is not a method, such as GET or POST", quote(part)))
        };
        parts(&text).map(method).collect::<Result<_, _>>().map(Self)
    }
}

/// Addresses of one upstream, as in `http://10.0.0.1:80, http://10.0.0.2:80`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PeerUrls(Vec<PeerUrl>);

impl PeerUrls {
    /// In the order in which they were given.
    pub fn as_slice(&self) -> &[PeerUrl] {
        &self.0
    }
}

impl TryFrom<String> for PeerUrls {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        parts(&text).map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

/// DNS names, as in `gateway, user`; at least one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct CertificateNames(Vec<DnsName<'static>>);

impl CertificateNames {
    /// One by one.
    pub fn iter(&self) -> impl Iterator<Item = &DnsName<'static>> {
        self.0.iter()
    }
}

impl TryFrom<String> for CertificateNames {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        let name = |part: &str| {
            let name = DnsName::try_from(part.to_owned());
            name.map_err(|_| {
                value_error!("{} is not a host name, such as gateway or user.shop.svc", quote(part))
            })
        };
        let names = parts(&text).map(name).collect::<Result<Vec<_>, _>>()?;
        if names.is_empty() {
            return Err("must name somebody; nobody would get in".into());
        }
        Ok(Self(names))
    }
}

/// Secrets of 32 to 256 visible ASCII characters, separated by commas. A process shows the first and accepts all, so that
/// one can follow another.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(try_from = "String")]
pub struct InternalSecrets(Vec<SecretString>);

impl InternalSecrets {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One by one.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|secret| secret.expose_secret())
    }

    /// The value of a header that shows the first.
    pub fn header(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(self.iter().next()?).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl TryFrom<String> for InternalSecrets {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        let is_secret = |part: &str| {
            (32..=256).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if text.is_empty() {
            return Ok(Self::default());
        }
        let parts = parts(&text).map(str::to_owned).collect::<Vec<_>>();
        match !parts.is_empty() && parts.iter().all(|part| is_secret(part)) {
            true => Ok(Self(parts.into_iter().map(SecretString::from).collect())),
            false => Err("each secret must have 32 to 256 visible ASCII characters".into()),
        }
    }
}

/// Where the user role keeps its accounts; the scheme picks the back end.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub enum SqlUrl {
    /// `sqlite://PATH`: a file of this machine.
    Sqlite(PathBuf),
    /// `postgres://…`: a server.
    Postgres(PostgresUrl),
}

/// How PostgreSQL is reached.
#[derive(Clone, Debug)]
pub struct PostgresUrl {
    /// The URL, as the driver reads it.
    pub url: SecretString,
    /// Whether a connection is to one session of the server, which keeps prepared statements, settings and locks. Behind
    /// a pooler such as PgBouncer in transaction mode it is not (`?prepared_statements=false`).
    pub prepared_statements: bool,
}

impl TryFrom<String> for SqlUrl {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        match scheme(&text) {
            Some("sqlite") => sqlite_path(&text).map(Self::Sqlite),
            Some("postgres" | "postgresql") => {
                let (text, prepared_statements) = prepared_statements(&text)?;
                let parsed = text
                    .parse::<tokio_postgres::Config>()
                    .map_err(|error| unreadable("PostgreSQL", POSTGRES, &text, &causes(&error)))?;
                let is_empty = |host: &Host| matches!(host, Host::Tcp(name) if name.is_empty());
                let (hosts, addresses) = (parsed.get_hosts(), parsed.get_hostaddrs());
                if hosts.iter().any(is_empty) || hosts.is_empty() && addresses.is_empty() {
                    return Err(value_error!("names no host; use {POSTGRES}"));
                }
                Ok(Self::Postgres(PostgresUrl { url: text.into(), prepared_statements }))
            }
            other => Err(unknown_scheme(other, &format!("sqlite://PATH or {POSTGRES}"))),
        }
    }
}

/// Takes the option `prepared_statements` from a URL of PostgreSQL, which the driver does not know.
fn prepared_statements(url: &str) -> Result<(String, bool), ValueError> {
    const NAME: &str = "prepared_statements=";
    let Some((place, options)) = url.split_once('?') else { return Ok((url.to_owned(), true)) };
    let (own, others): (Vec<_>, Vec<_>) =
        options.split('&').partition(|option| option.starts_with(NAME));
    let prepared = match own.iter().map(|option| &option[NAME.len()..]).collect::<Vec<_>>()[..] {
        [] | ["true"] => true,
        ["false"] => false,
        _ => return Err("prepared_statements is true or false, and given once".into()),
    };
    let others = others.join("&");
    let mark = if others.is_empty() { "" } else { "?" };
    Ok((format!("{place}{mark}{others}"), prepared))
}

/// Where the product role keeps its catalogue; the scheme picks the back end.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub enum DocumentUrl {
    /// `sqlite://PATH`: a file of this machine.
    Sqlite(PathBuf),
    /// `mongodb://…` or `mongodb+srv://…`: a server.
    Mongo(SecretString),
}

impl TryFrom<String> for DocumentUrl {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        match scheme(&text) {
            Some("sqlite") => sqlite_path(&text).map(Self::Sqlite),
            Some("mongodb" | "mongodb+srv") => {
                let parsed = mongodb::options::ConnectionString::parse(&text);
                let parsed = parsed.map_err(|error| {
                    unreadable("MongoDB", MONGO, &text, &error.kind.to_string())
                })?;
                expect_primary(parsed.read_preference.as_ref())?;
                expect_acknowledgment(parsed.write_concern.as_ref())?;
                Ok(Self::Mongo(text.into()))
            }
            other => Err(unknown_scheme(other, &format!("sqlite://PATH or {MONGO}"))),
        }
    }
}

/// A secondary may not have yet what the primary has acknowledged: what is read there would be cached after the write,
/// and be served for as long as the cache keeps it.
fn expect_primary(preference: Option<&ReadPreference>) -> Result<(), ValueError> {
    let mode = match preference {
        None | Some(ReadPreference::Primary) => return Ok(()),
        Some(ReadPreference::Secondary { .. }) => "secondary",
        Some(ReadPreference::SecondaryPreferred { .. }) => "secondaryPreferred",
        Some(ReadPreference::PrimaryPreferred { .. }) => "primaryPreferred",
        Some(_) => "nearest",
    };
    Err(value_error!(
        "readPreference={mode} may read from a secondary, which can lag behind an acknowledged write, and the cache \
         would keep that; leave it out"
    ))
}

/// Writes whose outcome nobody tells could not be answered.
fn expect_acknowledgment(concern: Option<&WriteConcern>) -> Result<(), ValueError> {
    match concern.and_then(|concern| concern.w.as_ref()) {
        Some(Acknowledgment::Nodes(0)) => {
            Err("w=0 leaves writes unacknowledged, so that one that failed would count as done; leave it out".into())
        }
        _ => Ok(()),
    }
}

/// Where answers are cached, or requests counted; the scheme picks the back end.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub enum CacheUrl {
    /// `memory://`: in this process.
    Memory,
    /// `redis://…` or `rediss://…`: a server.
    Redis(SecretString),
}

impl TryFrom<String> for CacheUrl {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        match scheme(&text) {
            Some("memory") if text == "memory://" => Ok(Self::Memory),
            Some("redis" | "rediss") => {
                let parsed = deadpool_redis::redis::Client::open(text.as_str());
                parsed.map_err(|error| unreadable("Redis", REDIS, &text, &error.to_string()))?;
                Ok(Self::Redis(text.into()))
            }
            other => Err(unknown_scheme(other, &format!("memory:// or {REDIS}"))),
        }
    }
}

/// What URLs of servers look like.
const POSTGRES: &str = "postgres://USER:PASSWORD@HOST/DATABASE";
const MONGO: &str = "mongodb://USER:PASSWORD@HOST/DATABASE";
const REDIS: &str = "redis://USER:PASSWORD@HOST";

fn scheme(text: &str) -> Option<&str> {
    text.split_once("://").map(|(scheme, _)| scheme)
}

fn unknown_scheme(scheme: Option<&str>, wanted: &str) -> ValueError {
    match scheme.filter(|scheme| is_scheme(scheme)) {
        Some(scheme) => value_error!("{scheme}:// is not a back end of this store; use {wanted}"),
        None => value_error!("not a URL; use {wanted}"),
    }
}

/// What is wrong with the `url` of a `server`. What a driver says of it may quote any part of it; told is no more than
/// an option that the driver does not know, or the value of one that it does not take.
fn unreadable(server: &str, wanted: &str, url: &str, told: &str) -> ValueError {
    let options = url.rsplit_once('@').map_or(url, |(_, rest)| rest);
    let options = options.split_once('?').map_or("", |(_, options)| options).split('&');
    let mut names = options.filter_map(|option| option.split_once('=')).map(|(name, _)| name);
    let is_named = |name: &str| {
        let plain =
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_');
        plain
            && told
                .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
                .any(|word| word == name)
    };
    match names.find(|name| is_named(name)) {
        Some(name) => value_error!("not a URL of {server}: its option {name} does not work"),
        None => value_error!(
            "not a URL of {server}; use {wanted}, where /, ?, #, @, : and % of a password are %2F, %3F, %23, \
             %40, %3A and %25"
        ),
    }
}

fn sqlite_path(text: &str) -> Result<PathBuf, ValueError> {
    match text.trim_start_matches("sqlite://") {
        "" => Err("sqlite:// needs a path, as in sqlite://data/shop.db".into()),
        ":memory:" => {
            Err("every connection would have a memory of its own; name a file, as in sqlite:///tmp/shop.db".into())
        }
        path if path.split('/').next().is_some_and(|first| first.contains('@') && first.contains(':')) => {
            Err("sqlite:// is a file of this machine, which has no user, password or host".into())
        }
        path if !is_of_file(path.as_ref()) => {
            Err("sqlite:// needs the path of a file, as in sqlite://data/shop.db".into())
        }
        path => Ok(PathBuf::from(path)),
    }
}

/// An error with what caused it, on one line.
fn causes(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", causes(cause)),
        None => error.to_string(),
    }
}

/// The base URL of a role in another process: a scheme, a host and a port, and nothing behind them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerUrl(Uri);

impl PeerUrl {
    /// The URL as a URI with an empty path.
    pub fn uri(&self) -> &Uri {
        &self.0
    }

    /// Whether it is asked over TLS.
    pub fn is_secure(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }
}

impl FromStr for PeerUrl {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wanted = "use http://host:port or https://host:port";
        let uri: Uri = text.parse().map_err(|_| value_error!("not a URL; {wanted}"))?;
        let bare = uri.path_and_query().is_none_or(|rest| rest.as_str() == "/");
        // The library drops it.
        let bare = bare && !text.contains('#');
        let authority = uri.authority().map_or("", Authority::as_str);
        let host = uri.host().filter(|host| !host.is_empty());
        let port = host.and_then(|host| authority.strip_prefix(host)).unwrap_or_default();
        match uri.scheme_str() {
            Some("http" | "https") if authority.contains('@') => {
                Err(value_error!("must have no user and no password; {wanted}"))
            }
            Some("http" | "https") if !is_port(port) => {
                Err(value_error!("must have a port from 1 to 65535, or none; {wanted}"))
            }
            Some("http" | "https") if bare && host.is_some() => Ok(Self(uri)),
            Some("http" | "https") => {
                Err(value_error!("must be a base URL without a path; {wanted}"))
            }
            Some(scheme) if is_scheme(scheme) => {
                Err(value_error!("{scheme}:// is not a supported transport; {wanted}"))
            }
            _ => Err(value_error!("not a URL; {wanted}")),
        }
    }
}

/// Whether `text`, which stands behind a host, is a port or nothing.
fn is_port(text: &str) -> bool {
    let port = text.strip_prefix(':').and_then(|port| port.parse::<NonZeroU16>().ok());
    text.is_empty() || port.is_some() && !text.contains('+')
}

impl fmt::Display for PeerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_a_scheme_a_host_and_a_port() {
        assert!("http://127.0.0.1:3001".parse::<PeerUrl>().is_ok());
        assert!("http://product:3002/".parse::<PeerUrl>().is_ok());
        for bad in [
            "",
            "product:3002",
            "http://x/api",
            "ftp://x",
            "http://",
            "http://x?y",
            "http://x#y",
            "http://x/#",
            "http://x:0",
            "http://x:65536",
            "http://x:99999999999",
            "http://x:",
            "http://[::1]:",
            "http://[::1]:0",
            "http://:80",
            "http://u@x",
            "http://u:p@x:80",
        ] {
            assert!(bad.parse::<PeerUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_scheme_picks_the_back_end() {
        let sql = |text: &str| SqlUrl::try_from(text.to_owned());
        assert!(
            matches!(sql("sqlite:///var/lib/shop.db"), Ok(SqlUrl::Sqlite(path)) if path == *"/var/lib/shop.db")
        );
        assert!(matches!(
            sql("postgres://shop:secret@db/shop?sslmode=require"),
            Ok(SqlUrl::Postgres(_))
        ));
        for bad in [
            "sqlite://",
            "sqlite://:memory:",
            "sqlite://shop:s3cret@db/shop",
            "mongodb://x",
            "data/user.db",
            "postgres://db:port/x",
            "postgres://",
            "postgres://u:p@/d",
            "postgres:///d",
            "sqlite://data/",
            "sqlite://data/.",
            "sqlite://..",
            "sqlite:///",
        ] {
            assert!(sql(bad).is_err(), "{bad}");
        }
        for good in ["postgres:///d?host=/run/postgresql", "postgres://a,b/d", "postgres://[::1]/d"]
        {
            assert!(sql(good).is_ok(), "{good}");
        }
        let document = |text: &str| DocumentUrl::try_from(text.to_owned());
        assert!(matches!(
            document("mongodb://shop:secret@db:27017/shop"),
            Ok(DocumentUrl::Mongo(_))
        ));
        assert!(document("mongodb://db/shop?readPreference=primary").is_ok());
        for mode in ["secondary", "secondaryPreferred", "primaryPreferred", "nearest"] {
            let url = format!("mongodb://db/shop?readPreference={mode}");
            let why = document(&url).unwrap_err().to_string();
            assert!(why.contains(&format!("readPreference={mode} may read from")), "{why}");
        }
        for query in ["w=0", "W=0", "w=0&journal=false", "w=0&wtimeoutMS=5"] {
            let why = document(&format!("mongodb://db/shop?{query}")).unwrap_err().to_string();
            assert!(why.starts_with("w=0 leaves writes unacknowledged"), "{query}: {why}");
        }
        for query in ["w=1", "w=2", "w=majority", "w=racks", "journal=false"] {
            assert!(document(&format!("mongodb://db/shop?{query}")).is_ok(), "{query}");
        }
        for bad in ["postgres://x", "mongodb://", "mongodb://db:port"] {
            assert!(document(bad).is_err(), "{bad}");
        }
        let cache = |text: &str| CacheUrl::try_from(text.to_owned());
        assert!(matches!(cache("memory://"), Ok(CacheUrl::Memory)));
        assert!(matches!(cache("redis://:secret@cache:6379/1"), Ok(CacheUrl::Redis(_))));
        for bad in ["memory://x", "memcached://x", "redis://cache:port"] {
            assert!(cache(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_misspelt_level_is_no_module() {
        let read = |text: &str| filter(de::value::StrDeserializer::<de::value::Error>::new(text));
        for good in [
            "",
            "info",
            "INFO",
            "info,access=off",
            "app",
            "warn,app::gateway=debug,http,tls",
            "actix_server=warn",
            "audit",
            "h2",
            "rustls,bb8",
            "info/a.*b",
        ] {
            assert!(read(good).is_ok(), "{good}: {:?}", read(good));
        }
        for bad in [
            "inof",
            "info,wran",
            "debg",
            "trac",
            "of",
            "ofg",
            "warning",
            "none",
            "errors",
            "access=inof",
            "a=b=c",
            "info/(",
            "access=offf",
            "app=debugg,info",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn whole_numbers_are_not_made_of_others() {
        let read = |text: &str| {
            let json = serde_json::from_str::<serde_json::Value>(text).unwrap();
            within::<_, u32, 0, 100>(json).ok()
        };
        for (text, number) in [("1", Some(1)), ("\"1\"", Some(1)), ("100", Some(100))] {
            assert_eq!(read(text), number);
        }
        for bad in [
            "101",
            "-1",
            "1.5",
            "1.0",
            "true",
            "\"yes\"",
            "\"1.5\"",
            "\"\"",
            "99999999999999999999",
            "\" 1\"",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn networks_are_a_list() {
        let networks = |text: &str| Networks::try_from(text.to_owned());
        let some = networks("10.0.0.0/8, 192.0.2.1,::1").unwrap();
        for inside in ["10.1.2.3", "192.0.2.1", "::1"] {
            assert!(some.contain(inside.parse().unwrap()), "{inside}");
        }
        assert!(!some.contain("192.0.2.2".parse().unwrap()));
        let mapped = networks("::ffff:10.0.0.0/104, ::ffff:192.0.2.1").unwrap();
        for inside in ["10.1.2.3", "::ffff:10.1.2.3", "192.0.2.1"] {
            assert!(mapped.contain(inside.parse().unwrap()), "{inside}");
        }
        assert!(!mapped.contain("192.0.2.2".parse().unwrap()));
        assert_eq!(networks(""), Ok(Networks::default()));
        for bad in ["10.0.0.0/33", "proxy", "10.0.0.1:80"] {
            assert!(networks(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_of_callers_are_a_list_with_somebody_on_it() {
        let names = |text: &str| CertificateNames::try_from(text.to_owned());
        let some = names("gateway, user.shop.svc").unwrap();
        assert_eq!(
            some.iter().map(DnsName::as_ref).collect::<Vec<_>>(),
            ["gateway", "user.shop.svc"]
        );
        for bad in ["", ",", "two words", "https://gateway"] {
            assert!(names(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_secret_does_not_show_in_debugging_output() {
        let url = SqlUrl::try_from("postgres://shop:s3cret@db/shop".to_owned()).unwrap();
        assert!(!format!("{url:?}").contains("s3cret"));
    }
}
