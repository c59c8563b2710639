//! The lines of a head, as a parser finds them, as the program has them, and as they are written.

use std::ops::Range;

use actix_web::http::header::{CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING};
use actix_web::web::{Bytes, BytesMut};

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
    pub fn of(lines: &Lines, head: &[u8], old: bool) -> Result<Self, &'static str> {
        let mut codings = lines.get_all(TRANSFER_ENCODING, head);
        let mut lengths = lines.get_all(CONTENT_LENGTH, head);
        let (coding, length) = (codings.next(), lengths.next());
        if codings.next().is_some()
            || lengths.next().is_some()
            || (coding.is_some() && length.is_some())
        {
            return Err("the length is said in two ways");
        }
        match coding {
            Some(_) if old => return Err("HTTP/1.0 knows no codings"),
            Some(coding) if !coding.eq_ignore_ascii_case(b"chunked") => {
                return Err("the coding is unknown");
            }
            _ => {}
        }
        let length = length.map(|length| digits(length).ok_or("the length is none")).transpose()?;
        Ok(Self { chunked: coding.is_some(), length })
    }
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
