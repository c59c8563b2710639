//! The catalogue in MongoDB.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};
use futures_util::TryStreamExt as _;
use mongodb::action::Find;
use mongodb::error::{Error as DriverError, ErrorKind, RETRYABLE_WRITE_ERROR, WriteFailure};
use mongodb::options::{Acknowledgment, ClientOptions, IndexOptions, ReturnDocument, WriteConcern};
use mongodb::{Client, Collection, IndexModel};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::super::model::StockChange;
use super::super::page::{Filter, PageRequest, Position, Rank, Sort};
use super::super::values::Sku;
use super::super::words::{sort_key, words};
use super::{Replacement, StockOutcome, WriteOutcome, decode_price, decode_time};
use crate::contract::{CategorySummary, Product, Stock, Version, now};
use crate::storage::copy::BATCH;
use crate::storage::{Access, Limits, Permits, SetupError, StoreError, late, within};

/// The database, if the URL names none.
const DATABASE: &str = "shop";
/// How often the driver checks the server.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// How much longer than the server's own limit the program waits for the answer to a command.
const GRACE: Duration = Duration::from_millis(100);
/// How long one attempt to create the indexes may take; the server continues it afterwards.
const PREPARING: Duration = Duration::from_secs(60);
/// The server's code for a second document with the same unique value.
const DUPLICATE_KEY: i32 = 11000;

/// Codes of a server that stops, steps down or recovers, of timeouts, also of replication, and of busy locks.
const RETRYABLE: [i32; 12] = [24, 50, 64, 91, 100, 189, 202, 262, 11600, 11601, 11602, 13436];
/// Codes of a server that takes no writes, because another is the primary.
const READ_ONLY: [i32; 3] = [10058, 10107, 13435];
/// Codes of a full disk or quota. Atlas has one code for many errors, told apart by their text.
const FULL: [i32; 2] = [12501, 14031];
const ATLAS: i32 = 8000;
const QUOTA: &str = "quota";

/// A product as it is stored; the units are those of the SQLite table.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    #[serde(rename = "_id")]
    id: ObjectId,
    name: String,
    price: i64,
    created_at: i64,
    version: i64,
    /// Old documents have neither this nor what follows.
    #[serde(default)]
    revision: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    category: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sku: Option<String>,
    /// The SKU, folded; absent from what was removed, so that another may have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    sku_key: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    images: Vec<String>,
    /// JSON, because BSON has other numbers and no names with dots.
    #[serde(skip_serializing_if = "Option::is_none")]
    attributes: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_hand: Option<i64>,
    #[serde(default)]
    reserved: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<i64>,
    #[serde(default)]
    popularity: i64,
}

/// A category, counted.
#[derive(Deserialize)]
struct CategoryRow {
    #[serde(rename = "_id")]
    name: String,
    products: i64,
}

/// The fields of a document that may be absent, and that a replacement sets.
const OPTIONAL: [&str; 7] =
    ["description", "category", "tags", "sku", "sku_key", "images", "attributes"];

