//! Exports products page by page, as fast as the client reads.

use actix_web::web::Bytes;
use csv::{Terminator, WriterBuilder};
use futures_util::Stream;
use futures_util::stream::try_unfold;

use super::super::store::Store;
use super::format::Format;
use super::record::{COLUMNS, to_json, to_row};
use crate::contract::Product;
use crate::storage::StoreError;

/// The products of `store` in `format`. An error of the stream says that it is not whole.
///
/// # Errors
/// When the first products cannot be read.
pub(super) async fn export(
    store: Store,
    format: Format,
) -> Result<impl Stream<Item = Result<Bytes, StoreError>> + 'static, StoreError> {
    let first = store.export(None).await?;
    Ok(try_unfold((store, Some(first), None), move |(store, first, last)| async move {
        let is_first = first.is_some();
        let page = match first {
            Some(page) => page,
            None => store.export(last).await.inspect_err(|error| {
                log::error!(role = "product"; "an export broke off: {error}");
            })?,
        };
        if page.is_empty() && !is_first {
            return Ok(None);
        }
        let last = page.last().map(|product| (product.created_at, product.id));
        let bytes = write(&page, format, is_first).map_err(StoreError::corrupt)?;
        Ok(Some((bytes, (store, None, last))))
    }))
}

/// Writes `products`, with the names of the columns if these are the `first`.
pub(super) fn write(
    products: &[Product],
    format: Format,
    first: bool,
) -> Result<Bytes, csv::Error> {
    let mut bytes = Vec::new();
    match format {
        Format::Ndjson => {
            for product in products {
                to_json(product, &mut bytes).map_err(std::io::Error::from)?;
            }
        }
        Format::Csv => {
            let mut rows =
                WriterBuilder::new().terminator(Terminator::CRLF).from_writer(&mut bytes);
            if first {
                rows.write_record(COLUMNS)?;
            }
            for product in products {
                rows.write_record(to_row(product).map_err(std::io::Error::from)?)?;
            }
            rows.flush()?;
        }
    }
    Ok(bytes.into())
}
