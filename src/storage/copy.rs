//! Copies one store into another of its kind, batch by batch, and compares the two.
//!
//! Rows of the target stay as they are, unless they are to be overwritten: they may have changed there since the last
//! copy. Only missing or different rows are written, so a copy that was cut off continues where it stopped, and another
//! run changes nothing.

use std::fmt::Debug;

use super::{SetupError, StoreError, digest};

/// How many rows are read and written together.
pub const BATCH: usize = 500;

/// A store whose rows can be copied. Rows have unique ids, and the store orders them by id.
pub trait Rows {
    /// A row; its Debug output has all its values.
    type Row: Clone + Debug + PartialEq;

    /// How many rows there are.
    fn count(&self) -> impl Future<Output = Result<u64, StoreError>>;

    /// At most [`BATCH`] rows after `last`, by id.
    fn behind(
        &self,
        last: Option<&Self::Row>,
    ) -> impl Future<Output = Result<Vec<Self::Row>, StoreError>>;

    /// The store's rows with the ids of `rows`.
    fn counterparts(
        &self,
        rows: &[Self::Row],
    ) -> impl Future<Output = Result<Vec<Self::Row>, StoreError>>;

    /// Inserts the `rows` whose ids are new.
    fn add(
        &self,
        rows: Vec<Self::Row>,
    ) -> impl Future<Output = Result<Written<Self::Row>, StoreError>>;

    /// Inserts or replaces `rows`, but for those that were removed.
    fn put(
        &self,
        rows: Vec<Self::Row>,
    ) -> impl Future<Output = Result<Written<Self::Row>, StoreError>>;
}

/// What became of rows that were to be written.
#[derive(Clone, Debug)]
pub struct Written<R> {
    /// How many were.
    pub count: u64,
    /// Those that cannot be, because another row of the store has a unique value of theirs, and which.
    pub refused: Vec<(R, String)>,
}

impl<R> Written<R> {
    /// `count` were, and none was refused.
    pub fn all(count: u64) -> Self {
        Self { count, refused: Vec::new() }
    }
}

/// What happens to a row of the target that differs from the source's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It stays.
    Keep,
    /// It is replaced.
    Overwrite,
}

/// The number of a store's rows, and a checksum that does not depend on their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The number of rows.
    pub count: u64,
    /// The sum, modulo 2^128, of the first halves of the rows' SHA-256 digests.
    pub checksum: u128,
}

/// Why a copy failed, and on which side.
#[derive(Debug, thiserror::Error)]
#[error("{side}: {error}")]
pub struct CopyError {
    side: &'static str,
    /// Why.
    pub error: SetupError,
}

/// The `error` of the store that is read.
pub fn of_source(error: impl Into<SetupError>) -> CopyError {
    CopyError { side: "--from", error: error.into() }
}

/// The `error` of the store that is written.
pub fn of_target(error: impl Into<SetupError>) -> CopyError {
    CopyError { side: "--to", error: error.into() }
}

/// The result of a copy.
#[derive(Clone, Debug)]
pub struct Copied {
    /// The number of rows that were inserted or replaced.
    pub written: u64,
    /// The number of rows that differ and were kept.
    pub kept: u64,
    /// The number of rows that were removed from the target, and stay so: ids are not given out again.
    pub removed: u64,
    /// Why rows were refused, for each.
    pub refused: Vec<String>,
    /// The source.
    pub from: Summary,
    /// The target after the copy.
    pub to: Summary,
}

/// Is called with the number of rows processed so far, and the number of all rows.
pub trait Progress: Fn(u64, u64) {}
impl<F: Fn(u64, u64)> Progress for F {}

