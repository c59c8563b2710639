//! Copying what a store has into another of its kind, batch by batch, and comparing the two.
//!
//! Only what differs is written, so a copy that was cut off goes on where it stopped, and one that is run
//! again changes nothing.

use std::fmt::Debug;

use super::{StoreError, digest};

/// Rows that are read and written together.
pub const BATCH: usize = 500;

/// A store whose rows can be copied. Rows have unique ids, and an order by id of the store's own.
pub trait Rows {
    /// A row; its debugging output names everything in it.
    type Row: Clone + Debug + PartialEq;

    /// How many rows there are.
    fn count(&self) -> impl Future<Output = Result<u64, StoreError>>;

    /// At most [`BATCH`] rows in the order of their ids, from behind `last`.
    fn behind(
        &self,
        last: Option<&Self::Row>,
    ) -> impl Future<Output = Result<Vec<Self::Row>, StoreError>>;

    /// Those rows that are there already under the ids of `rows`.
    fn counterparts(
        &self,
        rows: &[Self::Row],
    ) -> impl Future<Output = Result<Vec<Self::Row>, StoreError>>;

    /// Writes `rows`, each in place of what has its id.
    fn put(&self, rows: Vec<Self::Row>) -> impl Future<Output = Result<(), StoreError>>;
}

/// How many rows a store has, and the sum of their digests, which does not depend on their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The rows.
    pub count: u64,
    /// The sum, modulo 2^128, of the first halves of the rows' SHA-256 digests.
    pub checksum: u128,
}

/// What a copy has done.
#[derive(Clone, Copy, Debug)]
pub struct Copied {
    /// The rows that were written, because they were missing or differed.
    pub written: u64,
    /// What the source has.
    pub from: Summary,
    /// What the target has now.
    pub to: Summary,
}

/// What is reported while it goes on: rows looked at so far, and rows in all.
pub trait Progress: Fn(u64, u64) {}
impl<F: Fn(u64, u64)> Progress for F {}

/// Makes `to` have every row of `from`; what else it has stays.
///
/// # Errors
/// When either store fails; what was written before stays.
pub async fn copy<R: Clone + Debug + PartialEq>(
    from: &impl Rows<Row = R>,
    to: &impl Rows<Row = R>,
    progress: impl Progress,
) -> Result<Copied, StoreError> {
    let all = from.count().await?;
    let (mut written, mut looked_at, mut last) = (0, 0, None);
    loop {
        let batch = from.behind(last.as_ref()).await?;
        let Some(end) = batch.last().cloned() else { break };
        looked_at += batch.len() as u64;
        let there = to.counterparts(&batch).await?;
        let different = batch.into_iter().filter(|row| !there.contains(row)).collect::<Vec<_>>();
        written += different.len() as u64;
        if !different.is_empty() {
            to.put(different).await?;
        }
        last = Some(end);
        progress(looked_at, all);
    }
    Ok(Copied { written, from: summary(from).await?, to: summary(to).await? })
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

        async fn put(&self, rows: Vec<Self::Row>) -> Result<(), StoreError> {
            self.0.borrow_mut().extend(rows);
            Ok(())
        }
    }

    #[actix_rt::test]
    async fn only_what_differs_is_written() {
        let (from, to) = (Table::default(), Table::default());
        from.0.borrow_mut().extend((0..1200).map(|n| (n, n.to_string())));
        let done = copy(&from, &to, |_, _| {}).await.unwrap();
        assert_eq!((done.written, done.to), (1200, done.from));
        let again = copy(&from, &to, |_, _| {}).await.unwrap();
        assert_eq!((again.written, again.to), (0, done.from));
        from.0.borrow_mut().insert(600, "changed".into());
        to.0.borrow_mut().remove(&7);
        assert_eq!(copy(&from, &to, |_, _| {}).await.unwrap().written, 2);
        to.0.borrow_mut().insert(5000, "another".into());
        let done = copy(&from, &to, |_, _| {}).await.unwrap();
        assert_ne!(done.from, done.to, "what else the target has shows");
    }
}
