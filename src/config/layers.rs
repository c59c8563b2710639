//! The four layers, and where each effective value came from.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use config::{Config, ConfigError, File, FileFormat, Map, Source, Value, ValueKind};

use super::Settings;

/// The files of the configuration folder, as built in.
const BUILT_IN: [(&str, &str); 4] = [
    ("default.toml", include_str!("../../config/default.toml")),
    ("gateway.toml", include_str!("../../config/gateway.toml")),
    ("user.toml", include_str!("../../config/user.toml")),
    ("product.toml", include_str!("../../config/product.toml")),
];

/// The environment names that are shorter than `APP__SECTION__KEY`; one may stand for several keys.
const SHORT_NAMES: [(&str, &str); 8] = [
    ("DATABASE_URL", "user.database_url"),
    ("MONGODB_URL", "product.database_url"),
    ("REDIS_URL", "product.cache_url"),
    ("REDIS_URL", "gateway.limits_url"),
    ("USER_URL", "peers.user"),
    ("PRODUCT_URL", "peers.product"),
    ("RUST_LOG", "log.filter"),
    ("LOG_FORMAT", "log.format"),
];

/// The route and the upstream that list every key there is for one.
const ROUTE: &str = "gateway.routes.auth.";
const UPSTREAM: &str = "gateway.upstreams.user.";

const PREFIX: &str = "APP__";
const FROM_FILE: &str = "_FILE";

/// What the command line and the environment say about configuration.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `--config DIR`; without it `./config` is read where it exists.
    pub directory: Option<PathBuf>,
    /// The process environment.
    pub environment: Vec<(String, String)>,
    /// `--set KEY=VALUE`, in order.
    pub overrides: Vec<(String, String)>,
}

impl Sources {
    /// The sources of this process.
    pub fn of_process(directory: Option<PathBuf>, overrides: Vec<(String, String)>) -> Self {
        // A variable that is no Unicode cannot be a setting.
        let environment = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Self { directory, environment: environment.collect(), overrides }
    }
}

/// What is wrong with the configuration: one line that begins with the key.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {problem} ({origin})")]
pub struct Error {
    key: String,
    problem: String,
    origin: String,
}

impl Error {
    /// `key` has a value that turned out not to work.
    pub fn new(
        key: impl Into<String>,
        problem: impl fmt::Display,
        origin: impl Into<String>,
    ) -> Self {
        Self { key: key.into(), problem: problem.to_string(), origin: origin.into() }
    }
}

/// The effective value of every key, and where it came from.
#[derive(Debug)]
pub struct Effective(BTreeMap<String, (String, String)>);

impl Effective {
    /// Where the value of `key` came from, in words.
    pub fn origin(&self, key: &str) -> &str {
        self.0.get(key).map_or("not set", |(_, origin)| origin.as_str())
    }

    /// The keys whose values are not the same in `other`.
    pub fn differences<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a str> {
        let value = |all: &'a Self, key: &str| all.0.get(key).map(|(value, _)| value);
        let keys = self.0.keys().chain(other.0.keys().filter(|key| !self.0.contains_key(*key)));
        keys.filter(move |key| value(self, key) != value(other, key)).map(String::as_str)
    }

    /// Says that the value of `key` does not work, and where it came from.
    pub fn blame(&self, key: &str, problem: impl fmt::Display) -> Error {
        Error::new(key, problem, self.origin(key))
    }
}

/// One line a key, `key = value  # origin`, with the password of any URL hidden.
impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |key: &str, value: &str| match key {
            "user.signing_keys" if !value.is_empty() => "***".to_owned(),
            _ => hide(value),
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
/// The first key that is unknown or has a value of the wrong form.
pub fn load(sources: &Sources) -> Result<(Settings, Effective), Error> {
    let defaults = built_in()?;
    let known = flatten(&collect(&defaults)?);
    let mut builder = Config::builder().add_source(defaults);
    for file in files(sources.directory.as_deref())? {
        builder = builder.add_source(File::from(file).format(FileFormat::Toml));
    }
    let assignments =
        environment(&sources.environment)?.into_iter().chain(flags(&sources.overrides));
    for assignment in assignments {
        builder = builder.add_source(assignment);
    }
    let merged = builder.build().map_err(unreadable)?;
    let effective = flatten(&collect(&merged)?);
    for (key, (_, origin)) in &effective {
        if !known.contains_key(template(key).as_ref()) {
            let close = known.keys().max_by_key(|name| similarity(name, key));
            let hint = close.map(|name| format!("; did you mean {name}?")).unwrap_or_default();
            return Err(Error::new(key, format!("no such setting{hint}"), origin));
        }
    }
    let effective = Effective(effective);
    let settings = merged.try_deserialize::<Settings>();
    let settings = settings.map_err(|error| invalid(error, &effective))?;
    settings.check(&effective)?;
    Ok((settings, effective))
}

/// The built-in key that says what may stand at `key`: routes and upstreams have names of the operator's.
fn template(key: &str) -> Cow<'_, str> {
    let named = |table: &str| key.strip_prefix(table)?.split_once('.').map(|(_, field)| field);
    if let Some(field) = named("gateway.routes.") {
        return format!("{ROUTE}{field}").into();
    }
    match named("gateway.upstreams.") {
        Some(field) if field.starts_with("resilience.") => format!("gateway.{field}").into(),
        Some(field) => format!("{UPSTREAM}{field}").into(),
        None => key.into(),
    }
}

