//! A product as a line of a file.

use std::borrow::Cow;

use chrono::SecondsFormat;
use serde::Serialize;
use serde_json::{Map, Value};

use super::super::model::NewProduct;
use super::super::store::Replacement;
use super::parser::LONGEST;
use super::table::{Row, RowError, TRAILING};
use crate::config::Currency;
use crate::contract::{Product, Timestamp};
use crate::error::Error;
use crate::middleware::{Fields, Json};

/// What an export has and an import ignores: the shop sets it.
pub(super) const READ_ONLY: [&str; 4] = ["id", "inStock", "createdAt", "updatedAt"];
/// Every column of an export, in order.
pub(super) const COLUMNS: [&str; 13] = [
    "id",
    "name",
    "price",
    "description",
    "category",
    "tags",
    "sku",
    "images",
    "attributes",
    "stock",
    "inStock",
    "createdAt",
    "updatedAt",
];
/// The columns whose cells are text as it is; those of the others are JSON.
const TEXT: [&str; 4] = ["name", "description", "category", "sku"];
/// The longest description of what is wrong with a line, in characters.
const DETAIL: usize = 300;

/// Why a line is not a product.
#[derive(Debug, thiserror::Error)]
pub(super) enum LineFault {
    /// It is longer than [`LONGEST`].
    #[error("the line is longer than {LONGEST} bytes")]
    TooLong,
    /// It is not a row.
    #[error(transparent)]
    Row(RowError),
    /// It does not have a cell for each column.
    #[error("the row has {0} cells, the header has {1}")]
    Cells(usize, usize),
    /// The cell of a column cannot be read.
    #[error("{0}: {1}")]
    Cell(&'static str, Cow<'static, str>),
    /// A field is not valid, or the line is no JSON object.
    #[error("{}", detail(.0))]
    Fields(#[from] Error),
}

/// Reads a line of NDJSON, with a price in `currency`.
///
/// # Errors
/// What is wrong with it, and in which field.
pub(super) fn from_json(line: &[u8], currency: Currency) -> Result<Replacement, LineFault> {
    Ok(read(Fields::from_line(line)?, currency)?)
}

/// Reads a row of CSV with these `columns`. An empty cell is an absent field.
///
/// # Errors
/// As [`from_json`].
pub(super) fn from_row(
    columns: &[&'static str],
    row: Result<Row<'_>, RowError>,
    currency: Currency,
) -> Result<Replacement, LineFault> {
    let row = row.map_err(|error| match error {
        RowError::Trailing(cell) if cell < columns.len() => {
            LineFault::Cell(columns[cell], TRAILING.into())
        }
        error => LineFault::Row(error),
    })?;
    if row.len() != columns.len() {
        return Err(LineFault::Cells(row.len(), columns.len()));
    }
    let mut object = Map::new();
    for (&column, cell) in columns.iter().zip(row.cells()) {
        let wrong = |why| LineFault::Cell(column, why);
        let text = std::str::from_utf8(cell).map_err(|_| wrong("must be UTF-8".into()))?;
        if !text.is_empty() {
            let value = value(column, text).map_err(|why| wrong(why.into()))?;
            object.insert(column.to_owned(), value);
        }
    }
    Ok(read(object.into(), currency)?)
}

/// What a cell stands for. What is not JSON where it should be is refused as text where it is not allowed.
///
/// # Errors
/// Why a value of JSON is refused.
fn value(column: &str, text: &str) -> Result<Value, String> {
    let as_text = || Ok(Value::String(text.to_owned()));
    if TEXT.contains(&column) {
        return as_text();
    }
    match serde_json::from_str(text) {
        Ok(Json(value)) => Ok(value),
        Err(error) => Json::refusal(&error).map_or_else(as_text, Err),
    }
}

fn read(mut fields: Fields, currency: Currency) -> Result<Replacement, Error> {
    READ_ONLY.into_iter().for_each(|name| fields.ignore(name));
    let new = NewProduct::read(fields, currency)?;
    Ok(Replacement { sets_stock: new.has_stock(), product: new.into_product() })
}

fn detail(error: &Error) -> String {
    let fields = error.fields().iter().map(|wrong| format!("{}: {}", wrong.field, wrong.detail));
    let mut detail = fields.collect::<Vec<_>>().join("; ");
    if detail.is_empty() {
        detail = error.to_string();
    }
    if let Some((end, _)) = detail.char_indices().nth(DETAIL) {
        detail.truncate(end);
        detail.push('…');
    }
    detail
}

/// A product as it is exported: as clients see it, and its pieces.
#[derive(Serialize)]
struct Exported<'a> {
    #[serde(flatten)]
    product: &'a Product,
    #[serde(skip_serializing_if = "Option::is_none")]
    stock: Option<i64>,
}

/// Appends `product` to `lines` as NDJSON.
///
/// # Errors
/// None that is known: every product is JSON.
pub(super) fn to_json(product: &Product, lines: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    let exported = Exported { product, stock: product.stock.on_hand };
    serde_json::to_writer(&mut *lines, &exported)?;
    lines.push(b'\n');
    Ok(())
}

/// The cells of `product`, by [`COLUMNS`].
///
/// # Errors
/// As [`to_json`].
pub(super) fn to_row(product: &Product) -> Result<[String; 13], serde_json::Error> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let list = |list: &[String]| match list {
        [] => Ok(String::new()),
        list => serde_json::to_string(list),
    };
    let attributes = match &product.attributes {
        attributes if attributes.is_empty() => String::new(),
        attributes => serde_json::to_string(attributes)?,
    };
    Ok([
        product.id.to_hex(),
        product.name.clone(),
        product.price.to_string(),
        text(&product.description),
        text(&product.category),
        list(&product.tags)?,
        text(&product.sku),
        list(&product.images)?,
        attributes,
        product.stock.on_hand.map(|pieces| pieces.to_string()).unwrap_or_default(),
        product.stock.is_in().to_string(),
        text_of(product.created_at),
        text_of(product.updated_at),
    ])
}

fn text_of(time: Timestamp) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}
