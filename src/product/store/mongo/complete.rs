//! Documents from before there was a search.

use bson::{Bson, Document, doc};
use futures_util::TryStreamExt as _;

use super::Store;
use super::document::{Row, found_by, product};
use super::errors::{Refused, refused};
use super::stock::follow;
use crate::storage::StoreError;
use crate::storage::copy::BATCH;

impl Store {
    /// Gives documents from before what a search looks at, in batches; one that is corrupt is left as it is.
    pub(super) async fn complete(&self) -> Result<(), StoreError> {
        let documents = self.products.clone_with_type::<Document>();
        let mut corrupt = Vec::<Bson>::new();
        loop {
            let old = doc! { "name_key": Bson::Null, "_id": { "$nin": corrupt.clone() } };
            let old = documents.find(old).limit(BATCH as i64).await?;
            let old = old.try_collect::<Vec<_>>().await?;
            if old.is_empty() {
                return Ok(());
            }
            let mut updates = Vec::new();
            for old in old {
                let id = old.get("_id").cloned().unwrap_or(Bson::Null);
                match update(old) {
                    Ok(update) => updates.push(update),
                    Err(error) => {
                        log::warn!("cannot make the product {id} searchable: {error}");
                        corrupt.push(id);
                    }
                }
            }
            if let Some(refused) = self.update("products", updates).await?.into_iter().next() {
                return Err(refused.error);
            }
        }
    }

    /// Carries out `updates` of a collection in one command; returns those that failed.
    pub(super) async fn update(
        &self,
        collection: &str,
        updates: Vec<Document>,
    ) -> Result<Vec<Refused>, StoreError> {
        if updates.is_empty() {
            return Ok(Vec::new());
        }
        let database = self.products.client().database(&self.products.namespace().db);
        let command = doc! {
            "update": collection,
            "updates": updates,
            "ordered": false,
            "writeConcern": self.concern.clone(),
        };
        Ok(refused(database.run_command(command).await)?)
    }
}

/// The update that gives the document `old` what a search looks at.
fn update(old: Document) -> Result<Document, StoreError> {
    let row = bson::deserialize_from_document::<Row>(old).map_err(StoreError::corrupt)?;
    let product = product(row)?;
    let mut values = found_by(&product);
    values.extend(follow(product.stock));
    values.insert("popularity", product.popularity);
    // What was changed in the meantime has them.
    let unchanged = doc! { "_id": product.id, "name_key": Bson::Null };
    Ok(doc! { "q": unchanged, "u": { "$set": values } })
}
