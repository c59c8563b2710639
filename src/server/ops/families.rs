//! Reads the metrics of the process, as `/metrics` shows them.

use prometheus::proto::{Histogram, Metric, MetricFamily};

use super::arrows::Tally;

/// All metrics at one moment.
#[derive(Debug)]
pub(super) struct Families(pub(super) Vec<MetricFamily>);

impl Families {
    /// Every series of the family `name`.
    pub(super) fn series<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Series<'a>> {
        let family = self.0.iter().filter(move |family| family.name() == name);
        family.flat_map(MetricFamily::get_metric).map(Series)
    }

    /// The sum of the series of `name` that have these `labels`.
    pub(super) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has =
            |series: &Series<'_>| labels.iter().all(|(label, value)| series.label(label) == *value);
        self.series(name).filter(has).map(|series| series.value()).sum()
    }
}

/// One series of a family.
#[derive(Clone, Copy, Debug)]
pub(super) struct Series<'a>(&'a Metric);

impl<'a> Series<'a> {
    /// The value of the label `name`, or an empty text.
    pub(super) fn label(self, name: &str) -> &'a str {
        let pair = self.0.get_label().iter().find(|pair| pair.name() == name);
        pair.map_or("", |pair| pair.value())
    }

    /// The value of a counter or a gauge.
    pub(super) fn value(self) -> f64 {
        // The other one is 0.
        self.0.get_counter().get_value() + self.0.get_gauge().get_value()
    }

    /// Adds a histogram of calls, all of which are errors or none, to `tally`.
    pub(super) fn add_to(self, tally: &mut Tally, are_errors: bool) {
        let histogram = self.0.get_histogram();
        let calls = histogram.get_sample_count();
        tally.calls += calls;
        tally.errors += if are_errors { calls } else { 0 };
        if tally.bounds.is_empty() {
            let bounds = histogram.get_bucket().iter().map(|bucket| bucket.upper_bound());
            tally.bounds = bounds.filter(|bound| bound.is_finite()).collect();
            tally.buckets = vec![0; tally.bounds.len() + 1];
        }
        for (bound, count) in buckets(histogram) {
            // All series of a family have the same bounds.
            let at = tally.bounds.partition_point(|known| *known < bound);
            tally.buckets[at] += count;
        }
    }
}

/// How many there are up to each bound, and longer than the one before.
fn buckets(histogram: &Histogram) -> impl Iterator<Item = (f64, u64)> {
    let bounded = histogram.get_bucket().iter();
    let bounded = bounded.map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()));
    let all = bounded.chain([(f64::INFINITY, histogram.get_sample_count())]);
    all.scan(0, |before, (bound, below)| {
        let count = below.saturating_sub(*before);
        *before = below;
        Some((bound, count))
    })
}
