//! The catalogue in MongoDB.

use std::collections::HashSet;
use std::time::Duration;

use bson::oid::ObjectId;
use bson::{Document, doc};
use futures_util::TryStreamExt as _;
use mongodb::error::{Error as DriverError, ErrorKind, WriteFailure};
use mongodb::options::{Acknowledgment, ClientOptions, IndexOptions, ReturnDocument, WriteConcern};
use mongodb::{Client, Collection, IndexModel};
use serde::{Deserialize, Serialize};

use super::{Cursor, NewProduct, Written, decode};
use crate::contract::Product;
use crate::storage::copy::BATCH;
use crate::storage::{Limits, StoreError};

/// The database, where the URL names none.
const DATABASE: &str = "shop";
/// How often the driver looks whether the server is still there, or there again.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// The server's code for a second document with the same unique value.
const DUPLICATE_KEY: i32 = 11000;

/// Its codes for a server that stops, steps down, or has stepped down; and for one that took too long.
const ELSEWHERE: [i32; 8] = [50, 91, 189, 10107, 11600, 11602, 13435, 13436];

/// A product as it is stored; the units are those of the SQLite table.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    #[serde(rename = "_id")]
    id: ObjectId,
    name: String,
    price: i64,
    created_at: i64,
    version: i64,
}

/// The catalogue in a collection.
#[derive(Clone, Debug)]
pub(super) struct Store {
    products: Collection<Row>,
    /// The server gives up by itself on a read that takes longer.
    patience: Duration,
}

impl Store {
    /// The catalogue that `options`, which come from its URL, lead to. Opens no connection yet; belongs to
    /// the runtime that it is opened in.
    pub(super) fn open(options: &ClientOptions, limits: &Limits) -> Result<Self, String> {
        let mut options = options.clone();
        options.app_name.get_or_insert_with(|| "app".to_owned());
        options.max_pool_size.get_or_insert(limits.size);
        options.heartbeat_freq.get_or_insert(HEARTBEAT);
        options.server_selection_timeout.get_or_insert(limits.acquire);
        options.connect_timeout.get_or_insert(limits.acquire);
        // What is acknowledged must survive the loss of a server, or of its power.
        let durable = WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build();
        options.write_concern.get_or_insert(durable);
        let database = options.default_database.clone().unwrap_or_else(|| DATABASE.to_owned());
        let client = Client::with_options(options).map_err(|error| error.to_string())?;
        let products = client.database(&database).collection("products");
        Ok(Self { products, patience: limits.statement })
    }

    /// Makes the indexes that are not there yet; any number of processes may do so at once.
    pub(super) async fn prepare(&self) -> Result<Vec<String>, StoreError> {
        // The order of the catalogue, newest first: a page is a range of this index.
        let order = IndexModel::builder()
            .keys(doc! { "created_at": -1, "_id": -1 })
            .options(
                IndexOptions::builder().name("products_by_age".to_owned()).unique(true).build(),
            )
            .build();
        let before = self.products.list_index_names().await.unwrap_or_default();
        let made = self.products.create_index(order).await?.index_name;
        Ok(if before.contains(&made) { Vec::new() } else { vec![made] })
    }

    pub(super) async fn page(
        &self,
        cursor: Option<Cursor>,
        limit: i64,
    ) -> Result<Vec<Product>, StoreError> {
        let behind = cursor.map_or_else(Document::new, |Cursor { created_at, id }| {
            let tie = doc! { "created_at": created_at, "_id": { "$lt": id } };
            doc! { "$or": [{ "created_at": { "$lt": created_at } }, tie] }
        });
        let newest_first = doc! { "created_at": -1, "_id": -1 };
        let rows = self.products.find(behind).sort(newest_first).limit(limit);
        let rows = rows.max_time(self.patience).await?;
        rows.try_collect::<Vec<_>>().await?.into_iter().map(product).collect()
    }

    pub(super) async fn find(&self, id: ObjectId) -> Result<Option<Product>, StoreError> {
        let row = self.products.find_one(doc! { "_id": id }).max_time(self.patience).await?;
        row.map(product).transpose()
    }

    pub(super) async fn insert(&self, product: Product) -> Result<(), StoreError> {
        self.products.insert_one(row(&product)).await?;
        Ok(())
    }

