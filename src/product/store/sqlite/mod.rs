//! The catalogue in a SQLite file.

mod listing;
mod reservations;

use std::path::Path;

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
use crate::storage::copy::BATCH;
use crate::storage::sqlite::{self, Pool};
use crate::storage::{Limits, SetupError, StoreError};

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
#[diesel(table_name = products, treat_none_as_null = true, check_for_backend(diesel::sqlite::Sqlite))]
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
        self.pool
            .write_blocking(move |file| {
                diesel::insert_into(products::table).values(row(&product)?).execute(file)?;
                Ok(listing::add(file, &product)?)
            })
            .await
    }

    /// All or none.
    pub(super) async fn insert_missing(&self, products: Vec<Product>) -> Result<usize, StoreError> {
        self.pool
            .write_blocking(move |file| {
                let mut added = 0;
                for product in &products {
                    let insert = diesel::insert_into(products::table).values(row(product)?);
                    if insert.on_conflict(products::id).do_nothing().execute(file)? == 1 {
                        listing::add(file, product)?;
                        added += 1;
                    }
                }
                Ok(added)
            })
            .await
    }

    pub(super) async fn replace(
        &self,
        id: ObjectId,
        expected: Option<Version>,
        new: Replacement,
    ) -> Result<WriteOutcome, StoreError> {
        self.pool
            .write_blocking(move |file| {
                let Some(before) = live(file, id)? else { return Ok(WriteOutcome::Missing) };
                if expected.is_some_and(|expected| expected != before.version) {
                    return Ok(WriteOutcome::Changed);
                }
                let after = Product {
                    id,
                    created_at: before.created_at,
                    stock: Stock {
                        on_hand: match new.sets_stock {
                            true => new.product.stock.on_hand,
                            false => before.stock.on_hand,
                        },
                        ..before.stock
                    },
                    popularity: before.popularity,
                    version: Version { count: before.version.count + 1, revision: Version::draw() },
                    ..new.product
                };
                diesel::update(products::table.find(id.to_hex()))
                    .set(row(&after)?)
                    .execute(file)?;
                listing::change(file, &before, &after)?;
                Ok(WriteOutcome::Done(Box::new(after)))
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
                let Some(before) = live(file, id)? else { return Ok(WriteOutcome::Missing) };
                if expected.is_some_and(|expected| expected != before.version) {
                    return Ok(WriteOutcome::Changed);
                }
                let deleted = products::deleted_at.eq(now().timestamp_micros());
                diesel::update(products::table.find(id.to_hex())).set(deleted).execute(file)?;
                listing::remove(file, id)?;
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
                let Some(before) = live(file, id)? else { return Ok(None) };
                let after = match change.apply(before.stock) {
                    Ok(after) => after,
                    Err(refusal) => return Ok(Some(Err(refusal))),
                };
                diesel::update(products::table.find(id.to_hex()))
                    .set(products::on_hand.eq(after.on_hand))
                    .execute(file)?;
                if before.stock.is_in() != after.is_in() {
                    listing::set_in_stock(file, id, after.is_in())?;
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

    pub(super) async fn put(&self, products: Vec<Product>) -> Result<(), StoreError> {
        self.pool
            .write_blocking(move |file| {
                for product in &products {
                    listing::remove(file, product.id)?;
                    let row = row(product)?;
                    diesel::insert_into(products::table)
                        .values(&row)
                        .on_conflict(products::id)
                        .do_update()
                        .set((
                            &row,
                            products::deleted_at.eq(None::<i64>),
                            products::seq.eq(None::<i64>),
                        ))
                        .execute(file)?;
                    listing::add(file, product)?;
                }
                Ok(())
            })
            .await
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

/// Lists the products from before there was a listing.
fn complete(file: &mut SqliteConnection) -> Result<(), StoreError> {
    loop {
        let unlisted = products::seq.is_null().and(products::deleted_at.is_null());
        let rows = products::table.filter(unlisted).order_by(products::id).limit(BATCH as i64);
        let rows = rows.select(Row::as_select()).load(file)?;
        if rows.is_empty() {
            return Ok(());
        }
        for row in rows {
            listing::add(file, &product(row)?)?;
        }
    }
}

pub(super) fn expect_migrated(path: &Path) -> Result<(), SetupError> {
    sqlite::expect_migrated(path, &MIGRATIONS)
}

/// The product with `id`, unless it was removed.
fn live(file: &mut SqliteConnection, id: ObjectId) -> Result<Option<Product>, StoreError> {
    let found = products::table.find(id.to_hex()).filter(products::deleted_at.is_null());
    let row = found.select(Row::as_select()).first(file).optional()?;
    row.map(product).transpose()
}

fn row(product: &Product) -> Result<Row, StoreError> {
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
