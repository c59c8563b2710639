//! The four layers of settings, and the origin of each effective value.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use config::{Config, ConfigError, File, FileFormat, Map, Source, Value, ValueKind};

use super::{Settings, environment, files, redact, resilience};

/// The built-in route and upstream, which have every key.
const ROUTE: &str = "gateway.routes.auth.";
const UPSTREAM: &str = "gateway.upstreams.user.";

/// The most characters of an error's line.
const LONGEST: usize = 1000;

/// The sources of settings: command line and environment.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `--config DIR`; without it `./config` is read where it exists.
    pub directory: Option<PathBuf>,
    /// `./config` was there when the process began, and may not be gone when it is read again.
    pub is_default_there: bool,
    /// The process environment.
    pub environment: Vec<(OsString, OsString)>,
    /// `--set KEY=VALUE`, in order.
    pub overrides: Vec<(String, String)>,
    /// What the command prefers; the environment and `--set` win over it.
    pub presets: Vec<(String, String)>,
    /// What the command needs: it wins over everything, and `--set` must not name it.
    pub fixed: Vec<(String, String)>,
}

impl Sources {
    /// The sources of this process.
    pub fn of_process(directory: Option<PathBuf>, overrides: Vec<(String, String)>) -> Self {
        let is_default_there = files::is_default_there();
        let environment = std::env::vars_os().collect();
        Self { directory, is_default_there, environment, overrides, ..Self::default() }
    }
}

/// An error in the configuration: one line that begins with the key.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {problem} ({origin})")]
pub struct Error {
    key: String,
    problem: String,
    origin: String,
}

impl Error {
    /// The value of `key`, from `origin`, does not work.
    pub fn new(
        key: impl Into<String>,
        problem: impl fmt::Display,
        origin: impl Into<String>,
    ) -> Self {
        let (key, problem) = (one_line(&key.into()), one_line(&problem.to_string()));
        Self { key, problem, origin: one_line(&origin.into()) }
    }
}

/// A setting that does not work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct SettingError {
    /// The key.
    pub key: Cow<'static, str>,
    /// What is wrong with the value.
    pub problem: String,
}

impl<K: Into<Cow<'static, str>>, P: fmt::Display> From<(K, P)> for SettingError {
    fn from((key, problem): (K, P)) -> Self {
        Self { key: key.into(), problem: problem.to_string() }
    }
}

/// What is wrong with the value of a setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ValueError(pub(super) String);

impl From<&str> for ValueError {
    fn from(problem: &str) -> Self {
        Self(problem.to_owned())
    }
}

/// A [`ValueError`] with a text as in [`format!`].
macro_rules! value_error {
    ($($text:tt)*) => { $crate::config::layers::ValueError(format!($($text)*)) };
}
pub(super) use value_error;

/// The effective value and the origin of every key.
#[derive(Debug)]
pub struct Effective(BTreeMap<String, (String, String)>);

impl Effective {
    /// The origin of the value of `key`.
    pub fn origin(&self, key: &str) -> &str {
        self.0.get(key).map_or("not set", |(_, origin)| origin.as_str())
    }

    /// The key that sets the value of `key`: itself, or one that it refines.
    fn source(&self, key: &str) -> String {
        match resilience::refines(key) {
            Some(base) if !self.0.contains_key(key) => self.source(&base),
            _ => key.to_owned(),
        }
    }

    /// The keys whose values differ in `other`.
    pub fn differences<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a str> {
        let value = |all: &'a Self, key: &str| all.0.get(key).map(|(value, _)| value);
        let keys = self.0.keys().chain(other.0.keys().filter(|key| !self.0.contains_key(*key)));
        keys.filter(move |key| value(self, key) != value(other, key)).map(String::as_str)
    }

    /// Adds the origin of the value to the error.
    pub fn explain(&self, SettingError { key, problem }: SettingError) -> Error {
        self.blame(&key, problem)
    }

    /// An error about the value of `key`, with its origin and without secrets.
    pub fn blame(&self, key: &str, problem: impl fmt::Display) -> Error {
        let value = self.0.get(key).map_or("", |(value, _)| value);
        Error::new(key, redact::without(value, &problem.to_string()), self.origin(key))
    }
}

