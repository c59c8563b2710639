//! Which responses are worth a place on a server.
//!
//! Searches and filters have endless variety, and most are asked for once. The server gets those that this process was asked
//! for twice within a minute, and everything else at once. In memory, moka's TinyLFU decides.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::entry::Key;

/// How many seconds may lie between two requests.
const WINDOW: u64 = 60;
/// How many keys are remembered at most, in 8 bytes each. Two keys of one slot displace each other: then a response is cached
/// later.
const SLOTS: usize = 1 << 16;
/// The bits of a mark: whether the key was asked for again, when it was asked for last, and in the rest, bits of its hash.
const AGAIN: u64 = 1;
const TIME_BITS: u32 = 32;

/// What the threads of a process were asked for lately.
#[derive(Debug)]
pub(super) struct Admission {
    slots: Box<[AtomicU64]>,
    hasher: RandomState,
    start: Instant,
}

impl Admission {
    pub(super) fn new() -> Self {
        let slots = (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
        Self { slots, hasher: RandomState::new(), start: Instant::now() }
    }

    /// Takes note that `key` is asked for.
    pub(super) fn note(&self, key: &Key) {
        if key.kind().is_endless() {
            self.note_at(key, self.start.elapsed().as_secs());
        }
    }

    /// Admits `key`, however rarely it is asked for.
    pub(super) fn admit(&self, key: &Key) {
        self.note(key);
        self.note(key);
    }

    /// Whether the response for `key`, which was noted, gets a place.
    pub(super) fn admits(&self, key: &Key) -> bool {
        let (slot, tag) = self.place(key);
        let mark = slot.load(Ordering::Relaxed);
        !key.kind().is_endless() || (is_of(mark, tag) && mark & AGAIN != 0)
    }

    fn note_at(&self, key: &Key, seconds: u64) {
        let (slot, tag) = self.place(key);
        // The first second is later than any window after 0, the mark of an empty slot.
        let now = seconds + WINDOW + 1;
        let mark = |last: u64| {
            let time = (last & !tag_bits()) >> 1;
            let again = is_of(last, tag) && now.saturating_sub(time) <= WINDOW;
            Some(tag | ((now << 1) & !tag_bits()) | u64::from(again))
        };
        // Never fails, as `mark` is never `None`.
        let _ = slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, mark);
    }

    fn place(&self, key: &Key) -> (&AtomicU64, u64) {
        let hash = self.hasher.hash_one(key);
        (&self.slots[hash as usize % SLOTS], hash & tag_bits())
    }
}

const fn tag_bits() -> u64 {
    u64::MAX << (TIME_BITS + 1)
}

fn is_of(mark: u64, tag: u64) -> bool {
    mark & tag_bits() == tag
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::super::super::page::PageRequest;
    use super::*;
    use crate::middleware::Query;

    fn page(query: &str) -> Key {
        let request = TestRequest::with_uri(&format!("/products?{query}")).to_http_request();
        Key::Page(PageRequest::read(Query::parse(&request)).unwrap())
    }

    #[test]
    fn a_search_is_admitted_when_it_is_asked_for_twice_within_a_minute() {
        for query in ["q=lamp", "category=Audio", "tag=new&limit=7", "inStock=true", "minPrice=1"] {
            let (admission, key) = (Admission::new(), page(query));
            assert!(!admission.admits(&key), "{query}");
            for (seconds, is_admitted) in
                [(0, false), (61, false), (121, true), (150, true), (211, false), (271, true)]
            {
                admission.note_at(&key, seconds);
                assert_eq!(admission.admits(&key), is_admitted, "{query} after {seconds} s");
            }
            assert!(!admission.admits(&page("q=other")));
        }
    }

    #[test]
    fn what_is_there_already_is_admitted() {
        let admission = Admission::new();
        admission.admit(&page("q=lamp"));
        assert!(admission.admits(&page("q=lamp")));
    }

    #[test]
    fn lists_are_admitted_at_once() {
        for query in ["", "limit=7", "sort=-price"] {
            assert!(Admission::new().admits(&page(query)), "{query}");
        }
        assert!(Admission::new().admits(&Key::Categories));
    }
}
