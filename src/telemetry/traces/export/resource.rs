//! What spans say of the process that made them.

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use uuid::Uuid;

use crate::config::Traces;

/// The process of `roles`, by OpenTelemetry's semantic conventions. What `options` say wins.
pub(super) fn describe(options: &Traces, roles: &[&str]) -> Resource {
    let own = [
        ("service.name", options.service_name(roles)),
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        // A new one with each start: two processes of a role are apart.
        ("service.instance.id", Uuid::new_v4().to_string()),
        ("telemetry.sdk.name", "opentelemetry".to_owned()),
        ("telemetry.sdk.language", "rust".to_owned()),
    ];
    let own = own.map(|(name, value)| KeyValue::new(name, value));
    let pid = KeyValue::new("process.pid", i64::from(std::process::id()));
    let set =
        options.attributes().map(|(name, value)| KeyValue::new(name.to_owned(), value.to_owned()));
    Resource::builder_empty().with_attributes(own).with_attribute(pid).with_attributes(set).build()
}