/// One line per key, `key = value  # origin`, with hidden passwords.
impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |key: &str, value: &str| match key {
            "auth.internal_secret"
            | "user.signing_keys"
            | "order.payments_key"
            | "order.payments_webhook_secret"
            | "traces.otlp.headers"
                if !value.is_empty() =>
            {
                "***".to_owned()
            }
            _ => one_line(&redact::hide(value)),
        };
        let lines = self.0.iter().map(|(key, (value, origin))| (key, shown(key, value), origin));
        let lines = lines.collect::<Vec<_>>();
        let width = lines.iter().map(|(key, value, _)| key.len() + value.len()).max();
        for (key, value, origin) in lines {
            let pad = width.unwrap_or(0) - key.len() - value.len();
            writeln!(f, "{key} = {value}{:pad$}  # {origin}", "")?;
        }
        Ok(())
    }
}

/// Reads and merges the layers.
///
/// # Errors
/// The first key that is unknown or has an invalid value.
pub fn load(sources: &Sources) -> Result<(Settings, Effective), Error> {
    let defaults = built_in()?;
    let known = leaves(&collect(&defaults)?);
    let merged = merge(sources, defaults, &known)?;
    let mut merged = collect(&merged)?;
    let effective = leaves(&merged);
    for (key, (_, origin)) in &effective {
        let is_known = known.contains_key(template(key).as_ref()) && is_of_peer(key, &known);
        if !is_known && !is_header(key) {
            return Err(no_such(key, origin, &known));
        }
    }
    let effective = Effective(effective);
    resilience::complete(&mut merged);
    let settings = Value::new(None, merged).try_deserialize::<Settings>();
    let settings = settings.map_err(|error| invalid(error, &effective))?;
    settings.check(&effective)?;
    Ok((settings, effective))
}

/// The layers of `sources` on top of the `defaults`, which have the keys that are `known`.
fn merge(sources: &Sources, defaults: Config, known: &Leaves) -> Result<Config, Error> {
    let mut builder = Config::builder().add_source(defaults);
    for layer in files::read(sources.directory.as_deref(), sources.is_default_there)? {
        builder = builder.add_source(layer);
    }
    for assignment in of_command(&sources.presets) {
        builder = builder.add_source(assignment);
    }
    for assignment in environment::assignments(&sources.environment, known)? {
        builder = builder.add_source(assignment.checked(known)?);
    }
    for assignment in flags(&sources.overrides) {
        let is_fixed = sources.fixed.iter().any(|(key, _)| *key == assignment.key);
        if is_fixed {
            let problem = "cannot be set here, because the command sets it";
            return Err(Error::new(assignment.key, problem, assignment.origin));
        }
        builder = builder.add_source(assignment.checked(known)?);
    }
    for assignment in of_command(&sources.fixed) {
        builder = builder.add_source(assignment);
    }
    builder.build().map_err(unreadable)
}

/// The built-in key that corresponds to `key`: the operator chooses the names of routes and upstreams.
fn template(key: &str) -> Cow<'_, str> {
    let named = |table: &str| key.strip_prefix(table)?.split_once('.').map(|(_, field)| field);
    if let Some(field) = named("gateway.routes.") {
        return format!("{ROUTE}{field}").into();
    }
    if let Some(base) = resilience::refines(key) {
        return template(&base).into_owned().into();
    }
    match named("gateway.upstreams.") {
        Some(field) => format!("{UPSTREAM}{field}").into(),
        None => key.into(),
    }
}

/// Whether the role that `key` names, if any, can be a peer.
fn is_of_peer(key: &str, known: &Leaves) -> bool {
    let named = key.strip_prefix("peers.resilience.").and_then(|rest| rest.split_once('.'));
    named.is_none_or(|(peer, _)| known.contains_key(&format!("peers.{peer}")))
}

/// Whether `key` is a response header of a route, which may have any name.
fn is_header(key: &str) -> bool {
    let field = key.strip_prefix("gateway.routes.").and_then(|rest| rest.split_once('.'));
    field.is_some_and(|(_, field)| field.starts_with("response_headers."))
}

fn built_in() -> Result<Config, Error> {
    let mut builder = Config::builder();
    for (_, text) in super::BUILT_IN {
        builder = builder.add_source(File::from_str(text, FileFormat::Toml));
    }
    builder.build().map_err(unreadable)
}

pub(super) type Leaves = BTreeMap<String, (String, String)>;

fn no_such(key: &str, origin: &str, known: &Leaves) -> Error {
    let close = known.keys().max_by_key(|name| similarity(name, key));
    let hint = close.map(|name| format!("; did you mean {name}?")).unwrap_or_default();
    Error::new(redact::key(key), format!("no such setting{hint}"), origin)
}

