//! What few pieces are left of, in MongoDB.

use bson::oid::ObjectId;
use bson::{Document, doc};
use futures_util::TryStreamExt as _;
use serde::Deserialize;

use super::super::super::low_stock::LowStockPage;
use super::Store;
use super::filters::live;
use crate::contract::{LowStock, Stock};
use crate::storage::{Access, StoreError};

/// What is read of a product.
#[derive(Deserialize)]
struct Row {
    #[serde(rename = "_id")]
    id: ObjectId,
    name: String,
    sku: Option<String>,
    on_hand: Option<i64>,
    #[serde(default)]
    reserved: i64,
}

/// The fields of a document that follow from its stock, for filters.
pub(super) fn follow(stock: Stock) -> Document {
    doc! { "in_stock": stock.is_in(), "available": stock.available() }
}

impl Store {
    pub(in super::super) async fn low_stock(
        &self,
        page: LowStockPage,
    ) -> Result<Vec<LowStock>, StoreError> {
        let mut low = live();
        low.insert("available", doc! { "$lt": page.below });
        if let Some(after) = page.after {
            let behind = doc! { "$or": [
                { "available": { "$gt": after.available } },
                { "available": after.available, "_id": { "$gt": after.id } },
            ] };
            low = doc! { "$and": [low, behind] };
        }
        let rows = self.products.clone_with_type::<Row>();
        let rows = rows.find(low).sort(doc! { "available": 1, "_id": 1 });
        let rows = rows.limit(page.limit_and_one());
        let load = async |time| Ok(rows.max_time(time).await?.try_collect::<Vec<_>>().await?);
        let rows = self.call(Access::Read, load).await?;
        let low_stock = |row: Row| LowStock {
            id: row.id,
            name: row.name,
            sku: row.sku,
            stock: Stock { on_hand: row.on_hand, reserved: row.reserved }.into(),
        };
        Ok(rows.into_iter().map(low_stock).collect())
    }
}
