//! Reads products from a file that arrives in pieces.

use super::super::store::Replacement;
use super::format::Format;
use super::lines::Lines;
use super::record::{COLUMNS, LineFault, from_json, from_row};
use super::report::{Errors, LineError};
use super::table::{Row, RowError, Table};
use crate::config::Currency;

/// The longest line, in bytes.
pub(super) const LONGEST: usize = 256 * 1024;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Why a table cannot be imported at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// There is nothing.
    #[error("the file is empty; its first line names the columns")]
    Empty,
    /// The first line cannot be read.
    #[error("the first line does not name the columns: {0}")]
    Unreadable(String),
    /// The columns are separated by semicolons or tabs.
    #[error("separate columns by commas, not by {0}")]
    Separator(&'static str),
    /// A column that products do not have.
    #[error("the column {0:?} is unknown")]
    Unknown(String),
    /// A column that is there twice.
    #[error("the column {0:?} is there twice")]
    Twice(&'static str),
    /// A column that must be there.
    #[error("the column {0:?} is missing")]
    Missing(&'static str),
}

/// What was read: products by their lines, and what is wrong with other lines.
#[derive(Debug, Default)]
pub struct Parsed {
    pub(super) products: Vec<(u64, Replacement)>,
    /// How many bytes the lines of `products` have.
    pub(super) bytes: usize,
    pub(super) errors: Errors,
    /// The last line of either.
    pub(super) last: u64,
}

impl Parsed {
    fn add(&mut self, line: u64, bytes: usize, read: Result<Replacement, LineFault>) {
        self.last = line;
        match read {
            Ok(product) => {
                self.products.push((line, product));
                self.bytes += bytes;
            }
            Err(fault) => self.errors.add(LineError { line, detail: fault.to_string() }),
        }
    }

    /// The lines of products, and the errors of others.
    pub fn lines(&self) -> (Vec<u64>, Vec<LineError>) {
        (self.products.iter().map(|(line, _)| *line).collect(), self.errors.clone().into_list())
    }
}

/// Reads products line by line, whichever pieces they arrive in.
#[derive(Debug)]
pub struct Parser {
    /// The first bytes, until it is clear whether they are a byte order mark.
    first: Option<Vec<u8>>,
    content: Content,
    /// The currency of prices.
    currency: Currency,
}

#[derive(Debug)]
enum Content {
    Ndjson(Lines),
    /// With the names of the columns, once they are known.
    Csv(Box<Table>, Option<Vec<&'static str>>),
}

impl Parser {
    /// A parser of `format`, with prices in `currency`.
    pub fn new(format: Format, currency: Currency) -> Self {
        let content = match format {
            Format::Ndjson => Content::Ndjson(Lines::default()),
            Format::Csv => Content::Csv(Box::default(), None),
        };
        Self { first: Some(Vec::new()), content, currency }
    }

    /// Takes `bytes`, and adds to `parsed` what is complete.
    ///
    /// # Errors
    /// [`HeaderError`], before anything was added.
    pub fn feed(&mut self, bytes: &[u8], parsed: &mut Parsed) -> Result<(), HeaderError> {
        let Some(first) = &mut self.first else {
            return self.content.feed(bytes, parsed, self.currency);
        };
        first.extend_from_slice(bytes);
        if first.len() < BYTE_ORDER_MARK.len() && BYTE_ORDER_MARK.starts_with(first) {
            return Ok(());
        }
        self.begin(parsed)
    }

    /// Adds what has no line break behind it.
    ///
    /// # Errors
    /// As [`Parser::feed`].
    pub fn finish(&mut self, parsed: &mut Parsed) -> Result<(), HeaderError> {
        self.begin(parsed)?;
        match &mut self.content {
            Content::Ndjson(lines) => {
                lines.finish(|line, text| parsed.add_json(self.currency, line, text));
            }
            Content::Csv(table, columns) => {
                table.finish(|line, row| parsed.add_row(self.currency, columns, line, row))?;
                columns.as_ref().map(drop).ok_or(HeaderError::Empty)?;
            }
        }
        Ok(())
    }

    /// Reads the first bytes, without a byte order mark.
    fn begin(&mut self, parsed: &mut Parsed) -> Result<(), HeaderError> {
        let first = self.first.take().unwrap_or_default();
        let first = first.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&first);
        self.content.feed(first, parsed, self.currency)
    }
}

impl Content {
    fn feed(
        &mut self,
        bytes: &[u8],
        parsed: &mut Parsed,
        currency: Currency,
    ) -> Result<(), HeaderError> {
        match self {
            Self::Ndjson(lines) => {
                lines.feed(bytes, |line, text| parsed.add_json(currency, line, text));
            }
            Self::Csv(table, columns) => {
                table.feed(bytes, |line, row| parsed.add_row(currency, columns, line, row))?;
            }
        }
        Ok(())
    }
}

impl Parsed {
    fn add_json(
        &mut self,
        currency: Currency,
        line: u64,
        text: Result<&[u8], super::lines::TooLong>,
    ) {
        match text {
            Ok(text) if text.trim_ascii().is_empty() => {}
            Ok(text) => self.add(line, text.len(), from_json(text, currency)),
            Err(_) => self.add(line, 0, Err(LineFault::TooLong)),
        }
    }

    fn add_row(
        &mut self,
        currency: Currency,
        columns: &mut Option<Vec<&'static str>>,
        line: u64,
        row: Result<Row<'_>, RowError>,
    ) -> Result<(), HeaderError> {
        let Some(columns) = columns else {
            *columns = Some(header(row)?);
            return Ok(());
        };
        let bytes = row.as_ref().map_or(0, Row::bytes);
        self.add(line, bytes, from_row(columns, row, currency));
        Ok(())
    }
}

/// The names of the columns.
fn header(row: Result<Row<'_>, RowError>) -> Result<Vec<&'static str>, HeaderError> {
    let row = row.map_err(|error| HeaderError::Unreadable(error.to_string()))?;
    let mut columns = Vec::new();
    for cell in row.cells() {
        let name = String::from_utf8_lossy(cell).trim().to_owned();
        let separator = [(';', "semicolons"), ('\t', "tabs")];
        if let Some((_, separator)) = separator.into_iter().find(|(sign, _)| name.contains(*sign)) {
            return Err(HeaderError::Separator(separator));
        }
        let known = COLUMNS.into_iter().find(|column| *column == name);
        let column = known.ok_or_else(|| HeaderError::Unknown(name.chars().take(64).collect()))?;
        if columns.contains(&column) {
            return Err(HeaderError::Twice(column));
        }
        columns.push(column);
    }
    match ["name", "price"].into_iter().find(|column| !columns.contains(column)) {
        Some(missing) => Err(HeaderError::Missing(missing)),
        None => Ok(columns),
    }
}
