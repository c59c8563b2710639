//! Cuts CSV (RFC 4180) into rows.

use csv_core::{ReadRecordResult, Reader};

use super::parser::LONGEST;
use super::scan::Scan;

/// The most cells of a row.
const CELLS: usize = 64;

/// What is wrong with a cell that does not end with its closing quote.
pub(super) const TRAILING: &str =
    "has text behind its closing quote; a quote within quotes is written twice";

/// Why a row cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RowError {
    /// It is longer than [`LONGEST`].
    #[error("the row is longer than {LONGEST} bytes; is a quote not closed?")]
    TooLong,
    /// It has more than [`CELLS`].
    #[error("the row has more than {CELLS} cells")]
    TooMany,
    /// The file ends within quotes.
    #[error("a quote is not closed")]
    Unclosed,
    /// The cell with this number, from 0 on, does not end with its closing quote.
    #[error("cell {number} {TRAILING}", number = .0 + 1)]
    Trailing(usize),
}

/// The cells of a row, with its text and the end of each cell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    text: &'a [u8],
    ends: &'a [usize],
}

impl<'a> Row<'a> {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// How long it is, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.text.len()
    }

    pub(super) fn cells(&self) -> impl Iterator<Item = &'a [u8]> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        let text = self.text;
        begins.zip(self.ends).map(move |(begin, end)| &text[begin..*end])
    }
}

/// Rows, as far as they have arrived.
pub(super) struct Table {
    reader: Reader,
    /// The text of the row that is not complete, and how much of it there is.
    text: Vec<u8>,
    length: usize,
    ends: [usize; CELLS],
    cells: usize,
    scan: Scan,
    /// The line that the row begins in; `None` between two rows.
    begun: Option<u64>,
    fault: Option<RowError>,
}

impl Default for Table {
    fn default() -> Self {
        let mut reader = Reader::new();
        // Only a reader that has not begun removes a byte order mark, and only from its first piece.
        reader.read_record(b"\n", &mut [0; 1], &mut [0; 1]);
        Self {
            reader,
            text: vec![0; 4096],
            length: 0,
            ends: [0; CELLS],
            cells: 0,
            scan: Scan::default(),
            begun: None,
            fault: None,
        }
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("scan", &self.scan).finish_non_exhaustive()
    }
}

impl Table {
    /// Takes `bytes`, and gives each row that they complete to `take`, with the number of its first line.
    ///
    /// # Errors
    /// The first one of `take`.
    pub(super) fn feed<E>(
        &mut self,
        mut bytes: &[u8],
        mut take: impl FnMut(u64, Result<Row<'_>, RowError>) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(&next) = bytes.first() {
            if self.begun.is_none() && matches!(next, b'\r' | b'\n') {
                self.scan.feed(&bytes[..1]);
                bytes = &bytes[1..];
                continue;
            }
            let begun = *self.begun.get_or_insert(self.scan.lines() + 1);
            let (text, ends) = (&mut self.text[self.length..], &mut self.ends[self.cells..]);
            let (result, read, written, ended) = self.reader.read_record(bytes, text, ends);
            self.scan.feed(&bytes[..read]);
            bytes = &bytes[read..];
            self.length += written;
            self.cells += ended;
            match result {
                ReadRecordResult::InputEmpty | ReadRecordResult::End => {}
                ReadRecordResult::OutputFull => self.grow(),
                ReadRecordResult::OutputEndsFull => {
                    self.fault.get_or_insert(RowError::TooMany);
                    self.cells = 0;
                }
                ReadRecordResult::Record => {
                    self.begun = None;
                    let row =
                        Row { text: &self.text[..self.length], ends: &self.ends[..self.cells] };
                    (self.length, self.cells) = (0, 0);
                    let trailing = self.scan.end_row().map(RowError::Trailing);
                    let fault = self.fault.take().or(trailing);
                    take(begun, fault.map_or(Ok(row), Err))?;
                }
            }
        }
        Ok(())
    }

    /// Gives the last row to `take`, if its line has no end.
    ///
    /// # Errors
    /// As [`Table::feed`].
    pub(super) fn finish<E>(
        &mut self,
        mut take: impl FnMut(u64, Result<Row<'_>, RowError>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(begun) = self.begun else { return Ok(()) };
        // It does not end a row within quotes.
        self.feed(b"\n", &mut take)?;
        match self.begun {
            Some(_) => take(begun, Err(RowError::Unclosed)),
            None => Ok(()),
        }
    }

    /// Makes room for more text, or skips the rest of a row that is too long.
    fn grow(&mut self) {
        if self.text.len() < LONGEST {
            self.text.resize(LONGEST.min(self.text.len() * 2), 0);
        } else {
            self.fault.get_or_insert(RowError::TooLong);
            self.length = 0;
        }
    }
}
