//! The cache of one process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use moka::future::Cache as Moka;
use moka::policy::EvictionPolicy;

use super::entry::{Found, Key, Stored};
use crate::config::Product as Options;

/// The number of low bits that count the generations of an era.
const DOUBTS: u32 = 16;

/// The cached responses of one process; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Entries {
    /// The era in the high bits; in the low bits, its number of writes with an unknown outcome.
    generation: Arc<AtomicU64>,
    entries: Moka<Key, (u64, Stored)>,
}

impl Entries {
    pub(super) fn new(options: &Options) -> Self {
        let entries = Moka::builder()
            .max_capacity(options.cache_size)
            // Full, it admits what is asked for more often than what it would displace.
            .eviction_policy(EvictionPolicy::tiny_lfu())
            .weigher(|key: &Key, (_, stored): &(u64, Stored)| {
                u32::try_from(key.weight() + stored.weight()).unwrap_or(u32::MAX)
            })
            .time_to_live(options.cache_ttl.mul_f64(1.1) + options.cache_stale);
        Self { generation: Arc::default(), entries: entries.build() }
    }

    pub(super) async fn fetch(&self, key: &Key) -> Found {
        // Read before the entry, so that a write in between cannot make an old entry look current.
        let generation = self.generation.load(Ordering::Acquire);
        let found = self.entries.get(key).await;
        let found = found.filter(|(filled, _)| filled >> DOUBTS == generation >> DOUBTS);
        // "Does not exist" is not served past its time.
        let found = found.filter(|(_, stored)| stored.entry.is_some() || stored.is_fresh());
        let in_doubt = found.as_ref().is_some_and(|(filled, _)| *filled != generation);
        let stored = found.map(|(_, stored)| stored);
        Found { generation: generation.into(), stored, in_doubt }
    }

    /// Returns whether the entry was admitted.
    pub(super) async fn store(&self, key: &Key, generation: u128, stored: Stored) -> bool {
        // A generation that came from fetch.
        let generation = u64::try_from(generation).unwrap_or_default();
        self.entries.insert(key.clone(), (generation, stored)).await;
        // Evicts at once instead of some writes later.
        self.entries.run_pending_tasks().await;
        self.entries.contains_key(key)
    }

    /// Starts an era, after an acknowledged write.
    pub(super) fn invalidate(&self) {
        let next = |generation: u64| Some((generation >> DOUBTS).wrapping_add(1) << DOUBTS);
        // Never fails, as `next` is never `None`.
        let _ = self.generation.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
    }

    /// Starts a generation of the same era, after a write with an unknown outcome.
    pub(super) fn doubt(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }
}
