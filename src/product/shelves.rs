//! The pieces of a shop that does not run, for orders that a command writes: `app demo`.

use bson::oid::ObjectId;
use chrono::TimeDelta;
use uuid::Uuid;

use super::cache::{Cache, ProcessCache};
use super::reservations::{Wanted, WantedLine};
use super::store::{Database, Store};
use crate::config;
use crate::contract::{NewLine, Product, Reservation, now};
use crate::error::Error;
use crate::storage::{SetupError, StoreError};

/// The products of one store, and their pieces.
pub struct Shelves {
    store: Store,
    cache: Cache,
}

impl Shelves {
    /// Those of the store that `options` name, which is prepared if it is new.
    ///
    /// # Errors
    /// When it cannot be used.
    pub async fn open(options: &config::Product) -> Result<Self, SetupError> {
        let place = Database::find(options).await?;
        place.prepare().await?;
        Ok(Self { store: place.open()?, cache: ProcessCache::new(options).open() })
    }

    /// All products, the oldest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn products(&self) -> Result<Vec<Product>, StoreError> {
        let mut all = Vec::<Product>::new();
        loop {
            let last = all.last().map(|product| (product.created_at, product.id));
            let page = self.store.export(last).await?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    }

    /// Keeps the pieces of `lines` under `id` for so many seconds.
    ///
    /// # Errors
    /// As for a request of the order role: there are too few pieces, or no such product.
    pub async fn reserve(
        &self,
        id: Uuid,
        lines: &[NewLine],
        seconds: i64,
    ) -> Result<Reservation, Error> {
        let lines = lines.iter().map(|line| {
            let product = ObjectId::parse_str(&line.product_id).map_err(Error::internal)?;
            Ok::<_, Error>(WantedLine { product, quantity: line.quantity })
        });
        let wanted = Wanted::Lines(lines.collect::<Result<_, _>>()?);
        let expires_at = now() + TimeDelta::seconds(seconds);
        let hold = self.store.reserve(id, wanted, expires_at, self.cache.clone()).await??;
        Ok(hold.into())
    }

    /// Sells the pieces of the reservation `id`.
    ///
    /// # Errors
    /// When they were given back, or the store fails.
    pub async fn sell(&self, id: Uuid) -> Result<(), Error> {
        self.store.commit(id, self.cache.clone()).await??;
        Ok(())
    }

    /// Gives back the pieces of the reservation `id`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn give_back(&self, id: Uuid) -> Result<(), Error> {
        Ok(self.store.release(id, self.cache.clone()).await?)
    }
}
