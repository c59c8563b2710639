//! The environment variables of OpenTelemetry, which set keys of `[traces]`
//! (<https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>). Those of the exporter are there
//! twice, for all signals and for traces.

use std::ffi::{OsStr, OsString};

/// The variables and their keys.
pub(super) const NAMES: [(&str, &str); 22] = [
    ("OTEL_SDK_DISABLED", "traces.disabled"),
    ("OTEL_TRACES_EXPORTER", "traces.exporter"),
    ("OTEL_SERVICE_NAME", "traces.service_name"),
    ("OTEL_RESOURCE_ATTRIBUTES", "traces.resource_attributes"),
    ("OTEL_TRACES_SAMPLER", "traces.sampler"),
    ("OTEL_TRACES_SAMPLER_ARG", "traces.sampler_arg"),
    ("OTEL_BSP_SCHEDULE_DELAY", "traces.batch.schedule_delay"),
    ("OTEL_BSP_EXPORT_TIMEOUT", "traces.batch.export_timeout"),
    ("OTEL_BSP_MAX_QUEUE_SIZE", "traces.batch.max_queue_size"),
    ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "traces.batch.max_export_batch_size"),
    (ENDPOINT, "traces.otlp.endpoint"),
    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "traces.otlp.endpoint"),
    ("OTEL_EXPORTER_OTLP_HEADERS", "traces.otlp.headers"),
    ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "traces.otlp.headers"),
    ("OTEL_EXPORTER_OTLP_TIMEOUT", "traces.otlp.timeout"),
    ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "traces.otlp.timeout"),
    ("OTEL_EXPORTER_OTLP_COMPRESSION", "traces.otlp.compression"),
    ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "traces.otlp.compression"),
    ("OTEL_EXPORTER_OTLP_CERTIFICATE", "traces.otlp.certificate"),
    ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "traces.otlp.certificate"),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", "traces.otlp.protocol"),
    ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "traces.otlp.protocol"),
];

/// The base of the URLs of all signals.
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const FOR_ALL: &str = "OTEL_EXPORTER_OTLP_";
const FOR_TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_";
/// The path of the traces below it.
const PATH: &str = "/v1/traces";
const FROM_FILE: &str = "_FILE";

/// Whether the variable `name` of OpenTelemetry says nothing: it is empty, or another in `environment` says the same of
/// traces alone.
pub(super) fn is_void(name: &OsStr, value: &OsStr, environment: &[(OsString, OsString)]) -> bool {
    let Some(stem) = name.to_str().map(|name| name.strip_suffix(FROM_FILE).unwrap_or(name)) else {
        return false;
    };
    if !NAMES.iter().any(|(known, _)| *known == stem) {
        return false;
    }
    let specific = stem.strip_prefix(FOR_ALL).filter(|_| !stem.starts_with(FOR_TRACES));
    let is_specific = |other: &OsStr| {
        let other = other.to_str().and_then(|other| other.strip_prefix(FOR_TRACES));
        other.map(|other| other.strip_suffix(FROM_FILE).unwrap_or(other)) == specific
    };
    let mut others = environment.iter().filter(|(_, value)| !value.is_empty());
    value.is_empty() || (specific.is_some() && others.any(|(other, _)| is_specific(other)))
}

/// The value of the key that the variable `name` sets to `value`: the base of all signals' URLs has no path of traces.
pub(super) fn complete(name: &str, value: String) -> String {
    let is_base = name.strip_suffix(FROM_FILE).unwrap_or(name) == ENDPOINT;
    if is_base { format!("{}{PATH}", value.trim_end_matches('/')) } else { value }
}
