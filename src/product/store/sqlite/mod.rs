//! The catalogue in a SQLite file.

mod copies;
mod import;
mod listing;
mod reservations;
mod sales;
mod stock;

use std::path::Path;
use std::time::Duration;

use bson::oid::ObjectId;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Text};
use diesel::sqlite::SqliteConnection;
use diesel_migrations::{EmbeddedMigrations, embed_migrations};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::super::model::StockChange;
use super::super::page::{PageRequest, Position};
use super::super::values::Sku;
use super::{Replacement, StockOutcome, WriteOutcome, decode_price, decode_time};
use crate::contract::{CategorySummary, Product, Stock, Version, now};
use crate::storage::copy::{BATCH, Written};
use crate::storage::sqlite::{self, Pool};
use crate::storage::{Limits, SetupError, StoreError};
pub(super) use import::TOGETHER;
use listing::Additions;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite/product");

diesel::table! {
    products (id) {
        id -> Text,
        name -> Text,
        price -> BigInt,
        created_at -> BigInt,
        version -> BigInt,
        revision -> BigInt,
        category -> Nullable<Text>,
        sku -> Nullable<Text>,
        sku_key -> Nullable<Text>,
        details -> Text,
        on_hand -> Nullable<BigInt>,
        reserved -> BigInt,
        updated_at -> Nullable<BigInt>,
        deleted_at -> Nullable<BigInt>,
        seq -> Nullable<BigInt>,
        popularity -> BigInt,
    }
}

/// A product that was not removed.
#[derive(Queryable, Selectable, Insertable, AsChangeset)]
// One statement for all rows, whichever values they have.
#[diesel(table_name = products, treat_none_as_null = true, treat_none_as_default_value = false)]
#[diesel(check_for_backend(diesel::sqlite::Sqlite))]
struct Row {
    id: String,
    name: String,
    price: i64,
    created_at: i64,
    version: i64,
    revision: i64,
    category: Option<String>,
    sku: Option<String>,
    sku_key: Option<String>,
    details: String,
    on_hand: Option<i64>,
    reserved: i64,
    updated_at: Option<i64>,
    /// Where it is listed.
    seq: Option<i64>,
    popularity: i64,
}

/// The column `details`: what no query looks at.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Details {
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    images: Vec<String>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    attributes: Map<String, Value>,
}

/// The catalogue in a file.
#[derive(Clone, Debug)]
pub(super) struct Store {
    pool: Pool,
}

impl Store {
    pub(super) fn open(path: &Path, limits: &Limits) -> Self {
        Self { pool: Pool::new(path, limits) }
    }

    pub(super) async fn page(&self, page: PageRequest) -> Result<Vec<Product>, StoreError> {
        let rows = self.pool.read(move |file| match &page.filter {
            None => newest(file, page.position.as_ref(), page.limit_and_one()),
            Some(filter) => {
                let (position, limit) = (page.position.as_ref(), page.limit_and_one());
                // Both statements see the same products.
                file.transaction(|file| {
                    let ids = listing::page(file, filter, position, limit)?;
                    rows(file, ids)
                })
            }
        });
        rows.await?.into_iter().map(product).collect()
    }

    pub(super) async fn categories(&self) -> Result<Vec<CategorySummary>, StoreError> {
        self.pool.read(listing::categories).await
    }

    pub(super) async fn find(&self, id: ObjectId) -> Result<Option<Product>, StoreError> {
        let found = products::table.find(id.to_hex()).filter(products::deleted_at.is_null());
        let found = found.select(Row::as_select());
        let row = self.pool.read(move |file| found.first::<Row>(file).optional()).await?;
        row.map(product).transpose()
    }

    pub(super) async fn insert(&self, product: Product) -> Result<(), StoreError> {
        self.pool.write_blocking(move |file| insert(file, &product)).await
    }

    /// All that are not refused, or none.
    pub(super) async fn insert_missing(
        &self,
        products: Vec<Product>,
    ) -> Result<Written<Product>, StoreError> {
        self.pool.write_blocking(move |file| copies::add(file, products)).await
    }

