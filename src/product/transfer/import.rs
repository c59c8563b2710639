//! Imports products: reads some while others are written.

use std::fmt::{self, Display};
use std::time::{Duration, Instant};

use actix_web::web::Bytes;
use chrono::TimeDelta;
use futures_util::future::join;
use futures_util::{Stream, StreamExt as _};
use tokio::task::yield_now;
use tokio::time::sleep;

use super::super::cache::Cache;
use super::super::store::{ImportOutcome, Replacement, Store};
use super::parser::{HeaderError, Parsed, Parser};
use super::report::{Errors, ImportReport, LineError};
use crate::contract::{Timestamp, now};
use crate::error::{Error, Kind};
use crate::storage::StoreError;

/// How many bytes the lines of products that are written together have at most.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// How many products are written together at first, and how long that takes at most, roughly: other writes wait for it.
const FIRST_BATCH: usize = 500;
const BATCH_TIME: Duration = Duration::from_millis(500);
/// How many bytes are parsed before other requests of this thread have their turn.
const SLICE: usize = 16 * 1024;

/// The pauses before further attempts to write products for which the store had no connection.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(2)];

/// Why an import ended early, and how far it came. What was written before stays.
#[derive(Debug)]
pub struct ImportError {
    reason: Reason,
    /// The line up to which all are imported or refused.
    imported: u64,
}

#[derive(Debug, thiserror::Error)]
enum Reason {
    /// The file could not be read to its end.
    #[error("the file broke off: {0}")]
    Broken(String),
    /// The columns are not those of products; nothing was written.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ImportError {
    /// How far it came, to be put behind the reason.
    fn progress(&self) -> String {
        match (&self.reason, self.imported) {
            (Reason::Header(_), _) => String::new(),
            (_, 0) => "; no line is known to be imported".to_owned(),
            (_, line) => format!("; all lines up to {line} are imported"),
        }
    }
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.reason, self.progress())
    }
}

impl std::error::Error for ImportError {}

impl From<ImportError> for Error {
    fn from(error: ImportError) -> Self {
        let progress = error.progress();
        let told = match error.reason {
            Reason::Broken(_) => Self::new(Kind::Malformed, "the body is incomplete"),
            Reason::Header(error) => Self::new(Kind::Invalid, error.to_string()),
            Reason::Store(error) => error.into(),
        };
        told.add_detail(&progress)
    }
}

/// Imports the file whose bytes are `pieces`, as `parser` reads it, into `store`, and invalidates `cache` with each batch that changes something.
///
/// # Errors
/// See [`ImportError`].
pub(super) async fn import<E: Display>(
    pieces: impl Stream<Item = Result<Bytes, E>> + Unpin,
    parser: Parser,
    store: &Store,
    cache: &Cache,
) -> Result<ImportReport, ImportError> {
    let most = FIRST_BATCH.min(store.import_batch());
    let source = Source { pieces: Some(pieces), piece: Bytes::new(), parser, most };
    let (report, errors) = (ImportReport::default(), Errors::default());
    let mut target = Target { store, cache, report, errors, last: now(), imported: 0 };
    match target.take(source).await {
        Ok(()) => Ok(target.into_report()),
        Err(reason) => Err(ImportError { reason, imported: target.imported }),
    }
}

/// The store that is imported into, and what came of it so far.
struct Target<'a> {
    store: &'a Store,
    cache: &'a Cache,
    report: ImportReport,
    errors: Errors,
    /// The time of the last product.
    last: Timestamp,
    /// See [`ImportError::imported`].
    imported: u64,
}

impl Target<'_> {
    async fn take<S, E>(&mut self, mut source: Source<S>) -> Result<(), Reason>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: Display,
    {
        let mut batch = source.batch().await?;
        while let Some(parsed) = batch {
            // Boxed, as is the import itself, because their futures are deep.
            let writing = Box::pin(timed(self.write(parsed)));
            let ((written, took), next) = join(writing, Box::pin(source.batch())).await;
            written?;
            batch = next?;
            source.most = match took {
                short if short < BATCH_TIME / 2 => self.store.import_batch().min(source.most * 2),
                long if long > BATCH_TIME => source.most.div_ceil(2),
                _ => source.most,
            };
        }
        Ok(())
    }

    async fn write(&mut self, parsed: Parsed) -> Result<(), StoreError> {
        let Parsed { mut products, errors, last, .. } = parsed;
        self.errors.extend(errors);
        while !products.is_empty() {
            let rest = products.split_off(self.store.import_batch().min(products.len()));
            self.write_together(products).await?;
            products = rest;
        }
        self.imported = self.imported.max(last);
        Ok(())
    }

    async fn write_together(
        &mut self,
        mut products: Vec<(u64, Replacement)>,
    ) -> Result<(), StoreError> {
        for (_, new) in &mut products {
            self.last = moment(self.last);
            (new.product.created_at, new.product.updated_at) = (self.last, self.last);
        }
        let (lines, products) = products.into_iter().unzip::<_, _, Vec<_>, _>();
        let outcomes = self.insist(products).await?;
        for (line, outcome) in lines.into_iter().zip(outcomes) {
            match outcome {
                ImportOutcome::Created => self.report.created += 1,
                ImportOutcome::Updated => self.report.updated += 1,
                ImportOutcome::Refused(why) => {
                    self.errors.add(LineError { line, detail: format!("stock: {why}") });
                }
            }
            self.imported = line;
        }
        Ok(())
    }

    /// Imports `products`, also if the store has no connection at first.
    async fn insist(&self, products: Vec<Replacement>) -> Result<Vec<ImportOutcome>, StoreError> {
        for pause in PAUSES {
            match self.store.import(products.clone(), self.cache.clone()).await {
                Err(StoreError::Unreachable(_)) => sleep(pause).await,
                outcome => return outcome,
            }
        }
        self.store.import(products, self.cache.clone()).await
    }

    fn into_report(self) -> ImportReport {
        let (failed, errors) = (self.errors.count(), self.errors.into_list());
        ImportReport { failed, errors, ..self.report }
    }
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
    async fn batch(&mut self) -> Result<Option<Parsed>, Reason> {
        let mut parsed = Parsed::default();
        while let Some(pieces) = &mut self.pieces {
            if self.piece.is_empty() {
                match pieces.next().await {
                    Some(Ok(piece)) => self.piece = piece,
                    Some(Err(error)) => return Err(Reason::Broken(error.to_string())),
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
