//! Exemplars: for each bucket of a histogram, the trace of the last sampled request in it (OpenMetrics 1.0, "Exemplars").

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::proto::LabelPair;

use super::TraceId;

/// A request of a known trace.
#[derive(Clone, Debug)]
pub(super) struct Exemplar {
    /// The trace's id, 32 hexadecimal digits.
    pub(super) trace: String,
    /// What was measured.
    pub(super) value: f64,
    /// When, in seconds since 1970.
    pub(super) at: f64,
}

/// The last exemplar of each bucket of one histogram.
type Buckets = Arc<Mutex<Vec<Option<Exemplar>>>>;

/// The exemplars of a family of histograms; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Exemplars {
    bounds: &'static [f64],
    /// By the values of the histogram's labels, in the order of the labels' names.
    known: Arc<Mutex<HashMap<Vec<String>, Buckets>>>,
}

/// One histogram's; cheap to clone. Only a sampled request takes its lock.
#[derive(Clone, Debug)]
pub(super) struct Series {
    bounds: &'static [f64],
    buckets: Buckets,
}

impl Exemplars {
    /// None yet, for histograms with the upper bounds `bounds`.
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, known: Arc::default() }
    }

    /// Those of the histogram with `labels`, which are in the order of their names.
    pub(super) fn series(&self, labels: &[&str]) -> Series {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let buckets = known.entry(labels).or_default().clone();
        Series { bounds: self.bounds, buckets }
    }

    /// The last of each bucket of the histogram with `labels`, the last bucket being that without a bound.
    pub(super) fn of(&self, labels: &[LabelPair]) -> Vec<Option<Exemplar>> {
        let labels = labels.iter().map(|label| label.value().to_owned()).collect::<Vec<_>>();
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(buckets) = known.get(&labels) else { return Vec::new() };
        buckets.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Series {
    /// Keeps `trace` as that of the last request that took `value`.
    pub(super) fn keep(&self, trace: TraceId, value: f64) {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let bucket = self.bounds.iter().position(|bound| value <= *bound);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.resize(self.bounds.len() + 1, None);
        buckets[bucket.unwrap_or(self.bounds.len())] =
            Some(Exemplar { trace: trace.to_string(), value, at });
    }
}
