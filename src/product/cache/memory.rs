//! The cache of one process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use moka::future::Cache as Moka;

use super::entry::{Found, Key, Stored};
use crate::config::Product as Options;

/// The bits of a generation below its era.
const DOUBTS: u32 = 16;

/// The answers of one process; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Entries {
    /// The era above, and the writes of it whose outcome nobody knows in the lower bits.
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

    pub(super) async fn fetch(&self, key: &Key) -> Found {
        // Before the entry: a write in between then only makes this reader look at an older one.
        let generation = self.generation.load(Ordering::Acquire);
        let found = self.entries.get(key).await;
        let found = found.filter(|(filled, _)| filled >> DOUBTS == generation >> DOUBTS);
        // That something does not exist is not said past its time.
        let found = found.filter(|(_, stored)| stored.entry.is_some() || stored.is_fresh());
        let in_doubt = found.as_ref().is_some_and(|(filled, _)| *filled != generation);
        let stored = found.map(|(_, stored)| stored);
        Found { generation: generation.into(), stored, in_doubt }
    }

    pub(super) async fn store(&self, key: Key, generation: u128, stored: Stored) {
        // A generation that came from fetch.
        let generation = u64::try_from(generation).unwrap_or_default();
        self.entries.insert(key, (generation, stored)).await;
        // What is too much leaves now, and not some writes later.
        self.entries.run_pending_tasks().await;
    }

    /// Begins an era, after a write that was acknowledged.
    pub(super) fn invalidate(&self) {
        let next = |generation: u64| Some((generation >> DOUBTS).wrapping_add(1) << DOUBTS);
        // It gives a next one for each.
        let _ = self.generation.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
    }

    /// Begins a generation of the same era, after a write whose outcome nobody knows.
    pub(super) fn doubt(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }
}
