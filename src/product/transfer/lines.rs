//! Cuts NDJSON into lines.

use super::parser::LONGEST;

/// A line that is longer than [`LONGEST`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// Lines, as far as they have arrived.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The beginning of the line that is not complete.
    begun: Vec<u8>,
    /// How many lines are complete.
    complete: u64,
    /// Whether the rest of the line is skipped.
    is_too_long: bool,
}

impl Lines {
    /// Takes `bytes`, and gives each line that they complete to `take`, with its number from 1 on and without its line break.
    pub(super) fn feed(
        &mut self,
        mut bytes: &[u8],
        mut take: impl FnMut(u64, Result<&[u8], TooLong>),
    ) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            if self.begun.is_empty() && !self.is_too_long && line.len() <= LONGEST {
                self.complete += 1;
                take(self.complete, Ok(line));
            } else {
                self.extend(line);
                self.finish(&mut take);
            }
            bytes = rest;
        }
        self.extend(bytes);
    }

    /// Gives the last line to `take`.
    pub(super) fn finish(&mut self, mut take: impl FnMut(u64, Result<&[u8], TooLong>)) {
        self.complete += 1;
        take(self.complete, if self.is_too_long { Err(TooLong) } else { Ok(&self.begun) });
        self.is_too_long = false;
        self.begun.clear();
    }

    fn extend(&mut self, bytes: &[u8]) {
        if self.is_too_long || self.begun.len() + bytes.len() > LONGEST {
            self.is_too_long = true;
            self.begun = Vec::new();
        } else {
            self.begun.extend_from_slice(bytes);
        }
    }
}
