//! The catalogue in a SQLite file.

use std::path::Path;

use bson::oid::ObjectId;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Text};
use diesel_async::RunQueryDsl;
use diesel_migrations::{EmbeddedMigrations, embed_migrations};

use super::{Cursor, NewProduct, WriteOutcome, decode};
use crate::contract::{Product, Version};
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
    }
}

type Row = (String, String, i64, i64, i64, i64);

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
        let mut page = products::table.order_by(newest_first).limit(limit).into_boxed();
        if let Some(Cursor { created_at, id }) = cursor {
            // A row value, so that SQLite uses the index (SQLite, "Row Values", section 3.1).
            let behind = sql::<Bool>("(created_at, id) < (").bind::<BigInt, _>(created_at);
            page = page.filter(behind.sql(", ").bind::<Text, _>(id.to_hex()).sql(")"));
        }
        let rows = self.pool.read(move |file| diesel::RunQueryDsl::load::<Row>(page, file)).await?;
        rows.into_iter().map(product).collect()
    }

    pub(super) async fn find(&self, id: ObjectId) -> Result<Option<Product>, StoreError> {
        let found = products::table.find(id.to_hex());
        let row = self
            .pool
            .read(move |file| diesel::RunQueryDsl::first::<Row>(found, file).optional())
            .await?;
        row.map(product).transpose()
    }

    pub(super) async fn insert(&self, product: Product) -> Result<(), StoreError> {
        let insert = async move |connection: &mut WriteConnection| {
            let insert = diesel::insert_into(products::table).values(row(&product));
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
                let insert = diesel::insert_or_ignore_into(products::table).values(row(product));
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
        new: NewProduct,
    ) -> Result<WriteOutcome, StoreError> {
        let replace = async move |connection: &mut WriteConnection| {
            let that = products::id.eq(id.to_hex()).and(version_is(expected));
            let values = (
                products::name.eq(new.name()),
                products::price.eq(new.price().minor()),
                products::version.eq(products::version + 1),
                products::revision.eq(Version::draw()),
            );
            let update = diesel::update(products::table.filter(that)).set(values);
            let update = update.returning(products::all_columns);
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
            let that = products::id.eq(id.to_hex()).and(version_is(expected));
            let delete = diesel::delete(products::table.filter(that));
            let delete = delete.returning(products::all_columns);
            let row = delete.get_result::<Row>(connection).await.optional()?;
            outcome(connection, id, row).await
        };
        self.pool.write(remove).await
    }

    pub(super) async fn count(&self) -> Result<u64, StoreError> {
        let count = products::table.count();
        let count =
            self.pool.read(move |file| diesel::RunQueryDsl::get_result::<i64>(count, file)).await?;
        Ok(count.unsigned_abs())
    }

    pub(super) async fn behind(&self, last: ObjectId) -> Result<Vec<Product>, StoreError> {
        let rows = products::table.filter(products::id.gt(last.to_hex())).order_by(products::id);
        let rows = rows.limit(BATCH as i64);
        let rows = self.pool.read(move |file| diesel::RunQueryDsl::load::<Row>(rows, file)).await?;
        rows.into_iter().map(product).collect()
    }

    pub(super) async fn among(&self, ids: Vec<ObjectId>) -> Result<Vec<Product>, StoreError> {
        let ids = ids.iter().map(|id| id.to_hex()).collect::<Vec<_>>();
        let rows = products::table.filter(products::id.eq_any(ids));
        let rows = self.pool.read(move |file| diesel::RunQueryDsl::load::<Row>(rows, file)).await?;
        rows.into_iter().map(product).collect()
    }

    pub(super) async fn put(&self, products: Vec<Product>) -> Result<(), StoreError> {
        let put = async move |connection: &mut WriteConnection| {
            for product in &products {
                let replace = diesel::replace_into(products::table).values(row(product));
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

/// Whether a row has the `expected` version; `None` accepts any.
fn version_is(
    expected: Option<Version>,
) -> Box<dyn BoxableExpression<products::table, diesel::sqlite::Sqlite, SqlType = Bool>> {
    match expected {
        Some(Version { count, revision }) => {
            Box::new(products::version.eq(count).and(products::revision.eq(revision)))
        }
        None => Box::new(products::version.ge(0)),
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
    let count = products::table.find(id.to_hex()).count();
    let count = count.get_result::<i64>(connection).await?;
    Ok(if count == 0 { WriteOutcome::Missing } else { WriteOutcome::Changed })
}

type Values<'a> = (
    diesel::dsl::Eq<products::id, String>,
    diesel::dsl::Eq<products::name, &'a str>,
    diesel::dsl::Eq<products::price, i64>,
    diesel::dsl::Eq<products::created_at, i64>,
    diesel::dsl::Eq<products::version, i64>,
    diesel::dsl::Eq<products::revision, i64>,
);

fn row(product: &Product) -> Values<'_> {
    (
        products::id.eq(product.id.to_hex()),
        products::name.eq(product.name.as_str()),
        products::price.eq(product.price.minor()),
        products::created_at.eq(product.created_at.timestamp_micros()),
        products::version.eq(product.version.count),
        products::revision.eq(product.version.revision),
    )
}

fn product(row: Row) -> Result<Product, StoreError> {
    let (id, name, price, created_at, count, revision) = row;
    let id = ObjectId::parse_str(&id).map_err(StoreError::corrupt)?;
    decode(id, name, price, created_at, Version { count, revision })
}
