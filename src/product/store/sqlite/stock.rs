//! What few pieces are left of, in a SQLite file.

use bson::oid::ObjectId;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Text};

use super::super::super::low_stock::LowStockPage;
use super::{Store, products};
use crate::contract::{LowStock, Stock};
use crate::storage::StoreError;

type Row = (String, String, Option<String>, Option<i64>, i64);

impl Store {
    pub(in super::super) async fn low_stock(
        &self,
        page: LowStockPage,
    ) -> Result<Vec<LowStock>, StoreError> {
        let columns =
            (products::id, products::name, products::sku, products::on_hand, products::reserved);
        let counted = products::on_hand.is_not_null().and(products::deleted_at.is_null());
        let few = sql::<Bool>("available < ").bind::<BigInt, _>(page.below);
        let mut low = products::table.filter(counted.and(few)).select(columns).into_boxed();
        if let Some(after) = page.after {
            // A row value, so that SQLite uses the index (SQLite, "Row Values", section 3.1).
            let behind = sql::<Bool>("(available, id) > (").bind::<BigInt, _>(after.available);
            low = low.filter(behind.sql(", ").bind::<Text, _>(after.id.to_hex()).sql(")"));
        }
        let low = low.order_by(sql::<BigInt>("available, id")).limit(page.limit_and_one());
        let low_stock = |(id, name, sku, on_hand, reserved): Row| {
            let id = ObjectId::parse_str(id).map_err(StoreError::corrupt)?;
            Ok(LowStock { id, name, sku, stock: Stock { on_hand, reserved }.into() })
        };
        let rows = self.pool.read(move |file| low.load::<Row>(file)).await?;
        rows.into_iter().map(low_stock).collect()
    }
}
