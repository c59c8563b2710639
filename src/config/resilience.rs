//! What a caller does when another role or an upstream fails, is slow or overloaded.
//!
//! A table of these keys may refine another one and inherit its other values; see [`refines`].

use std::time::Duration;

use config::{Map, Value, ValueKind};
use serde::Deserialize;

use super::values::{between, within};

/// `[resilience]` and the tables that refine it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resilience {
    /// How long one attempt may take until the head of the response arrives. The caller's own limit and the request's
    /// deadline may be shorter.
    #[serde(deserialize_with = "between::<_, 1, 600_000>")]
    pub response_timeout: Duration,
    /// How often a request is retried, if that is safe.
    #[serde(deserialize_with = "within::<_, _, 0, 10>")]
    pub retries: u32,
    /// The longest pause before the first retry, doubled before each further one. The actual pause is random.
    #[serde(deserialize_with = "between::<_, 0, 10_000>")]
    pub retry_backoff: Duration,
    /// Retries within ten seconds, in percent of the requests, plus thirty; 0 means no retries.
    #[serde(deserialize_with = "within::<_, _, 0, 100>")]
    pub retry_budget: u32,
    /// The share of failures, in percent, that opens the breaker; 0 means never.
    #[serde(deserialize_with = "within::<_, _, 0, 100>")]
    pub breaker_failures: u32,
    /// The least number of requests for that.
    #[serde(deserialize_with = "within::<_, _, 1, 1000000>")]
    pub breaker_volume: u32,
    /// The number of consecutive failures that opens the breaker; 0 means never.
    #[serde(deserialize_with = "within::<_, _, 0, 1000000>")]
    pub breaker_consecutive: u32,
    /// The window in which failures are counted.
    #[serde(deserialize_with = "between::<_, 1_000, 600_000>")]
    pub breaker_window: Duration,
    /// How long the breaker stays open.
    #[serde(deserialize_with = "between::<_, 100, 600_000>")]
    pub breaker_pause: Duration,
    /// The number of trial requests after that, which must all succeed.
    #[serde(deserialize_with = "within::<_, _, 1, 1000>")]
    pub breaker_trials: u32,
    /// The most requests under way at once, over all threads.
    #[serde(deserialize_with = "within::<_, _, 1, 1000000>")]
    pub concurrency: usize,
    /// The most requests that wait; further ones get 503.
    #[serde(deserialize_with = "within::<_, _, 0, 1000000>")]
    pub queue: usize,
    /// How long they may wait.
    #[serde(deserialize_with = "between::<_, 1, 60_000>")]
    pub queue_timeout: Duration,
    /// The number of consecutive failures that ejects an address; 0 means never. A success compensates half a failure.
    #[serde(deserialize_with = "within::<_, _, 0, 1000>")]
    pub eject_failures: u32,
    /// How long it stays ejected.
    #[serde(deserialize_with = "between::<_, 100, 600_000>")]
    pub eject_pause: Duration,
}

/// The key from which `key` inherits its value; `None` if its table refines none.
pub(super) fn refines(key: &str) -> Option<String> {
    let base = |field: &str| format!("resilience.{field}");
    if let Some(field) = key.strip_prefix("gateway.resilience.") {
        return Some(base(field));
    }
    if let Some(peer) = key.strip_prefix("peers.resilience.") {
        return peer.split_once('.').map(|(_, field)| base(field));
    }
    let (_, field) = key.strip_prefix("gateway.upstreams.")?.split_once('.')?;
    Some(format!("gateway.{field}")).filter(|key| key.starts_with("gateway.resilience."))
}

/// Completes the tables of `root` that refine others.
pub(super) fn complete(root: &mut Map<String, Value>) -> Option<()> {
    let base = table(root, "resilience")?.clone();
    let of_peers = table(table(root, "peers")?, "resilience")?;
    of_peers.values_mut().filter_map(as_table).for_each(|peer| refine(peer, &base));
    let gateway = table(root, "gateway")?;
    refine(table(gateway, "resilience")?, &base);
    let base = table(gateway, "resilience")?.clone();
    for upstream in table(gateway, "upstreams")?.values_mut().filter_map(as_table) {
        refine(table(upstream, "resilience")?, &base);
    }
    Some(())
}

fn refine(table: &mut Map<String, Value>, base: &Map<String, Value>) {
    for (key, value) in base {
        table.entry(key.clone()).or_insert_with(|| value.clone());
    }
}

/// The table `name` in `parent`, which is added if it is missing.
fn table<'a>(parent: &'a mut Map<String, Value>, name: &str) -> Option<&'a mut Map<String, Value>> {
    let empty = || Value::new(None, ValueKind::Table(Map::new()));
    as_table(parent.entry(name.to_owned()).or_insert_with(empty))
}

fn as_table(value: &mut Value) -> Option<&mut Map<String, Value>> {
    match &mut value.kind {
        ValueKind::Table(table) => Some(table),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Error, Settings, Sources, load};

    fn with(overrides: &[(&str, &str)]) -> Result<Settings, Error> {
        let overrides = overrides.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        load(&Sources { overrides, ..Sources::default() }).map(|(settings, _)| settings)
    }

    #[test]
    fn a_table_says_otherwise_key_by_key() {
        let settings = with(&[
            ("resilience.retries", "7"),
            ("resilience.queue", "8"),
            ("gateway.resilience.queue", "9"),
            ("gateway.upstreams.user.resilience.retries", "0"),
            ("gateway.upstreams.help.urls", "http://127.0.0.1:1"),
            ("peers.resilience.product.eject_pause", "1m"),
        ]);
        let settings = settings.unwrap();
        let said = |of: &Resilience| (of.retries, of.queue, of.eject_pause.as_secs());
        let (gateway, peers) = (&settings.gateway, &settings.peers);
        assert_eq!(said(&settings.resilience), (7, 8, 10));
        assert_eq!(said(&gateway.resilience), (7, 9, 10));
        assert_eq!(said(&gateway.upstreams["user"].resilience), (0, 9, 10));
        assert_eq!(said(&gateway.upstreams["help"].resilience), (7, 9, 10));
        assert_eq!(said(&peers.resilience["product"]), (7, 8, 60));
    }

    #[test]
    fn calls_between_roles_give_up_sooner_than_the_gateway_does() {
        let settings = with(&[]).unwrap();
        let said = |of: &Resilience| (of.breaker_consecutive, of.breaker_pause.as_secs());
        assert_eq!(said(&settings.resilience), (10, 2));
        assert_eq!(said(&settings.gateway.resilience), (0, 5));
    }

    #[test]
    fn bad_values_are_refused_wherever_they_are_said() {
        let tables = [
            "resilience",
            "gateway.resilience",
            "gateway.upstreams.user.resilience",
            "peers.resilience.user",
        ];
        for table in tables {
            for (field, value) in [
                ("retries", "11"),
                ("response_timeout", "0s"),
                ("breaker_failures", "101"),
                ("breaker_window", "soon"),
                ("concurrency", "0"),
                ("retry", "1"),
            ] {
                let key = format!("{table}.{field}");
                let line = with(&[(&key, value)]).unwrap_err().to_string();
                assert!(line.starts_with(&format!("{key}: ")), "{line}");
                assert!(line.ends_with(&format!("(--set {key})")), "{line}");
            }
        }
        for key in ["peers.resilience.nobody.retries", "peers.resilience.retries"] {
            assert!(with(&[(key, "1")]).unwrap_err().to_string().starts_with(key), "{key}");
        }
    }
}
