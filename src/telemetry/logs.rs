//! Logs on standard error: human-readable lines on a terminal, and a JSON object per line elsewhere.

use std::fmt::{Display, Write as _};
use std::io::{self, IsTerminal as _, Write as _};

use chrono::{SecondsFormat, Utc};
use env_logger::fmt::Formatter;
use env_logger::{Builder, Target, WriteStyle};
use log::kv::{Error as KeyError, Key, Value, VisitSource};
use log::{LevelFilter, Record};
use serde_json::Map;

use super::logger::LEFT_OUT;
use super::scope::Scope;
use super::writer::Writer;
use super::{logger, panics, slow};
use crate::config::{Log, LogFormat};

/// Starts logging by `options`. Later calls do nothing.
pub fn start(options: &Log) {
    let mut builder = Builder::new();
    builder.target(Target::Pipe(Box::new(Writer::stderr().clone())));
    // The logger filters by itself.
    builder.write_style(style()).filter_level(LevelFilter::Trace);
    let json = match options.format {
        LogFormat::Auto => !io::stderr().is_terminal(),
        LogFormat::Human => false,
        LogFormat::Json => true,
    };
    builder.format(if json { object } else { line });
    logger::start(&options.filter, builder.build());
    slow::start(options);
    panics::start();
}

/// Colours on a terminal, unless NO_COLOR is set (https://no-color.org).
fn style() -> WriteStyle {
    let is_wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if io::stderr().is_terminal() && is_wanted { WriteStyle::Always } else { WriteStyle::Never }
}

/// The most bytes of a line. Log collectors split longer ones; Docker does from 16 KiB on.
const LONGEST: usize = 8 * 1024;
/// A line with at most this many bytes of text is short enough, although JSON may need six bytes for one.
const SHORT: usize = 1024;

/// `time`, `level` and `message`, then the record's own keys.
fn object(out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let mut object = Map::new();
    object.insert("time".into(), Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true).into());
    object.insert("level".into(), record.level().as_str().to_lowercase().into());
    object.insert("message".into(), record.args().to_string().into());
    let mut fields = Fields(object);
    // Values that JSON cannot have are left out.
    let _ = record.key_values().visit(&mut fields);
    if let Some(scope) = scope_of(record) {
        fields.add_request(&scope);
    }
    fields.0.insert("target".into(), record.target().into());
    if text_len(&fields.0) <= SHORT {
        serde_json::to_writer(&mut *out, &fields.0)?;
    } else {
        out.write_all(&shortened(fields.0)?)?;
    }
    out.write_all(b"\n")
}

/// The request that a line belongs to: none of what tells of lines that were left out.
fn scope_of(record: &Record<'_>) -> Option<Scope> {
    Scope::current().filter(|_| record.key_values().get(LEFT_OUT.into()).is_none())
}

/// The bytes in the keys and texts of a line; arrays and objects count as long.
fn text_len(fields: &Map<String, serde_json::Value>) -> usize {
    let len = |(key, value): (&String, &serde_json::Value)| match value {
        serde_json::Value::String(text) => key.len() + text.len(),
        serde_json::Value::Array(_) | serde_json::Value::Object(_) => SHORT + 1,
        _ => key.len() + 20,
    };
    fields.iter().map(len).sum()
}

/// The line in at most [`LONGEST`] bytes: it cuts the longest texts first, and adds `truncated`.
fn shortened(mut fields: Map<String, serde_json::Value>) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(&fields)?;
    for limit in [4096, 2048, 1024, 512, 128, 32] {
        if line.len() <= LONGEST {
            return Ok(line);
        }
        for (_, value) in &mut fields {
            shorten(value, limit);
        }
        fields.insert("truncated".into(), true.into());
        line = serde_json::to_vec(&fields)?;
    }
    if line.len() > LONGEST {
        // Too many keys: only those stay that every line has.
        fields.retain(|key, _| {
            ["time", "level", "message", "target", "truncated"].contains(&key.as_str())
        });
        line = serde_json::to_vec(&fields)?;
    }
    Ok(line)
}