fn built_in() -> Result<Config, Error> {
    let mut builder = Config::builder();
    for (_, text) in BUILT_IN {
        builder = builder.add_source(File::from_str(text, FileFormat::Toml));
    }
    builder.build().map_err(unreadable)
}

fn files(directory: Option<&Path>) -> Result<Vec<PathBuf>, Error> {
    let explicit = directory.is_some();
    let directory = directory.unwrap_or(Path::new("config"));
    if explicit && !directory.is_dir() {
        return Err(Error::new("--config", "no such directory", directory.display().to_string()));
    }
    let files = BUILT_IN.iter().map(|(name, _)| directory.join(name));
    Ok(files.filter(|file| file.is_file()).collect())
}

/// A single value from outside any file.
#[derive(Clone, Debug)]
struct Assignment {
    key: String,
    value: String,
    origin: String,
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

/// Short names first, so that `APP__SECTION__KEY` wins over them.
fn environment(variables: &[(String, String)]) -> Result<Vec<Assignment>, Error> {
    let mut short = Vec::new();
    let mut long = Vec::new();
    for (name, value) in variables {
        let (stem, from_file) = match name.strip_suffix(FROM_FILE) {
            Some(stem) => (stem, true),
            None => (name.as_str(), false),
        };
        let origin = format!("environment {name}");
        let (list, keys) = match stem.strip_prefix(PREFIX) {
            Some(path) => (&mut long, vec![path.to_lowercase().replace("__", ".")]),
            None => {
                let meant = SHORT_NAMES.iter().filter(|(short, _)| *short == stem);
                (&mut short, meant.map(|(_, key)| (*key).to_owned()).collect())
            }
        };
        for key in keys {
            let value = if from_file { secret(value, &key, &origin)? } else { value.clone() };
            list.push(Assignment { key, value, origin: origin.clone() });
        }
    }
    short.extend(long);
    Ok(short)
}

/// The content of a mounted secret, without the line end that editors add.
fn secret(path: &str, key: &str, origin: &str) -> Result<String, Error> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Error::new(key, format!("cannot read {path}: {error}"), origin))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn flags(overrides: &[(String, String)]) -> impl Iterator<Item = Assignment> {
    overrides.iter().map(|(key, value)| Assignment {
        key: key.clone(),
        value: value.clone(),
        origin: format!("--set {key}"),
    })
}

fn collect(config: &Config) -> Result<Map<String, Value>, Error> {
    config.collect().map_err(unreadable)
}

fn flatten(table: &Map<String, Value>) -> BTreeMap<String, (String, String)> {
    let mut leaves = BTreeMap::new();
    for (key, value) in table {
        match &value.kind {
            ValueKind::Table(inner) => {
                let inner = flatten(inner).into_iter();
                leaves.extend(inner.map(|(rest, leaf)| (format!("{key}.{rest}"), leaf)));
            }
            _ => {
                let origin = value.origin().unwrap_or("built in").to_owned();
                leaves.insert(key.clone(), (value.to_string(), origin));
            }
        }
    }
    leaves
}

fn unreadable(error: ConfigError) -> Error {
    let text = one_line(&error.to_string());
    Error::new("configuration", text, "while reading it")
}

