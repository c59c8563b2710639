//! The framing of content (RFC 9112, section 6.3), with a decoder and an encoder for it.

use std::io;

use actix_web::web::{Bytes, BytesMut};

use super::chunks::{self, ChunkedDecoder, Piece};
use super::lines::line;

/// How the end of content is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After this number of bytes.
    Length(u64),
    /// At the last chunk.
    Chunks,
    /// At the end of the connection.
    Close,
}

impl Framing {
    /// Appends the framing header to `head`.
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

/// Decodes content by its framing.
#[derive(Debug)]
pub enum Decoder {
    /// This number of bytes is still to come.
    Length(u64),
    /// Chunked content.
    Chunks(ChunkedDecoder),
    /// Everything up to the end of the connection.
    Close,
}

impl Decoder {
    /// A decoder at the beginning of content.
    pub fn new(framing: Framing) -> Self {
        match framing {
            Framing::Length(length) => Self::Length(length),
            Framing::Chunks => Self::Chunks(ChunkedDecoder::default()),
            Framing::Close => Self::Close,
        }
    }

    /// Takes the next piece of content from `input`.
    ///
    /// # Errors
    /// When content that should be chunked is not.
    pub fn take(&mut self, input: &mut BytesMut) -> Result<Piece, chunks::ChunkError> {
        match self {
            Self::Length(0) => Ok(Piece::End),
            Self::Chunks(chunks) => chunks.take(input),
            _ if input.is_empty() => Ok(Piece::Incomplete),
            Self::Length(left) => Ok(Piece::Data(chunks::take_up_to(left, input))),
            Self::Close => Ok(Piece::Data(input.split().freeze())),
        }
    }

    /// Whether all content is decoded.
    pub fn is_over(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunks(chunks) => chunks.is_over(),
            Self::Close => false,
        }
    }
}

/// Encodes content by its framing, and checks it against the declared length.
#[derive(Debug)]
pub(super) struct Encoder(Framing);

impl Encoder {
    pub(super) fn new(framing: Framing) -> Self {
        Self(framing)
    }

    /// Appends `data` to `output`.
    ///
    /// # Errors
    /// When the content is longer than declared.
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

    /// `data` if it can be sent unchanged, without a copy to an output.
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
            *left = rest.ok_or_else(|| io::Error::other("body longer than Content-Length"))?;
        }
        Ok(())
    }

    /// Appends the end of the content to `output`.
    ///
    /// # Errors
    /// When the content is shorter than declared.
    pub(super) fn end(&self, output: &mut BytesMut) -> io::Result<()> {
        match self.0 {
            Framing::Length(1..) => Err(io::Error::other("body shorter than Content-Length")),
            Framing::Chunks => {
                output.extend_from_slice(chunks::LAST);
                Ok(())
            }
            Framing::Length(0) | Framing::Close => Ok(()),
        }
    }
}
