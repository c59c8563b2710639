//! Products as another store has them, ids and versions included.
//!
//! MongoDB on a single server has no transactions, so what a crash leaves half done must show: a product whose SKU another one
//! takes loses it first, which makes it differ from the source, and the next copy writes it again.

use std::collections::HashMap;

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};
use futures_util::TryStreamExt as _;

use super::super::super::values::Sku;
use super::super::{refusal, refuse_taken};
use super::Store;
use super::document::document;
use super::filters::that;
use crate::contract::Product;
use crate::storage::copy::Written;
use crate::storage::{Access, StoreError};

impl Store {
    /// Each product by itself: existing ones do not stop the others.
    pub(in super::super) async fn insert_missing(
        &self,
        products: Vec<Product>,
    ) -> Result<Written<Product>, StoreError> {
        if products.is_empty() {
            return Ok(Written::all(0));
        }
        let rows = products.iter().map(document).collect::<Result<Vec<_>, _>>()?;
        let insert = async |time| self.insert_rows(rows, time).await;
        let failures = self.call(Access::Write, insert).await?;
        let mut written = Written::all((products.len() - failures.len()) as u64);
        let mut products = products.into_iter().map(Some).collect::<Vec<_>>();
        for failure in failures {
            match failure.error {
                StoreError::Duplicate if failure.is_there => {}
                StoreError::Duplicate => {
                    let product = products.get_mut(failure.index).and_then(Option::take);
                    written.refused.extend(product.map(refusal));
                }
                error => return Err(error),
            }
        }
        Ok(written)
    }

    /// Adds or replaces `products`, but for those that were removed.
    pub(in super::super) async fn put(
        &self,
        mut products: Vec<Product>,
    ) -> Result<Written<Product>, StoreError> {
        let is_removed = self.states(&products).await?;
        products.retain(|product| is_removed.get(&product.id) != Some(&true));
        let holders = self.holders(&products).await?;
        let (products, refused) = refuse_taken(products, &holders);
        self.take_skus(&products, &holders).await?;
        let (old, new) = products
            .into_iter()
            .partition::<Vec<_>, _>(|product| is_removed.contains_key(&product.id));
        for product in &old {
            let documents = self.products.clone_with_type::<Document>();
            let replace = documents.replace_one(that(product.id, None), document(product)?);
            self.call(Access::Write, async |_| Ok(replace.await?)).await?;
        }
        let mut written = self.insert_missing(new).await?;
        written.count += old.len() as u64;
        written.refused.extend(refused);
        Ok(written)
    }

    /// The ids of `products` that the store has, and whether they were removed.
    async fn states(&self, products: &[Product]) -> Result<HashMap<ObjectId, bool>, StoreError> {
        let ids = products.iter().map(|product| product.id).collect::<Vec<_>>();
        let found = self.fields(doc! { "_id": { "$in": ids } }, "deleted_at").await?;
        let state = |(id, deleted_at): (ObjectId, Option<Bson>)| (id, deleted_at.is_some());
        Ok(found.into_iter().map(state).collect())
    }

    /// The ids of the products that have the SKUs of `products` now, by the folded SKU.
    async fn holders(&self, products: &[Product]) -> Result<HashMap<String, ObjectId>, StoreError> {
        let keys = products.iter().filter_map(|product| product.sku.as_deref()).map(Sku::key);
        let keys = keys.collect::<Vec<_>>();
        let found = self.fields(doc! { "sku_key": { "$in": keys } }, "sku_key").await?;
        let holder = |(id, key): (ObjectId, Option<Bson>)| Some((key?.as_str()?.to_owned(), id));
        Ok(found.into_iter().filter_map(holder).collect())
    }

    /// Takes SKUs from the `holders` that others of `products` get.
    async fn take_skus(
        &self,
        products: &[Product],
        holders: &HashMap<String, ObjectId>,
    ) -> Result<(), StoreError> {
        let holder = |product: &Product| {
            let holder = *holders.get(&Sku::key(product.sku.as_deref()?))?;
            (holder != product.id).then_some(holder)
        };
        let holders = products.iter().filter_map(holder).collect::<Vec<_>>();
        if holders.is_empty() {
            return Ok(());
        }
        let no_sku = doc! { "$unset": { "sku": "", "sku_key": "" } };
        let update = self.products.update_many(doc! { "_id": { "$in": holders } }, no_sku);
        self.call(Access::Write, async |_| Ok(update.await.map(drop)?)).await
    }

    /// The ids and the field `name` of what passes `filter`.
    async fn fields(
        &self,
        filter: Document,
        name: &str,
    ) -> Result<Vec<(ObjectId, Option<Bson>)>, StoreError> {
        let documents = self.products.clone_with_type::<Document>();
        let found = documents.find(filter).projection(doc! { name: 1 });
        let load = async |time| Ok(found.max_time(time).await?.try_collect::<Vec<_>>().await?);
        let found = self.call(Access::Read, load).await?;
        let field = |mut document: Document| {
            let id = document.get_object_id("_id").map_err(StoreError::corrupt)?;
            Ok((id, document.remove(name).filter(|value| *value != Bson::Null)))
        };
        found.into_iter().map(field).collect()
    }
}