/// Turns what serde says into a line that begins with the key and says where the value came from.
fn invalid(error: ConfigError, effective: &Effective) -> Error {
    match error {
        ConfigError::At { error, origin, key } => {
            let key = key.unwrap_or_else(|| "configuration".into());
            let problem = one_line(&error.to_string());
            let origin = origin.unwrap_or_else(|| effective.origin(&key).to_owned());
            Error::new(key, problem, origin)
        }
        ConfigError::Type { origin, unexpected, expected, key } => {
            let key = key.unwrap_or_else(|| "configuration".into());
            let origin = origin.unwrap_or_else(|| effective.origin(&key).to_owned());
            Error::new(key, format!("{unexpected} is not {expected}"), origin)
        }
        other => unreadable(other),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Replaces the password of a URL, which need not be one that a parser for the web understands: a list of
/// hosts is none. Rather hides too much than too little.
fn hide(value: &str) -> String {
    let Some((scheme, rest)) = value.split_once("://") else { return value.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if path.contains('@') || path.to_lowercase().contains("password") {
        return format!("{scheme}://***");
    }
    match authority.rsplit_once('@') {
        Some((user, hosts)) => match user.split_once(':') {
            Some((user, _)) => format!("{scheme}://{user}:***@{hosts}{path}"),
            None => value.to_owned(),
        },
        None => value.to_owned(),
    }
}

/// How many letters two keys share at their ends: enough to guess what was meant.
fn similarity(a: &str, b: &str) -> usize {
    let front = a.bytes().zip(b.bytes()).take_while(|(x, y)| x == y).count();
    let back = a.bytes().rev().zip(b.bytes().rev()).take_while(|(x, y)| x == y).count();
    front + back
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{CacheUrl, SqlUrl};

    fn with(environment: &[(&str, &str)], overrides: &[(&str, &str)]) -> Sources {
        let own = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        // A folder without files: the tests run where ./config is the built-in one.
        let directory = Some(std::env::temp_dir());
        Sources { directory, environment: own(environment), overrides: own(overrides) }
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
        let (settings, effective) = load(&with(&[], &[])).unwrap();
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
        let short = ("DATABASE_URL", "sqlite://a.db");
        let long = ("APP__USER__DATABASE_URL", "sqlite://b.db");
        let (settings, effective) = load(&with(&[long, short], &[])).unwrap();
        assert_eq!(file(&settings), "b.db");
        let flag = ("user.database_url", "sqlite://c.db");
        let (settings, _) = load(&with(&[long, short], &[flag])).unwrap();
        assert_eq!(file(&settings), "c.db");
        assert_eq!(effective.origin("user.database_url"), "environment APP__USER__DATABASE_URL");
    }

    #[test]
    fn one_server_of_redis_is_for_all_that_can_use_one() {
        let long = ("APP__GATEWAY__LIMITS_URL", "memory://");
        let (settings, _) = load(&with(&[("REDIS_URL", "redis://cache")], &[])).unwrap();
        assert!(matches!(settings.product.cache_url, CacheUrl::Redis(_)));
        assert!(matches!(settings.gateway.limits_url, CacheUrl::Redis(_)));
        let (settings, _) = load(&with(&[("REDIS_URL", "redis://cache"), long], &[])).unwrap();
        assert!(matches!(settings.product.cache_url, CacheUrl::Redis(_)));
        assert!(matches!(settings.gateway.limits_url, CacheUrl::Memory));
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
                "server.drain_timeout: \"soon\" is no duration",
            ),
            (("APP__GATEWAY__LISTEN", "nowhere"), "gateway.listen: "),
            (
                ("APP__AUTH__REFRESH_INTERVAL", "1m"),
                "auth.refresh_interval: must be from 100ms to 30s",
            ),
            (("APP__GATEWAY__TRUSTED_PROXIES", "proxy"), "gateway.trusted_proxies: "),
            (("APP__GATEWAY__HSTS", "always"), "gateway.hsts: \"always\" is no duration"),
            (
                ("APP__GATEWAY__CORS_ORIGINS", "shop.example"),
                "gateway.cors_origins: \"shop.example\" is no",
            ),
            (("APP__GATEWAY__CORS_METHODS", "GET, P@ST"), "gateway.cors_methods: \"P@ST\" is no"),
            (("APP__GATEWAY__CORS_EXPOSE", "*"), "gateway.cors_expose: \"*\" is no"),
            (("APP__AUTH__MODE", "shut"), "auth.mode: "),
            (("DATABASE_URL", "mysql://x"), "user.database_url: mysql:// is no back end"),
            (("PRODUCT_URL", "product"), "peers.product: not a URL"),
            (("LOG_FORMAT", "xml"), "log.format: "),
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
        assert!(line.starts_with("gateway.cors_credentials: cannot go with"), "{line}");
        assert!(line.ends_with("(environment APP__GATEWAY__CORS_CREDENTIALS)"), "{line}");
        let named = ("APP__GATEWAY__CORS_ORIGINS", "https://shop.example");
        assert!(load(&with(&[credentials, named], &[])).is_ok());
    }

    #[test]
    fn passwords_are_hidden() {
        for (url, shown) in [
            ("postgres://shop:s3cret@db/shop", "postgres://shop:***@db/shop"),
            ("mongodb://u:s3cret@h1:27017,h2:27017/db", "mongodb://u:***@h1:27017,h2:27017/db"),
            ("redis://:s3cret@cache:6379/1", "redis://:***@cache:6379/1"),
            ("postgres://h/db?user=u&password=s3cret", "postgres://***"),
            ("postgres://u:s3/cr@et@h/db", "postgres://***"),
            ("postgres://u:s3@cret@h/db", "postgres://u:***@h/db"),
            ("postgres://shop@db/shop", "postgres://shop@db/shop"),
        ] {
            assert_eq!(hide(url), shown);
        }
        assert_eq!(hide("127.0.0.1:8000"), "127.0.0.1:8000");
    }
}
