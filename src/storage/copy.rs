//! Copying what a store has into another of its kind, batch by batch, and comparing the two.
//!
//! What the target has stays as it is, unless it is to be overwritten: since the last copy somebody may have changed it
//! there. Only what is missing or differs is written, so a copy that was cut off goes on where it stopped, and one that
//! is run again changes nothing.

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

    /// Writes those of `rows` under whose ids there is nothing; gives how many.
    fn add(&self, rows: Vec<Self::Row>) -> impl Future<Output = Result<u64, StoreError>>;

    /// Writes `rows`, each in place of what has its id.
    fn put(&self, rows: Vec<Self::Row>) -> impl Future<Output = Result<(), StoreError>>;
}

/// What becomes of a row of the target that differs from the source's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It stays.
    Keep,
    /// It becomes the source's.
    Overwrite,
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
    /// The rows that were written, because they were missing, or differed and were to be overwritten.
    pub written: u64,
    /// The rows that differ, and stay as they were.
    pub kept: u64,
    /// What the source has.
    pub from: Summary,
    /// What the target has now.
    pub to: Summary,
}

/// What is reported while it goes on: rows looked at so far, and rows in all.
pub trait Progress: Fn(u64, u64) {}
impl<F: Fn(u64, u64)> Progress for F {}

/// Makes `to` have a row for every one of `from`; what else it has stays.
///
/// # Errors
/// When either store fails; what was written before stays.
pub async fn copy<R: Clone + Debug + PartialEq>(
    from: &impl Rows<Row = R>,
    to: &impl Rows<Row = R>,
    existing: Existing,
    progress: impl Progress,
) -> Result<Copied, StoreError> {
    let all = from.count().await?;
    let (mut written, mut kept, mut looked_at, mut last) = (0, 0, 0, None);
    loop {
        let batch = from.behind(last.as_ref()).await?;
        let Some(end) = batch.last().cloned() else { break };
        looked_at += batch.len() as u64;
        let there = to.counterparts(&batch).await?;
        let different = batch.into_iter().filter(|row| !there.contains(row)).collect::<Vec<_>>();
        let all_different = different.len() as u64;
        let added = match existing {
            _ if different.is_empty() => 0,
            Existing::Keep => to.add(different).await?,
            Existing::Overwrite => to.put(different).await.map(|()| all_different)?,
        };
        written += added;
        kept += all_different - added;
        last = Some(end);
        progress(looked_at, all);
    }
    Ok(Copied { written, kept, from: summary(from).await?, to: summary(to).await? })
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

        async fn add(&self, rows: Vec<Self::Row>) -> Result<u64, StoreError> {
            let mut there = self.0.borrow_mut();
            let before = there.len();
            for (id, text) in rows {
                there.entry(id).or_insert(text);
            }
            Ok((there.len() - before) as u64)
        }

        async fn put(&self, rows: Vec<Self::Row>) -> Result<(), StoreError> {
            self.0.borrow_mut().extend(rows);
            Ok(())
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
