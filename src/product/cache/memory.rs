//! The cache of one process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use moka::future::Cache as Moka;

use super::entry::{Key, Stored};
use crate::config::Product as Options;

/// The answers of one process; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Entries {
    generation: Arc<AtomicU64>,
    entries: Moka<Key, (u64, Stored)>,
}

impl Entries {
    pub(super) fn new(options: &Options) -> Self {
        let entries = Moka::builder()
            .max_capacity(options.cache_size)
            .weigher(|_, (_, stored): &(u64, Stored)| {
                u32::try_from(stored.weight()).unwrap_or(u32::MAX)
            })
            .time_to_live(options.cache_ttl.mul_f64(1.1) + options.cache_stale);
        Self { generation: Arc::default(), entries: entries.build() }
    }

    pub(super) async fn fetch(&self, key: &Key) -> (u128, Option<Stored>) {
        // Before the entry: a write in between then only makes this reader look at an older one.
        let generation = self.generation.load(Ordering::Acquire);
        let found = self.entries.get(key).await.filter(|(filled, _)| *filled == generation);
        let stored = found.map(|(_, stored)| stored);
        // That something does not exist is not said past its time.
        let stored = stored.filter(|stored| stored.entry.is_some() || stored.is_fresh());
        (generation.into(), stored)
    }

    pub(super) async fn store(&self, key: Key, generation: u128, stored: Stored) {
        // A generation that came from fetch.
        let generation = u64::try_from(generation).unwrap_or_default();
        self.entries.insert(key, (generation, stored)).await;
        // What is too much leaves now, and not some writes later.
        self.entries.run_pending_tasks().await;
    }

    pub(super) fn invalidate(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }
}