/// Copies the rows of `from` to `to`; other rows of `to` stay.
///
/// # Errors
/// When either store fails; rows that were written before stay.
pub async fn copy<R: Clone + Debug + PartialEq>(
    from: &impl Rows<Row = R>,
    to: &impl Rows<Row = R>,
    existing: Existing,
    progress: impl Progress,
) -> Result<Copied, CopyError> {
    let all = from.count().await.map_err(of_source)?;
    let (mut written, mut kept, mut removed, mut refused) = (0, 0, 0, Vec::new());
    let (mut looked_at, mut last) = (0, None);
    loop {
        let batch = from.behind(last.as_ref()).await.map_err(of_source)?;
        let Some(end) = batch.last().cloned() else { break };
        let in_batch = batch.len() as u64;
        looked_at += in_batch;
        let there = to.counterparts(&batch).await.map_err(of_target)?;
        let different = batch.into_iter().filter(|row| !there.contains(row)).collect::<Vec<_>>();
        let all_different = different.len() as u64;
        let stay = match existing {
            // The others are the same.
            Existing::Keep => there.len() as u64 - (in_batch - all_different),
            Existing::Overwrite => 0,
        };
        let done = match existing {
            _ if different.is_empty() => Ok(Written::all(0)),
            Existing::Keep => to.add(different).await,
            Existing::Overwrite => to.put(different).await,
        };
        let done = done.map_err(of_target)?;
        written += done.count;
        kept += stay;
        let others = done.count + stay + done.refused.len() as u64;
        removed += all_different.saturating_sub(others);
        refused.extend(done.refused);
        last = Some(end);
        progress(looked_at, all);
    }
    if existing == Existing::Overwrite && !refused.is_empty() {
        // What stood in their way may have been replaced since; and those that stand in each other's go together.
        let rows = refused.into_iter().map(|(row, _)| row).collect();
        let done = to.put(rows).await.map_err(of_target)?;
        written += done.count;
        refused = done.refused;
    }
    let refused = refused.into_iter().map(|(_, why)| why).collect();
    let from = summary(from).await.map_err(of_source)?;
    let to = summary(to).await.map_err(of_target)?;
    Ok(Copied { written, kept, removed, refused, from, to })
}

async fn summary<R: Clone + Debug + PartialEq>(
    store: &impl Rows<Row = R>,
) -> Result<Summary, StoreError> {
    let (mut summary, mut last) = (Summary { count: 0, checksum: 0 }, None);
    loop {
        let batch = store.behind(last.as_ref()).await?;
        let Some(end) = batch.last().cloned() else { return Ok(summary) };
        for row in &batch {
            summary.count += 1;
            summary.checksum = summary.checksum.wrapping_add(digest(format!("{row:?}").as_bytes()));
        }
        last = Some(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    /// Rows of a number and a text, in memory.
    #[derive(Default)]
    struct Table(RefCell<BTreeMap<u32, String>>);

    impl Rows for Table {
        type Row = (u32, String);

        async fn count(&self) -> Result<u64, StoreError> {
            Ok(self.0.borrow().len() as u64)
        }

        async fn behind(&self, last: Option<&Self::Row>) -> Result<Vec<Self::Row>, StoreError> {
            let rows = self.0.borrow();
            let behind = rows.iter().filter(|(id, _)| last.is_none_or(|(last, _)| *id > last));
            Ok(behind.take(BATCH).map(|(id, text)| (*id, text.clone())).collect())
        }

        async fn counterparts(&self, rows: &[Self::Row]) -> Result<Vec<Self::Row>, StoreError> {
            let there = self.0.borrow();
            Ok(rows.iter().filter_map(|(id, _)| Some((*id, there.get(id)?.clone()))).collect())
        }

        async fn add(&self, rows: Vec<Self::Row>) -> Result<Written<Self::Row>, StoreError> {
            let mut there = self.0.borrow_mut();
            let before = there.len();
            for (id, text) in rows {
                there.entry(id).or_insert(text);
            }
            Ok(Written::all((there.len() - before) as u64))
        }

        async fn put(&self, rows: Vec<Self::Row>) -> Result<Written<Self::Row>, StoreError> {
            let count = rows.len() as u64;
            self.0.borrow_mut().extend(rows);
            Ok(Written::all(count))
        }
    }

    #[actix_rt::test]
    async fn only_what_is_missing_is_written_and_what_differs_where_it_is_to_be() {
        let (from, to) = (Table::default(), Table::default());
        from.0.borrow_mut().extend((0..1200).map(|n| (n, n.to_string())));
        let copy = async |existing| copy(&from, &to, existing, |_, _| {}).await.unwrap();
        let done = copy(Existing::Keep).await;
        assert_eq!((done.written, done.to), (1200, done.from));
        let again = copy(Existing::Overwrite).await;
        assert_eq!((again.written, again.to), (0, done.from));
        from.0.borrow_mut().insert(600, "changed".into());
        to.0.borrow_mut().remove(&7);
        let done = copy(Existing::Keep).await;
        assert_eq!((done.written, done.kept), (1, 1));
        assert_eq!(to.0.borrow()[&600], "600");
        assert_ne!(done.from, done.to, "what stays shows");
        let done = copy(Existing::Overwrite).await;
        assert_eq!((done.written, done.kept, done.to), (1, 0, done.from));
        to.0.borrow_mut().insert(5000, "another".into());
        let done = copy(Existing::Keep).await;
        assert_ne!(done.from, done.to, "what else the target has shows");
    }
}
