//! The catalogue in a SQLite file.

use std::path::Path;

use bson::oid::ObjectId;
use chrono::DateTime;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::result::Error as QueryError;
use diesel::sql_types::{BigInt, Bool, Text};
use diesel_async::RunQueryDsl;
use diesel_migrations::{EmbeddedMigrations, embed_migrations};

use super::Cursor;
use crate::config::Product as Options;
use crate::contract::{Money, Product};
use crate::storage::sqlite::{self, Pool};
use crate::storage::{StoreError, to_the_end};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite/product");

diesel::table! {
    products (id) {
        id -> Text,
        name -> Text,
        price -> BigInt,
        created_at -> BigInt,
    }
}

type Row = (String, String, i64, i64);

/// The catalogue in a file.
#[derive(Clone, Debug)]
pub(in crate::product) struct Store {
    pool: Pool,
}

impl Store {
    pub(super) fn open(path: &Path, options: &Options) -> Self {
        Self { pool: Pool::new(path, options.pool_size, options.acquire_timeout) }
    }

    pub(super) async fn page(
        &self,
        cursor: Option<Cursor>,
        limit: i64,
    ) -> Result<Vec<Product>, StoreError> {
        let newest_first = (products::created_at.desc(), products::id.desc());
        let mut page = products::table.order_by(newest_first).limit(limit).into_boxed();
        if let Some(Cursor { created_at, id }) = cursor {
            // A row value, so that the index finds the place (SQLite, "Row Values", section 3.1).
            let behind = sql::<Bool>("(created_at, id) < (").bind::<BigInt, _>(created_at);
            page = page.filter(behind.sql(", ").bind::<Text, _>(id.to_hex()).sql(")"));
        }
        let pool = self.pool.clone();
        to_the_end(async move {
            let rows = page.load::<Row>(&mut *pool.get().await?).await?;
            rows.into_iter().map(product).collect()
        })
        .await
    }

    pub(super) async fn find(&self, id: ObjectId) -> Result<Option<Product>, StoreError> {
        let found = products::table.find(id.to_hex());
        let pool = self.pool.clone();
        to_the_end(async move {
            let row = found.first::<Row>(&mut *pool.get().await?).await.optional()?;
            row.map(product).transpose()
        })
        .await
    }

    pub(super) async fn insert(&self, product: &Product) -> Result<(), StoreError> {
        let (product, pool) = (product.clone(), self.pool.clone());
        to_the_end(async move {
            let insert = diesel::insert_into(products::table).values(row(&product));
            insert.execute(&mut *pool.get().await?).await?;
            Ok(())
        })
        .await
    }

    pub(super) async fn insert_missing(&self, products: &[Product]) -> Result<usize, StoreError> {
        let (products, pool) = (products.to_vec(), self.pool.clone());
        to_the_end(async move {
            let mut connection = pool.get().await?;
            // One transaction, and one visit to the blocking pool instead of one a row.
            let inserted = connection.spawn_blocking(move |connection| {
                connection.immediate_transaction(|connection| {
                    let rows = products.iter().map(row).collect::<Vec<_>>();
                    let insert = diesel::insert_or_ignore_into(products::table).values(rows);
                    diesel::RunQueryDsl::execute(insert, connection)
                })
            });
            Ok(inserted.await?)
        })
        .await
    }

    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        self.pool.ping().await
    }
}

pub(super) fn migrate(path: &Path) -> Result<Vec<String>, String> {
    sqlite::migrate(path, MIGRATIONS)
}

type Values<'a> = (
    diesel::dsl::Eq<products::id, String>,
    diesel::dsl::Eq<products::name, &'a str>,
    diesel::dsl::Eq<products::price, i64>,
    diesel::dsl::Eq<products::created_at, i64>,
);

fn row(product: &Product) -> Values<'_> {
    (
        products::id.eq(product.id.to_hex()),
        products::name.eq(product.name.as_str()),
        products::price.eq(product.price.minor()),
        products::created_at.eq(product.created_at.timestamp_micros()),
    )
}

fn product((id, name, price, created_at): Row) -> Result<Product, StoreError> {
    let broken = |what: String| QueryError::DeserializationError(what.into());
    Ok(Product {
        id: ObjectId::parse_str(&id).map_err(|error| broken(error.to_string()))?,
        name,
        price: Money::from_minor(price).map_err(|error| broken(format!("price {error}")))?,
        created_at: DateTime::from_timestamp_micros(created_at)
            .ok_or_else(|| broken(format!("no time: {created_at}")))?,
    })
}
