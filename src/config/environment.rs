//! Settings from the environment: `APP__SECTION__KEY`, short names, and either with `_FILE`.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use super::layers::{Assignment, Error, Leaves};
use super::{open_telemetry, redact};
use crate::files;

/// Short names for `APP__SECTION__KEY`; one may set several keys.
const SHORT_NAMES: [(&str, &str); 15] = [
    ("DATABASE_URL", "user.database_url"),
    ("MONGODB_URL", "product.database_url"),
    ("REDIS_URL", "product.cache_url"),
    ("REDIS_URL", "gateway.limits_url"),
    ("REDIS_URL", "user.limits_url"),
    ("USER_URL", "peers.user"),
    ("PRODUCT_URL", "peers.product"),
    ("ORDER_URL", "peers.order"),
    ("ORDER_DATABASE_URL", "order.database_url"),
    ("AMQP_URL", "events.url"),
    ("STRIPE_PUBLISHABLE_KEY", "shop.stripe_publishable_key"),
    ("PAYMENTS_URL", "order.payments_url"),
    ("INTERNAL_SECRET", "auth.internal_secret"),
    ("RUST_LOG", "log.filter"),
    ("LOG_FORMAT", "log.format"),
];

/// A variable that also sets another key, where it has this scheme and nothing else sets that key: a server has room for
/// several roles, a file does not.
const ALSO: (&str, &str, &str) = ("DATABASE_URL", "postgres", "order.database_url");

const PREFIX: &str = "APP__";
const FROM_FILE: &str = "_FILE";

/// An environment variable with settings.
struct Variable<'a> {
    name: &'a str,
    keys: Vec<String>,
    from_file: bool,
}

/// The settings in the environment, each key once, of those that are `known`.
///
/// # Errors
/// When a variable with a setting cannot be read or is misspelt, or two variables set the same key.
pub(super) fn assignments(
    environment: &[(OsString, OsString)],
    known: &Leaves,
) -> Result<Vec<Assignment>, Error> {
    let mut variables = environment.iter().collect::<Vec<_>>();
    variables.sort();
    let mut set_by = BTreeMap::new();
    let mut assignments = Vec::new();
    for (name, value) in variables {
        if open_telemetry::is_void(name, value, environment) {
            continue;
        }
        let Some(variable) = variable(name, known)? else { continue };
        let Variable { name, keys, from_file } = variable;
        let origin = format!("environment {name}");
        for key in keys {
            if let Some(other) = set_by.insert(key.clone(), name) {
                let problem = format!("{other} and {name} both set it; keep one of them");
                return Err(Error::new(key, problem, "environment"));
            }
            let text = value.to_str();
            let text = text.ok_or_else(|| Error::new(&*key, "it is not UTF-8", &*origin))?;
            let value = if from_file { secret(text, &key, &origin)? } else { text.to_owned() };
            let value = open_telemetry::complete(name, value);
            assignments.push(Assignment { key, value, origin: origin.clone() });
        }
    }
    let (variable, scheme, key) = ALSO;
    let origin = set_by.get("user.database_url").filter(|name| name.starts_with(variable));
    if let (Some(name), false) = (origin, set_by.contains_key(key)) {
        let origin = format!("environment {name}");
        let of_variable = |known: &&Assignment| known.origin == origin;
        let value = assignments.iter().find(of_variable).map(|known| known.value.clone());
        let value = value.filter(|value| value.starts_with(scheme));
        assignments.extend(value.map(|value| Assignment { key: key.into(), value, origin }));
    }
    Ok(assignments)
}

/// The variable `name`, if it has settings.
fn variable<'a>(name: &'a OsStr, known: &Leaves) -> Result<Option<Variable<'a>>, Error> {
    let Some(text) = name.to_str() else {
        let lossy = name.to_string_lossy();
        let is_setting = lossy.starts_with(PREFIX);
        let refuse = || {
            Error::new(
                redact::key(&lossy.replace('\u{fffd}', "")),
                "its name is not UTF-8",
                "environment",
            )
        };
        return if is_setting { Err(refuse()) } else { Ok(None) };
    };
    let (stem, from_file) = match text.strip_suffix(FROM_FILE) {
        Some(stem) => (stem, true),
        None => (text, false),
    };
    let keys = match stem.strip_prefix(PREFIX) {
        Some(path) => vec![path.to_lowercase().replace("__", ".")],
        None => {
            let names = SHORT_NAMES.iter().chain(&open_telemetry::NAMES);
            let meant = names.filter(|(short, _)| *short == stem);
            meant.map(|(_, key)| (*key).to_owned()).collect()
        }
    };
    if let Some(meant) = misspelt(text, known) {
        let problem = format!("no such variable; did you mean {meant}?");
        return Err(Error::new(redact::key(text), problem, "environment"));
    }
    Ok(Some(Variable { name: text, keys, from_file }).filter(|variable| !variable.keys.is_empty()))
}

