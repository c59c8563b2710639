//! Import and export on the store itself, for the command line.

use std::fmt::Display;

use actix_web::web::Bytes;
use futures_util::Stream;

use super::super::cache::ProcessCache;
use super::super::store::{Database, Store};
use super::export::export;
use super::import::{ImportError, import};
use super::{Format, ImportReport, Parser};
use crate::config;
use crate::storage::{SetupError, StoreError};

/// Imports the file whose bytes are `pieces`, as `parser` reads it, into the store that `options` name. Invalidates their cache, if that is one
/// that processes share.
///
/// # Errors
/// When the store cannot be opened, or an [`ImportError`]; what was written before stays.
pub async fn import_from<E: Display>(
    options: &config::Product,
    parser: Parser,
    pieces: impl Stream<Item = Result<Bytes, E>> + Unpin,
) -> Result<Result<ImportReport, ImportError>, SetupError> {
    let store = open(options).await?;
    let cache = ProcessCache::new(options).open();
    let imported = Box::pin(import(pieces, parser, &store, &cache)).await;
    cache.settle().await;
    Ok(imported)
}

/// The products of the store that `options` name, in `format`.
///
/// # Errors
/// When the store cannot be opened or read; the stream's are those of the store.
pub async fn export_to(
    options: &config::Product,
    format: Format,
) -> Result<impl Stream<Item = Result<Bytes, StoreError>> + 'static, SetupError> {
    Ok(export(open(options).await?, format).await?)
}

async fn open(options: &config::Product) -> Result<Store, SetupError> {
    let place = Database::find(options).await?;
    place.prepare().await?;
    place.open()
}
