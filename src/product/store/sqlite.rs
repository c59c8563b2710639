//! The catalogue in a SQLite file.

use std::path::Path;

use bson::oid::ObjectId;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Text};
use diesel_async::RunQueryDsl;
use diesel_migrations::{EmbeddedMigrations, embed_migrations};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::super::values::Sku;
use super::{Cursor, Replacement, WriteOutcome, decode_price, decode_time};
use crate::contract::{Product, Stock, Version, now};
use crate::storage::copy::BATCH;
use crate::storage::sqlite::{self, Pool};
use crate::storage::{Limits, SetupError, StoreError, WriteConnection};

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
    }
}

/// A product that was not removed.
#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = products, check_for_backend(diesel::sqlite::Sqlite))]
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

    pub(super) async fn page(
        &self,
        cursor: Option<Cursor>,
        limit: i64,
    ) -> Result<Vec<Product>, StoreError> {
        let newest_first = (products::created_at.desc(), products::id.desc());
        let live = products::table.filter(products::deleted_at.is_null());
        let mut page =
            live.select(Row::as_select()).order_by(newest_first).limit(limit).into_boxed();
        if let Some(Cursor { created_at, id }) = cursor {
            // A row value, so that SQLite uses the index (SQLite, "Row Values", section 3.1).
            let behind = sql::<Bool>("(created_at, id) < (").bind::<BigInt, _>(created_at);
            page = page.filter(behind.sql(", ").bind::<Text, _>(id.to_hex()).sql(")"));
        }
        let rows = self.pool.read(move |file| diesel::RunQueryDsl::load::<Row>(page, file)).await?;
        rows.into_iter().map(product).collect()
    }

    pub(super) async fn find(&self, id: ObjectId) -> Result<Option<Product>, StoreError> {
        let found = products::table.find(id.to_hex()).filter(products::deleted_at.is_null());
        let found = found.select(Row::as_select());
        let row = self
            .pool
            .read(move |file| diesel::RunQueryDsl::first::<Row>(found, file).optional())
            .await?;
        row.map(product).transpose()
    }

    pub(super) async fn insert(&self, product: Product) -> Result<(), StoreError> {
        let insert = async move |connection: &mut WriteConnection| {
            let insert = diesel::insert_into(products::table).values(row(&product)?);
            insert.execute(connection).await?;
            Ok(())
        };
        self.pool.write(insert).await
    }

    /// All or none.
    pub(super) async fn insert_missing(&self, products: Vec<Product>) -> Result<usize, StoreError> {
        let insert = async move |connection: &mut WriteConnection| {
            let mut added = 0;
            for product in &products {
                let insert = diesel::insert_or_ignore_into(products::table).values(row(product)?);
                added += insert.execute(connection).await?;
            }
            Ok(added)
        };
        self.pool.write(insert).await
    }

    pub(super) async fn replace(
        &self,
        id: ObjectId,
        expected: Option<Version>,
        new: Replacement,
    ) -> Result<WriteOutcome, StoreError> {
        let replace = async move |connection: &mut WriteConnection| {
            let row = row(&new.product)?;
            let values = (
                products::name.eq(row.name),
                products::price.eq(row.price),
                products::category.eq(row.category),
                products::sku.eq(row.sku),
                products::sku_key.eq(row.sku_key),
                products::details.eq(row.details),
                new.sets_stock.then(|| products::on_hand.eq(row.on_hand)),
                products::updated_at.eq(row.updated_at),
                products::version.eq(products::version + 1),
                products::revision.eq(Version::draw()),
            );
            let update = diesel::update(products::table.filter(that(id, expected))).set(values);
            let update = update.returning(Row::as_returning());
            let row = update.get_result::<Row>(connection).await.optional()?;
            outcome(connection, id, row).await
        };
        self.pool.write(replace).await
    }

    pub(super) async fn remove(
        &self,
        id: ObjectId,
        expected: Option<Version>,
    ) -> Result<WriteOutcome, StoreError> {
        let remove = async move |connection: &mut WriteConnection| {
            let deleted = products::deleted_at.eq(now().timestamp_micros());
            let delete = diesel::update(products::table.filter(that(id, expected))).set(deleted);
            let delete = delete.returning(Row::as_returning());
            let row = delete.get_result::<Row>(connection).await.optional()?;
            outcome(connection, id, row).await
        };
        self.pool.write(remove).await
    }

    pub(super) async fn count(&self) -> Result<u64, StoreError> {
        let count = products::table.filter(products::deleted_at.is_null()).count();
        let count =
            self.pool.read(move |file| diesel::RunQueryDsl::get_result::<i64>(count, file)).await?;
        Ok(count.unsigned_abs())
    }

    pub(super) async fn behind(&self, last: ObjectId) -> Result<Vec<Product>, StoreError> {
        let rows = products::table.filter(products::deleted_at.is_null());
        let rows = rows.filter(products::id.gt(last.to_hex())).order_by(products::id);
        let rows = rows.select(Row::as_select()).limit(BATCH as i64);
        let rows = self.pool.read(move |file| diesel::RunQueryDsl::load::<Row>(rows, file)).await?;
        rows.into_iter().map(product).collect()
    }

    pub(super) async fn among(&self, ids: Vec<ObjectId>) -> Result<Vec<Product>, StoreError> {
        let ids = ids.iter().map(|id| id.to_hex()).collect::<Vec<_>>();
        let rows = products::table.filter(products::deleted_at.is_null());
        let rows = rows.filter(products::id.eq_any(ids)).select(Row::as_select());
        let rows = self.pool.read(move |file| diesel::RunQueryDsl::load::<Row>(rows, file)).await?;
        rows.into_iter().map(product).collect()
    }

    pub(super) async fn put(&self, products: Vec<Product>) -> Result<(), StoreError> {
        let put = async move |connection: &mut WriteConnection| {
            for product in &products {
                let replace = diesel::replace_into(products::table).values(row(product)?);
                replace.execute(connection).await?;
            }
            Ok(())
        };
        self.pool.write(put).await
    }

    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        self.pool.ping().await
    }

    pub(super) async fn try_write(&self) -> Result<bool, StoreError> {
        self.pool.try_write().await
    }
}

pub(super) fn migrate(path: &Path) -> Result<Vec<String>, SetupError> {
    sqlite::migrate(path, MIGRATIONS)
}

pub(super) fn expect_migrated(path: &Path) -> Result<(), SetupError> {
    sqlite::expect_migrated(path, &MIGRATIONS)
}

/// The product with `id`, if it has the `expected` version; `None` accepts any.
fn that(
    id: ObjectId,
    expected: Option<Version>,
) -> Box<dyn BoxableExpression<products::table, diesel::sqlite::Sqlite, SqlType = Bool>> {
    let live = products::id.eq(id.to_hex()).and(products::deleted_at.is_null());
    match expected {
        Some(Version { count, revision }) => {
            let version = products::version.eq(count).and(products::revision.eq(revision));
            Box::new(live.and(version))
        }
        None => Box::new(live),
    }
}

/// The outcome of a write that changed `row`, or why it changed none.
async fn outcome(
    connection: &mut WriteConnection,
    id: ObjectId,
    row: Option<Row>,
) -> Result<WriteOutcome, StoreError> {
    if let Some(row) = row {
        return product(row).map(WriteOutcome::Done);
    }
    let live = products::table.filter(that(id, None));
    let count = live.count();
    let count = count.get_result::<i64>(connection).await?;
    Ok(if count == 0 { WriteOutcome::Missing } else { WriteOutcome::Changed })
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
        version: Version { count: row.version, revision: row.revision },
    })
}
