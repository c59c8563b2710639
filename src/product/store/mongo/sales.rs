//! What was sold, in MongoDB, without transactions of several documents, which a standalone server does not have.
//!
//! Sales raise counters: the popularity of products, and the orders that pairs of them are in. (1) The counters of some
//! sales are read, and *then* which of the sales are done. (2) Each counter is raised by its sales that are neither done nor
//! noted there, and notes them, in one update that fails if its count is not the one that was read. This is repeated until
//! nothing is left to raise; then (3) the sales are written down as done, and (4) their notes are removed. So a counter has
//! notes only of what is being counted, and whoever is given the same sales goes on where another one has stopped.
//!
//! Why no counter is raised twice by a sale: counts only grow, so (2) fails if the counter was raised since it was read. If
//! the sale had raised it before that, either its note was there, or (4) had removed it; then the sale was done before the
//! counter was read, and was read as done. Why none is left out: (3) follows a round that has found the note of every sale
//! in each of its counters.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::time::{Duration, Instant};

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};
use futures_util::TryStreamExt as _;
use mongodb::{Collection, IndexModel};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::super::super::page::Sort;
use super::super::super::sales::Sale;
use super::Store;
use super::filters::{live, number};
use crate::contract::{Product, Timestamp, now};
use crate::storage::{Access, StoreError, late};

/// The collection of pairs of products, and that of sales that are done.
const PAIRS: &str = "bought_with";
const SALES: &str = "sales";
/// How many sales are forgotten together.
const SWEEP: i64 = 500;

/// A counter as it was read.
#[derive(Deserialize)]
struct Counter<I> {
    #[serde(rename = "_id")]
    id: I,
    #[serde(default, alias = "popularity", alias = "orders")]
    count: i64,
    /// The events of the sales that have raised it and are not done.
    #[serde(default)]
    counting: Vec<String>,
}

/// What raises a counter.
#[derive(Default)]
struct Raise<'a> {
    by: i64,
    events: Vec<&'a str>,
}

/// A pair of products.
#[derive(Deserialize)]
struct Pair {
    other: ObjectId,
    orders: i64,
}

/// A sale that is done.
#[derive(Deserialize)]
struct Done {
    #[serde(rename = "_id")]
    event: String,
}

impl Store {
    /// Creates missing indexes.
    pub(super) async fn prepare_sales(&self) -> Result<(), StoreError> {
        let most = doc! { "product": 1, "orders": -1, "other": -1 };
        for (collection, keys) in [(PAIRS, most), (SALES, doc! { "created_at": 1 })] {
            let index = IndexModel::builder().keys(keys).build();
            self.collection::<Document>(collection).create_index(index).await?;
        }
        Ok(())
    }

    pub(in super::super) async fn count_sales(&self, sales: Vec<Sale>) -> Result<(), StoreError> {
        let count = async |time: Duration| {
            let begun = Instant::now();
            while !self.raise(&sales, time).await? {
                if begun.elapsed() >= time {
                    return late();
                }
            }
            self.finish(&sales).await
        };
        self.call(Access::Write, count).await
    }

    /// Raises the counters of `sales`, unless another one comes first; returns whether there was nothing to do.
    async fn raise(&self, sales: &[Sale], time: Duration) -> Result<bool, StoreError> {
        let mut there = among(products(sales));
        there.extend(live());
        let products = self.counters::<ObjectId>("products", there, "popularity", time).await?;
        let pairs = self.counters::<String>(PAIRS, among(pairs(sales)), "orders", time).await?;
        let done = among(sales.iter().map(|sale| &*sale.event));
        let done = self.found::<Done>(SALES, done, doc! { "_id": 1 }, time).await?;
        let done = done.into_iter().map(|done| done.event).collect::<HashSet<_>>();

        let (mut of_products, mut of_pairs) = (HashMap::new(), HashMap::new());
        for sale in sales.iter().filter(|sale| !done.contains(&sale.event)) {
            for &(product, quantity) in &sale.lines {
                if let Some(counter) = products.get(&product) {
                    note(&mut of_products, product, Some(counter), sale, quantity);
                }
            }
            for pair in sale.pairs() {
                if products.contains_key(&pair.0) && products.contains_key(&pair.1) {
                    note(&mut of_pairs, pair, pairs.get(&pair_id(pair)), sale, 1);
                }
            }
        }
        let is_over = of_products.is_empty() && of_pairs.is_empty();
        let of_product = |(id, raise): (ObjectId, Raise<'_>)| {
            let count = products.get(&id).map_or(0, |counter| counter.count);
            let same = doc! { "_id": id, "deleted_at": Bson::Null, "popularity": number(count) };
            doc! { "q": same, "u": raise.update("popularity") }
        };
        let of_pair = |(pair, raise): ((ObjectId, ObjectId), Raise<'_>)| {
            let count = pairs.get(&pair_id(pair)).map_or(0, |counter| counter.count);
            let mut update = raise.update("orders");
            update.insert("$setOnInsert", doc! { "product": pair.0, "other": pair.1 });
            let same = doc! { "_id": pair_id(pair), "orders": count };
            doc! { "q": same, "u": update, "upsert": count == 0 }
        };
        self.write("products", of_products.into_iter().map(of_product).collect()).await?;
        self.write(PAIRS, of_pairs.into_iter().map(of_pair).collect()).await?;
        Ok(is_over)
    }