/// Cuts the text of `value` after `limit` bytes of JSON.
fn shorten(value: &mut serde_json::Value, limit: usize) {
    let text = match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(_) | serde_json::Value::Object(_) => value.to_string(),
        _ => return,
    };
    // Counts the length in JSON.
    let mut len = 0;
    let mut too_long = text.char_indices().filter(|(_, c)| {
        len += match c {
            '"' | '\\' => 2,
            '\0'..='\x1f' => 6,
            c => c.len_utf8(),
        };
        len > limit
    });
    if let Some((end, _)) = too_long.next() {
        *value = format!("{}…", &text[..end]).into();
    }
}

struct Fields(Map<String, serde_json::Value>);

impl Fields {
    /// Adds what names a request in the log, but for what the line says itself.
    fn add_request(&mut self, scope: &Scope) {
        let mut add = |key: &str, value: &dyn Display| {
            if !self.0.contains_key(key) {
                self.0.insert(key.to_owned(), value.to_string().into());
            }
        };
        add("role", &scope.role());
        if !scope.request_id().is_empty() {
            add("requestId", &scope.request_id());
        }
        add("traceId", &scope.trace().trace_id());
        add("spanId", &scope.trace().span_id());
    }
}

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
    let mut text = record.args().to_string();
    let _ = record.key_values().visit(&mut Pairs(&mut text));
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST));
        text.push('…');
    }
    if let Some(scope) = scope_of(record) {
        add_request(&mut text, record, &scope).map_err(io::Error::other)?;
    }
    writeln!(out, "{time} {style}{:<5}{style:#} {text}", record.level())
}

/// Adds what names a request in the log, but for what the line says itself.
fn add_request(text: &mut String, record: &Record<'_>, scope: &Scope) -> std::fmt::Result {
    for (key, value) in [("role", scope.role()), ("requestId", scope.request_id())] {
        if record.key_values().get(key.into()).is_none() {
            write!(text, " {key}={value}")?;
        }
    }
    write!(text, " traceId={} spanId={}", scope.trace().trace_id(), scope.trace().span_id())
}

struct Pairs<'a>(&'a mut String);

impl<'kvs> VisitSource<'kvs> for Pairs<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), KeyError> {
        // The message has it already.
        if key.as_str() == "method" {
            return Ok(());
        }
        write!(self.0, " {key}={value}")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_line_is_longer_than_what_collects_it_takes(
            texts in prop::collection::btree_map("[a-z]{1,20}", (any::<String>(), 0..5000_usize), 0..40),
        ) {
            let fields = texts.into_iter().map(|(key, (text, times))| (key, text.repeat(times).into()));
            let mut fields = fields.collect::<Map<_, _>>();
            fields.insert("time".into(), "2026-01-31T12:00:00.000Z".into());
            let line = shortened(fields.clone()).unwrap();
            prop_assert!(line.len() <= LONGEST, "{}", line.len());
            let read = serde_json::from_slice::<Map<String, serde_json::Value>>(&line).unwrap();
            prop_assert_eq!(&read["time"], &fields["time"]);
            if text_len(&fields) <= SHORT {
                prop_assert!(serde_json::to_vec(&fields).unwrap().len() <= LONGEST);
            }
        }
    }

    #[test]
    fn what_is_not_long_is_as_it_was() {
        let mut fields = Map::new();
        fields.insert("message".into(), "x".repeat(5000).into());
        fields.insert("path".into(), "/products".into());
        fields.insert("status".into(), 200.into());
        assert_eq!(shortened(fields.clone()).unwrap(), serde_json::to_vec(&fields).unwrap());
        fields.insert("method".into(), "\u{1}".repeat(16_200).into());
        let line =
            serde_json::from_slice::<serde_json::Value>(&shortened(fields).unwrap()).unwrap();
        assert_eq!(
            (&line["path"], &line["status"], &line["truncated"]),
            (&"/products".into(), &200.into(), &true.into())
        );
    }
}
