//! Single flight: of the callers who want the same value at once, one computes it and the others wait for its result,
//! on any thread.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

type Waiting<V> = watch::Receiver<Option<V>>;

/// The flights of one kind in this process, by key; cheap to clone.
#[derive(Clone, Debug)]
pub struct SingleFlight<K, V>(Arc<Mutex<HashMap<K, Waiting<V>>>>);

/// The caller's part in a flight.
pub enum Flight<K: Eq + Hash, V> {
    /// The caller computes the value.
    Leader(Leader<K, V>),
    /// Another caller computes it already.
    Follower(Follower<V>),
}

/// Computes the value. Dropping it ends the flight.
pub struct Leader<K: Eq + Hash, V> {
    flights: SingleFlight<K, V>,
    /// `None` when the flight has ended.
    key: Option<K>,
    result: watch::Sender<Option<V>>,
}

/// Waits for the leader's value.
pub struct Follower<V>(Waiting<V>);

impl<K, V> Default for SingleFlight<K, V> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Eq + Hash + Clone, V: Clone> SingleFlight<K, V> {
    /// Joins the flight for `key`, or starts one.
    pub fn join(&self, key: K) -> Flight<K, V> {
        match self.lock().entry(key) {
            Entry::Occupied(flight) => Flight::Follower(Follower(flight.get().clone())),
            Entry::Vacant(vacant) => {
                let (result, waiting) = watch::channel(None);
                let key = vacant.key().clone();
                vacant.insert(waiting);
                Flight::Leader(Leader { flights: self.clone(), key: Some(key), result })
            }
        }
    }

    /// How many flights there are.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }
}

impl<K, V> SingleFlight<K, V> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, Waiting<V>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash, V> Leader<K, V> {
    /// Gives `value` to all followers. Nobody joins the flight who knows of its end.
    pub fn finish(mut self, value: V) {
        self.leave();
        self.result.send_replace(Some(value));
    }

    fn leave(&mut self) {
        if let Some(key) = self.key.take() {
            self.flights.lock().remove(&key);
        }
    }
}

impl<K: Eq + Hash, V> Drop for Leader<K, V> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl<V: Clone> Follower<V> {
    /// Waits for the value; `None` when the leader was dropped without one.
    pub async fn wait(mut self) -> Option<V> {
        self.0.wait_for(Option::is_some).await.ok()?.clone()
    }
}
