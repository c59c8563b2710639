//! Where the content of a message ends (RFC 9112, section 6.3), and the content from bytes and to bytes.

use std::io;

use actix_web::web::{Bytes, BytesMut};

use super::chunks::{self, ChunkedDecoder, Piece};
use super::lines::line;

/// Where content ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After so many bytes.
    Length(u64),
    /// With the last chunk.
    Chunks,
    /// With the connection.
    Close,
}

impl Framing {
    /// Adds the header that says so to `head`.
    pub(super) fn write(self, head: &mut BytesMut) {
        match self {
            Self::Length(length) => {
                let mut digits = itoa::Buffer::new();
                line(head, &[b"content-length: ", digits.format(length).as_bytes()]);
            }
            Self::Chunks => line(head, &[b"transfer-encoding: chunked"]),
            Self::Close => {}
        }
    }
}

/// Reads content as its framing says.
#[derive(Debug)]
pub enum Decoder {
    /// So many bytes are still to come.
    Length(u64),
    /// Chunks.
    Chunks(ChunkedDecoder),
    /// Everything there is.
    Close,
}

impl Decoder {
    /// Reads content from its beginning.
    pub fn new(framing: Framing) -> Self {
        match framing {
            Framing::Length(length) => Self::Length(length),
            Framing::Chunks => Self::Chunks(ChunkedDecoder::default()),
            Framing::Close => Self::Close,
        }
    }

    /// Takes what there is of the content from `input`.
    ///
    /// # Errors
    /// When it should come in chunks, and does not.
    pub fn take(&mut self, input: &mut BytesMut) -> Result<Piece, chunks::ChunkError> {
        match self {
            Self::Length(0) => Ok(Piece::End),
            Self::Chunks(chunks) => chunks.take(input),
            _ if input.is_empty() => Ok(Piece::Incomplete),
            Self::Length(left) => Ok(Piece::Data(chunks::take_up_to(left, input))),
            Self::Close => Ok(Piece::Data(input.split().freeze())),
        }
    }

    /// Whether all of it was taken.
    pub fn is_over(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunks(chunks) => chunks.is_over(),
            Self::Close => false,
        }
    }
}

/// Writes content as its framing says; holds it to the length that was promised.
#[derive(Debug)]
pub(super) struct Encoder(Framing);

impl Encoder {
    pub(super) fn new(framing: Framing) -> Self {
        Self(framing)
    }

    /// Adds `data` to `output`.
    ///
    /// # Errors
    /// When that is more than was promised.
    pub(super) fn put(&mut self, output: &mut BytesMut, data: &[u8]) -> io::Result<()> {
        match self.0 {
            Framing::Chunks if data.is_empty() => {}
            Framing::Chunks => chunks::put(output, data),
            _ => {
                self.count(data.len())?;
                output.extend_from_slice(data);
            }
        }
        Ok(())
    }

    /// `data` if it can leave as it is, beside an output.
    ///
    /// # Errors
    /// Those of [`put`](Self::put).
    pub(super) fn plain(&mut self, data: &Bytes) -> io::Result<Option<Bytes>> {
        if self.0 == Framing::Chunks {
            return Ok(None);
        }
        self.count(data.len()).map(|()| Some(data.clone()))
    }

    fn count(&mut self, length: usize) -> io::Result<()> {
        if let Framing::Length(left) = &mut self.0 {
            let rest = left.checked_sub(length as u64);
            *left = rest.ok_or_else(|| io::Error::other("the body is longer than it says"))?;
        }
        Ok(())
    }

    /// Adds what ends the content to `output`.
    ///
    /// # Errors
    /// When there was less than was promised.
    pub(super) fn end(&self, output: &mut BytesMut) -> io::Result<()> {
        match self.0 {
            Framing::Length(1..) => Err(io::Error::other("the body is shorter than it says")),
            Framing::Chunks => {
                output.extend_from_slice(chunks::LAST);
                Ok(())
            }
            Framing::Length(0) | Framing::Close => Ok(()),
        }
    }
}
