//! The formats of an import and an export.

use std::path::Path;

use actix_web::http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};

use crate::error::{Error, Kind};

/// How products are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line.
    Ndjson,
    /// A line that names the columns, and one row per product (RFC 4180).
    Csv,
}

const NDJSON: &str = "application/x-ndjson";
const CSV: &str = "text/csv";

impl Format {
    /// The format that a file at `path` has by its extension.
    pub fn from_path(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?;
        [Self::Ndjson, Self::Csv]
            .into_iter()
            .find(|format| format.extension().eq_ignore_ascii_case(extension))
    }

    /// The extension of its files.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
        }
    }

    /// The value of `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Ndjson => NDJSON,
            Self::Csv => "text/csv; charset=utf-8",
        }
    }

    /// The format of a request's body.
    ///
    /// # Errors
    /// 415 for another type, or for another charset than UTF-8.
    pub(super) fn from_content_type(headers: &HeaderMap) -> Result<Self, Error> {
        let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let mut parts = value.unwrap_or_default().split(';').map(str::trim);
        let essence = parts.next().unwrap_or_default();
        let format = [(NDJSON, Self::Ndjson), (CSV, Self::Csv)]
            .into_iter()
            .find(|(name, _)| essence.eq_ignore_ascii_case(name));
        let is_utf8 = parts.filter_map(|part| part.split_once('=')).all(|(name, value)| {
            !name.eq_ignore_ascii_case("charset")
                || value.trim_matches('"').eq_ignore_ascii_case("utf-8")
        });
        match format {
            Some((_, format)) if is_utf8 => Ok(format),
            _ => {
                let detail = "send application/x-ndjson or text/csv, in UTF-8";
                let error = Error::new(Kind::UnsupportedMediaType, detail);
                let types = HeaderValue::from_static("application/x-ndjson, text/csv");
                Err(error.header(ACCEPT, types))
            }
        }
    }

    /// The format that a client prefers by its `Accept` headers; NDJSON unless CSV has more weight (RFC 9110, section 12.5.1).
    pub(super) fn from_accept(headers: &HeaderMap) -> Self {
        let lines = headers.get_all(ACCEPT).filter_map(|line| line.to_str().ok());
        let ranges = lines.flat_map(|line| line.split(',')).map(range).collect::<Vec<_>>();
        let weight = |wanted: [&str; 3]| {
            let of = |name: &str| ranges.iter().find(|(range, _)| range == name).map(|(_, q)| *q);
            wanted.into_iter().find_map(of).unwrap_or(0.0)
        };
        match weight([CSV, "text/*", "*/*"]) > weight([NDJSON, "application/*", "*/*"]) {
            true => Self::Csv,
            false => Self::Ndjson,
        }
    }
}

/// A media range and its weight.
fn range(text: &str) -> (String, f32) {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default().to_ascii_lowercase();
    let weight = parts.find_map(|part| part.strip_prefix("q="));
    (name, weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0)))
}