/// A single value from outside the files.
#[derive(Clone, Debug)]
pub(super) struct Assignment {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) origin: String,
}

impl Assignment {
    /// The same, if the key is well formed: the library interprets dots and brackets.
    fn checked(self, known: &Leaves) -> Result<Self, Error> {
        let is_name = |name: &str| !name.is_empty() && name.chars().all(redact::is_of_key);
        if self.key.split('.').all(is_name) {
            return Ok(self);
        }
        Err(no_such(&self.key, &self.origin, known))
    }
}

impl Source for Assignment {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        let value = Value::new(Some(&self.origin), ValueKind::String(self.value.clone()));
        Ok(Map::from_iter([(self.key.clone(), value)]))
    }
}

fn flags(overrides: &[(String, String)]) -> impl Iterator<Item = Assignment> {
    overrides.iter().map(|(key, value)| Assignment {
        key: key.clone(),
        value: value.clone(),
        origin: format!("--set {}", redact::key(key)),
    })
}

/// What a command itself sets.
fn of_command(settings: &[(String, String)]) -> impl Iterator<Item = Assignment> {
    settings.iter().map(|(key, value)| {
        let origin = "the command".to_owned();
        Assignment { key: key.clone(), value: value.clone(), origin }
    })
}

fn collect(config: &Config) -> Result<Map<String, Value>, Error> {
    config.collect().map_err(unreadable)
}

/// The keys of `table` with their values and origins; nested keys are joined with dots.
pub(super) fn leaves(table: &Map<String, Value>) -> Leaves {
    let mut found = BTreeMap::new();
    for (key, value) in table {
        match &value.kind {
            ValueKind::Table(inner) => {
                let inner = leaves(inner).into_iter();
                found.extend(inner.map(|(rest, leaf)| (format!("{key}.{rest}"), leaf)));
            }
            _ => {
                let origin = value.origin().unwrap_or("built in").to_owned();
                found.insert(key.clone(), (value.to_string(), origin));
            }
        }
    }
    found
}

/// Errors of the library that remain after files, variables and flags were checked one by one.
fn unreadable(error: ConfigError) -> Error {
    match error {
        ConfigError::NotFound(key) => Error::new(key, "it is missing", "while reading it"),
        _ => Error::new("configuration", "it cannot be used", "while reading it"),
    }
}

/// The error for a value that serde refused.
fn invalid(error: ConfigError, effective: &Effective) -> Error {
    match error {
        ConfigError::At { error, key: Some(key), .. } => {
            effective.blame(&effective.source(&key), error)
        }
        // The error shows the value as it was set: the library may have converted it.
        ConfigError::Type { expected, key: Some(key), .. } => {
            let key = effective.source(&key);
            let value = effective.0.get(&key).map(|(value, _)| redact::quote(value));
            let value = value.unwrap_or_else(|| "a table".into());
            Error::new(&*key, format!("{value} is not {expected}"), effective.origin(&key))
        }
        other => unreadable(other),
    }
}

/// `text` on one line of limited length, without control characters.
fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    let mut line = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(LONGEST) {
        line.truncate(end);
        line.push('…');
    }
    line
}