    pub(super) async fn replace(
        &self,
        id: ObjectId,
        expected: Option<Version>,
        new: Replacement,
    ) -> Result<WriteOutcome, StoreError> {
        self.pool
            .write_blocking(move |file| {
                let (before, place) = match at_version(file, id, expected)? {
                    Ok(found) => found,
                    Err(outcome) => return Ok(outcome),
                };
                if let Err(refusal) = new.check(before.stock) {
                    return Ok(WriteOutcome::Refused(refusal));
                }
                Ok(WriteOutcome::Done(Box::new(put_in_place(file, &before, place, new)?)))
            })
            .await
    }

    pub(super) async fn remove(
        &self,
        id: ObjectId,
        expected: Option<Version>,
    ) -> Result<WriteOutcome, StoreError> {
        self.pool
            .write_blocking(move |file| {
                let (before, place) = match at_version(file, id, expected)? {
                    Ok(found) => found,
                    Err(outcome) => return Ok(outcome),
                };
                let gone = (
                    products::deleted_at.eq(now().timestamp_micros()),
                    products::seq.eq(None::<i64>),
                );
                diesel::update(products::table.find(id.to_hex())).set(gone).execute(file)?;
                if let Some(place) = place {
                    listing::remove(file, place)?;
                }
                Ok(WriteOutcome::Done(Box::new(before)))
            })
            .await
    }

    pub(super) async fn change_stock(
        &self,
        id: ObjectId,
        change: StockChange,
    ) -> Result<StockOutcome, StoreError> {
        self.pool
            .write_blocking(move |file| {
                let Some((before, place)) = live(file, id)? else { return Ok(None) };
                let after = match change.apply(before.stock) {
                    Ok(after) => after,
                    Err(refusal) => return Ok(Some(Err(refusal))),
                };
                diesel::update(products::table.find(id.to_hex()))
                    .set(products::on_hand.eq(after.on_hand))
                    .execute(file)?;
                if before.stock.is_in() != after.is_in() {
                    listing::set_in_stock(file, place, after.is_in())?;
                }
                Ok(Some(Ok((before.stock, after))))
            })
            .await
    }

    pub(super) async fn count(&self) -> Result<u64, StoreError> {
        let count = products::table.filter(products::deleted_at.is_null()).count();
        let count = self.pool.read(move |file| count.get_result::<i64>(file)).await?;
        Ok(count.unsigned_abs())
    }

    pub(super) async fn behind(&self, last: ObjectId) -> Result<Vec<Product>, StoreError> {
        let rows = products::table.filter(products::deleted_at.is_null());
        let rows = rows.filter(products::id.gt(last.to_hex())).order_by(products::id);
        let rows = rows.select(Row::as_select()).limit(BATCH as i64);
        let rows = self.pool.read(move |file| rows.load::<Row>(file)).await?;
        rows.into_iter().map(product).collect()
    }

    pub(super) async fn among(&self, ids: Vec<ObjectId>) -> Result<Vec<Product>, StoreError> {
        let ids = ids.iter().map(|id| id.to_hex()).collect::<Vec<_>>();
        let rows = products::table.filter(products::deleted_at.is_null());
        let rows = rows.filter(products::id.eq_any(ids)).select(Row::as_select());
        let rows = self.pool.read(move |file| rows.load::<Row>(file)).await?;
        rows.into_iter().map(product).collect()
    }

    /// All that are not refused, or none.
    pub(super) async fn put(&self, products: Vec<Product>) -> Result<Written<Product>, StoreError> {
        self.pool.write_blocking(move |file| copies::put(file, products)).await
    }

    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        self.pool.ping().await
    }

    pub(super) async fn try_write(&self) -> Result<bool, StoreError> {
        self.pool.try_write().await
    }
}