    /// Each by itself: what is there already does not keep the others out.
    pub(super) async fn insert_missing(&self, products: Vec<Product>) -> Result<usize, StoreError> {
        let all = products.len();
        let outcome = self.products.insert_many(products.iter().map(row)).ordered(false).await;
        let Err(error) = outcome else { return Ok(all) };
        match *error.kind {
            ErrorKind::InsertMany(ref failed) if failed.write_concern_error.is_none() => {
                let failures = failed.write_errors.as_deref().unwrap_or_default();
                if failures.iter().all(|failure| failure.code == DUPLICATE_KEY) {
                    return Ok(all - failures.len());
                }
                Err(error.into())
            }
            _ => Err(error.into()),
        }
    }

    pub(super) async fn replace(
        &self,
        id: ObjectId,
        expected: Option<i64>,
        new: NewProduct,
    ) -> Result<Written, StoreError> {
        let values = doc! { "name": new.name(), "price": new.price().minor() };
        let change = doc! { "$set": values, "$inc": { "version": 1_i64 } };
        let update = self.products.find_one_and_update(that(id, expected), change);
        match update.return_document(ReturnDocument::After).await? {
            Some(row) => Ok(Written::Done(product(row)?)),
            None => self.why_not(id).await,
        }
    }

    pub(super) async fn remove(
        &self,
        id: ObjectId,
        expected: Option<i64>,
    ) -> Result<Written, StoreError> {
        match self.products.find_one_and_delete(that(id, expected)).await? {
            Some(row) => Ok(Written::Done(product(row)?)),
            None => self.why_not(id).await,
        }
    }

    pub(super) async fn count(&self) -> Result<u64, StoreError> {
        Ok(self.products.count_documents(doc! {}).await?)
    }

    pub(super) async fn behind(&self, last: ObjectId) -> Result<Vec<Product>, StoreError> {
        let rows = self.products.find(doc! { "_id": { "$gt": last } }).sort(doc! { "_id": 1 });
        let rows = rows.limit(BATCH as i64).await?;
        rows.try_collect::<Vec<_>>().await?.into_iter().map(product).collect()
    }

    pub(super) async fn among(&self, ids: Vec<ObjectId>) -> Result<Vec<Product>, StoreError> {
        let rows = self.products.find(doc! { "_id": { "$in": ids } }).await?;
        rows.try_collect::<Vec<_>>().await?.into_iter().map(product).collect()
    }

    pub(super) async fn put(&self, products: Vec<Product>) -> Result<(), StoreError> {
        let there = self.among(products.iter().map(|product| product.id).collect()).await?;
        let there = there.iter().map(|product| product.id).collect::<HashSet<_>>();
        let (old, new) =
            products.into_iter().partition::<Vec<_>, _>(|product| there.contains(&product.id));
        for product in &old {
            self.products.replace_one(doc! { "_id": product.id }, row(product)).await?;
        }
        if !new.is_empty() {
            self.insert_missing(new).await?;
        }
        Ok(())
    }

    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        let database = self.products.client().database("admin");
        database.run_command(doc! { "ping": 1 }).await?;
        Ok(())
    }

    /// Why a write has met no product.
    async fn why_not(&self, id: ObjectId) -> Result<Written, StoreError> {
        let there = self.products.find_one(doc! { "_id": id }).await?.is_some();
        Ok(if there { Written::Changed } else { Written::Missing })
    }
}

/// The product with `id` and the version that is expected, or any.
fn that(id: ObjectId, expected: Option<i64>) -> Document {
    match expected {
        Some(version) => doc! { "_id": id, "version": version },
        None => doc! { "_id": id },
    }
}

fn row(product: &Product) -> Row {
    Row {
        id: product.id,
        name: product.name.clone(),
        price: product.price.minor(),
        created_at: product.created_at.timestamp_micros(),
        version: product.version,
    }
}

fn product(row: Row) -> Result<Product, StoreError> {
    decode(row.id, row.name, row.price, row.created_at, row.version)
}

impl From<DriverError> for StoreError {
    fn from(error: DriverError) -> Self {
        match *error.kind {
            ErrorKind::Write(WriteFailure::WriteError(ref write))
                if write.code == DUPLICATE_KEY =>
            {
                Self::Duplicate
            }
            ErrorKind::ServerSelection { .. }
            | ErrorKind::Io(_)
            | ErrorKind::ConnectionPoolCleared { .. }
            | ErrorKind::DnsResolve { .. } => Self::Connection(error.to_string()),
            ErrorKind::Command(ref command) if ELSEWHERE.contains(&command.code) => {
                Self::Connection(error.to_string())
            }
            _ if error.contains_label(mongodb::error::RETRYABLE_WRITE_ERROR) => {
                Self::Connection(error.to_string())
            }
            _ => Self::Failed(error.to_string()),
        }
    }
}
