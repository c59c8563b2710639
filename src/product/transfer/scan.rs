//! What the reader of CSV does not tell: where lines end, and whether cells end with their closing quotes.

/// Where the next byte of a row is (RFC 4180, section 2).
#[derive(Clone, Copy, Debug, Default)]
enum Place {
    /// At the beginning of a cell.
    #[default]
    Start,
    /// In a cell without quotes.
    Bare,
    /// Within quotes.
    Quoted,
    /// Behind a quote within quotes, which ends them or is the first of two.
    Closed,
}

/// The lines, and the quotes of a row, as far as they have arrived.
#[derive(Debug, Default)]
pub(super) struct Scan {
    lines: u64,
    /// Whether the last byte was a CR: an LF behind it ends no further line.
    is_behind_cr: bool,
    place: Place,
    /// How many cells of the row are complete.
    cells: usize,
    /// The first cell of the row that has text behind its closing quote.
    wrong: Option<usize>,
}

impl Scan {
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            let is_cr = byte == b'\r';
            self.lines += u64::from(is_cr || (byte == b'\n' && !self.is_behind_cr));
            self.is_behind_cr = is_cr;
            self.place = match (self.place, byte) {
                (Place::Quoted, b'"') => Place::Closed,
                (Place::Quoted, _) | (Place::Start | Place::Closed, b'"') => Place::Quoted,
                (_, b'\r' | b'\n') => Place::Start,
                (_, b',') => {
                    self.cells += 1;
                    Place::Start
                }
                (Place::Closed, _) => {
                    self.wrong.get_or_insert(self.cells);
                    Place::Bare
                }
                (Place::Start | Place::Bare, _) => Place::Bare,
            };
        }
    }

    /// How many lines are complete: each ends by LF, CRLF or CR.
    pub(super) fn lines(&self) -> u64 {
        self.lines
    }

    /// Ends the row. Gives the number of its first cell, from 0 on, that has text behind its closing quote.
    pub(super) fn end_row(&mut self) -> Option<usize> {
        self.cells = 0;
        self.wrong.take()
    }
}