/// At most `limit` products after `position`, the newest first.
fn newest(
    file: &mut SqliteConnection,
    position: Option<&Position>,
    limit: i64,
) -> QueryResult<Vec<Row>> {
    let newest_first = (products::created_at.desc(), products::id.desc());
    let live = products::table.filter(products::deleted_at.is_null());
    let mut page = live.select(Row::as_select()).order_by(newest_first).limit(limit).into_boxed();
    if let Some(Position { created_at, id, .. }) = position {
        // A row value, so that SQLite uses the index (SQLite, "Row Values", section 3.1).
        let behind = sql::<Bool>("(created_at, id) < (").bind::<BigInt, _>(*created_at);
        page = page.filter(behind.sql(", ").bind::<Text, _>(id.to_hex()).sql(")"));
    }
    page.load(file)
}

/// The products with `ids`, in their order.
fn rows(file: &mut SqliteConnection, ids: Vec<String>) -> QueryResult<Vec<Row>> {
    let found = products::table.filter(products::id.eq_any(&ids)).select(Row::as_select());
    let mut rows = found.load::<Row>(file)?;
    rows.sort_by_key(|row| ids.iter().position(|id| *id == row.id));
    Ok(rows)
}

pub(super) fn migrate(path: &Path) -> Result<Vec<String>, SetupError> {
    sqlite::migrate(path, MIGRATIONS, complete)
}

/// How long others may write between two batches of [`complete`].
const PAUSE: Duration = Duration::from_millis(10);

/// Adds what a file lacks that programs of earlier versions have written to.
fn complete(file: &mut SqliteConnection) -> Result<(), StoreError> {
    list_all(file)?;
    if !listing::is_complete(file)? {
        file.immediate_transaction(listing::complete)?;
    }
    Ok(())
}

