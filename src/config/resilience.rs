//! What the gateway does when an upstream fails, is slow or has too much to do.

use std::time::Duration;

use serde::Deserialize;

use super::values::{between, maybe_between, maybe_within, within};

/// `[gateway.resilience]`: what holds for every upstream that does not say otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resilience {
    /// How long one attempt may take until the head of the answer is there; the request's deadline bounds them all.
    #[serde(deserialize_with = "between::<_, 1, 600_000>")]
    pub response_timeout: Duration,
    /// How often a request is tried again, where that is safe.
    #[serde(deserialize_with = "within::<_, _, 0, 10>")]
    pub retries: u32,
    /// The most that is waited before the first of those; twice as much before each one more. How long it is
    /// within that is left to chance.
    #[serde(deserialize_with = "between::<_, 0, 10_000>")]
    pub retry_backoff: Duration,
    /// The requests of ten seconds, in percent, that may be tried again, and thirty besides; 0 is none.
    #[serde(deserialize_with = "within::<_, _, 0, 100>")]
    pub retry_budget: u32,
    /// The failures, in percent of the requests, from which on nothing more is sent; 0 is never.
    #[serde(deserialize_with = "within::<_, _, 0, 100>")]
    pub breaker_failures: u32,
    /// The requests that it takes to say so.
    #[serde(deserialize_with = "within::<_, _, 1, 1000000>")]
    pub breaker_volume: u32,
    /// How far back they are counted.
    #[serde(deserialize_with = "between::<_, 1_000, 600_000>")]
    pub breaker_window: Duration,
    /// How long nothing is sent then.
    #[serde(deserialize_with = "between::<_, 100, 600_000>")]
    pub breaker_pause: Duration,
    /// The requests that are sent after that, and must all succeed.
    #[serde(deserialize_with = "within::<_, _, 1, 1000>")]
    pub breaker_trials: u32,
    /// Requests under way at once, over all threads.
    #[serde(deserialize_with = "within::<_, _, 1, 1000000>")]
    pub concurrency: usize,
    /// Requests that may wait for that; one more is answered 503.
    #[serde(deserialize_with = "within::<_, _, 0, 1000000>")]
    pub queue: usize,
    /// How long they may wait.
    #[serde(deserialize_with = "between::<_, 1, 60_000>")]
    pub queue_timeout: Duration,
    /// Failures in a row from which on an address is left out; 0 is never. A success makes up for half a failure.
    #[serde(deserialize_with = "within::<_, _, 0, 1000>")]
    pub eject_failures: u32,
    /// How long it is left out.
    #[serde(deserialize_with = "between::<_, 100, 600_000>")]
    pub eject_pause: Duration,
}

/// The same keys for one upstream, each of which may be left out.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "Resilience has them, key by key")]
pub struct ResiliencePatch {
    #[serde(deserialize_with = "maybe_between::<_, 1, 600_000>")]
    pub response_timeout: Option<Duration>,
    #[serde(deserialize_with = "maybe_within::<_, _, 0, 10>")]
    pub retries: Option<u32>,
    #[serde(deserialize_with = "maybe_between::<_, 0, 10_000>")]
    pub retry_backoff: Option<Duration>,
    #[serde(deserialize_with = "maybe_within::<_, _, 0, 100>")]
    pub retry_budget: Option<u32>,
    #[serde(deserialize_with = "maybe_within::<_, _, 0, 100>")]
    pub breaker_failures: Option<u32>,
    #[serde(deserialize_with = "maybe_within::<_, _, 1, 1000000>")]
    pub breaker_volume: Option<u32>,
    #[serde(deserialize_with = "maybe_between::<_, 1_000, 600_000>")]
    pub breaker_window: Option<Duration>,
    #[serde(deserialize_with = "maybe_between::<_, 100, 600_000>")]
    pub breaker_pause: Option<Duration>,
    #[serde(deserialize_with = "maybe_within::<_, _, 1, 1000>")]
    pub breaker_trials: Option<u32>,
    #[serde(deserialize_with = "maybe_within::<_, _, 1, 1000000>")]
    pub concurrency: Option<usize>,
    #[serde(deserialize_with = "maybe_within::<_, _, 0, 1000000>")]
    pub queue: Option<usize>,
    #[serde(deserialize_with = "maybe_between::<_, 1, 60_000>")]
    pub queue_timeout: Option<Duration>,
    #[serde(deserialize_with = "maybe_within::<_, _, 0, 1000>")]
    pub eject_failures: Option<u32>,
    #[serde(deserialize_with = "maybe_between::<_, 100, 600_000>")]
    pub eject_pause: Option<Duration>,
}

impl ResiliencePatch {
    /// What holds for the upstream: what stands here, and else what stands in `base`.
    pub fn over(&self, base: &Resilience) -> Resilience {
        Resilience {
            response_timeout: self.response_timeout.unwrap_or(base.response_timeout),
            retries: self.retries.unwrap_or(base.retries),
            retry_backoff: self.retry_backoff.unwrap_or(base.retry_backoff),
            retry_budget: self.retry_budget.unwrap_or(base.retry_budget),
            breaker_failures: self.breaker_failures.unwrap_or(base.breaker_failures),
            breaker_volume: self.breaker_volume.unwrap_or(base.breaker_volume),
            breaker_window: self.breaker_window.unwrap_or(base.breaker_window),
            breaker_pause: self.breaker_pause.unwrap_or(base.breaker_pause),
            breaker_trials: self.breaker_trials.unwrap_or(base.breaker_trials),
            concurrency: self.concurrency.unwrap_or(base.concurrency),
            queue: self.queue.unwrap_or(base.queue),
            queue_timeout: self.queue_timeout.unwrap_or(base.queue_timeout),
            eject_failures: self.eject_failures.unwrap_or(base.eject_failures),
            eject_pause: self.eject_pause.unwrap_or(base.eject_pause),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_says_otherwise_key_by_key() {
        let base = crate::config::load(&crate::config::Sources::default()).unwrap().0;
        let base = base.gateway.resilience;
        let patch = r#"{"retries": 0, "eject_pause": "1m"}"#;
        let patch: ResiliencePatch = serde_json::from_str(patch).unwrap();
        let merged = patch.over(&base);
        assert_eq!((merged.retries, merged.eject_pause), (0, Duration::from_secs(60)));
        assert_eq!(merged.concurrency, base.concurrency);
    }

    #[test]
    fn every_key_can_be_said_for_one_upstream() {
        let base = include_str!("../../config/gateway.toml");
        let base = base.split_once("[gateway.resilience]").unwrap().1;
        let keys = base.lines().filter_map(|line| line.split_once(" = "));
        let keys = keys.filter(|(key, _)| !key.starts_with('#')).collect::<Vec<_>>();
        assert!(keys.len() >= 14, "{keys:?}");
        for (key, value) in keys {
            let patch = format!("{{{key:?}: {value}}}");
            let patch = serde_json::from_str::<ResiliencePatch>(&patch);
            assert!(patch.is_ok(), "{key}: {patch:?}");
        }
    }

    #[test]
    fn bad_values_are_refused_for_one_upstream_too() {
        for bad in [
            r#"{"retries": 11}"#,
            r#"{"response_timeout": "0s"}"#,
            r#"{"breaker_failures": 101}"#,
            r#"{"breaker_window": "soon"}"#,
            r#"{"concurrency": 0}"#,
            r#"{"retry": 1}"#,
        ] {
            assert!(serde_json::from_str::<ResiliencePatch>(bad).is_err(), "{bad}");
        }
    }
}
