//! What reservations have of the stock, for `app check-stock`.

use std::collections::HashMap;

use bson::oid::ObjectId;
use uuid::Uuid;

use super::reservations::{Hold, State};
use super::store::{Database, Store};
use crate::config;
use crate::contract::{Product, now};
use crate::storage::copy::Rows as _;
use crate::storage::{SetupError, StoreError};

/// What a reservation has.
#[derive(Clone, Debug)]
pub struct Supply {
    /// The reservation.
    pub id: Uuid,
    /// What its pieces are.
    pub pieces: Pieces,
    /// How many pieces of products it makes reserved.
    pub reserved: Vec<(ObjectId, i64)>,
}

/// What the pieces of a reservation are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pieces {
    /// They are kept.
    Held,
    /// They are sold.
    Sold,
    /// They were given back.
    Gone,
    /// A process is at work on them.
    Unsettled,
}

impl From<State> for Pieces {
    fn from(state: State) -> Self {
        match state {
            State::Held => Self::Held,
            State::Committed => Self::Sold,
            State::Released | State::Lapsed | State::Moved => Self::Gone,
        }
    }
}

impl Supply {
    /// Takes the pieces that it makes reserved from the `excess` of their products.
    pub(super) fn subtract_from(&self, excess: &mut HashMap<ObjectId, i64>) {
        for (product, quantity) in &self.reserved {
            if let Some(more) = excess.get_mut(product) {
                *more -= quantity;
            }
        }
    }
}

impl From<Hold> for Supply {
    fn from(hold: Hold) -> Self {
        let pieces = hold.state_at(now()).into();
        // What has expired stays reserved until it is swept.
        let lines = hold.lines.iter().filter(|_| hold.state == State::Held);
        let reserved = lines.map(|line| (line.product, line.quantity)).collect();
        Self { id: hold.id, pieces, reserved }
    }
}

/// What all reservations have.
#[derive(Clone, Debug)]
pub struct Supplies(Store);

impl Supplies {
    /// Those of the store that `options` name, which must have all migrations.
    ///
    /// # Errors
    /// When it cannot be used.
    pub async fn open(options: &config::Product) -> Result<Self, SetupError> {
        let database = Database::find(options).await?;
        database.expect_migrated()?;
        Ok(Self(database.open_as_it_is()?))
    }

    /// Some of the reservations behind the one with the id `last`, by id; none at the end.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn behind(&self, last: Option<Uuid>) -> Result<Vec<Supply>, StoreError> {
        self.0.supplies_behind(last.map_or_else(String::new, |last| last.to_string())).await
    }

    /// How many more pieces of each of `products` are reserved than its reservations hold, but for those that are being
    /// moved.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn excess(
        &self,
        products: Vec<ObjectId>,
    ) -> Result<HashMap<ObjectId, i64>, StoreError> {
        self.0.excess(products).await
    }

    /// Some of the products behind `last`, by id; none at the end.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn products(&self, last: Option<&Product>) -> Result<Vec<Product>, StoreError> {
        self.0.behind(last).await
    }
}
