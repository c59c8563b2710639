//! The catalogue's store; the URL picks the back end.

mod sqlite;

use bson::oid::ObjectId;

use super::model::Cursor;
use crate::config::{DatabaseUrl, Product as Options};
use crate::contract::Product;
use crate::storage::StoreError;

/// The catalogue, for one worker thread.
#[derive(Clone, Debug)]
pub(super) enum Store {
    Sqlite(sqlite::Store),
}

impl Store {
    /// The store that the options name. Opens no connection yet.
    pub(super) fn open(options: &Options) -> Self {
        let DatabaseUrl::Sqlite(path) = &options.database_url;
        Self::Sqlite(sqlite::Store::open(path, options))
    }

    /// At most `limit` products, newest first, from behind `cursor`, at a cost that does not depend on how
    /// many there are.
    pub(super) async fn page(
        &self,
        cursor: Option<Cursor>,
        limit: i64,
    ) -> Result<Vec<Product>, StoreError> {
        match self {
            Self::Sqlite(store) => store.page(cursor, limit).await,
        }
    }

    /// The product with `id`, where there is one.
    pub(super) async fn find(&self, id: ObjectId) -> Result<Option<Product>, StoreError> {
        match self {
            Self::Sqlite(store) => store.find(id).await,
        }
    }

    /// Adds `product`.
    pub(super) async fn insert(&self, product: &Product) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.insert(product).await,
        }
    }

    /// Adds those of `products` whose ids are not there yet, all or none; returns how many.
    pub(super) async fn insert_missing(&self, products: &[Product]) -> Result<usize, StoreError> {
        match self {
            Self::Sqlite(store) => store.insert_missing(products).await,
        }
    }

    /// Asks whether the store answers.
    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.ping().await,
        }
    }
}

/// Brings the tables at `url` up to date; returns the migrations that were applied. Blocks.
pub(super) fn migrate(url: &DatabaseUrl) -> Result<Vec<String>, String> {
    let DatabaseUrl::Sqlite(path) = url;
    sqlite::migrate(path)
}
