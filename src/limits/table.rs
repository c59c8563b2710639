//! The counts of this process: a table of fixed size, shared by all threads.
//!
//! A bucket has seven slots and, with its lock, fills two cache lines. A request costs the same however many keys there
//! are, and allocates nothing. Nothing needs to be swept, because an arrival time in the past is as good as none. A full
//! bucket drops the earliest arrival time, whose client is the furthest from its limit. Addresses, users and routes have
//! separate regions: a client with many addresses can displace other addresses, but no users or routes.

use std::array;
use std::hash::{BuildHasher as _, RandomState};
use std::ptr;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::config::Limits;

/// The slots per bucket.
const WAYS: usize = 7;
/// The expected keys per bucket: a little more than half of the slots, so that few buckets overflow.
const LOAD: usize = 4;
/// The buckets for routes, of which a process has few.
const ROUTES: usize = 256;
/// The buckets that are allocated together.
const PAGE: usize = 32;

/// A part of the table; keys displace only keys of the same region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Region {
    #[default]
    Addresses,
    Users,
    Routes,
}

/// The key of a slot.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Key {
    region: Region,
    hash: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    hash: u64,
    tat: u64,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Bucket(Mutex<[Slot; WAYS]>);

/// The table; see the module.
#[derive(Debug)]
pub(super) struct Table {
    /// Random per process, so that clients cannot choose their bucket.
    seed: RandomState,
    /// By [`Region`]; each is allocated when it is first used.
    regions: [OnceLock<Box<[Page]>>; 3],
    sizes: [usize; 3],
}

/// Buckets that are allocated when the first of them is used, so that few clients take little memory.
type Page = OnceLock<Box<[Bucket]>>;

impl Table {
    /// A table for `keys` addresses and as many users. Allocates nothing yet; finally 32 bytes per key, and 32 KiB for
    /// routes.
    pub(super) fn new(keys: usize) -> Self {
        let buckets = keys.div_ceil(LOAD).max(1);
        Self {
            seed: RandomState::new(),
            regions: Default::default(),
            sizes: [buckets, buckets, ROUTES],
        }
    }

    /// The key of `number` in `region` under the policy `policy`.
    pub(super) fn key(&self, region: Region, policy: u64, number: u128) -> Key {
        Key { region, hash: self.seed.hash_one((policy, number)) }
    }

    /// Calls `then` with the arrival times of `keys`, 0 for unknown ones, while their buckets are locked. Stores the changed
    /// times if it returns true.
    ///
    /// Ignores keys beyond [`Limits::MOST`].
    pub(super) fn visit<T>(&self, keys: &[Key], then: impl FnOnce(&mut [u64]) -> (bool, T)) -> T {
        let keys = &keys[..keys.len().min(Limits::MOST)];
        let mut locked = Locked::lock(keys, |key| self.bucket(key));
        let mut tats = [0; Limits::MOST];
        for (index, (key, tat)) in keys.iter().zip(&mut tats).enumerate() {
            *tat = locked.slots(index).map_or(0, |slots| find(slots, key.hash));
        }
        let (keep, outcome) = then(&mut tats[..keys.len()]);
        if keep {
            for (index, (key, tat)) in keys.iter().zip(tats).enumerate() {
                if let Some(slots) = locked.slots(index) {
                    put(slots, Slot { hash: key.hash, tat });
                }
            }
        }
        outcome
    }

    /// The bytes that the table takes now.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let regions = self.regions.iter().filter_map(OnceLock::get);
        let pages = regions.flatten().filter_map(OnceLock::get);
        pages.map(|buckets| size_of_val(&**buckets)).sum()
    }

    fn bucket(&self, key: &Key) -> &Bucket {
        let region = key.region as usize;
        let size = self.sizes[region];
        let pages = self.regions[region]
            .get_or_init(|| (0..size.div_ceil(PAGE)).map(|_| OnceLock::new()).collect());
        // The hash as a fraction of 2^64, times the number of buckets.
        let index = ((u128::from(key.hash) * size as u128) >> 64) as usize;
        let page =
            pages[index / PAGE].get_or_init(|| (0..PAGE).map(|_| Bucket::default()).collect());
        &page[index % PAGE]
    }
}

/// The buckets of a request's keys, each locked once.
struct Locked<'a> {
    guards: [Option<MutexGuard<'a, [Slot; WAYS]>>; Limits::MOST],
    /// The index of each key's guard.
    held: [usize; Limits::MOST],
}

impl<'a> Locked<'a> {
    /// Locks in the order of memory addresses, which prevents deadlocks.
    fn lock(keys: &[Key], bucket: impl Fn(&Key) -> &'a Bucket) -> Self {
        let mut locked = Self { guards: Default::default(), held: [0; Limits::MOST] };
        let mut order = array::from_fn::<_, { Limits::MOST }, _>(|index| index);
        let order = &mut order[..keys.len()];
        if order.len() > 1 {
            order.sort_unstable_by_key(|index| ptr::from_ref(bucket(&keys[*index])).addr());
        }
        let mut last = None::<(&Bucket, usize)>;
        for index in order.iter().copied() {
            let bucket = bucket(&keys[index]);
            locked.held[index] = match last {
                Some((before, guard)) if ptr::eq(before, bucket) => guard,
                _ => {
                    locked.guards[index] =
                        Some(bucket.0.lock().unwrap_or_else(PoisonError::into_inner));
                    index
                }
            };
            last = Some((bucket, locked.held[index]));
        }
        locked
    }

