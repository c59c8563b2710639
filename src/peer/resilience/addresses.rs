//! The addresses of one callee: balancing and ejection.
//!
//! The less loaded of two random addresses comes close to the least loaded of all, and threads do not all pick the same one
//! (M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001).

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

use super::state::Names;
use crate::config::Resilience;

/// What a failure adds to an address's score; a success subtracts one. This also finds an address that fails every other
/// request, unlike a count of consecutive failures (a CUSUM chart: E. S. Page, 1954).
const FAILURE: u32 = 2;

/// The addresses of one callee. Times are milliseconds since the owner began.
#[derive(Debug)]
pub(super) struct Addresses {
    names: Names,
    list: Vec<Address>,
    /// How many are sick, to skip the search if none is.
    sick: AtomicUsize,
    ejections: AtomicU64,
    limit: u32,
    pause: u64,
}

#[derive(Debug)]
struct Address {
    name: String,
    in_flight: AtomicUsize,
    score: AtomicU32,
    /// 0 while it is healthy; otherwise the end of its ejection. It stays sick until it succeeds after that.
    out_until: AtomicU64,
}

/// The set of addresses that a request was sent to, of the first 64.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tried(u64);

impl Tried {
    pub(super) fn add(&mut self, at: usize) {
        self.0 |= Self::bit(at);
    }

    fn has(self, at: usize) -> bool {
        self.0 & Self::bit(at) != 0
    }

    fn bit(at: usize) -> u64 {
        u32::try_from(at).ok().and_then(|at| 1_u64.checked_shl(at)).unwrap_or(0)
    }
}

impl Addresses {
    pub(super) fn new(names: Names, addresses: Vec<String>, options: &Resilience) -> Self {
        let address = |name| Address {
            name,
            in_flight: AtomicUsize::new(0),
            score: AtomicU32::new(0),
            out_until: AtomicU64::new(0),
        };
        Self {
            names,
            list: addresses.into_iter().map(address).collect(),
            sick: AtomicUsize::new(0),
            ejections: AtomicU64::new(0),
            limit: options.eject_failures * FAILURE,
            pause: super::millis(options.eject_pause),
        }
    }

    /// The number of addresses.
    pub(super) fn count(&self) -> usize {
        self.list.len()
    }

    /// The address for the next attempt: one that is neither ejected nor tried, otherwise one that is not ejected. With `new`,
    /// only an untried one, ejected or not.
    pub(super) fn choose(&self, now: u64, tried: Tried, new: bool) -> Option<usize> {
        if self.list.len() == 1 {
            return (!new || !tried.has(0)).then_some(0);
        }
        if self.sick.load(Relaxed) == 0 && tried.0 == 0 {
            return self.less_loaded(|_| true);
        }
        let out = self.ejected(now).count();
        // If more than half were ejected, the rest could not carry the load: then all are used.
        let in_use = |at: &usize| 2 * out > self.list.len() || !self.list[*at].is_out(now);
        let fresh = self.less_loaded(|at| in_use(at) && !tried.has(*at));
        fresh.or_else(|| match new {
            true => self.less_loaded(|at| !tried.has(*at)),
            false => self.less_loaded(in_use),
        })
    }

    /// The less loaded of two random ones that `may` be chosen.
    fn less_loaded(&self, may: impl Fn(&usize) -> bool) -> Option<usize> {
        let all = || (0..self.list.len()).filter(&may);
        let count = all().count();
        let first = all().nth(fastrand::usize(..count.max(1)))?;
        if count == 1 {
            return Some(first);
        }
        let second = all().filter(|at| *at != first).nth(fastrand::usize(..count - 1))?;
        let load = |at: usize| self.list[at].in_flight.load(Relaxed);
        Some(if load(second) < load(first) { second } else { first })
    }

    /// Counts a request at an address.
    pub(super) fn begin(&self, at: usize) {
        self.list[at].in_flight.fetch_add(1, Relaxed);
    }

    /// Counts its end.
    pub(super) fn end(&self, at: usize) {
        self.list[at].in_flight.fetch_sub(1, Relaxed);
    }

    /// Counts a success at an address.
    pub(super) fn succeeded(&self, at: usize, now: u64) {
        let address = &self.list[at];
        if address.score.load(Relaxed) == 0 {
            return;
        }
        let out_until = address.out_until.load(Relaxed);
        if out_until > now {
            // Sent before the ejection, or while all are used.
            return;
        }
        let lower = |score: u32| Some(score.saturating_sub(1));
        // The closure always returns a value.
        let _ = address.score.fetch_update(Relaxed, Relaxed, lower);
        if out_until > 0 && address.change(out_until, 0) {
            // Only half of the score is reset, so that fewer failures eject it again.
            address.score.store(self.limit / 2, Relaxed);
            self.sick.fetch_sub(1, Relaxed);
            log::info!(
                role = self.names.caller, upstream = &*self.names.callee, address = address.name.as_str();
                "{} of {} is back", address.name, self.names.callee
            );
        }
    }

    /// Counts a failure at an address.
    pub(super) fn failed(&self, at: usize, now: u64) {
        if self.list.len() == 1 || self.limit == 0 {
            return;
        }
        let address = &self.list[at];
        let out_until = address.out_until.load(Relaxed);
        if out_until > now {
            return;
        }
        let score = address.score.fetch_add(FAILURE, Relaxed) + FAILURE;
        let sick = out_until > 0;
        if !sick && score < self.limit || !address.change(out_until, now + self.pause) {
            return;
        }
        address.score.store(self.limit, Relaxed);
        if !sick {
            self.sick.fetch_add(1, Relaxed);
            self.ejections.fetch_add(1, Relaxed);
            log::warn!(
                role = self.names.caller, upstream = &*self.names.callee, address = address.name.as_str();
                "{} of {} fails and is left out", address.name, self.names.callee
            );
        }
    }

