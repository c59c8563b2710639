//! The catalogue's store; the URL picks the back end.

mod mongo;
mod sqlite;
mod write;

use bson::oid::ObjectId;
use chrono::DateTime;
use mongodb::options::ClientOptions;
use secrecy::ExposeSecret as _;

use super::cache::Cache;
use super::model::{Cursor, NewProduct};
use crate::config::{DocumentUrl, Product as Options, hide_password};
use crate::contract::{Money, Product, Version};
use crate::error::Cause;
use crate::storage::copy::Rows;
use crate::storage::{Limits, SetupError, StoreError, StoreState, to_the_end};

/// Where the catalogue is, and whether it is ready; shared by the threads of a process.
#[derive(Clone, Debug)]
pub(super) struct Database {
    back_end: BackEnd,
    limits: Limits,
}

#[derive(Clone, Debug)]
enum BackEnd {
    Sqlite(std::path::PathBuf),
    Mongo(Box<ClientOptions>),
}

/// The catalogue, for one worker thread.
#[derive(Clone, Debug)]
pub(super) struct Store {
    back_end: Opened,
    place: Database,
}

#[derive(Clone, Debug)]
enum Opened {
    Sqlite(sqlite::Store),
    Mongo(mongo::Store),
}

/// What became of a write to a product that may have changed meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WriteOutcome {
    /// It is done; the product as it was left, or as it is now.
    Done(Product),
    /// Another writer came first: the product has another version than was expected.
    Changed,
    /// There is no such product.
    Missing,
}

impl Database {
    /// The place that `options` name. Looks up the servers of a `mongodb+srv` URL.
    ///
    /// # Errors
    /// What is wrong with the URL.
    pub(super) async fn find(options: &Options) -> Result<Self, SetupError> {
        let back_end = match &options.database_url {
            DocumentUrl::Sqlite(path) => BackEnd::Sqlite(path.clone()),
            DocumentUrl::Mongo(url) => {
                let parsed = ClientOptions::parse(url.expose_secret()).await;
                let hidden = |error: mongodb::error::Error| hide_password(url, &error.to_string());
                let parsed = parsed.map_err(|error| SetupError::Server(hidden(error)))?;
                BackEnd::Mongo(Box::new(parsed))
            }
        };
        let limits = Limits {
            size: options.pool_size,
            acquire: options.acquire_timeout,
            statement: options.statement_timeout,
            // MongoDB's calls end by themselves.
            ends_calls: false,
            state: StoreState::default(),
        };
        Ok(Self { back_end, limits })
    }

    /// Looks at what stops [`Database::find`] and [`Database::prepare`] on this machine, and makes nothing.
    ///
    /// # Errors
    /// What is wrong with the URL.
    pub(super) async fn check(options: &Options) -> Result<(), SetupError> {
        match &options.database_url {
            DocumentUrl::Sqlite(path) => crate::storage::sqlite::check(path),
            // DNS, by which these are found, is not asked.
            DocumentUrl::Mongo(url) if url.expose_secret().starts_with("mongodb+srv://") => Ok(()),
            DocumentUrl::Mongo(_) => Self::find(options).await?.open().map(drop),
        }
    }

    /// Whether the place is a file of this machine.
    pub(super) fn is_embedded(&self) -> bool {
        matches!(self.back_end, BackEnd::Sqlite(_))
    }

    /// Brings tables and indexes up to date, unless this process has done so before; returns the
    /// migrations that were applied. On SQLite it blocks.
    ///
    /// # Errors
    /// Why they could not be.
    pub(super) async fn prepare(&self) -> Result<Vec<String>, SetupError> {
        if self.limits.state.is_prepared() {
            return Ok(Vec::new());
        }
        let applied = match &self.back_end {
            BackEnd::Sqlite(path) => sqlite::migrate(path)?,
            BackEnd::Mongo(options) => {
                let store = mongo::Store::open(options, &self.limits)?;
                store.prepare().await?
            }
        };
        self.limits.state.set_prepared();
        Ok(applied)
    }

    /// Asserts that the tables of a file are up to date; documents have none. On SQLite it blocks.
    ///
    /// # Errors
    /// The migrations that it needs.
    pub(super) fn expect_migrated(&self) -> Result<(), SetupError> {
        match &self.back_end {
            BackEnd::Sqlite(path) => sqlite::expect_migrated(path),
            BackEnd::Mongo(_) => Ok(()),
        }
    }

    /// Whether tables and indexes are up to date.
    pub(super) fn is_prepared(&self) -> bool {
        self.limits.state.is_prepared()
    }

    /// The store for this thread, whose tables are taken to be up to date: for reading from another shop's.
    ///
    /// # Errors
    /// As [`Database::open`].
    pub(super) fn open_as_it_is(&self) -> Result<Store, SetupError> {
        self.limits.state.set_prepared();
        self.open()
    }

