//! What the cache does, by kind of read, for `/metrics`.

use prometheus::core::Collector;
use prometheus::{IntCounter, IntCounterVec, Opts};

use super::Origin;
use super::entry::ReadKind;

/// The counters of a process; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Counters {
    reads: IntCounterVec,
    fills: IntCounterVec,
    /// Those of `reads` and `fills`, so that no request looks for its own.
    kinds: [KindCounters; ReadKind::ALL.len()],
}

#[derive(Clone, Debug)]
struct KindCounters {
    hits: IntCounter,
    stale: IntCounter,
    misses: IntCounter,
    admitted: IntCounter,
    refused: IntCounter,
}

impl Counters {
    /// All at zero.
    pub(super) fn new() -> Self {
        let about = "Reads of the catalogue, by what the cache had: hit, stale or miss.";
        let reads = vector("product_cache_reads_total", about, &["kind", "result"]);
        let about = "Answers of the store to reads, and whether the cache has admitted them.";
        let fills = vector("product_cache_fills_total", about, &["kind", "admitted"]);
        let kinds = ReadKind::ALL.map(|kind| {
            let read = |origin: Origin| {
                reads.with_label_values(&[kind.name(), &origin.label().to_ascii_lowercase()])
            };
            let fill = |admitted| fills.with_label_values(&[kind.name(), admitted]);
            KindCounters {
                hits: read(Origin::Hit),
                stale: read(Origin::Stale),
                misses: read(Origin::Miss),
                admitted: fill("true"),
                refused: fill("false"),
            }
        });
        Self { reads, fills, kinds }
    }

    /// Counts a read.
    pub(super) fn read(&self, kind: ReadKind, origin: Origin) {
        let counters = &self.kinds[kind as usize];
        match origin {
            Origin::Hit => counters.hits.inc(),
            Origin::Stale => counters.stale.inc(),
            Origin::Miss => counters.misses.inc(),
        }
    }

    /// Counts an answer of the store.
    pub(super) fn fill(&self, kind: ReadKind, admitted: bool) {
        let counters = &self.kinds[kind as usize];
        if admitted { counters.admitted.inc() } else { counters.refused.inc() }
    }

    /// For the registry.
    pub(super) fn collectors(&self) -> Vec<Box<dyn Collector>> {
        vec![Box::new(self.reads.clone()), Box::new(self.fills.clone())]
    }
}

fn vector(name: &str, about: &str, labels: &[&str]) -> IntCounterVec {
    // The names are constants: invalid ones would fail every start.
    IntCounterVec::new(Opts::new(name, about), labels)
        .unwrap_or_else(|error| unreachable!("{error}"))
}
