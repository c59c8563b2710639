//! Requests under way whose answer others wait for, on any thread.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::stored::Stored;
use crate::error::Error;

/// How a flight ended.
#[derive(Clone, Debug)]
pub(super) enum Landing {
    /// With an answer for all whom it suits.
    Stored(Arc<Stored>),
    /// With an answer for one.
    Passed,
    /// Without an answer.
    Failed(Arc<Error>),
}

/// Whose turn it is to ask.
pub(super) enum Turn {
    /// That of who gets this.
    Ours(Flight),
    /// Somebody asks already.
    Theirs(Ticket),
}

/// What waiting for a flight came to.
pub(super) enum Waited {
    Landed(Landing),
    /// Whoever asked has left.
    Lost,
    Impatient,
}

type Place = Vec<u8>;
type Seen = watch::Receiver<Option<Landing>>;

/// All flights of a process; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Flights(Arc<Mutex<HashMap<Place, Seen>>>);

/// The right to ask for a place; given back when it is dropped.
pub(super) struct Flight {
    flights: Flights,
    place: Place,
    landing: watch::Sender<Option<Landing>>,
}

/// The right to have what another flight brings.
pub(super) struct Ticket(Seen);

impl Flights {
    /// Begins a flight for `place`, or finds the one that is under way.
    pub(super) fn board(&self, place: Place) -> Turn {
        match self.lock().entry(place) {
            Entry::Occupied(flight) => Turn::Theirs(Ticket(flight.get().clone())),
            Entry::Vacant(vacant) => {
                let (landing, seen) = watch::channel(None);
                let place = vacant.key().clone();
                vacant.insert(seen);
                Turn::Ours(Flight { flights: self.clone(), place, landing })
            }
        }
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Place, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flight {
    /// Tells all who wait how it ended.
    pub(super) fn land(self, landing: Landing) {
        self.landing.send_replace(Some(landing));
    }
}

/// Who still waits then has lost it.
impl Drop for Flight {
    fn drop(&mut self) {
        self.flights.lock().remove(&self.place);
    }
}

impl Ticket {
    /// Waits for the end of the flight, but no longer than until `limit`.
    pub(super) async fn wait(mut self, limit: Instant) -> Waited {
        match timeout_at(limit, self.0.wait_for(Option::is_some)).await {
            Ok(Ok(landing)) => landing.clone().map_or(Waited::Lost, Waited::Landed),
            Ok(Err(_)) => Waited::Lost,
            Err(_) => Waited::Impatient,
        }
    }
}
