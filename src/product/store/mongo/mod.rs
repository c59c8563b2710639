//! The catalogue in MongoDB.

mod complete;
mod copies;
mod document;
mod errors;
mod filters;
mod import;
mod reservations;
mod sales;
mod stock;

use std::time::{Duration, Instant};

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};
use futures_util::TryStreamExt as _;
use mongodb::action::Find;
use mongodb::options::{Acknowledgment, ClientOptions, IndexOptions, ReturnDocument, WriteConcern};
use mongodb::{Client, Collection, IndexModel};
use serde::Deserialize;
use tokio::time::timeout;

use super::super::model::StockChange;
use super::super::page::{PageRequest, Position, Rank, Sort};
use super::{Replacement, StockOutcome, WriteOutcome};
use crate::contract::{CategorySummary, Product, Stock, Version, now};
use crate::storage::copy::BATCH;
use crate::storage::{Access, Limits, Permits, SetupError, StoreError, late, within};
use document::{Row, document, product, replacing};
use errors::{Attempt, Refused, refused};
use filters::{after, begin, conditions, live, number, order, that};
pub(super) use import::TOGETHER;
use stock::follow;

/// The database, if the URL names none.
const DATABASE: &str = "shop";
/// How often the driver checks the server.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// How much longer than the server's own limit the program waits for the answer to a command.
const GRACE: Duration = Duration::from_millis(100);
/// How long one attempt to create the indexes may take; the server continues it afterwards.
const PREPARING: Duration = Duration::from_secs(60);
/// A category, counted.
#[derive(Deserialize)]
struct CategoryRow {
    #[serde(rename = "_id")]
    name: String,
    products: i64,
}

/// The catalogue in a collection.
#[derive(Clone, Debug)]
pub(super) struct Store {
    products: Collection<Row>,
    reservations: reservations::Reservations,
    permits: Permits,
    /// How long a command may take.
    patience: Duration,
    /// The write concern of commands.
    concern: Document,
}

impl Store {
    /// The catalogue at `options`, which come from its URL. Opens no connection yet; belongs to the runtime that it is
    /// opened in.
    pub(super) fn open(options: &ClientOptions, limits: &Limits) -> Result<Self, SetupError> {
        let mut options = options.clone();
        options.app_name.get_or_insert_with(|| "app".to_owned());
        options.max_pool_size.get_or_insert(limits.size);
        options.heartbeat_freq.get_or_insert(HEARTBEAT);
        options.server_selection_timeout.get_or_insert(limits.acquire);
        options.connect_timeout.get_or_insert(limits.acquire);
        // Acknowledged writes must survive the loss of a server, and a power cut.
        let durable = WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build();
        let concern = options.write_concern.get_or_insert(durable);
        concern.w_timeout.get_or_insert(limits.statement);
        let concern = bson::serialize_to_document(concern).map_err(SetupError::of_server)?;
        // The driver does not bound the wait for a connection; the permits do.
        let size = options.max_pool_size.unwrap_or(limits.size);
        let permits = Permits::new(&Limits { size, ..limits.clone() });
        let database = options.default_database.clone().unwrap_or_else(|| DATABASE.to_owned());
        let client = Client::with_options(options).map_err(SetupError::of_server)?;
        let database = client.database(&database);
        let products = database.collection("products");
        let reservations = reservations::Reservations::new(&database);
        Ok(Self { products, reservations, permits, patience: limits.statement, concern })
    }