    fn slots(&mut self, key: usize) -> Option<&mut [Slot; WAYS]> {
        self.guards[self.held[key]].as_deref_mut()
    }
}

fn find(slots: &[Slot; WAYS], hash: u64) -> u64 {
    slots.iter().find(|slot| slot.hash == hash).map_or(0, |slot| slot.tat)
}

/// Stores `new` in the slot of its key, or in the slot with the earliest time.
fn put(slots: &mut [Slot; WAYS], new: Slot) {
    let known = slots.iter().position(|slot| slot.hash == new.hash);
    let place = known.or_else(|| (0..WAYS).min_by_key(|place| slots[*place].tat));
    if let Some(place) = place {
        slots[place] = new;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    fn read(table: &Table, key: Key) -> u64 {
        table.visit(&[key], |tats| (false, tats[0]))
    }

    fn write(table: &Table, key: Key, tat: u64) {
        table.visit(&[key], |tats| (true, tats[0] = tat));
    }

    #[test]
    fn a_bucket_is_two_cache_lines() {
        assert_eq!(size_of::<Bucket>(), 128);
    }

    #[test]
    fn keys_are_told_apart_by_region_policy_and_number() {
        let table = Table::new(1000);
        let keys = [
            table.key(Region::Addresses, 1, 1),
            table.key(Region::Addresses, 1, 2),
            table.key(Region::Addresses, 2, 1),
            table.key(Region::Users, 1, 1),
        ];
        for (tat, key) in (1..).zip(keys) {
            assert_eq!(read(&table, key), 0);
            write(&table, key, tat);
        }
        assert_eq!(keys.map(|key| read(&table, key)), [1, 2, 3, 4]);
        assert_eq!(read(&table, table.key(Region::Addresses, 1, 2)), 2);
    }

    #[test]
    fn nothing_is_kept_that_is_not_to_be() {
        let table = Table::new(1000);
        let keys = [1, 2].map(|number| table.key(Region::Addresses, 1, number));
        table.visit(&keys, |tats| (true, tats.fill(5)));
        table.visit(&keys, |tats| (false, tats.fill(9)));
        assert_eq!(table.visit(&keys, |tats| (false, tats.to_vec())), [5, 5]);
    }

    #[test]
    fn the_earliest_gives_way() {
        // One bucket for all.
        let table = Table::new(1);
        let keys = [0, 1, 2, 3, 4, 5, 6, 7].map(|number| table.key(Region::Addresses, 1, number));
        for (tat, key) in [30, 20, 10, 40, 50, 60, 70, 80].into_iter().zip(keys) {
            write(&table, key, tat);
        }
        assert_eq!(keys.map(|key| read(&table, key)), [30, 20, 0, 40, 50, 60, 70, 80]);
    }

    #[test]
    fn keys_that_share_a_bucket_are_visited_together() {
        let table = Table::new(1);
        let keys = [0, 1, 2].map(|number| table.key(Region::Addresses, 1, number));
        let keys = [keys[0], table.key(Region::Routes, 1, 0), keys[1], keys[2]];
        table.visit(&keys, |tats| (true, tats.copy_from_slice(&[1, 2, 3, 4])));
        assert_eq!(table.visit(&keys, |tats| (false, tats.to_vec())), [1, 2, 3, 4]);
    }

    #[test]
    fn threads_lose_nothing_and_never_wait_for_each_other_in_a_circle() {
        let table = Arc::new(Table::new(8));
        let keys = [0, 1, 2, 3].map(|number| table.key(Region::Addresses, 1, number));
        let threads = (0..4).map(|first| {
            let table = table.clone();
            thread::spawn(move || {
                for round in 0..10_000 {
                    let pair = [keys[first], keys[(first + 1 + round % 3) % 4]];
                    table.visit(&pair, |tats| (true, tats.iter_mut().for_each(|tat| *tat += 1)));
                }
            })
        });
        threads.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().unwrap());
        let sum = keys.map(|key| read(&table, key)).iter().sum::<u64>();
        assert_eq!(sum, 80_000);
    }

    #[test]
    fn a_flood_of_a_million_keys_takes_no_more_memory_and_pushes_out_nobody_who_limits_more() {
        let table = Table::new(65_536);
        assert_eq!(table.bytes(), 0, "no limits, no memory");
        let heavy = table.key(Region::Addresses, 1, u128::MAX);
        let route = table.key(Region::Routes, 1, 0);
        write(&table, heavy, 1_000_000);
        write(&table, route, 1);
        assert!(table.bytes() < 10_000, "few clients, little memory");
        for number in 0..1_000_000 {
            write(&table, table.key(Region::Addresses, 1, number), 10_000);
        }
        assert_eq!(table.bytes(), 65_536 * 32 + PAGE * size_of::<Bucket>());
        assert_eq!([heavy, route].map(|key| read(&table, key)), [1_000_000, 1]);
    }

    #[test]
    fn nearly_all_keys_that_a_table_is_for_are_remembered() {
        let table = Table::new(10_000);
        let keys = (0..10_000).map(|number| table.key(Region::Users, 1, number));
        let keys = keys.collect::<Vec<_>>();
        keys.iter().for_each(|key| write(&table, *key, 1));
        let known = keys.iter().filter(|key| read(&table, **key) == 1).count();
        assert!(known > 9_700, "{known}");
    }
}
