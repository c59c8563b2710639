//! Imports products: reads some while others are written.

use std::fmt::Display;
use std::time::{Duration, Instant};

use actix_web::web::Bytes;
use chrono::TimeDelta;
use futures_util::future::join;
use futures_util::{Stream, StreamExt as _};
use tokio::task::yield_now;

use super::super::cache::Cache;
use super::super::store::{ImportOutcome, Store};
use super::format::Format;
use super::parser::{HeaderError, Parsed, Parser};
use super::report::{Errors, ImportReport, LineError};
use crate::contract::{Timestamp, now};
use crate::error::{Error, Kind};
use crate::storage::StoreError;

/// How many bytes the lines of products that are written together have at most.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// How many products are written together at first, and how long that takes at most, roughly: other writes wait for it.
const FIRST_BATCH: usize = 500;
const BATCH_TIME: Duration = Duration::from_millis(250);
/// How many bytes are parsed before other requests of this thread have their turn.
const SLICE: usize = 16 * 1024;

/// Why an import ended early. What was written before stays.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file could not be read to its end.
    #[error("the file broke off: {0}")]
    Broken(String),
    /// The columns are not those of products; nothing was written.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The store failed.
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl From<ImportError> for Error {
    fn from(error: ImportError) -> Self {
        match error {
            ImportError::Broken(_) => Self::new(Kind::Malformed, "the body is incomplete"),
            ImportError::Header(error) => Self::new(Kind::Invalid, error.to_string()),
            ImportError::Store(error) => error.into(),
        }
    }
}

/// Imports the file whose bytes are `pieces` into `store`, and invalidates `cache` with each batch.
///
/// # Errors
/// See [`ImportError`].
pub(super) async fn import<E: Display>(
    pieces: impl Stream<Item = Result<Bytes, E>> + Unpin,
    format: Format,
    store: &Store,
    cache: &Cache,
) -> Result<ImportReport, ImportError> {
    let limit = store.import_batch();
    let most = FIRST_BATCH.min(limit);
    let parser = Parser::new(format);
    let mut source = Source { pieces: Some(pieces), piece: Bytes::new(), parser, most };
    let (mut report, mut errors, mut last) = (ImportReport::default(), Errors::default(), now());
    let mut batch = source.batch().await?;
    while let Some(Parsed { mut products, errors: wrong, .. }) = batch {
        errors.extend(wrong);
        for (_, new) in &mut products {
            last = moment(last);
            (new.product.created_at, new.product.updated_at) = (last, last);
        }
        let (lines, products) = products.into_iter().unzip::<_, _, Vec<_>, _>();
        // Boxed, as is the import itself, because their futures are deep.
        let writing = Box::pin(timed(store.import(products, cache.clone())));
        let ((written, took), next) = join(writing, Box::pin(source.batch())).await;
        source.most = match took {
            short if short < BATCH_TIME / 2 => limit.min(source.most * 2),
            long if long > BATCH_TIME => source.most.div_ceil(2),
            _ => source.most,
        };
        for (line, outcome) in lines.into_iter().zip(written?) {
            match outcome {
                ImportOutcome::Created => report.created += 1,
                ImportOutcome::Updated => report.updated += 1,
                ImportOutcome::Refused(why) => {
                    errors.add(LineError { line, detail: format!("stock: {why}") });
                }
            }
        }
        batch = next?;
    }
    Ok(ImportReport { failed: errors.count(), errors: errors.into_list(), ..report })
}

/// What `work` gives, and how long it took.
async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let begun = Instant::now();
    (work.await, begun.elapsed())
}

/// The time of a product: now, and after that of the one before, so that they stay in the order of the file.
fn moment(last: Timestamp) -> Timestamp {
    now().max(last + TimeDelta::microseconds(1))
}

/// A file that arrives in pieces.
struct Source<S> {
    /// `None` behind the end.
    pieces: Option<S>,
    /// What is left of the last piece.
    piece: Bytes,
    parser: Parser,
    /// How many products are written together.
    most: usize,
}

impl<S: Stream<Item = Result<Bytes, E>> + Unpin, E: Display> Source<S> {
    /// The next products and errors; `None` behind the end.
    async fn batch(&mut self) -> Result<Option<Parsed>, ImportError> {
        let mut parsed = Parsed::default();
        while let Some(pieces) = &mut self.pieces {
            if self.piece.is_empty() {
                match pieces.next().await {
                    Some(Ok(piece)) => self.piece = piece,
                    Some(Err(error)) => return Err(ImportError::Broken(error.to_string())),
                    None => {
                        self.pieces = None;
                        self.parser.finish(&mut parsed)?;
                        return Ok(Some(parsed));
                    }
                }
            }
            let slice = self.piece.split_to(SLICE.min(self.piece.len()));
            self.parser.feed(&slice, &mut parsed)?;
            yield_now().await;
            if parsed.products.len() >= self.most || parsed.bytes >= BATCH_BYTES {
                return Ok(Some(parsed));
            }
        }
        Ok(None)
    }
}