/// The catalogue in a collection.
#[derive(Clone, Debug)]
pub(super) struct Store {
    products: Collection<Row>,
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
        let products = client.database(&database).collection("products");
        Ok(Self { products, permits, patience: limits.statement, concern })
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
            by("word", doc! { "words": 1 }),
        ];
        let making = async {
            let before = self.products.list_index_names().await.unwrap_or_default();
            let mut made = self.products.create_indexes(indexes).await?.index_names;
            made.retain(|name| !before.contains(name));
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

    /// Gives documents from before what a search looks at.
    async fn complete(&self) -> Result<(), StoreError> {
        loop {
            let old = self.products.find(doc! { "name_key": Bson::Null }).limit(BATCH as i64);
            let old = old.await?.try_collect::<Vec<_>>().await?;
            if old.is_empty() {
                return Ok(());
            }
            for row in old {
                let product = product(row)?;
                let mut values = found_by(&product);
                values.insert("in_stock", product.stock.is_in());
                values.insert("popularity", product.popularity);
                // What was changed in the meantime has them.
                let unchanged = doc! { "_id": product.id, "name_key": Bson::Null };
                self.products.update_one(unchanged, doc! { "$set": values }).await?;
            }
        }
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
        failures.into_iter().next().map_or(Ok(()), Err)
    }

    /// Each product by itself: existing ones do not stop the others.
    pub(super) async fn insert_missing(&self, products: Vec<Product>) -> Result<usize, StoreError> {
        let rows = products.iter().map(document).collect::<Result<Vec<_>, _>>()?;
        let insert = async |time| self.insert_rows(rows, time).await;
        let failures = self.call(Access::Write, insert).await?;
        let there = failures.len();
        match failures.into_iter().find(|failure| !matches!(failure, StoreError::Duplicate)) {
            Some(failure) => Err(failure),
            None => Ok(products.len() - there),
        }
    }

    /// Inserts `rows` in a command that the server gives up after `time`; the driver's own insert has no such limit.
    /// Returns the errors of rows that were not inserted. Repeats an attempt with an unknown outcome once.
    async fn insert_rows(
        &self,
        rows: Vec<Document>,
        time: Duration,
    ) -> Result<Vec<StoreError>, StoreError> {
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
        let first = inserted(database.run_command(command(time)).await);
        let left = time.saturating_sub(begun.elapsed());
        match first {
            Err(Attempt::Unknown(_)) if !left.is_zero() => {}
            Err(Attempt::Unknown(error) | Attempt::Failed(error)) => return Err(error),
            Ok(failures) => return Ok(failures),
        }
        match inserted(database.run_command(command(left.max(Duration::from_millis(1)))).await) {
            // This error is the second attempt's; the first may have succeeded.
            Err(Attempt::Unknown(error) | Attempt::Failed(error)) => {
                Err(StoreError::Connection(error.to_string()))
            }
            // A new id cannot be taken: the first attempt inserted it. A SKU can be.
            Ok(failures) if ids.len() == 1 && matches!(failures[..], [StoreError::Duplicate]) => {
                let is_there =
                    self.row(ids[0], left.max(Duration::from_millis(1))).await?.is_some();
                Ok(if is_there { Vec::new() } else { failures })
            }
            Ok(failures) => Ok(failures),
        }
    }

    pub(super) async fn replace(
        &self,
        id: ObjectId,
        expected: Option<Version>,
        new: Replacement,
    ) -> Result<WriteOutcome, StoreError> {
        let mut values = document(&new.product)?;
        for name in ["_id", "created_at", "version", "reserved", "popularity"] {
            values.remove(name);
        }
        values.insert("revision", Version::draw());
        let stock = new.sets_stock.then_some("on_hand");
        if stock.is_none() {
            values.remove("on_hand");
            values.remove("in_stock");
        }
        let absent = OPTIONAL.into_iter().chain(stock).filter(|name| !values.contains_key(name));
        let absent = absent.map(|name| (name.to_owned(), Bson::from(""))).collect::<Document>();
        let mut change = doc! { "$set": values, "$inc": { "version": 1_i64 } };
        if !absent.is_empty() {
            change.insert("$unset", absent);
        }
        let update = self.products.find_one_and_update(that(id, expected), change);
        let update = update.return_document(ReturnDocument::After);
        let update = async |time| self.outcome(id, update.max_time(time).await?, time).await;
        self.call(Access::Write, update).await
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
            let begun = Instant::now();
            loop {
                let left = time.saturating_sub(begun.elapsed()).max(Duration::from_millis(1));
                let Some(row) = self.row(id, left).await? else { return Ok(None) };
                let before = product(row)?.stock;
                let after = match change.apply(before) {
                    Ok(after) => after,
                    Err(refusal) => return Ok(Some(Err(refusal))),
                };
                let mut same = that(id, None);
                same.insert("on_hand", before.on_hand);
                // Old documents have none.
                let none = (before.reserved == 0).then_some(Bson::Null);
                let reserved = none.into_iter().chain([before.reserved.into()]).collect::<Vec<_>>();
                same.insert("reserved", doc! { "$in": reserved });
                let values = doc! { "on_hand": after.on_hand, "in_stock": after.is_in() };
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

    pub(super) async fn put(&self, products: Vec<Product>) -> Result<(), StoreError> {
        let there = self.among(products.iter().map(|product| product.id).collect()).await?;
        let there = there.iter().map(|product| product.id).collect::<HashSet<_>>();
        let (old, new) =
            products.into_iter().partition::<Vec<_>, _>(|product| there.contains(&product.id));
        for product in &old {
            let documents = self.products.clone_with_type::<Document>();
            let replace = documents.replace_one(doc! { "_id": product.id }, document(product)?);
            self.call(Access::Write, async |_| Ok(replace.await?)).await?;
        }
        if !new.is_empty() {
            self.insert_missing(new).await?;
        }
        Ok(())
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

/// Why an attempt to insert failed.
enum Attempt {
    /// It may have been done or not.
    Unknown(StoreError),
    Failed(StoreError),
}

/// The errors of rows that were not inserted, from the reply to the command.
fn inserted(reply: Result<Document, DriverError>) -> Result<Vec<StoreError>, Attempt> {
    let reply = reply.map_err(|error| {
        let again =
            matches!(*error.kind, ErrorKind::Io(_) | ErrorKind::ConnectionPoolCleared { .. })
                || error.contains_label(RETRYABLE_WRITE_ERROR);
        let kind = if again { Attempt::Unknown } else { Attempt::Failed };
        kind(error.into())
    })?;
    let failures = reply.get_array("writeErrors").map(Vec::as_slice).unwrap_or_default();
    let failures = failures.iter().filter_map(Bson::as_document).map(failure).collect();
    match reply.get_document("writeConcernError") {
        Ok(error) => Err(Attempt::Failed(of_concern(failure(error)))),
        Err(_) => Ok(failures),
    }
}

/// An error of replication after the write was done: the write may be lost or not.
fn of_concern(error: StoreError) -> StoreError {
    match error {
        StoreError::Full(why) | StoreError::ReadOnly(why) => StoreError::Connection(why),
        error => error,
    }
}

fn failure(error: &Document) -> StoreError {
    let code = match error.get("code") {
        Some(Bson::Int32(code)) => *code,
        Some(Bson::Int64(code)) => i32::try_from(*code).unwrap_or_default(),
        Some(Bson::Double(code)) => *code as i32,
        _ => 0,
    };
    by_code(code, error.get_str("errmsg").unwrap_or("no message"))
}

/// The error for the server's `code` and `text`.
fn by_code(code: i32, text: &str) -> StoreError {
    let why = format!("{text} (code {code})");
    match code {
        DUPLICATE_KEY => StoreError::Duplicate,
        ATLAS if text.contains(QUOTA) => StoreError::Full(why),
        _ if FULL.contains(&code) => StoreError::Full(why),
        _ if READ_ONLY.contains(&code) => StoreError::ReadOnly(why),
        _ if RETRYABLE.contains(&code) => StoreError::Connection(why),
        _ => StoreError::Failed(why),
    }
}

/// A filter for the products that were not removed.
fn live() -> Document {
    doc! { "deleted_at": Bson::Null }
}

/// What documents must have for `filter`.
fn conditions(filter: &Filter) -> Document {
    let mut conditions = live();
    if let Some(category) = &filter.category {
        conditions.insert("category", category);
    }
    if let Some(tag) = &filter.tag {
        conditions.insert("tags", tag);
    }
    let mut price = Document::new();
    price.extend(filter.min_price.map(|least| ("$gte".to_owned(), least.minor().into())));
    price.extend(filter.max_price.map(|most| ("$lte".to_owned(), most.minor().into())));
    if !price.is_empty() {
        conditions.insert("price", price);
    }
    if let Some(in_stock) = filter.in_stock {
        conditions.insert("in_stock", in_stock);
    }
    if !filter.words.is_empty() {
        conditions = doc! { "$and": [conditions, { "$and": begin("words", &filter.words) }] };
    }
    conditions
}

/// That each of `words` begins one in the field `name`. They have no signs that mean anything in a regular expression.
fn begin(name: &str, words: &[String]) -> Vec<Document> {
    let begins = |word: &String| doc! { name: { "$regex": format!("^{word}") } };
    words.iter().map(begins).collect()
}

/// The fields of an order: 1 upwards, -1 downwards.
fn order(sort: Sort) -> Vec<(&'static str, i32)> {
    let newest = [("created_at", -1), ("_id", -1)];
    let first = match sort {
        Sort::Newest | Sort::Relevance => return newest.into(),
        Sort::Price => return vec![("price", 1), ("created_at", 1), ("_id", 1)],
        Sort::PriceDescending => ("price", -1),
        Sort::Name => ("name_key", 1),
        Sort::Popular => ("popularity", -1),
    };
    std::iter::once(first).chain(newest).collect()
}

/// That a document comes after `position` in `order`.
fn after(order: &[(&str, i32)], position: &Position) -> Document {
    let value = |name: &str| match (name, &position.rank) {
        ("created_at", _) => position.created_at.into(),
        ("_id", _) => position.id.into(),
        (_, Rank::Number(number)) => (*number).into(),
        (_, Rank::Text(text)) => text.into(),
        (_, Rank::None) => Bson::Null,
    };
    let beyond = |(n, (name, way)): (usize, &(&str, i32))| {
        let same = order[..n].iter().map(|(name, _)| ((*name).to_owned(), value(name)));
        let mut beyond = same.collect::<Document>();
        let operator = if *way > 0 { "$gt" } else { "$lt" };
        beyond.insert(*name, doc! { operator: value(name) });
        beyond
    };
    doc! { "$or": order.iter().enumerate().map(beyond).collect::<Vec<_>>() }
}

/// A filter for the product with `id` and the `expected` version; `None` accepts any.
fn that(id: ObjectId, expected: Option<Version>) -> Document {
    let mut filter = live();
    filter.insert("_id", id);
    if let Some(Version { count, revision }) = expected {
        filter.insert("version", count);
        // Old documents have no revision.
        let revision =
            if revision == 0 { vec![Bson::Int64(0), Bson::Null] } else { vec![revision.into()] };
        filter.insert("revision", doc! { "$in": revision });
    }
    filter
}

fn row(product: &Product) -> Result<Row, StoreError> {
    let attributes = match &product.attributes {
        attributes if attributes.is_empty() => None,
        attributes => Some(serde_json::to_string(attributes).map_err(StoreError::corrupt)?),
    };
    Ok(Row {
        id: product.id,
        name: product.name.clone(),
        price: product.price.minor(),
        created_at: product.created_at.timestamp_micros(),
        version: product.version.count,
        revision: product.version.revision,
        description: product.description.clone(),
        category: product.category.clone(),
        tags: product.tags.clone(),
        sku: product.sku.clone(),
        sku_key: product.sku.as_deref().map(Sku::key),
        images: product.images.clone(),
        attributes,
        on_hand: product.stock.on_hand,
        reserved: product.stock.reserved,
        updated_at: Some(product.updated_at.timestamp_micros()),
        popularity: product.popularity,
    })
}

/// What is stored of `product`: the row, and what it is found by.
fn document(product: &Product) -> Result<Document, StoreError> {
    let document = bson::serialize_to_document(&row(product)?);
    let mut document = document.map_err(StoreError::corrupt)?;
    document.extend(found_by(product));
    document.insert("in_stock", product.stock.is_in());
    Ok(document)
}

/// The fields that a search looks at.
fn found_by(product: &Product) -> Document {
    let name = words(&product.name);
    let more = product.tags.iter().chain(&product.category).chain(&product.description);
    let mut all = more.flat_map(|text| words(text)).chain(name.iter().cloned()).collect::<Vec<_>>();
    all.sort_unstable();
    all.dedup();
    doc! { "name_key": sort_key(&product.name), "name_words": name, "words": all }
}

fn product(row: Row) -> Result<Product, StoreError> {
    let attributes = row.attributes.as_deref().map(serde_json::from_str).transpose();
    Ok(Product {
        id: row.id,
        name: row.name,
        price: decode_price(row.price)?,
        description: row.description,
        category: row.category,
        tags: row.tags,
        sku: row.sku,
        images: row.images,
        attributes: attributes.map_err(StoreError::corrupt)?.unwrap_or_default(),
        stock: Stock { on_hand: row.on_hand, reserved: row.reserved },
        created_at: decode_time(row.created_at)?,
        updated_at: decode_time(row.updated_at.unwrap_or(row.created_at))?,
        popularity: row.popularity,
        version: Version { count: row.version, revision: row.revision },
    })
}

impl From<DriverError> for StoreError {
    fn from(error: DriverError) -> Self {
        let known = match *error.kind {
            ErrorKind::ServerSelection { .. } | ErrorKind::DnsResolve { .. } => {
                Self::Unreachable(error.to_string())
            }
            // The driver also clears the pool under running calls.
            ErrorKind::Io(_) | ErrorKind::ConnectionPoolCleared { .. } => {
                Self::Connection(error.to_string())
            }
            ErrorKind::Command(ref error) => by_code(error.code, &error.message),
            ErrorKind::Write(WriteFailure::WriteError(ref error)) => {
                by_code(error.code, &error.message)
            }
            ErrorKind::Write(WriteFailure::WriteConcernError(ref error)) => {
                of_concern(by_code(error.code, &error.message))
            }
            _ => Self::Failed(error.to_string()),
        };
        match known {
            Self::Failed(why) if error.contains_label(RETRYABLE_WRITE_ERROR) => {
                Self::Connection(why)
            }
            known => known,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn each_way_of_the_server_to_say_that_it_cannot_write_has_its_answer() {
        for (code, text, answer) in [
            (14031, "no space left", 507),
            (12501, "quota exceeded", 507),
            (8000, "you are over your space quota, using 512 MB of 512 MB", 507),
            (8000, "an error of another kind", 500),
            (10107, "not primary", 503),
            (13436, "node is recovering", 503),
            (50, "operation exceeded time limit", 503),
            (64, "waiting for replication timed out", 503),
            (11000, "duplicate key", 409),
            (2, "bad value", 500),
        ] {
            let error = Error::from(by_code(code, text));
            assert_eq!(error.kind().status().as_u16(), answer, "{code}");
        }
    }
}
