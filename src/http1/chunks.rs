//! The chunked coding (RFC 9112, section 7.1). Extensions and trailers are validated and dropped.

use std::fmt::Write as _;

use actix_web::web::{Bytes, BytesMut};
use memchr::memchr;

use super::lines::is_token;

/// The limits of a chunk's size line with its extensions, and of all trailers together, in bytes.
const MAX_LINE: usize = 4096;
const MAX_TRAILERS: usize = 16 * 1024;

/// What the decoder expects next.
#[derive(Debug, Default)]
enum Next {
    #[default]
    Size,
    Data(u64),
    /// The line break after the data.
    DataEnd,
    /// A trailer, or the empty line after them; with the bytes of trailers so far.
    Trailers(usize),
    End,
}

/// Decodes chunked content.
#[derive(Debug, Default)]
pub struct ChunkedDecoder(Next);

/// A decoded part of the content.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Content.
    Data(Bytes),
    /// The end of the content.
    End,
    /// The input has to grow first.
    Incomplete,
}

impl ChunkedDecoder {
    /// Takes the next piece of content from `input`.
    ///
    /// # Errors
    /// When the input is not chunked, or a line or the trailers are too long.
    pub fn take(&mut self, input: &mut BytesMut) -> Result<Piece, ChunkError> {
        loop {
            match self.0 {
                Next::Size => {
                    let Some(line) = line(input, MAX_LINE)? else { return Ok(Piece::Incomplete) };
                    self.0 = match size(&line)? {
                        0 => Next::Trailers(0),
                        size => Next::Data(size),
                    };
                }
                Next::Data(_) if input.is_empty() => return Ok(Piece::Incomplete),
                Next::Data(left) => {
                    let mut left = left;
                    let data = take_up_to(&mut left, input);
                    self.0 = if left == 0 { Next::DataEnd } else { Next::Data(left) };
                    return Ok(Piece::Data(data));
                }
                Next::DataEnd => match line(input, 2)? {
                    None => return Ok(Piece::Incomplete),
                    Some(empty) if empty.is_empty() => self.0 = Next::Size,
                    Some(_) => return Err(ChunkError("chunk longer than its size")),
                },
                Next::Trailers(before) => match line(input, MAX_TRAILERS - before)? {
                    None => return Ok(Piece::Incomplete),
                    Some(empty) if empty.is_empty() => self.0 = Next::End,
                    Some(trailer) if !is_field(&trailer) => {
                        return Err(ChunkError("invalid trailer"));
                    }
                    Some(trailer) => self.0 = Next::Trailers(before + trailer.len() + 2),
                },
                Next::End => return Ok(Piece::End),
            }
        }
    }

    /// Whether the last chunk and the trailers are decoded.
    pub fn is_over(&self) -> bool {
        matches!(self.0, Next::End)
    }
}

/// Why input is not chunked content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ChunkError(&'static str);

/// Takes at most `left` bytes from `input`, and subtracts their number from `left`.
pub fn take_up_to(left: &mut u64, input: &mut BytesMut) -> Bytes {
    let most = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
    *left -= most as u64;
    input.split_to(most).freeze()
}

/// Takes a line, at most `limit` bytes with its CRLF, and returns it without; `None` while it is incomplete.
fn line(input: &mut BytesMut, limit: usize) -> Result<Option<BytesMut>, ChunkError> {
    let Some(end) = memchr(b'\n', &input[..limit.min(input.len())]) else {
        let too_long = ChunkError("chunk line too long");
        return if input.len() < limit { Ok(None) } else { Err(too_long) };
    };
    let mut line = input.split_to(end + 1);
    line.truncate(end);
    if line.last() != Some(&b'\r') {
        return Err(ChunkError("bare line feed in a chunk line"));
    }
    line.truncate(end - 1);
    if line.contains(&b'\r') {
        return Err(ChunkError("bare carriage return in a chunk line"));
    }
    Ok(Some(line))
}

/// Parses `1*HEXDIG`, which blanks and extensions may follow.
fn size(line: &[u8]) -> Result<u64, ChunkError> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let blanks = line[digits..].iter().take_while(|byte| b" \t".contains(byte)).count();
    let rest = &line[digits + blanks..];
    let is_extension = rest.starts_with(b";") && is_visible(rest);
    if digits == 0 || digits > 16 || !(rest.is_empty() || is_extension) {
        return Err(ChunkError("invalid chunk size"));
    }
    // Hexadecimal digits are ASCII, and sixteen fit into 64 bits.
    let text = std::str::from_utf8(&line[..digits]).unwrap_or_default();
    u64::from_str_radix(text, 16).map_err(|_| ChunkError("invalid chunk size"))
}

