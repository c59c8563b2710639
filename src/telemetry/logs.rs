//! Logs on standard error: a line for a person on a terminal, a JSON object a line elsewhere.

use std::io::{self, IsTerminal as _, Write};

use chrono::{SecondsFormat, Utc};
use env_logger::fmt::Formatter;
use env_logger::{Builder, Target, WriteStyle};
use log::kv::{Error as KeyError, Key, Value, VisitSource};
use log::{LevelFilter, Record};
use serde_json::Map;

use super::writer::Writer;
use crate::config::{Effective, Error, Log, LogFormat};

/// Starts writing logs as `options` say. Later calls change nothing.
///
/// # Errors
/// When `log.filter` cannot be read.
pub fn start(options: &Log, effective: &Effective) -> Result<(), Error> {
    // env_logger itself only complains, and goes on without the filter.
    let readable = env_filter::Builder::new().try_parse(&options.filter).map(drop);
    readable.map_err(|error| effective.blame("log.filter", error))?;
    let mut builder = Builder::new();
    // Errors and the audit log stay when the rest is turned down, unless the filter names them.
    builder.target(Target::Pipe(Box::new(Writer::stderr().clone())));
    builder.write_style(style()).filter_level(LevelFilter::Error);
    builder.filter_module("audit", LevelFilter::Info);
    builder.parse_filters(&options.filter);
    let json = match options.format {
        LogFormat::Auto => !io::stderr().is_terminal(),
        LogFormat::Human => false,
        LogFormat::Json => true,
    };
    builder.format(if json { object } else { line });
    // A process has one logger: the first.
    let _ = builder.try_init();
    std::panic::set_hook(Box::new(|panic| log::error!("{panic}")));
    Ok(())
}

/// Colours for a person at a terminal who wants them (https://no-color.org).
fn style() -> WriteStyle {
    let is_wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if io::stderr().is_terminal() && is_wanted { WriteStyle::Always } else { WriteStyle::Never }
}

/// `time`, `level` and `message`, then the record's own keys.
fn object(out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let mut object = Map::new();
    object.insert("time".into(), Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true).into());
    object.insert("level".into(), record.level().as_str().to_lowercase().into());
    object.insert("message".into(), record.args().to_string().into());
    let mut fields = Fields(object);
    // What cannot be written as JSON is left out.
    let _ = record.key_values().visit(&mut fields);
    fields.0.insert("target".into(), record.target().into());
    serde_json::to_writer(&mut *out, &fields.0)?;
    out.write_all(b"\n")
}

struct Fields(Map<String, serde_json::Value>);

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), KeyError> {
        let value = serde_json::to_value(&value).unwrap_or_else(|_| value.to_string().into());
        self.0.insert(key.as_str().to_owned(), value);
        Ok(())
    }
}

/// `12:34:56.789 INFO  GET /products status=200 …`
fn line(out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let style = out.default_level_style(record.level());
    let time = Utc::now().format("%H:%M:%S%.3f");
    write!(out, "{time} {style}{:<5}{style:#} {}", record.level(), record.args())?;
    let _ = record.key_values().visit(&mut Pairs(out));
    writeln!(out)
}

struct Pairs<'a>(&'a mut Formatter);

impl<'kvs> VisitSource<'kvs> for Pairs<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), KeyError> {
        // What the message says already.
        if key.as_str() == "method" {
            return Ok(());
        }
        write!(self.0, " {key}={value}")?;
        Ok(())
    }
}