    /// Creates missing indexes; several processes may do so at once.
    pub(super) async fn prepare(&self) -> Result<Vec<String>, StoreError> {
        // The order of the catalogue, newest first: a page is a range of this index.
        let order = IndexModel::builder()
            .keys(doc! { "created_at": -1, "_id": -1 })
            .options(
                IndexOptions::builder().name("products_by_age".to_owned()).unique(true).build(),
            )
            .build();
        let skus = IndexOptions::builder().name("products_by_sku".to_owned());
        let skus = IndexModel::builder()
            .keys(doc! { "sku_key": 1 })
            .options(skus.unique(true).sparse(true).build())
            .build();
        let by = |name: &str, keys: Document| {
            let options = IndexOptions::builder().name(format!("products_by_{name}")).build();
            IndexModel::builder().keys(keys).options(options).build()
        };
        let indexes = [
            order,
            skus,
            by("price", doc! { "price": 1, "created_at": 1, "_id": 1 }),
            by("name", doc! { "name_key": 1, "created_at": -1, "_id": -1 }),
            by("popularity", doc! { "popularity": -1, "created_at": -1, "_id": -1 }),
            by("category", doc! { "category": 1, "created_at": -1, "_id": -1 }),
            by("tag", doc! { "tags": 1, "created_at": -1, "_id": -1 }),
            by("stock", doc! { "in_stock": 1, "created_at": -1, "_id": -1 }),
            by("word", doc! { "words": 1 }),
            by("available", doc! { "deleted_at": 1, "available": 1, "_id": 1 }),
        ];
        let making = async {
            let before = self.products.list_index_names().await.unwrap_or_default();
            let mut made = self.products.create_indexes(indexes).await?.index_names;
            made.retain(|name| !before.contains(name));
            self.reservations.prepare().await?;
            self.prepare_sales().await?;
            self.complete().await?;
            Ok(made)
        };
        timeout(PREPARING, making).await.unwrap_or_else(|_| late())
    }

    /// Waits for a permit and runs `call` with the time that it may take. A call that takes longer is dropped, which closes
    /// its connection.
    async fn call<T>(
        &self,
        access: Access,
        call: impl AsyncFnOnce(Duration) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let _permit = self.permits.take(access).await?;
        let time = within(self.patience).saturating_duration_since(Instant::now());
        // To the server, 0 means no limit.
        let time = time.max(Duration::from_millis(1));
        timeout(time + GRACE, call(time)).await.unwrap_or_else(|_| late())
    }

    pub(super) async fn page(&self, page: PageRequest) -> Result<Vec<Product>, StoreError> {
        let (position, limit) = (page.position.as_ref(), page.limit_and_one());
        let Some(filter) = page.filter.as_deref() else {
            return self.range(live(), Sort::Newest, position, limit).await;
        };
        let all = conditions(filter);
        if filter.sort != Sort::Relevance {
            return self.range(all, filter.sort, position, limit).await;
        }
        // Those with all words in their names come first.
        let in_name = doc! { "$and": begin("name_words", &filter.words) };
        let is_first = position.is_none_or(|position| position.rank == Rank::Number(0));
        let mut found = Vec::new();
        if is_first {
            let first = doc! { "$and": [&all, &in_name] };
            found = self.range(first, Sort::Newest, position, limit).await?;
        }
        let left = limit - found.len() as i64;
        if left > 0 {
            let others = doc! { "$and": [all, { "$nor": [in_name] }] };
            let position = position.filter(|_| !is_first);
            found.extend(self.range(others, Sort::Newest, position, left).await?);
        }
        Ok(found)
    }

    /// At most `limit` products that pass `filter`, after `position` in the order of `sort`.
    async fn range(
        &self,
        mut filter: Document,
        sort: Sort,
        position: Option<&Position>,
        limit: i64,
    ) -> Result<Vec<Product>, StoreError> {
        let order = order(sort);
        if let Some(position) = position {
            filter = doc! { "$and": [filter, after(&order, position)] };
        }
        let order = order.iter().map(|(name, way)| ((*name).to_owned(), (*way).into()));
        let order = order.collect::<Document>();
        self.load(self.products.find(filter).sort(order).limit(limit)).await
    }

    async fn load(&self, rows: Find<'_, Row>) -> Result<Vec<Product>, StoreError> {
        let load = async |time| Ok(rows.max_time(time).await?.try_collect::<Vec<_>>().await?);
        let rows = self.call(Access::Read, load).await?;
        rows.into_iter().map(product).collect()
    }