/// How many bytes two keys share at both ends, to guess what was meant.
pub(super) fn similarity(a: &str, b: &str) -> usize {
    let front = a.bytes().zip(b.bytes()).take_while(|(x, y)| x == y).count();
    let back = a.bytes().rev().zip(b.bytes().rev()).take_while(|(x, y)| x == y).count();
    front + back
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{CacheUrl, SqlUrl};

    fn with(environment: &[(&str, &str)], overrides: &[(&str, &str)]) -> Sources {
        let environment = environment.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let overrides = overrides.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        Sources { environment, overrides, ..Sources::default() }
    }

    fn file(settings: &Settings) -> &str {
        match &settings.user.database_url {
            SqlUrl::Sqlite(path) => path.to_str().unwrap(),
            SqlUrl::Postgres(_) => panic!("a file"),
        }
    }

    fn error(sources: &Sources) -> String {
        load(sources).unwrap_err().to_string()
    }

    #[test]
    fn the_built_in_files_are_complete() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("default.toml"), "").unwrap();
        let directory = Some(folder.path().to_owned());
        let (settings, effective) = load(&Sources { directory, ..Sources::default() }).unwrap();
        assert_eq!(settings.gateway.listen.port(), 8000);
        assert_eq!(effective.origin("gateway.listen"), "built in");
    }

    #[test]
    fn an_unused_connection_is_given_up_before_a_role_that_drains_cuts_it_off() {
        let (settings, _) = load(&with(&[], &[])).unwrap();
        assert!(settings.transport.pool_idle < settings.server.drain_delay);
    }

    #[test]
    fn later_layers_win_and_say_so() {
        let folder = tempfile::tempdir().unwrap();
        let text = "[user]\ndatabase_url = \"sqlite://a.db\"\n";
        std::fs::write(folder.path().join("user.toml"), text).unwrap();
        let at = |environment: &[(&str, &str)], overrides: &[(&str, &str)]| {
            let directory = Some(folder.path().to_owned());
            let (settings, effective) =
                load(&Sources { directory, ..with(environment, overrides) }).unwrap();
            (file(&settings).to_owned(), effective.origin("user.database_url").to_owned())
        };
        let path = folder.path().join("user.toml").display().to_string();
        assert_eq!(at(&[], &[]), ("a.db".into(), path));
        let variable = ("DATABASE_URL", "sqlite://b.db");
        assert_eq!(at(&[variable], &[]), ("b.db".into(), "environment DATABASE_URL".into()));
        let flag = ("user.database_url", "sqlite://c.db");
        assert_eq!(at(&[variable], &[flag]), ("c.db".into(), "--set user.database_url".into()));
    }

    #[test]
    fn a_command_prefers_some_values_and_insists_on_others() {
        let pair = |key: &str, value: &str| vec![(key.to_owned(), value.to_owned())];
        let of_command = |environment: &[(&str, &str)], overrides: &[(&str, &str)]| Sources {
            presets: pair("log.filter", "warn"),
            fixed: pair("user.database_url", "sqlite://own.db"),
            ..with(environment, overrides)
        };
        let (settings, effective) = load(&of_command(&[], &[])).unwrap();
        assert_eq!((settings.log.filter.as_str(), file(&settings)), ("warn", "own.db"));
        assert_eq!(effective.origin("log.filter"), "the command");
        let variables = [("RUST_LOG", "debug"), ("DATABASE_URL", "sqlite://other.db")];
        let (settings, _) = load(&of_command(&variables, &[])).unwrap();
        assert_eq!((settings.log.filter.as_str(), file(&settings)), ("debug", "own.db"));
        let line = error(&of_command(&[], &[("user.database_url", "sqlite://other.db")]));
        assert!(line.starts_with("user.database_url: cannot be set here"), "{line}");
    }

    #[test]
    fn one_server_of_redis_is_for_all_that_can_use_one() {
        let (settings, _) = load(&with(&[("REDIS_URL", "redis://cache")], &[])).unwrap();
        assert!(matches!(settings.product.cache_url, CacheUrl::Redis(_)));
        assert!(matches!(settings.gateway.limits_url, CacheUrl::Redis(_)));
        assert!(matches!(settings.user.limits_url, CacheUrl::Redis(_)));
        let long = ("APP__PRODUCT__CACHE_URL", "redis://cache");
        let (settings, _) = load(&with(&[long], &[])).unwrap();
        assert!(matches!(settings.product.cache_url, CacheUrl::Redis(_)));
        assert!(matches!(settings.gateway.limits_url, CacheUrl::Memory));
    }

    #[test]
    fn no_error_tells_a_secret() {
        let secrets = [
            "postgres://shop:s3cret@db:port/shop",
            "postgres://shop:s3cret@db/shop?nonsense=1",
            "postgres://shop:s3/cr3t@s3cret@db/shop",
            "mongodb://shop:s3/cret@db/shop?s3cret",
            "mongodb://shop:s3cret@db:x/shop",
            "mongodb://shop:s3cret%@db/shop",
            "mongodb://shop:s3cret@db/shop?authMechanism=s3cret",
            "redis://:s3cret@cache:x",
            "redis://:s3cret@cache/s3cret",
            "mysql://shop:s3cret@db",
            "http://shop:s3cret@db/path",
            "shop:s3cret@db://x",
            "shop:s3cret@db",
            "host=db password=s3cret",
        ];
        let (_, effective) = load(&with(&[], &[])).unwrap();
        for key in effective.0.keys() {
            for secret in secrets {
                let flag = load(&with(&[], &[(key, secret)]));
                let variable = format!("APP__{}", key.to_uppercase().replace('.', "__"));
                let variable = load(&with(&[(&variable, secret)], &[]));
                for line in [flag, variable].into_iter().filter_map(Result::err) {
                    let line = line.to_string();
                    assert!(!line.contains("s3cret") && !line.contains("cr3t"), "{line}");
                }
            }
        }
        for key in
            ["user.database_url:postgres://shop:s3cret@db/?x", "postgres://s3cret", "a[9]", ""]
        {
            let line = error(&with(&[], &[(key, "1")]));
            assert!(line.contains("no such setting") && !line.contains("s3cret"), "{line}");
        }
    }

    #[test]
    fn a_secret_may_come_from_a_file() {
        let secret = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(secret.path(), "sqlite://secret.db\n").unwrap();
        let path = secret.path().to_str().unwrap();
        let (settings, _) = load(&with(&[("DATABASE_URL_FILE", path)], &[])).unwrap();
        assert_eq!(file(&settings), "secret.db");
        let missing = error(&with(&[("DATABASE_URL_FILE", "/nowhere")], &[]));
        assert!(missing.starts_with("user.database_url: cannot read /nowhere"), "{missing}");
    }

    #[test]
    fn what_is_wrong_is_one_line_that_begins_with_the_key() {
        let cases = [
            (
                ("APP__GATEWAY__LISSTEN", "x"),
                "gateway.lissten: no such setting; did you mean gateway.listen?",
            ),
            (("APP__SERVER__WORKERS", "many"), "server.workers: "),
            (
                ("APP__TRANSPORT__POOL_SIZE", "0"),
                "transport.pool_size: must be a whole number from 1 to",
            ),
            (
                ("APP__USER__RECOMMENDATIONS", "101"),
                "user.recommendations: must be a whole number from 0 to 100",
            ),
            (
                ("APP__SERVER__DRAIN_TIMEOUT", "soon"),
                "server.drain_timeout: \"soon\" is not a duration",
            ),
            (("APP__GATEWAY__LISTEN", "nowhere"), "gateway.listen: "),
            (
                ("APP__AUTH__REFRESH_INTERVAL", "1m"),
                "auth.refresh_interval: must be from 100ms to 30s",
            ),
            (("APP__GATEWAY__TRUSTED_PROXIES", "proxy"), "gateway.trusted_proxies: "),
            (("APP__GATEWAY__HSTS", "always"), "gateway.hsts: \"always\" is not a duration"),
            (
                ("APP__GATEWAY__CORS_ORIGINS", "shop.example"),
                "gateway.cors_origins: \"shop.example\" is no",
            ),
            (("APP__GATEWAY__CORS_METHODS", "GET, P@ST"), "gateway.cors_methods: \"P@ST\" is no"),
            (("APP__GATEWAY__CORS_EXPOSE", "*"), "gateway.cors_expose: \"*\" is no"),
            (("APP__AUTH__MODE", "Open"), "auth.mode: must be one of auto, open, enforced ("),
            (
                ("APP__GATEWAY__ROUTES__AUTH__TOKENS", "none"),
                "gateway.routes.auth.tokens: must be one of ignored, checked, required, admin (",
            ),
            (("DATABASE_URL", "mysql://x"), "user.database_url: mysql:// is not a back end"),
            (("PRODUCT_URL", "product"), "peers.product: not a URL"),
            (("LOG_FORMAT", "xml"), "log.format: must be one of auto, human, json ("),
        ];
        for ((name, value), start) in cases {
            let line = error(&with(&[(name, value)], &[]));
            assert!(line.starts_with(start), "{line}");
            assert!(line.ends_with(&format!("(environment {name})")), "{line}");
            assert!(!line.contains('\n'), "{line}");
        }
    }

    #[test]
    fn credentials_are_for_origins_that_are_named() {
        let credentials = ("APP__GATEWAY__CORS_CREDENTIALS", "true");
        let line = error(&with(&[credentials, ("APP__GATEWAY__CORS_ORIGINS", "*")], &[]));
        assert!(line.starts_with("gateway.cors_credentials: cannot be used with"), "{line}");
        assert!(line.ends_with("(environment APP__GATEWAY__CORS_CREDENTIALS)"), "{line}");
        let named = ("APP__GATEWAY__CORS_ORIGINS", "https://shop.example");
        assert!(load(&with(&[credentials, named], &[])).is_ok());
    }
}