/// Lists the products from before there was a listing, in batches that others can pass between.
fn list_all(file: &mut SqliteConnection) -> Result<(), StoreError> {
    let unlisted = products::table.filter(is_unlisted()).select(products::id);
    // Most starts find none, and wait for no process that writes.
    if unlisted.first::<String>(file).optional()?.is_none() {
        return Ok(());
    }
    let mut last = String::new();
    while let Some(next) = file.immediate_transaction(|file| list_unlisted(file, &last))? {
        last = next;
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

#[diesel::dsl::auto_type(no_type_alias)]
fn is_unlisted() -> _ {
    products::seq.is_null().and(products::deleted_at.is_null())
}

/// Lists a batch of products with ids after `last`; returns the last id of it, or `None` if there are no more.
fn list_unlisted(file: &mut SqliteConnection, last: &str) -> Result<Option<String>, StoreError> {
    let rows = products::table.filter(is_unlisted().and(products::id.gt(last)));
    let rows =
        rows.order_by(products::id).limit(BATCH as i64).select(Row::as_select()).load(file)?;
    let last = rows.last().map(|row| row.id.clone());
    for row in rows {
        let id = row.id.clone();
        match product(row) {
            Ok(product) => list(file, &product)?,
            // It is not found by a filter; all else goes on.
            Err(error) => log::warn!("cannot list the product {id}: {error}"),
        }
    }
    Ok(last)
}

pub(super) fn expect_migrated(path: &Path) -> Result<(), SetupError> {
    sqlite::expect_migrated(path, &MIGRATIONS)
}

/// The product with `id`, unless it was removed, and its place in the listing.
fn live(
    file: &mut SqliteConnection,
    id: ObjectId,
) -> Result<Option<(Product, Option<i64>)>, StoreError> {
    let found = products::table.find(id.to_hex()).filter(products::deleted_at.is_null());
    let row = found.select(Row::as_select()).first::<Row>(file).optional()?;
    row.map(|row| (row.seq, row)).map(|(place, row)| Ok((product(row)?, place))).transpose()
}

/// As [`live`], if it has the `expected` version; or the outcome of a write that expects another.
fn at_version(
    file: &mut SqliteConnection,
    id: ObjectId,
    expected: Option<Version>,
) -> Result<Result<(Product, Option<i64>), WriteOutcome>, StoreError> {
    Ok(match live(file, id)? {
        None => Err(WriteOutcome::Missing),
        Some((product, _)) if expected.is_some_and(|expected| expected != product.version) => {
            Err(WriteOutcome::Changed)
        }
        Some(found) => Ok(found),
    })
}

/// Puts `new` in the place of `before`; returns the product as it is now.
fn put_in_place(
    file: &mut SqliteConnection,
    before: &Product,
    place: Option<i64>,
    new: Replacement,
) -> Result<Product, StoreError> {
    let after = new.of(before);
    let row = row(&after, place)?;
    diesel::update(products::table.find(before.id.to_hex())).set(row).execute(file)?;
    match place {
        Some(place) => listing::change(file, place, before, &after)?,
        None => list(file, &after)?,
    }
    Ok(after)
}

/// Adds a product with a new id, and lists it.
fn insert(file: &mut SqliteConnection, product: &Product) -> Result<(), StoreError> {
    let mut additions = Additions::default();
    insert_with(file, product, &mut additions)?;
    Ok(additions.finish(file)?)
}

/// The same, together with other `additions`.
fn insert_with(
    file: &mut SqliteConnection,
    product: &Product,
    additions: &mut Additions,
) -> Result<(), StoreError> {
    let created_at = product.created_at.timestamp_micros();
    if let Some(place) = listing::newest(file, created_at)? {
        let row = row(product, Some(place))?;
        diesel::insert_into(products::table).values(row).execute(file)?;
        return Ok(additions.add(file, place, product)?);
    }
    // Others may have to move.
    additions.finish(file)?;
    let place = listing::among(file, created_at, product.id)?;
    let row = row(product, Some(place))?;
    diesel::insert_into(products::table).values(row).execute(file)?;
    Ok(listing::add(file, place, product)?)
}

/// Lists a product that has no place yet.
fn list(file: &mut SqliteConnection, product: &Product) -> Result<(), StoreError> {
    let place = listing::place(file, product.created_at.timestamp_micros(), product.id)?;
    let placed = products::seq.eq(place);
    diesel::update(products::table.find(product.id.to_hex())).set(placed).execute(file)?;
    Ok(listing::add(file, place, product)?)
}

fn row(product: &Product, seq: Option<i64>) -> Result<Row, StoreError> {
    let details = Details {
        description: product.description.clone(),
        tags: product.tags.clone(),
        images: product.images.clone(),
        attributes: product.attributes.clone(),
    };
    Ok(Row {
        id: product.id.to_hex(),
        name: product.name.clone(),
        price: product.price.minor(),
        created_at: product.created_at.timestamp_micros(),
        version: product.version.count,
        revision: product.version.revision,
        category: product.category.clone(),
        sku: product.sku.clone(),
        sku_key: product.sku.as_deref().map(Sku::key),
        details: serde_json::to_string(&details).map_err(StoreError::corrupt)?,
        on_hand: product.stock.on_hand,
        reserved: product.stock.reserved,
        updated_at: Some(product.updated_at.timestamp_micros()),
        seq,
        popularity: product.popularity,
    })
}

fn product(row: Row) -> Result<Product, StoreError> {
    let details: Details = serde_json::from_str(&row.details).map_err(StoreError::corrupt)?;
    Ok(Product {
        id: ObjectId::parse_str(&row.id).map_err(StoreError::corrupt)?,
        name: row.name,
        price: decode_price(row.price)?,
        description: details.description,
        category: row.category,
        tags: details.tags,
        sku: row.sku,
        images: details.images,
        attributes: details.attributes,
        stock: Stock { on_hand: row.on_hand, reserved: row.reserved },
        created_at: decode_time(row.created_at)?,
        updated_at: decode_time(row.updated_at.unwrap_or(row.created_at))?,
        popularity: row.popularity,
        version: Version { count: row.version, revision: row.revision },
    })
}

#[cfg(test)]
mod tests {
    use diesel::connection::SimpleConnection as _;

    use super::*;

    #[test]
    fn a_process_starts_while_another_one_writes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("product.db");
        migrate(&path).unwrap();
        let mut other = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
        other.batch_execute("BEGIN IMMEDIATE").unwrap();
        assert!(migrate(&path).unwrap().is_empty());
    }
}