/// The probable meaning of a misspelt `name`. A single underscore is misspelt in front of a section, unless it is how
/// Kubernetes names services: `APP_USER_SERVICE_HOST` is of one with the name `app-user`.
fn misspelt(name: &str, known: &Leaves) -> Option<String> {
    let path =
        name.get(..4).filter(|start| start.eq_ignore_ascii_case("app_")).map(|_| &name[4..])?;
    if name.starts_with(PREFIX) {
        return None;
    }
    if !path.contains("__") && !path.starts_with('_') {
        let (section, key) = path.split_once('_')?;
        let is_section = |known: &str| known.split('.').next() == Some(&section.to_lowercase());
        let is_of_service = name.ends_with("_PORT")
            || ["_PORT_", "_SERVICE_"].iter().any(|mark| name.contains(mark));
        let is_meant = known.keys().any(|known| is_section(known)) && !is_of_service;
        return is_meant.then(|| redact::key(&format!("{PREFIX}{section}__{key}")).to_uppercase());
    }
    let path = redact::key(path.trim_start_matches('_')).to_uppercase();
    Some(format!("{PREFIX}{path}"))
}

/// The content of a mounted secret, without the line end that editors add.
fn secret(path: &str, key: &str, origin: &str) -> Result<String, Error> {
    let wrong = |problem: &dyn std::fmt::Display| {
        Error::new(key, format!("cannot read {}: {problem}", redact::hide(path)), origin)
    };
    let bytes = files::read(path.as_ref()).map_err(|error| wrong(&error))?;
    let text = String::from_utf8(bytes).map_err(|_| wrong(&"it is not UTF-8"))?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(wrong(&"it is empty")),
        text => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    fn set(variables: &[(&str, &str)]) -> Result<BTreeMap<String, String>, String> {
        let own = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let known = ["auth.mode", "user.pool_size"].map(|key| (key.to_owned(), Default::default()));
        let found = assignments(&own.collect::<Vec<_>>(), &known.into())
            .map_err(|error| error.to_string())?;
        Ok(found.into_iter().map(|assignment| (assignment.key, assignment.value)).collect())
    }

    #[test]
    fn a_key_that_two_variables_set_is_refused_whatever_their_order() {
        for [first, second] in [
            ["DATABASE_URL", "DATABASE_URL_FILE"],
            ["DATABASE_URL", "APP__USER__DATABASE_URL"],
            ["DATABASE_URL_FILE", "APP__USER__DATABASE_URL_FILE"],
            ["REDIS_URL", "APP__PRODUCT__CACHE_URL"],
            ["APP__USER__POOL_SIZE", "APP__USER__pool_size"],
        ] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), "4").unwrap();
            let path = file.path().to_str().unwrap();
            let pair = [(first, path), (second, path)];
            let told = set(&pair).unwrap_err();
            assert!(told.contains(first) && told.contains(second), "{told}");
            assert_eq!(set(&[pair[1], pair[0]]).unwrap_err(), told);
        }
    }

    #[test]
    fn a_misspelt_beginning_is_refused_and_the_variables_of_others_are_not() {
        for name in [
            "APP_USER__POOL_SIZE",
            "app__user__pool_size",
            "APP___USER__POOL_SIZE",
            "App__user__pool_size",
            "APP_USER_POOL_SIZE",
            "app_user_pool_size",
        ] {
            let told = set(&[(name, "1")]);
            let told = match told {
                Err(told) => told,
                // A key that the layers refuse.
                Ok(found) => found.into_keys().next().unwrap(),
            };
            assert!(
                told.contains("did you mean APP__USER__POOL_SIZE?") || told.starts_with('_'),
                "{told}"
            );
        }
        for name in [
            "APP_PORT_80_TCP_ADDR",
            "APP_USER_PORT",
            "APP_USER_PORT_80_TCP_ADDR",
            "APP_USER_DB_SERVICE_HOST",
            "APP_ROLE",
            "APP_CONFIG",
            "APP_BINARY",
            "APP_TEST_MONGODB_URL",
            "PATH",
            "APPLE__X",
            "éapp__x",
        ] {
            assert_eq!(set(&[(name, "1")]), Ok(BTreeMap::new()), "{name}");
        }
    }

    #[test]
    fn what_is_not_utf_8_is_refused_where_it_is_a_setting() {
        let broken = || OsString::from_vec(b"postgres://\xff".to_vec());
        for name in ["DATABASE_URL", "DATABASE_URL_FILE", "APP__AUTH__MODE"] {
            let told =
                assignments(&[(name.into(), broken())], &Leaves::new()).unwrap_err().to_string();
            assert!(told.contains("not UTF-8") && told.contains(name), "{told}");
        }
        let name = OsString::from_vec(b"APP__AUTH__MODE\xff".to_vec());
        assert!(assignments(&[(name, "enforced".into())], &Leaves::new()).is_err());
        let others = [("OTHER".into(), broken()), (broken(), "x".into())];
        assert!(assignments(&others, &Leaves::new()).is_ok());
    }

    #[test]
    fn a_secret_in_the_place_of_its_file_is_not_told() {
        for value in ["postgres://shop:s3cret@db/shop", &"5ec4e7".repeat(10)] {
            let told = set(&[("DATABASE_URL_FILE", value)]).unwrap_err();
            assert!(told.contains("cannot read") && !told.contains("s3cret"), "{told}");
            assert!(!told.contains("5ec4e7"), "{told}");
        }
    }

    #[test]
    fn an_empty_secret_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "\n").unwrap();
        let told = set(&[("APP__USER__SIGNING_KEYS_FILE", file.path().to_str().unwrap())]);
        assert!(told.unwrap_err().contains("it is empty"));
    }
}
