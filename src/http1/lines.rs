//! Header lines: parsed, validated, and written.

use std::ops::Range;

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::web::{Bytes, BytesMut};

use super::head::HeadError;

/// The header lines of a head: their names, and where in the input their values are.
pub struct Lines(Vec<(HeaderName, Range<usize>)>);

impl Lines {
    /// The lines that httparse found in `input`.
    ///
    /// # Errors
    /// When a name is invalid.
    pub fn new(headers: &[httparse::Header<'_>], input: &[u8]) -> Result<Self, HeadError> {
        // `collect` would not know how many lines there will be.
        let mut lines = Vec::with_capacity(headers.len());
        for header in headers {
            let name = HeaderName::from_bytes(header.name.as_bytes());
            let name = name.map_err(|_| HeadError::Malformed("invalid header name"))?;
            lines.push((name, range_in(header.value, input)));
        }
        Ok(Self(lines))
    }

    /// The number of lines.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The values of `name` in `head`, the same input.
    pub fn get_all<'a>(
        &'a self,
        name: HeaderName,
        head: &'a [u8],
    ) -> impl Iterator<Item = &'a [u8]> {
        let lines = self.0.iter().filter(move |(said, _)| *said == name);
        lines.map(|(_, range)| &head[range.clone()])
    }

    /// The headers whose names are `wanted`, or an error for an invalid value. Values are slices of `head`, the same input,
    /// not copies.
    pub fn into_headers(
        self,
        head: &Bytes,
        wanted: impl Fn(&HeaderName) -> bool,
    ) -> impl Iterator<Item = Result<(HeaderName, HeaderValue), HeadError>> {
        let wanted = self.0.into_iter().filter(move |(name, _)| wanted(name));
        wanted.map(|(name, range)| {
            let value = HeaderValue::from_maybe_shared(head.slice(range));
            Ok((name, value.map_err(|_| HeadError::Malformed("invalid header value"))?))
        })
    }
}

/// Whether `text` is a token (RFC 9110, section 5.6.2).
pub fn is_token(text: &[u8]) -> bool {
    let of_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(of_token)
}

/// Whether the comma-separated lists `values` have `word`, in any case.
pub fn says<'a>(values: impl Iterator<Item = &'a [u8]>, word: &str) -> bool {
    values.flat_map(words).any(|said| said.eq_ignore_ascii_case(word.as_bytes()))
}

/// Whether `host` and `other` of URIs of `scheme` are the same (RFC 9110, section 4.2.3): case does not count, nor does
/// the default port.
pub fn is_same_host(scheme: Option<&str>, host: &[u8], other: &[u8]) -> bool {
    let default: &[u8] = if scheme == Some("https") { b":443" } else { b":80" };
    let [host, other] = [host, other]
        .map(|host| host.strip_suffix(default).or_else(|| host.strip_suffix(b":")).unwrap_or(host));
    host.eq_ignore_ascii_case(other)
}

/// The elements of a comma-separated list.
pub fn words(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// Appends a line of `parts` to `head`.
pub fn line(head: &mut BytesMut, parts: &[&[u8]]) {
    for part in parts {
        head.extend_from_slice(part);
    }
    head.extend_from_slice(b"\r\n");
}

/// Appends a status line to `head`.
pub fn status_line(head: &mut BytesMut, status: StatusCode, reason: &str) {
    line(head, &[b"HTTP/1.1 ", status.as_str().as_bytes(), b" ", reason.as_bytes()]);
}

/// Appends a header line to `head`.
pub fn header(head: &mut BytesMut, name: &HeaderName, value: &HeaderValue) {
    let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
    head.reserve(name.len() + value.len() + 4);
    head.extend_from_slice(name);
    head.extend_from_slice(b": ");
    head.extend_from_slice(value);
    head.extend_from_slice(b"\r\n");
}

/// The range of `part` in `input`, of which it is a slice.
pub(super) fn range_in(part: &[u8], input: &[u8]) -> Range<usize> {
    if part.is_empty() {
        return 0..0;
    }
    let start = part.as_ptr() as usize - input.as_ptr() as usize;
    start..start + part.len()
}

/// Parses `text`, which may have digits only: `parse` would accept a sign.
pub fn digits(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}
