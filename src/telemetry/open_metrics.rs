//! The text format of OpenMetrics 1.0, which has exemplars. See
//! <https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md>.

use std::fmt::Write as _;

use prometheus::proto::{Histogram, LabelPair, Metric, MetricFamily, MetricType};

use super::exemplars::Exemplar;

/// What the end of a family's name says of its unit.
const UNITS: [&str; 3] = ["seconds", "bytes", "ratio"];

/// All of `families`, with the exemplars that `exemplars` has of each bucket of a histogram, by family and labels.
pub(super) fn encode(
    families: &[MetricFamily],
    exemplars: impl Fn(&str, &[LabelPair]) -> Vec<Option<Exemplar>>,
) -> String {
    let mut text = String::new();
    for family in families {
        let (kind, name) = match family.get_field_type() {
            // A counter's family is named without what ends the names of its samples.
            MetricType::COUNTER => ("counter", family.name().trim_end_matches("_total")),
            MetricType::HISTOGRAM => ("histogram", family.name()),
            MetricType::GAUGE => ("gauge", family.name()),
            // The process has none of the others.
            MetricType::SUMMARY | MetricType::UNTYPED => continue,
        };
        line(&mut text, format_args!("# TYPE {name} {kind}"));
        if let Some(unit) = UNITS.iter().find(|unit| name.ends_with(&format!("_{unit}"))) {
            line(&mut text, format_args!("# UNIT {name} {unit}"));
        }
        line(&mut text, format_args!("# HELP {name} {}", escape(family.help())));
        for metric in family.get_metric() {
            match family.get_field_type() {
                MetricType::COUNTER => {
                    sample(&mut text, name, "_total", metric, metric.get_counter().get_value());
                }
                MetricType::HISTOGRAM => {
                    let exemplars = exemplars(name, metric.get_label());
                    histogram(&mut text, name, metric, &exemplars);
                }
                _ => sample(&mut text, name, "", metric, metric.get_gauge().get_value()),
            }
        }
    }
    text.push_str("# EOF\n");
    text
}

/// Writes a histogram: its buckets, each with its exemplar, and the last one without a bound.
fn histogram(text: &mut String, name: &str, metric: &Metric, exemplars: &[Option<Exemplar>]) {
    let values: &Histogram = metric.get_histogram();
    let count = values.get_sample_count();
    let bounded = values.get_bucket().iter();
    let bounded = bounded.map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()));
    for (at, (bound, below)) in bounded.chain([(f64::INFINITY, count)]).enumerate() {
        let labels = labels(metric.get_label(), Some(("le", &number(bound))));
        text.push_str(&format!("{name}_bucket{labels} {below}"));
        if let Some(Exemplar { trace, value, at }) = exemplars.get(at).and_then(Option::as_ref) {
            let value = number(*value);
            text.push_str(&format!(" # {{trace_id=\"{trace}\"}} {value} {at:.3}"));
        }
        text.push('\n');
    }
    sample(text, name, "_count", metric, count as f64);
    sample(text, name, "_sum", metric, values.get_sample_sum());
}

fn sample(text: &mut String, name: &str, ending: &str, metric: &Metric, value: f64) {
    let (labels, value) = (labels(metric.get_label(), None), number(value));
    line(text, format_args!("{name}{ending}{labels} {value}"));
}

fn labels(pairs: &[LabelPair], more: Option<(&str, &str)>) -> String {
    let pairs = pairs.iter().map(|pair| (pair.name(), pair.value())).chain(more);
    let pairs = pairs.map(|(name, value)| format!("{name}=\"{}\"", escape(value)));
    let pairs = pairs.collect::<Vec<_>>().join(",");
    if pairs.is_empty() { pairs } else { format!("{{{pairs}}}") }
}

/// A number with a point, as OpenMetrics writes bounds.
fn number(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    format!("{value:?}")
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"")
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to memory does not fail.
    let _ = writeln!(text, "{line}");
}
