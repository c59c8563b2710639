//! Header lines as a parser finds them, and as the program has them.

use std::ops::Range;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::web::Bytes;

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

    /// Adds them to `headers`. Values are cut out of `head`, which is that input, and not copied.
    ///
    /// # Errors
    /// When a value is none.
    pub fn cut(self, head: &Bytes, headers: &mut HeaderMap) -> Result<(), &'static str> {
        for (name, place) in self.0 {
            let value = HeaderValue::from_maybe_shared(head.slice(place));
            headers.append(name, value.map_err(|_| "a value is none")?);
        }
        Ok(())
    }
}

/// Where in `input` its `part` is.
pub fn place(part: &[u8], input: &[u8]) -> Range<usize> {
    if part.is_empty() {
        return 0..0;
    }
    let start = part.as_ptr() as usize - input.as_ptr() as usize;
    start..start + part.len()
}

/// A number of digits alone: `parse` would take a sign too.
pub fn digits(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}
