//! Import and export of the catalogue in a SQLite file.

use bson::oid::ObjectId;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Text};
use diesel::sqlite::SqliteConnection;

use super::super::super::values::Sku;
use super::super::{EXPORT_PAGE, ImportOutcome, Replacement};
use super::listing::Additions;
use super::{Row, Store, insert_with, product, products, put_in_place};
use crate::contract::{Product, Timestamp};
use crate::storage::StoreError;

/// How many products are imported in one transaction at most.
pub(in super::super) const TOGETHER: usize = 5000;

impl Store {
    /// All or none.
    pub(in super::super) async fn import(
        &self,
        products: Vec<Replacement>,
    ) -> Result<Vec<ImportOutcome>, StoreError> {
        let import = |file: &mut SqliteConnection| {
            let mut additions = Additions::default();
            let each = products.into_iter().map(|new| upsert(file, new, &mut additions));
            let outcomes = each.collect::<Result<_, _>>()?;
            additions.finish(file)?;
            Ok(outcomes)
        };
        self.pool.write_blocking(import).await
    }

    pub(in super::super) async fn export(
        &self,
        last: Option<(Timestamp, ObjectId)>,
    ) -> Result<Vec<Product>, StoreError> {
        let live = products::table.filter(products::deleted_at.is_null());
        let oldest_first = (products::created_at, products::id);
        let mut rows = live.select(Row::as_select()).order_by(oldest_first).into_boxed();
        if let Some((created_at, id)) = last {
            let behind = sql::<Bool>("(created_at, id) > (");
            let behind = behind.bind::<BigInt, _>(created_at.timestamp_micros());
            rows = rows.filter(behind.sql(", ").bind::<Text, _>(id.to_hex()).sql(")"));
        }
        let rows = rows.limit(EXPORT_PAGE);
        let rows = self.pool.read(move |file| rows.load::<Row>(file)).await?;
        rows.into_iter().map(product).collect()
    }
}

fn upsert(
    file: &mut SqliteConnection,
    new: Replacement,
    additions: &mut Additions,
) -> Result<ImportOutcome, StoreError> {
    let Some((before, place)) = with_sku(file, &new.product)? else {
        insert_with(file, &new.product, additions)?;
        return Ok(ImportOutcome::Created);
    };
    if let Err(refusal) = new.check(before.stock) {
        return Ok(ImportOutcome::Refused(refusal));
    }
    additions.finish(file)?;
    put_in_place(file, &before, place, new)?;
    Ok(ImportOutcome::Updated)
}

/// The product that has the SKU of `new`, and its place in the listing.
fn with_sku(
    file: &mut SqliteConnection,
    new: &Product,
) -> Result<Option<(Product, Option<i64>)>, StoreError> {
    let Some(sku) = &new.sku else { return Ok(None) };
    let found = products::table.filter(products::deleted_at.is_null());
    let found = found.filter(products::sku_key.eq(Sku::key(sku)));
    let row = found.select(Row::as_select()).first::<Row>(file).optional()?;
    row.map(|row| (row.seq, row)).map(|(place, row)| Ok((product(row)?, place))).transpose()
}
