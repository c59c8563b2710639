//! The lines of a head, as a parser finds them, as the program has them, and as they are written.

use std::ops::Range;

use actix_web::http::header::{CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING};
use actix_web::web::{Bytes, BytesMut};
use memchr::memchr;

/// The lines of a head that is still in the bytes it came in.
pub struct Lines(Vec<(HeaderName, Range<usize>)>);

impl Lines {
    /// The lines that httparse has found in `input`.
    ///
    /// # Errors
    /// When a name is none.
    pub fn of(headers: &[httparse::Header<'_>], input: &[u8]) -> Result<Self, &'static str> {
        let lines = headers.iter().map(|header| {
            let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| "a name is none");
            Ok((name?, place(header.value, input)))
        });
        lines.collect::<Result<_, _>>().map(Self)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The values of `name` in `head`, which is that input.
    pub fn get_all<'a>(
        &'a self,
        name: HeaderName,
        head: &'a [u8],
    ) -> impl Iterator<Item = &'a [u8]> {
        let lines = self.0.iter().filter(move |(said, _)| *said == name);
        lines.map(|(_, place)| &head[place.clone()])
    }

    /// Those that are `wanted`, or that a value is none. Values are cut out of `head`, which is that input, and not
    /// copied.
    pub fn cut(
        self,
        head: &Bytes,
        wanted: impl Fn(&HeaderName) -> bool,
    ) -> impl Iterator<Item = Result<(HeaderName, HeaderValue), &'static str>> {
        let wanted = self.0.into_iter().filter(move |(name, _)| wanted(name));
        wanted.map(|(name, place)| {
            let value = HeaderValue::from_maybe_shared(head.slice(place));
            Ok((name, value.map_err(|_| "a value is none")?))
        })
    }
}

/// What a head says of where its content ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    /// Whether it comes in chunks.
    pub chunked: bool,
    /// Content-Length.
    pub length: Option<u64>,
}

impl Framing {
    /// That of `lines` in `head`, of a message of HTTP/1.0 if that is `old`.
    ///
    /// # Errors
    /// Where RFC 9112, section 6.3, lets it be an error: what two could read in two ways.
    pub fn of(lines: &Lines, head: &[u8], old: bool) -> Result<Self, FramingError> {
        let mut codings = lines.get_all(TRANSFER_ENCODING, head);
        let mut lengths = lines.get_all(CONTENT_LENGTH, head);
        let (coding, length) = (codings.next(), lengths.next());
        if codings.next().is_some()
            || lengths.next().is_some()
            || (coding.is_some() && length.is_some())
        {
            return Err(FramingError::Malformed("the length is said in two ways"));
        }
        match coding {
            Some(_) if old => return Err(FramingError::Malformed("HTTP/1.0 knows no codings")),
            Some(coding) => check_codings(coding)?,
            None => {}
        }
        let number = |length| digits(length).ok_or(FramingError::Malformed("the length is none"));
        let length = length.map(number).transpose()?;
        Ok(Self { chunked: coding.is_some(), length })
    }
}

/// Why nobody can tell where content ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// What is said of it could be read in two ways, or in none.
    #[error("{0}")]
    Malformed(&'static str),
    /// It is in a transfer coding that is not understood here (RFC 9112, section 6.1).
    #[error("the transfer coding is unknown")]
    UnknownCoding,
}

/// Whether `value` of Transfer-Encoding is what alone is understood here.
fn check_codings(value: &[u8]) -> Result<(), FramingError> {
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    if is_chunked(value) {
        return Ok(());
    }
    let codings = words(value).collect::<Vec<_>>();
    if !codings.iter().all(|coding| is_token(coding)) {
        return Err(FramingError::Malformed("a transfer coding is none"));
    }
    // Chunks end the content, so they are the last, once (section 7.1).
    let (_, before) = codings.split_last().unwrap_or((&value, &[]));
    if before.iter().any(|coding| is_chunked(coding)) {
        return Err(FramingError::Malformed("chunks within another transfer coding"));
    }
    Err(FramingError::UnknownCoding)
}

/// Whether `text` is a token (RFC 9110, section 5.6.2).
pub fn is_token(text: &[u8]) -> bool {
    let of_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(of_token)
}

/// Reads the version of the message that begins in `input` as HTTP/1.1 where its minor number is higher (RFC 9110,
/// section 2.5); whether that was so. A parser calls it for what is not of a version that it knows.
pub fn lower_version(input: &mut [u8]) -> bool {
    const NAME: &[u8] = b"HTTP/1.";
    let from = input.iter().take_while(|byte| b"\r\n".contains(byte)).count();
    let line = &input[from..];
    let line = line[..memchr(b'\n', line).unwrap_or(line.len())].trim_ascii_end();
    let minor = match line.strip_prefix(NAME) {
        // An answer says its version first, and a request last.
        Some([_, b' ', ..]) => from + NAME.len(),
        Some(_) => return false,
        None => {
            let Some(before) = line.len().checked_sub(NAME.len() + 2) else { return false };
            if line[before] != b' ' || !line[before + 1..].starts_with(NAME) {
                return false;
            }
            from + line.len() - 1
        }
    };
    let is_higher = matches!(input[minor], b'2'..=b'9');
    if is_higher {
        input[minor] = b'1';
    }
    is_higher
}

/// Whether the list `values` has the `word`, in whatever letters.
pub fn says<'a>(values: impl Iterator<Item = &'a [u8]>, word: &str) -> bool {
    values.flat_map(words).any(|said| said.eq_ignore_ascii_case(word.as_bytes()))
}

/// The words of a list.
pub fn words(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// Adds a line that is these `parts` to `head`.
pub fn line(head: &mut BytesMut, parts: &[&[u8]]) {
    for part in parts {
        head.extend_from_slice(part);
    }
    head.extend_from_slice(b"\r\n");
}

/// Adds the line of a header to `head`.
pub fn header(head: &mut BytesMut, name: &HeaderName, value: &HeaderValue) {
    let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
    head.reserve(name.len() + value.len() + 4);
    head.extend_from_slice(name);
    head.extend_from_slice(b": ");
    head.extend_from_slice(value);
    head.extend_from_slice(b"\r\n");
}

/// Where in `input` its `part` is.
pub fn place(part: &[u8], input: &[u8]) -> Range<usize> {
    if part.is_empty() {
        return 0..0;
    }
    let start = part.as_ptr() as usize - input.as_ptr() as usize;
    start..start + part.len()
}

/// The number that `text` is, of digits alone: `parse` would take a sign too.
pub fn digits(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}