    /// The store for this thread. Opens no connection yet.
    ///
    /// # Errors
    /// What is wrong with the options of the URL.
    pub(super) fn open(&self) -> Result<Store, SetupError> {
        let back_end = match &self.back_end {
            BackEnd::Sqlite(path) => Opened::Sqlite(sqlite::Store::open(path, &self.limits)),
            BackEnd::Mongo(options) => Opened::Mongo(mongo::Store::open(options, &self.limits)?),
        };
        Ok(Store { back_end, place: self.clone() })
    }
}

/// A call of a method of the back end.
macro_rules! call_back_end {
    ($self:ident.$method:ident($($argument:expr),*)) => {{
        let back_end = $self.back_end.clone();
        async move {
            match back_end {
                Opened::Sqlite(store) => store.$method($($argument),*).await,
                // Boxed: its futures are large, and a call on SQLite should not move their room about.
                Opened::Mongo(store) => Box::pin(store.$method($($argument),*)).await,
            }
        }
    }};
}

/// Runs a method of the back end within the limits.
macro_rules! on_back_end {
    ($self:ident.$method:ident($($argument:expr),*)) => {
        to_the_end(&$self.place.limits, call_back_end!($self.$method($($argument),*))).await
    };
}

impl Store {
    /// At most `limit` products, newest first, from behind `cursor`, at a cost that does not depend on how
    /// many there are.
    pub(super) async fn page(
        &self,
        cursor: Option<Cursor>,
        limit: i64,
    ) -> Result<Vec<Product>, StoreError> {
        on_back_end!(self.page(cursor, limit))
    }

    /// The product with `id`, where there is one.
    pub(super) async fn find(&self, id: ObjectId) -> Result<Option<Product>, StoreError> {
        on_back_end!(self.find(id))
    }

    /// Adds `product`, and has `cache` forget what that changes; [`StoreError::Duplicate`] when its id is taken.
    pub(super) async fn insert(&self, product: Product, cache: Cache) -> Result<(), StoreError> {
        write::carry_out(&self.place.limits, cache, call_back_end!(self.insert(product))).await
    }

    /// Adds those of `products` whose ids are not there yet; returns how many.
    pub(super) async fn insert_missing(&self, products: Vec<Product>) -> Result<usize, StoreError> {
        on_back_end!(self.insert_missing(products))
    }

    /// Gives the product with `id` a new name and price, if it has the version `expected` or any will do.
    /// `cache` is as above.
    pub(super) async fn replace(
        &self,
        id: ObjectId,
        expected: Option<Version>,
        new: NewProduct,
        cache: Cache,
    ) -> Result<WriteOutcome, StoreError> {
        let call = call_back_end!(self.replace(id, expected, new));
        write::carry_out(&self.place.limits, cache, call).await
    }

    /// Removes the product with `id`, if it has the version `expected` or any will do. `cache` is as above.
    pub(super) async fn remove(
        &self,
        id: ObjectId,
        expected: Option<Version>,
        cache: Cache,
    ) -> Result<WriteOutcome, StoreError> {
        let call = call_back_end!(self.remove(id, expected));
        write::carry_out(&self.place.limits, cache, call).await
    }

    /// How the store is.
    ///
    /// # Errors
    /// What is wrong with it, in words for the log.
    pub(super) async fn check(&self) -> Result<(), Cause> {
        self.place.limits.state.report(self.ping(), self.try_write()).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        on_back_end!(self.ping())
    }

    /// Tries to write, where that leaves no trace; whether it could be tried.
    async fn try_write(&self) -> Result<bool, StoreError> {
        on_back_end!(self.try_write())
    }
}

/// For `app copy`.
impl Rows for Store {
    type Row = Product;

    async fn count(&self) -> Result<u64, StoreError> {
        on_back_end!(self.count())
    }

    async fn behind(&self, last: Option<&Product>) -> Result<Vec<Product>, StoreError> {
        // Before every id that is given out.
        let last = last.map_or(ObjectId::from_bytes([0; 12]), |product| product.id);
        on_back_end!(self.behind(last))
    }

    async fn counterparts(&self, rows: &[Product]) -> Result<Vec<Product>, StoreError> {
        let ids = rows.iter().map(|product| product.id).collect::<Vec<_>>();
        on_back_end!(self.among(ids))
    }

    async fn add(&self, rows: Vec<Product>) -> Result<u64, StoreError> {
        self.insert_missing(rows).await.map(|added| added as u64)
    }

    async fn put(&self, rows: Vec<Product>) -> Result<(), StoreError> {
        on_back_end!(self.put(rows))
    }
}

/// A product of what a store has of it: price in minor units, time in microseconds since 1970.
fn decode(
    id: ObjectId,
    name: String,
    price: i64,
    created_at: i64,
    version: Version,
) -> Result<Product, StoreError> {
    let price =
        Money::from_minor(price).map_err(|error| StoreError::corrupt(format!("price {error}")))?;
    let created_at = DateTime::from_timestamp_micros(created_at);
    let created_at = created_at.ok_or_else(|| StoreError::corrupt("a time out of range"))?;
    Ok(Product { id, name, price, created_at, version })
}
