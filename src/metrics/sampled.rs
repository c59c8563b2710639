//! Families of metrics whose values are read when they are asked for.

use std::collections::HashMap;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use super::valid;

/// The name of a family, and what it is about.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    kind: MetricType,
    name: &'static str,
    about: &'static str,
    labels: &'static [&'static str],
}

impl Family {
    /// Counters by `labels`, whose name ends in `_total`.
    pub const fn counter(
        name: &'static str,
        about: &'static str,
        labels: &'static [&'static str],
    ) -> Self {
        Self { kind: MetricType::COUNTER, name, about, labels }
    }

    /// Gauges by `labels`.
    pub const fn gauge(
        name: &'static str,
        about: &'static str,
        labels: &'static [&'static str],
    ) -> Self {
        Self { kind: MetricType::GAUGE, name, about, labels }
    }

    fn desc(&self) -> Desc {
        let labels = self.labels.iter().map(|label| (*label).to_owned()).collect();
        valid(Desc::new(self.name.to_owned(), self.about.to_owned(), labels, HashMap::new()))
    }
}

/// Families that are read together.
pub struct Sampled<F> {
    families: &'static [Family],
    descs: Vec<Desc>,
    read: F,
}

impl<F: Fn(&mut Samples) + Send + Sync + 'static> Sampled<F> {
    /// The `families` with the values that `read` adds whenever they are asked for. One without a value is left out.
    pub fn boxed(families: &'static [Family], read: F) -> Box<dyn Collector> {
        let descs = families.iter().map(Family::desc).collect();
        Box::new(Self { families, descs, read })
    }
}

impl<F: Fn(&mut Samples) + Send + Sync> Collector for Sampled<F> {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let found = vec![Vec::new(); self.families.len()];
        let mut samples = Samples { families: self.families, found };
        (self.read)(&mut samples);
        samples.into_families()
    }
}

/// The values of some families.
#[derive(Debug)]
pub struct Samples {
    families: &'static [Family],
    found: Vec<Vec<Metric>>,
}

impl Samples {
    /// Adds a value of the family `name` with the values `labels` of its labels.
    pub fn add(&mut self, name: &str, labels: &[&str], value: f64) {
        let at = self.families.iter().position(|family| family.name == name);
        debug_assert!(at.is_some(), "no family {name}");
        let Some(at) = at else { return };
        let family = &self.families[at];
        debug_assert_eq!(family.labels.len(), labels.len(), "{name}");
        let mut pairs = family.labels.iter().zip(labels).map(pair).collect::<Vec<_>>();
        // As those of other families are.
        pairs.sort_by(|one, other| one.name().cmp(other.name()));
        self.found[at].push(match family.kind {
            MetricType::COUNTER => {
                let (mut metric, mut counter) = (Metric::from_label(pairs), Counter::default());
                counter.set_value(value);
                metric.set_counter(counter);
                metric
            }
            _ => {
                let (mut metric, mut gauge) = (Metric::from_label(pairs), Gauge::default());
                gauge.set_value(value);
                metric.set_gauge(gauge);
                metric
            }
        });
    }

    /// The same for a whole number.
    pub fn count(&mut self, name: &str, labels: &[&str], value: u64) {
        self.add(name, labels, value as f64);
    }

    fn into_families(self) -> Vec<MetricFamily> {
        let both = self.families.iter().zip(self.found);
        let families = both.filter(|(_, found)| !found.is_empty()).map(|(family, found)| {
            let mut written = MetricFamily::default();
            written.set_name(family.name.to_owned());
            written.set_help(family.about.to_owned());
            written.set_field_type(family.kind);
            written.set_metric(found);
            written
        });
        families.collect()
    }
}

fn pair((name, value): (&&str, &&str)) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name((*name).to_owned());
    pair.set_value((*value).to_owned());
    pair
}
