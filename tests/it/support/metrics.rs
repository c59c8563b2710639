//! What a process says at `/metrics`, as values by names and labels.

use std::collections::BTreeMap;

use super::Process;

/// One value.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

/// All values of a process at one time.
#[derive(Debug)]
pub(crate) struct Samples(pub(crate) Vec<Sample>);

impl Samples {
    /// Those in `text`, which is in Prometheus' format.
    pub(crate) fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self(lines.map(|line| sample(line).unwrap_or_else(|| panic!("{line}"))).collect())
    }

    /// The sum of the values called `name` whose labels are among others `labels`; `None` where there are none.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let fits = |sample: &&Sample| {
            let has = |(name, value): &(&str, &str)| {
                sample.labels.get(*name).is_some_and(|found| found == value)
            };
            sample.name == name && labels.iter().all(has)
        };
        self.0.iter().filter(fits).map(|sample| sample.value).reduce(|one, other| one + other)
    }

    /// The same, where there must be one.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.sum(name, labels).unwrap_or_else(|| {
            let others = self.0.iter().filter(|sample| sample.name == name);
            let others = others.map(|sample| &sample.labels).collect::<Vec<_>>();
            panic!("no {name} {labels:?} in {others:?}")
        })
    }
}

impl Process {
    /// The values that it has at `/metrics` now.
    pub(crate) async fn samples(&self) -> Samples {
        Samples::parse(&self.metrics().await)
    }
}

fn sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let (name, labels) = match series.split_once('{') {
        None => (series, ""),
        Some((name, labels)) => (name, labels.strip_suffix('}')?),
    };
    let labels = labels.split("\",").filter(|label| !label.is_empty()).map(|label| {
        let (name, value) = label.split_once("=\"")?;
        Some((name.to_owned(), value.trim_end_matches('"').to_owned()))
    });
    Some(Sample { name: name.to_owned(), labels: labels.collect::<Option<_>>()?, value })
}