    pub(super) async fn categories(&self) -> Result<Vec<CategorySummary>, StoreError> {
        let mut with_category = live();
        with_category.insert("category", doc! { "$ne": Bson::Null });
        let count = self.products.aggregate([
            doc! { "$match": with_category },
            doc! { "$group": { "_id": "$category", "products": { "$sum": 1_i64 } } },
            doc! { "$sort": { "_id": 1 } },
        ]);
        let count = count.with_type::<CategoryRow>();
        let load = async |time| Ok(count.max_time(time).await?.try_collect::<Vec<_>>().await?);
        let rows = self.call(Access::Read, load).await?;
        Ok(rows
            .into_iter()
            .map(|CategoryRow { name, products }| CategorySummary { name, products })
            .collect())
    }

    pub(super) async fn find(&self, id: ObjectId) -> Result<Option<Product>, StoreError> {
        let row = self.call(Access::Read, async |time| self.row(id, time).await).await?;
        row.map(product).transpose()
    }

    async fn row(&self, id: ObjectId, time: Duration) -> Result<Option<Row>, StoreError> {
        Ok(self.products.find_one(that(id, None)).max_time(time).await?)
    }

    pub(super) async fn insert(&self, product: Product) -> Result<(), StoreError> {
        let rows = vec![document(&product)?];
        let insert = async |time| self.insert_rows(rows, time).await;
        let failures = self.call(Access::Write, insert).await?;
        failures.into_iter().next().map_or(Ok(()), |refused| Err(refused.error))
    }

    /// Inserts `rows` in a command that the server gives up after `time`; the driver's own insert has no such limit.
    /// Returns the rows that were not inserted. Repeats an attempt with an unknown outcome once.
    async fn insert_rows(
        &self,
        rows: Vec<Document>,
        time: Duration,
    ) -> Result<Vec<Refused>, StoreError> {
        let (begun, database) =
            (Instant::now(), self.products.client().database(&self.products.namespace().db));
        let ids = rows.iter().filter_map(|row| row.get_object_id("_id").ok()).collect::<Vec<_>>();
        let command = |time: Duration| {
            doc! {
                "insert": self.products.name(),
                "documents": rows.clone(),
                "ordered": false,
                "writeConcern": self.concern.clone(),
                "maxTimeMS": i64::try_from(time.as_millis()).unwrap_or(i64::MAX),
            }
        };
        let first = refused(database.run_command(command(time)).await);
        let left = time.saturating_sub(begun.elapsed());
        match first {
            Err(Attempt::Unknown(_)) if !left.is_zero() => {}
            first => return Ok(first?),
        }
        // What goes wrong from here on is the second attempt's; the first may have succeeded.
        let unknown = |error: StoreError| StoreError::Connection(error.to_string());
        let left = left.max(Duration::from_millis(1));
        let second = refused(database.run_command(command(left)).await);
        let failures = second.map_err(|attempt| unknown(attempt.into()))?;
        // A new id cannot be taken: the first attempt inserted it. A SKU can be.
        let ([id], [Refused { error: StoreError::Duplicate, is_there, .. }]) = (&*ids, &*failures)
        else {
            return Ok(failures);
        };
        let is_there = *is_there || self.row(*id, left).await.map_err(unknown)?.is_some();
        Ok(if is_there { Vec::new() } else { failures })
    }

    pub(super) async fn replace(
        &self,
        id: ObjectId,
        expected: Option<Version>,
        new: Replacement,
    ) -> Result<WriteOutcome, StoreError> {
        let replace = async |time: Duration| {
            let begun = Instant::now();
            loop {
                let left = time.saturating_sub(begun.elapsed()).max(Duration::from_millis(1));
                let mut same = that(id, expected);
                let mut stock = new.sets_stock.then(Stock::default);
                // What is available follows from what is reserved.
                let is_counted = new.sets_stock && new.product.stock.on_hand.is_some();
                if is_counted {
                    let Some(before) = self.row(id, left).await?.map(product).transpose()? else {
                        return Ok(WriteOutcome::Missing);
                    };
                    if expected.is_some_and(|expected| expected != before.version) {
                        return Ok(WriteOutcome::Changed);
                    }
                    if let Err(refusal) = new.check(before.stock) {
                        return Ok(WriteOutcome::Refused(refusal));
                    }
                    same.insert("reserved", number(before.stock.reserved));
                    stock = Some(before.stock);
                }
                let update = self.products.find_one_and_update(same, replacing(&new, stock)?);
                let update = update.return_document(ReturnDocument::After).max_time(left);
                match self.outcome(id, update.await?, left).await? {
                    // Perhaps only the pieces that are reserved.
                    WriteOutcome::Changed if is_counted => {}
                    outcome => return Ok(outcome),
                }
                if begun.elapsed() >= time {
                    return late();
                }
            }
        };
        self.call(Access::Write, replace).await
    }