/// Whether `line` is a field line (RFC 9112, section 5): a name, a colon, and a value without control characters.
fn is_field(line: &[u8]) -> bool {
    let colon = line.iter().position(|byte| *byte == b':');
    let Some((name, value)) = colon.map(|at| (&line[..at], &line[at + 1..])) else { return false };
    is_token(name) && is_visible(value)
}

/// Whether `text` has no control characters except tabs.
fn is_visible(text: &[u8]) -> bool {
    text.iter().all(|byte| *byte == b'\t' || !byte.is_ascii_control())
}

/// Appends `data`, which must not be empty, to `output` as a chunk.
pub fn put(output: &mut BytesMut, data: &[u8]) {
    // Writing to memory cannot fail.
    let _ = write!(output, "{:x}\r\n", data.len());
    output.extend_from_slice(data);
    output.extend_from_slice(b"\r\n");
}

/// The last chunk, with no trailers.
pub const LAST: &[u8] = b"0\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `bytes`, which arrive `step` at a time; returns the content and the rest of the input.
    fn decode(bytes: &[u8], step: usize) -> Result<(Vec<u8>, BytesMut), ChunkError> {
        let (mut decoder, mut input, mut all) =
            (ChunkedDecoder::default(), BytesMut::new(), Vec::new());
        let mut steps = bytes.chunks(step);
        loop {
            match decoder.take(&mut input)? {
                Piece::Data(data) => all.extend_from_slice(&data),
                Piece::End => {
                    steps.for_each(|rest| input.extend_from_slice(rest));
                    return Ok((all, input));
                }
                Piece::Incomplete => {
                    input.extend_from_slice(steps.next().ok_or(ChunkError("unexpected end"))?)
                }
            }
        }
    }

    #[test]
    fn chunks_are_decoded_however_they_are_split() {
        let mut bytes = BytesMut::new();
        put(&mut bytes, b"hello ");
        bytes.extend_from_slice(
            b"00a;x=\"y\t\xe9\" \r\nhere it is\r\n0 \t\r\nx: y\r\nlength: 3\r\n\r\nmore",
        );
        for step in [1, 2, 7, 1000] {
            let (content, rest) = decode(&bytes, step).unwrap();
            assert_eq!((content.as_slice(), &rest[..]), (&b"hello here it is"[..], &b"more"[..]));
        }
    }

    #[test]
    fn malformed_chunks_are_an_error() {
        for bad in [
            "+5\r\nhello\r\n0\r\n\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            "\r\nhello\r\n",
            " 5\r\nhello\r\n0\r\n\r\n",
            "5 5\r\nhello\r\n0\r\n\r\n",
            "5\nhello\r\n0\r\n\r\n",
            "5;x\ry\r\nhello\r\n0\r\n\r\n",
            "5\r\nhello\r\n0\r\nx: \r\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhello!\r\n0\r\n\r\n",
            "4\r\nhello\r\n0\r\n\r\n",
            "5\r\nhello\r\n0\r\n\n",
            "10000000000000005\r\nhello",
            "5;\0\r\nhello\r\n0\r\n\r\n",
            "5;x=\"\x1b\"\r\nhello\r\n0\r\n\r\n",
            "5;\x7f\r\nhello\r\n0\r\n\r\n",
            "5\r\nhello\r\n0;\0\r\n\r\n",
            "5\x0c\r\nhello\r\n0\r\n\r\n",
            "5\r\nhello\r\n0\r\nnonsense\r\n\r\n",
            "5\r\nhello\r\n0\r\nx y: z\r\n\r\n",
            "5\r\nhello\r\n0\r\nx : z\r\n\r\n",
            "5\r\nhello\r\n0\r\nx: y\r\n z\r\n\r\n",
            "5\r\nhello\r\n0\r\n: z\r\n\r\n",
            "5\r\nhello\r\n0\r\nx: \0\r\n\r\n",
            "5\r\nhello\r\n",
            "5\r\nhello\r\n0\r\n",
        ] {
            for step in [1, 1000] {
                assert!(decode(bad.as_bytes(), step).is_err(), "{bad:?}");
            }
        }
        let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(MAX_LINE));
        assert!(decode(long.as_bytes(), 1000).is_err());
        let trailers = format!("0\r\n{}\r\n", "x: y\r\n".repeat(MAX_TRAILERS));
        assert!(decode(trailers.as_bytes(), 1000).is_err());
    }
}
