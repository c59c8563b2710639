//! Single flight: of all who want the same at once one asks, and the others wait for what it gets, on any thread.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

type Waiting<V> = watch::Receiver<Option<V>>;

/// All flights of one kind of a process, by what is asked for; cheap to clone.
#[derive(Clone, Debug)]
pub struct Flights<K, V>(Arc<Mutex<HashMap<K, Waiting<V>>>>);

/// Whose turn it is to ask.
pub enum Turn<K: Eq + Hash, V> {
    /// That of the caller who gets this.
    Ours(Flight<K, V>),
    /// Somebody asks already.
    Theirs(Ticket<V>),
}

/// The right to ask; given back when it is dropped.
pub struct Flight<K: Eq + Hash, V> {
    flights: Flights<K, V>,
    key: K,
    landing: watch::Sender<Option<V>>,
}

/// The right to have what another flight brings.
pub struct Ticket<V>(Waiting<V>);

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Flights<K, V> {
    /// Begins a flight for `key`, or finds the one that is under way.
    pub fn board(&self, key: K) -> Turn<K, V> {
        match self.lock().entry(key) {
            Entry::Occupied(flight) => Turn::Theirs(Ticket(flight.get().clone())),
            Entry::Vacant(vacant) => {
                let (landing, waiting) = watch::channel(None);
                let key = vacant.key().clone();
                vacant.insert(waiting);
                Turn::Ours(Flight { flights: self.clone(), key, landing })
            }
        }
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }
}

impl<K, V> Flights<K, V> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, Waiting<V>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash, V> Flight<K, V> {
    /// Gives `landed` to all who wait.
    pub fn land(self, landed: V) {
        self.landing.send_replace(Some(landed));
    }
}

/// Those who still wait then have lost it.
impl<K: Eq + Hash, V> Drop for Flight<K, V> {
    fn drop(&mut self) {
        self.flights.lock().remove(&self.key);
    }
}

impl<V: Clone> Ticket<V> {
    /// Waits for the end of the flight. Nothing when whoever asked has left.
    pub async fn wait(mut self) -> Option<V> {
        self.0.wait_for(Option::is_some).await.ok()?.clone()
    }
}