    /// How often an address was ejected.
    pub(super) fn ejections(&self) -> u64 {
        self.ejections.load(Relaxed)
    }

    /// The ejected addresses, unless they are more than half.
    pub(super) fn ejected(&self, now: u64) -> impl Iterator<Item = &str> {
        let out = self.list.iter().filter(move |address| address.is_out(now));
        out.map(|address| address.name.as_str())
    }
}

impl Address {
    fn is_out(&self, now: u64) -> bool {
        self.out_until.load(Relaxed) > now
    }

    /// Whether this thread makes the change.
    fn change(&self, from: u64, to: u64) -> bool {
        self.out_until.compare_exchange(from, to, Relaxed, Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 5 failures in a row, 10 s.
    fn addresses(count: usize) -> Addresses {
        let settings = crate::config::load(&crate::config::Sources::default()).unwrap().0;
        let addresses = (0..count).map(|at| at.to_string()).collect();
        let names = Names { caller: "test", callee: "test".into() };
        Addresses::new(names, addresses, &settings.gateway.resilience)
    }

    fn fail(addresses: &Addresses, at: usize, now: u64) {
        (0..5).for_each(|_| addresses.failed(at, now));
    }

    /// How often each is chosen in a thousand times.
    fn shares(addresses: &Addresses, now: u64) -> Vec<usize> {
        let mut shares = vec![0; addresses.list.len()];
        for _ in 0..1_000 {
            shares[addresses.choose(now, Tried::default(), false).unwrap()] += 1;
        }
        shares
    }

    fn ejected(addresses: &Addresses, now: u64) -> Vec<&str> {
        addresses.ejected(now).collect()
    }

    #[test]
    fn the_less_loaded_is_preferred_and_the_most_loaded_never_taken() {
        let addresses = addresses(3);
        (0..9).for_each(|_| addresses.begin(0));
        addresses.begin(1);
        let shares_loaded = shares(&addresses, 0);
        assert_eq!(shares_loaded[0], 0, "there is always a less loaded one beside it");
        assert!(shares_loaded[2] > shares_loaded[1], "{shares_loaded:?}");
        (0..9).for_each(|_| addresses.end(0));
        addresses.end(1);
        let shares = shares(&addresses, 0);
        assert!(shares.iter().all(|share| (200..500).contains(share)), "{shares:?}");
    }

    #[test]
    fn five_failures_in_a_row_leave_an_address_out_until_the_pause_is_over() {
        let addresses = addresses(3);
        (0..4).for_each(|_| addresses.failed(1, 0));
        assert_eq!(ejected(&addresses, 0), [""; 0]);
        addresses.failed(1, 100);
        assert_eq!(ejected(&addresses, 100), ["1"]);
        assert_eq!(shares(&addresses, 10_099)[1], 0);
        assert!(shares(&addresses, 10_100)[1] > 100, "it is tried again");
        // One failure is enough then, and no success of an old request makes up for it.
        addresses.failed(1, 10_200);
        addresses.succeeded(1, 10_200);
        assert_eq!(shares(&addresses, 20_199)[1], 0);
        addresses.succeeded(1, 20_200);
        assert_eq!(addresses.sick.load(Relaxed), 0, "it is back");
        (0..2).for_each(|_| addresses.failed(1, 20_300));
        assert_eq!(ejected(&addresses, 20_300), [""; 0]);
        addresses.failed(1, 20_300);
        assert_eq!(ejected(&addresses, 20_300), ["1"], "it had half its credit");
    }

    #[test]
    fn an_address_that_fails_every_other_request_is_found_and_one_in_ten_is_forgiven() {
        let addresses = addresses(2);
        for _ in 0..20 {
            addresses.failed(0, 0);
            addresses.succeeded(0, 0);
        }
        for n in 0..1_000 {
            if n % 10 == 0 { addresses.failed(1, 0) } else { addresses.succeeded(1, 0) }
        }
        assert_eq!(ejected(&addresses, 0), ["0"]);
    }

    #[test]
    fn when_more_than_half_are_sick_all_are_used() {
        let addresses = addresses(4);
        fail(&addresses, 0, 0);
        fail(&addresses, 1, 0);
        assert_eq!(shares(&addresses, 0)[..2], [0, 0], "half of them");
        fail(&addresses, 2, 0);
        assert!(shares(&addresses, 0).iter().all(|share| *share > 100));
        fail(&addresses, 3, 0);
        assert!(shares(&addresses, 0).iter().all(|share| *share > 100), "never all");
    }

    #[test]
    fn a_single_address_is_never_left_out() {
        let addresses = addresses(1);
        (0..100).for_each(|_| addresses.failed(0, 0));
        assert_eq!(ejected(&addresses, 0), [""; 0]);
        assert_eq!(shares(&addresses, 0), [1_000]);
    }

    #[test]
    fn another_attempt_goes_to_another_address_where_there_is_one() {
        let addresses = addresses(3);
        let mut tried = Tried::default();
        tried.add(0);
        fail(&addresses, 2, 0);
        for _ in 0..100 {
            assert_eq!(addresses.choose(0, tried, false), Some(1));
        }
        tried.add(1);
        assert!(
            matches!(addresses.choose(0, tried, false), Some(0 | 1)),
            "again, but not the sick one"
        );
        assert_eq!(addresses.choose(0, tried, true), Some(2), "a new one, even if sick");
        tried.add(2);
        assert_eq!(addresses.choose(0, tried, true), None);
    }
}