    /// Writes down that `sales` are done, and then removes their notes.
    async fn finish(&self, sales: &[Sale]) -> Result<(), StoreError> {
        let at = doc! { "$setOnInsert": { "created_at": now().timestamp_micros() } };
        let done = |sale: &Sale| doc! { "q": { "_id": &sale.event }, "u": &at, "upsert": true };
        self.write(SALES, sales.iter().map(done).collect()).await?;
        let events = sales.iter().map(|sale| &*sale.event).collect::<Vec<_>>();
        let forget = |mut noted: Document| {
            let these = doc! { "$in": events.clone() };
            noted.insert("counting", these.clone());
            vec![doc! { "q": noted, "u": { "$pull": { "counting": these } }, "multi": true }]
        };
        self.write("products", forget(among(products(sales)))).await?;
        self.write(PAIRS, forget(among(pairs(sales)))).await
    }

    /// Carries out `updates` of a collection. Where another one has inserted a document first, that stays.
    async fn write(&self, collection: &str, updates: Vec<Document>) -> Result<(), StoreError> {
        let refused = self.update(collection, updates).await?.into_iter();
        let mut errors = refused.map(|refused| refused.error);
        errors.find(|error| !matches!(error, StoreError::Duplicate)).map_or(Ok(()), Err)
    }

    /// The counters of `collection` that pass `filter`; `count` is the field of the number.
    async fn counters<I: DeserializeOwned + Send + Sync + Clone + Eq + Hash>(
        &self,
        collection: &str,
        filter: Document,
        count: &str,
        time: Duration,
    ) -> Result<HashMap<I, Counter<I>>, StoreError> {
        let fields = doc! { count: 1, "counting": 1 };
        let found = self.found::<Counter<I>>(collection, filter, fields, time).await?;
        Ok(found.into_iter().map(|counter| (counter.id.clone(), counter)).collect())
    }

    async fn found<T: DeserializeOwned + Send + Sync>(
        &self,
        collection: &str,
        filter: Document,
        fields: Document,
        time: Duration,
    ) -> Result<Vec<T>, StoreError> {
        let collection = self.collection::<T>(collection);
        let found = collection.find(filter).projection(fields).max_time(time);
        Ok(found.await?.try_collect().await?)
    }

    fn collection<T: Send + Sync>(&self, name: &str) -> Collection<T> {
        self.products.client().database(&self.products.namespace().db).collection(name)
    }

    pub(in super::super) async fn bought_with(
        &self,
        with: Vec<ObjectId>,
        limit: i64,
    ) -> Result<Vec<(ObjectId, i64)>, StoreError> {
        let limit = limit * with.len() as i64;
        let bought = doc! { "product": { "$in": &with }, "other": { "$nin": &with } };
        let pairs = self.collection::<Pair>(PAIRS);
        let pairs = pairs.find(bought).sort(doc! { "orders": -1, "other": -1 }).limit(limit);
        let load = async |time| Ok(pairs.max_time(time).await?.try_collect::<Vec<_>>().await?);
        let pairs = self.call(Access::Read, load).await?;
        Ok(pairs.into_iter().map(|pair| (pair.other, pair.orders)).collect())
    }

    pub(in super::super) async fn popular(&self, limit: i64) -> Result<Vec<Product>, StoreError> {
        self.range(live(), Sort::Popular, None, limit).await
    }

    /// Forgets some sales that were done before `forgotten`; returns whether there may be more.
    pub(in super::super) async fn forget_sales(
        &self,
        forgotten: Timestamp,
    ) -> Result<bool, StoreError> {
        let sales = self.collection::<Done>(SALES);
        let old = doc! { "created_at": { "$lt": forgotten.timestamp_micros() } };
        let old = sales.find(old).projection(doc! { "_id": 1 }).limit(SWEEP);
        let load = async |time| Ok(old.max_time(time).await?.try_collect::<Vec<_>>().await?);
        let old = self.call(Access::Read, load).await?;
        let number = old.len() as i64;
        if number > 0 {
            let delete = sales.delete_many(among(old.into_iter().map(|done| done.event)));
            self.call(Access::Write, async |_| Ok(delete.await.map(drop)?)).await?;
        }
        Ok(number == SWEEP)
    }
}

impl Raise<'_> {
    /// The update of a counter whose number is in `field`.
    fn update(&self, field: &str) -> Document {
        let noted = doc! { "counting": { "$each": &self.events } };
        doc! { "$inc": { field: self.by }, "$push": noted }
    }
}

/// Adds to `raises` that `sale` raises the counter with `id`, unless it has done so.
fn note<'a, K: Eq + Hash, I>(
    raises: &mut HashMap<K, Raise<'a>>,
    id: K,
    counter: Option<&Counter<I>>,
    sale: &'a Sale,
    by: i64,
) {
    if counter.is_none_or(|counter| !counter.counting.contains(&sale.event)) {
        let raise = raises.entry(id).or_default();
        raise.by += by;
        raise.events.push(&sale.event);
    }
}

/// The products of `sales`, also those that are not there.
fn products(sales: &[Sale]) -> impl Iterator<Item = ObjectId> {
    sales.iter().flat_map(|sale| sale.lines.iter().map(|(product, _)| *product))
}

/// The ids of the pairs of `sales`.
fn pairs(sales: &[Sale]) -> impl Iterator<Item = String> {
    sales.iter().flat_map(|sale| sale.pairs().map(pair_id))
}

fn pair_id((product, other): (ObjectId, ObjectId)) -> String {
    format!("{product}-{other}")
}

/// A filter for the documents with these ids.
fn among(ids: impl Iterator<Item = impl Into<Bson>>) -> Document {
    doc! { "_id": { "$in": ids.map(Into::into).collect::<Vec<Bson>>() } }
}