    pub(super) async fn remove(
        &self,
        id: ObjectId,
        expected: Option<Version>,
    ) -> Result<WriteOutcome, StoreError> {
        let deleted = doc! { "deleted_at": now().timestamp_micros() };
        let change = doc! { "$set": deleted, "$unset": { "sku_key": "" } };
        let delete = self.products.find_one_and_update(that(id, expected), change);
        let delete = async |time| self.outcome(id, delete.max_time(time).await?, time).await;
        self.call(Access::Write, delete).await
    }

    /// Changes the pieces if nobody has changed them in the meantime, or tries again.
    pub(super) async fn change_stock(
        &self,
        id: ObjectId,
        change: StockChange,
    ) -> Result<StockOutcome, StoreError> {
        let change = async |time: Duration| {
            let (begun, mark) = (Instant::now(), Version::draw());
            let mut last = None;
            loop {
                let left = time.saturating_sub(begun.elapsed()).max(Duration::from_millis(1));
                let Some(row) = self.row(id, left).await? else { return Ok(None) };
                // The driver sends an update again whose answer is lost, and a server that was killed may not know that it
                // has done it: the second one finds other numbers.
                if row.stock_change == Some(mark) && last.is_some() {
                    return Ok(last.map(Ok));
                }
                let before = product(row)?.stock;
                let after = match change.apply(before) {
                    Ok(after) => after,
                    Err(refusal) => return Ok(Some(Err(refusal))),
                };
                let mut same = that(id, None);
                same.insert("on_hand", before.on_hand);
                same.insert("reserved", number(before.reserved));
                let mut values = follow(after);
                values.extend(doc! { "on_hand": after.on_hand, "stock_change": mark });
                last = Some((before, after));
                let update = self.products.find_one_and_update(same, doc! { "$set": values });
                if update.max_time(left).await?.is_some() {
                    return Ok(Some(Ok((before, after))));
                }
                if begun.elapsed() >= time {
                    return late();
                }
            }
        };
        self.call(Access::Write, change).await
    }

    /// The outcome of a write that changed `row`, or why it changed none.
    async fn outcome(
        &self,
        id: ObjectId,
        row: Option<Row>,
        time: Duration,
    ) -> Result<WriteOutcome, StoreError> {
        if let Some(row) = row {
            return Ok(WriteOutcome::Done(Box::new(product(row)?)));
        }
        let there = self.row(id, time).await?.is_some();
        Ok(if there { WriteOutcome::Changed } else { WriteOutcome::Missing })
    }

    pub(super) async fn count(&self) -> Result<u64, StoreError> {
        let count = self.products.count_documents(live());
        self.call(Access::Read, async |time| Ok(count.max_time(time).await?)).await
    }

    pub(super) async fn behind(&self, last: ObjectId) -> Result<Vec<Product>, StoreError> {
        let mut behind = live();
        behind.insert("_id", doc! { "$gt": last });
        let rows = self.products.find(behind).sort(doc! { "_id": 1 });
        self.load(rows.limit(BATCH as i64)).await
    }

    pub(super) async fn among(&self, ids: Vec<ObjectId>) -> Result<Vec<Product>, StoreError> {
        let mut among = live();
        among.insert("_id", doc! { "$in": ids });
        self.load(self.products.find(among)).await
    }

    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        let database = self.products.client().database("admin");
        let ping = database.run_command(doc! { "ping": 1 });
        self.call(Access::Read, async |_| Ok(ping.await.map(drop)?)).await
    }

    /// MongoDB has no write without a trace.
    pub(super) async fn try_write(&self) -> Result<bool, StoreError> {
        Ok(false)
    }
}
