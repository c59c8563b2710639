//! Import and export of the catalogue in MongoDB.
//!
//! There are no transactions: each product is written by itself. The products of a batch that have a SKU are looked up
//! together, the new ones are inserted together, and those that are there are replaced if nobody has changed them since.
//! Where another writer comes in between, the product is looked up again.

use std::collections::{HashMap, HashSet};

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::super::super::page::{Position, Rank};
use super::super::super::values::Sku;
use super::super::{EXPORT_PAGE, ImportOutcome, Replacement, WriteOutcome};
use super::Store;
use super::document::document;
use super::errors::Refused;
use super::filters::{after, live};
use crate::contract::{Product, Timestamp};
use crate::storage::{Access, StoreError, late};

/// How many products are imported in one call: each may take as long as a call does.
pub(in super::super) const TOGETHER: usize = 50;
/// How many products are replaced at once.
const REPLACING: usize = 8;
/// How often products are looked up again while other writers come in between.
const ATTEMPTS: usize = 10;

/// A product and its place in the batch.
type Numbered = (usize, Replacement);

impl Store {
    pub(in super::super) async fn import(
        &self,
        products: Vec<Replacement>,
    ) -> Result<Vec<ImportOutcome>, StoreError> {
        let mut outcomes = vec![ImportOutcome::Created; products.len()];
        let mut rest = products.into_iter().enumerate().collect::<Vec<_>>();
        let mut is_begun = false;
        while !rest.is_empty() {
            let (round, later) = without_repeats(rest);
            let upserted = self.upsert(round, &mut is_begun).await;
            for (number, outcome) in upserted.map_err(|error| of_batch(error, is_begun))? {
                outcomes[number] = outcome;
            }
            rest = later;
        }
        Ok(outcomes)
    }

    /// Adds or replaces products with different SKUs. Says whether it `is_begun` to write some.
    async fn upsert(
        &self,
        mut products: Vec<Numbered>,
        is_begun: &mut bool,
    ) -> Result<Vec<(usize, ImportOutcome)>, StoreError> {
        let mut outcomes = Vec::new();
        for _ in 0..ATTEMPTS {
            let there = self.with_skus(&products).await?;
            let (old, new) = products.into_iter().partition::<Vec<_>, _>(|(_, new)| {
                key(&new.product).is_some_and(|key| there.contains_key(&key))
            });
            let (added, mut again) = self.add_new(new).await?;
            *is_begun |= !added.is_empty() || !old.is_empty();
            outcomes.extend(added.into_iter().map(|number| (number, ImportOutcome::Created)));
            let replacing = stream::iter(old).map(|(number, new)| {
                let before = key(&new.product).and_then(|key| there.get(&key));
                async move {
                    let outcome = match before {
                        Some(before) => self.replace_old(before, new.clone()).await?,
                        None => None,
                    };
                    Ok::<_, StoreError>((number, new, outcome))
                }
            });
            let replaced = replacing.buffer_unordered(REPLACING).try_collect::<Vec<_>>().await?;
            for (number, new, outcome) in replaced {
                match outcome {
                    Some(outcome) => outcomes.push((number, outcome)),
                    None => again.push((number, new)),
                }
            }
            if again.is_empty() {
                return Ok(outcomes);
            }
            products = again;
        }
        // Others change the same products all the time.
        late()
    }

    /// The products that have the SKUs of `products`, by their keys.
    async fn with_skus(
        &self,
        products: &[Numbered],
    ) -> Result<HashMap<String, Product>, StoreError> {
        let keys = products.iter().filter_map(|(_, new)| key(&new.product)).collect::<Vec<_>>();
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let mut among = live();
        among.insert("sku_key", doc! { "$in": keys });
        let found = self.load(self.products.find(among)).await?;
        Ok(found.into_iter().filter_map(|product| Some((key(&product)?, product))).collect())
    }

    /// Adds `products`; returns the numbers of those that are there now, and those whose SKU is taken.
    async fn add_new(
        &self,
        products: Vec<Numbered>,
    ) -> Result<(Vec<usize>, Vec<Numbered>), StoreError> {
        let rows = products.iter().map(|(_, new)| document(&new.product));
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        if rows.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        let insert = async |time| self.insert_rows(rows, time).await;
        let mut refused = HashSet::new();
        for Refused { index, is_there, error } in self.call(Access::Write, insert).await? {
            match error {
                // A first attempt without an answer has inserted it.
                _ if is_there => {}
                StoreError::Duplicate => drop(refused.insert(index)),
                error => return Err(error),
            }
        }
        let (taken, added) = products
            .into_iter()
            .enumerate()
            .partition::<Vec<_>, _>(|(index, _)| refused.contains(index));
        let added = added.into_iter().map(|(_, (number, _))| number).collect();
        Ok((added, taken.into_iter().map(|(_, new)| new).collect()))
    }

    /// Puts `new` in the place of `before`; `None` if that was changed in the meantime.
    async fn replace_old(
        &self,
        before: &Product,
        new: Replacement,
    ) -> Result<Option<ImportOutcome>, StoreError> {
        Ok(match self.replace(before.id, Some(before.version), new).await? {
            WriteOutcome::Done(_) => Some(ImportOutcome::Updated),
            WriteOutcome::Refused(refusal) => Some(ImportOutcome::Refused(refusal)),
            WriteOutcome::Changed | WriteOutcome::Missing => None,
        })
    }

    pub(in super::super) async fn export(
        &self,
        last: Option<(Timestamp, ObjectId)>,
    ) -> Result<Vec<Product>, StoreError> {
        let oldest_first = [("created_at", 1), ("_id", 1)];
        let mut filter = live();
        if let Some((created_at, id)) = last {
            let created_at = created_at.timestamp_micros();
            let position = Position { rank: Rank::None, created_at, id };
            filter = doc! { "$and": [filter, after(&oldest_first, &position)] };
        }
        let order = oldest_first.map(|(name, way)| (name.to_owned(), Bson::from(way)));
        let order = order.into_iter().collect::<Document>();
        self.load(self.products.find(filter).sort(order).limit(EXPORT_PAGE)).await
    }
}

/// The `error` of a batch of which some may be written if it `is_begun`.
fn of_batch(error: StoreError, is_begun: bool) -> StoreError {
    match error {
        StoreError::Unreachable(why) if is_begun => StoreError::Connection(why),
        error => error,
    }
}

fn key(product: &Product) -> Option<String> {
    product.sku.as_deref().map(Sku::key)
}

/// `products` up to the first whose SKU is there already, and the others.
fn without_repeats(mut products: Vec<Numbered>) -> (Vec<Numbered>, Vec<Numbered>) {
    let mut known = HashSet::new();
    let is_there = |(_, new): &Numbered| key(&new.product).is_some_and(|key| !known.insert(key));
    let later = match products.iter().position(is_there) {
        Some(end) => products.split_off(end),
        None => Vec::new(),
    };
    (products, later)
}
