//! What the edge tells a connection of the requests that came over it.
//!
//! A connection sees bytes and no requests, and the edge sees requests and no bytes. Between them they know when a
//! client owes the rest of a head.

use std::cell::Cell;
use std::rc::Rc;

use tokio::time::Instant;

/// One connection's requests; cheap to clone.
#[derive(Clone, Debug)]
pub struct Turns(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Requests that are not answered yet.
    open: Cell<usize>,
    /// When the client last owed nothing: it had connected, or got its answer.
    quiet: Cell<Instant>,
    /// When the first byte of a head came that is not complete yet.
    begun: Cell<Option<Instant>>,
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// An answer of ours.
    ForUs,
    /// The rest of a head whose first byte came then.
    ForHead(Instant),
    /// Another request, since then.
    ForRequest(Instant),
}

impl Turns {
    /// Of a client that connects `now`, and owes a request.
    pub fn new(now: Instant) -> Self {
        let begun = Cell::new(Some(now));
        Self(Rc::new(Shared { open: Cell::new(0), quiet: Cell::new(now), begun }))
    }

    /// Bytes have come, `now`.
    pub fn heard(&self, now: impl FnOnce() -> Instant) {
        if self.0.open.get() == 0 && self.0.begun.get().is_none() {
            self.0.begun.set(Some(now()));
        }
    }

    /// What it waits for.
    pub fn waiting(&self) -> Waiting {
        match (self.0.open.get(), self.0.begun.get()) {
            (0, Some(begun)) => Waiting::ForHead(begun),
            (0, None) => Waiting::ForRequest(self.0.quiet.get()),
            _ => Waiting::ForUs,
        }
    }

    /// The head of a request is here.
    pub(crate) fn begin(&self) -> UnderWay {
        self.0.open.set(self.0.open.get() + 1);
        self.0.begun.set(None);
        UnderWay(self.clone())
    }
}

/// A request that is being answered, until this is dropped.
#[derive(Debug)]
pub(crate) struct UnderWay(Turns);

impl Drop for UnderWay {
    fn drop(&mut self) {
        let Turns(shared) = &self.0;
        shared.open.set(shared.open.get() - 1);
        shared.quiet.set(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_owes_a_head_from_its_first_byte_to_its_last() {
        let start = Instant::now();
        let turns = Turns::new(start);
        assert_eq!(turns.waiting(), Waiting::ForHead(start));
        let first = turns.begin();
        turns.heard(|| unreachable!("what comes meanwhile is content, or waits its turn"));
        assert_eq!(turns.waiting(), Waiting::ForUs);
        drop(first);
        assert!(matches!(turns.waiting(), Waiting::ForRequest(since) if since >= start));
        let now = Instant::now();
        turns.heard(|| now);
        turns.heard(|| unreachable!("the first byte counts"));
        assert_eq!(turns.waiting(), Waiting::ForHead(now));
        let (second, third) = (turns.begin(), turns.begin());
        drop(second);
        assert_eq!(turns.waiting(), Waiting::ForUs);
        drop(third);
        assert!(matches!(turns.waiting(), Waiting::ForRequest(_)));
    }
}
