//! The catalogue's store; the URL selects the back end.

mod mongo;
mod sqlite;
mod write;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bson::oid::ObjectId;
use chrono::DateTime;
use mongodb::options::ClientOptions;
use secrecy::ExposeSecret as _;
use uuid::Uuid;

use super::cache::Cache;
use super::low_stock::LowStockPage;
use super::model::{StockChange, StockRefusal};
use super::page::PageRequest;
use super::reservations::{Hold, Refusal, Step, Wanted};
use super::sales::Sale;
use super::supply::Supply;
use super::values::Sku;
use crate::config::{DocumentUrl, Product as Options, hide_password};
use crate::contract::{CategorySummary, LowStock, Money, Product, Stock, Timestamp, Version, now};
use crate::error::Cause;
use crate::storage::copy::{Rows, Written};
use crate::storage::{Limits, SetupError, StoreError, StoreName, StoreState, run_to_completion};

/// How many products are exported together. The largest have more than 100 KB each, which are in memory up to three times.
const EXPORT_PAGE: i64 = 100;

/// The catalogue's database, and whether it is prepared; shared by the threads of a process.
#[derive(Clone, Debug)]
pub(super) struct Database {
    back_end: BackEnd,
    limits: Limits,
}

#[derive(Clone, Debug)]
enum BackEnd {
    Sqlite(std::path::PathBuf),
    Mongo(Box<ClientOptions>),
}

/// The catalogue, for one worker thread.
#[derive(Clone, Debug)]
pub(super) struct Store {
    back_end: Opened,
    place: Database,
}

#[derive(Clone, Debug)]
enum Opened {
    Sqlite(sqlite::Store),
    Mongo(mongo::Store),
}

/// The outcome of a write to a product that may have changed in the meantime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WriteOutcome {
    /// It was done: the product as it is now, or as it was before its removal.
    Done(Box<Product>),
    /// The product does not have the expected version.
    Changed,
    /// There would be less pieces than are reserved.
    Refused(StockRefusal),
    /// There is no such product.
    Missing,
}

/// What takes the place of a product: all of it but its id, the time it was added, its version, and what is reserved.
#[derive(Clone, Debug)]
pub(super) struct Replacement {
    pub(super) product: Product,
    /// Whether the pieces on hand are replaced, too.
    pub(super) sets_stock: bool,
}

impl Replacement {
    /// Checks that it leaves the pieces that are reserved of `before`.
    fn check(&self, before: Stock) -> Result<(), StockRefusal> {
        let stock = StockChange::Set(self.product.stock.on_hand);
        if self.sets_stock { stock.apply(before).map(drop) } else { Ok(()) }
    }

    /// What takes the place of `before`.
    fn of(self, before: &Product) -> Product {
        let on_hand =
            if self.sets_stock { self.product.stock.on_hand } else { before.stock.on_hand };
        Product {
            id: before.id,
            created_at: before.created_at,
            stock: Stock { on_hand, ..before.stock },
            popularity: before.popularity,
            version: Version { count: before.version.count + 1, revision: Version::draw() },
            ..self.product
        }
    }
}

/// The outcome of an import of one product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ImportOutcome {
    /// It was added.
    Created,
    /// It has replaced the one that had its SKU.
    Updated,
    /// Nothing was changed: there would be less pieces than are reserved.
    Refused(StockRefusal),
}

/// The outcome of a change of stock: the pieces before and after it, or why they cannot change so; `None` if there is no
/// such product.
pub(super) type StockOutcome = Option<Result<(Stock, Stock), StockRefusal>>;

impl Database {
    /// The database that `options` name. Resolves a `mongodb+srv` URL by DNS.
    ///
    /// # Errors
    /// When the URL is invalid or cannot be resolved.
    pub(super) async fn find(options: &Options) -> Result<Self, SetupError> {
        let back_end = match &options.database_url {
            DocumentUrl::Sqlite(path) => BackEnd::Sqlite(path.clone()),
            DocumentUrl::Mongo(url) => {
                let parsed = ClientOptions::parse(url.expose_secret()).await;
                let hidden = |error: mongodb::error::Error| hide_password(url, &error.to_string());
                let parsed = parsed.map_err(|error| SetupError::Server(hidden(error)))?;
                BackEnd::Mongo(Box::new(parsed))
            }
        };
        let system = match &back_end {
            BackEnd::Sqlite(_) => "sqlite",
            BackEnd::Mongo(_) => "mongodb",
        };
        let limits = Limits {
            name: StoreName { setting: "product.database", system },
            size: options.pool_size,
            acquire: options.acquire_timeout,
            statement: options.statement_timeout,
            // MongoDB's driver ends calls itself.
            ends_calls: false,
            state: StoreState::default(),
        };
        Ok(Self { back_end, limits })
    }

    /// Checks what would make [`Database::find`] or [`Database::prepare`] fail on this machine, without creating anything.
    ///
    /// # Errors
    /// When the URL is invalid, or the file cannot be used.
    pub(super) async fn check(options: &Options) -> Result<(), SetupError> {
        match &options.database_url {
            DocumentUrl::Sqlite(path) => crate::storage::sqlite::check(path),
            // These need DNS, which is not asked here.
            DocumentUrl::Mongo(url) if url.expose_secret().starts_with("mongodb+srv://") => Ok(()),
            DocumentUrl::Mongo(_) => Self::find(options).await?.open().map(drop),
        }
    }

    /// Whether it is a file of this machine.
    pub(super) fn is_embedded(&self) -> bool {
        matches!(self.back_end, BackEnd::Sqlite(_))
    }

    /// Brings tables and indexes up to date, once per process; returns the migrations that were applied. Blocks on
    /// SQLite.
    ///
    /// # Errors
    /// When the database cannot be reached or changed.
    pub(super) async fn prepare(&self) -> Result<Vec<String>, SetupError> {
        if self.limits.state.is_prepared() {
            return Ok(Vec::new());
        }
        let applied = match &self.back_end {
            BackEnd::Sqlite(path) => sqlite::migrate(path)?,
            BackEnd::Mongo(options) => {
                let store = mongo::Store::open(options, &self.limits)?;
                store.prepare().await?
            }
        };
        self.limits.state.set_prepared();
        Ok(applied)
    }

    /// Asserts that a SQLite file has all migrations; MongoDB has none. Blocks on SQLite.
    ///
    /// # Errors
    /// [`SetupError::NotMigrated`], or why the file cannot be read.
    pub(super) fn expect_migrated(&self) -> Result<(), SetupError> {
        match &self.back_end {
            BackEnd::Sqlite(path) => sqlite::expect_migrated(path),
            BackEnd::Mongo(_) => Ok(()),
        }
    }

    /// Whether tables and indexes are up to date.
    pub(super) fn is_prepared(&self) -> bool {
        self.limits.state.is_prepared()
    }

    /// The store for this thread, assuming that it is prepared: for reading another shop's catalogue.
    ///
    /// # Errors
    /// As [`Database::open`].
    pub(super) fn open_as_it_is(&self) -> Result<Store, SetupError> {
        self.limits.state.set_prepared();
        self.open()
    }

    /// The store for this thread. Opens no connection yet.
    ///
    /// # Errors
    /// When the URL has invalid options.
    pub(super) fn open(&self) -> Result<Store, SetupError> {
        let back_end = match &self.back_end {
            BackEnd::Sqlite(path) => Opened::Sqlite(sqlite::Store::open(path, &self.limits)),
            BackEnd::Mongo(options) => Opened::Mongo(mongo::Store::open(options, &self.limits)?),
        };
        Ok(Store { back_end, place: self.clone() })
    }
}

/// Calls a method of the back end.
macro_rules! call_back_end {
    ($self:ident.$method:ident($($argument:expr),*)) => {{
        let back_end = $self.back_end.clone();
        async move {
            match back_end {
                Opened::Sqlite(store) => store.$method($($argument),*).await,
                // Boxed: its futures are large, and a call on SQLite should not move their room about.
                Opened::Mongo(store) => Box::pin(store.$method($($argument),*)).await,
            }
        }
    }};
}

/// Calls a method of the back end within the limits.
macro_rules! on_back_end {
    ($self:ident.$method:ident($($argument:expr),*)) => {
        run_to_completion(&$self.place.limits, call_back_end!($self.$method($($argument),*))).await
    };
}

impl Store {
    /// The products of `page`, and one more if another page follows.
    pub(super) async fn page(&self, page: PageRequest) -> Result<Vec<Product>, StoreError> {
        on_back_end!(self.page(page))
    }

    /// The products of `page` of which few pieces are left, and one more if another page follows.
    pub(super) async fn low_stock(&self, page: LowStockPage) -> Result<Vec<LowStock>, StoreError> {
        on_back_end!(self.low_stock(page))
    }

    /// The categories that have products, by name.
    pub(super) async fn categories(&self) -> Result<Vec<CategorySummary>, StoreError> {
        on_back_end!(self.categories())
    }

    /// The product with `id`, if there is one.
    pub(super) async fn find(&self, id: ObjectId) -> Result<Option<Product>, StoreError> {
        on_back_end!(self.find(id))
    }

    /// Adds `product` and invalidates `cache`; [`StoreError::Duplicate`] when its SKU is taken.
    pub(super) async fn insert(&self, product: Product, cache: Cache) -> Result<(), StoreError> {
        write::carry_out(&self.place.limits, cache, call_back_end!(self.insert(product))).await
    }

    /// Adds the `products` whose ids are new; returns how many.
    ///
    /// # Errors
    /// Also when another product has the SKU of one.
    pub(super) async fn insert_missing(&self, products: Vec<Product>) -> Result<usize, StoreError> {
        let written = self.add(products).await?;
        match written.refused.into_iter().next() {
            Some((_, why)) => Err(StoreError::Failed(why)),
            None => Ok(written.count as usize),
        }
    }

    /// Replaces the product with `id`, if it has the `expected` version; `None` accepts any. Invalidates `cache`.
    /// [`StoreError::Duplicate`] when another product has its SKU.
    pub(super) async fn replace(
        &self,
        id: ObjectId,
        expected: Option<Version>,
        new: Replacement,
        cache: Cache,
    ) -> Result<WriteOutcome, StoreError> {
        let call = call_back_end!(self.replace(id, expected, new));
        write::carry_out(&self.place.limits, cache, call).await
    }

    /// Removes the product with `id`, if it has the `expected` version; `None` accepts any. Invalidates `cache`.
    pub(super) async fn remove(
        &self,
        id: ObjectId,
        expected: Option<Version>,
        cache: Cache,
    ) -> Result<WriteOutcome, StoreError> {
        let call = call_back_end!(self.remove(id, expected));
        write::carry_out(&self.place.limits, cache, call).await
    }

    /// How many products are best imported together.
    pub(super) fn import_batch(&self) -> usize {
        match &self.back_end {
            Opened::Sqlite(_) => sqlite::TOGETHER,
            Opened::Mongo(_) => mongo::TOGETHER,
        }
    }

    /// Adds or, by their SKUs, replaces `products`, one after the other; returns an outcome for each. Invalidates `cache` if
    /// one was not refused. [`StoreError::Unreachable`] when none was written, and all may be imported again.
    pub(super) async fn import(
        &self,
        products: Vec<Replacement>,
        cache: Cache,
    ) -> Result<Vec<ImportOutcome>, StoreError> {
        let call = call_back_end!(self.import(products));
        let shows = |outcomes: &Vec<_>| {
            outcomes.iter().any(|outcome| !matches!(outcome, ImportOutcome::Refused(_)))
        };
        write::carry_out_if(&self.place.limits, cache, call, shows).await
    }

    /// Some products, the oldest first, after the one with this time and id.
    pub(super) async fn export(
        &self,
        last: Option<(Timestamp, ObjectId)>,
    ) -> Result<Vec<Product>, StoreError> {
        on_back_end!(self.export(last))
    }

    /// Changes the pieces of the product with `id`; returns them as they were and as they are now, or why they cannot change
    /// so, or `None` if there is no such product. Invalidates `cache` if the product comes into stock or goes out of it.
    pub(super) async fn change_stock(
        &self,
        id: ObjectId,
        change: StockChange,
        cache: Cache,
    ) -> Result<StockOutcome, StoreError> {
        let call = call_back_end!(self.change_stock(id, change));
        let shows = |outcome: &StockOutcome| match outcome {
            Some(Ok((before, after))) => before.is_in() != after.is_in(),
            Some(Err(_)) | None => false,
        };
        write::carry_out_if(&self.place.limits, cache, call, shows).await
    }

    /// Reserves what is `wanted` under `id` until `expires_at`, or says why not. Invalidates `cache` if a product goes out of
    /// stock.
    pub(super) async fn reserve(
        &self,
        id: Uuid,
        wanted: Wanted,
        expires_at: Timestamp,
        cache: Cache,
    ) -> Result<Result<Hold, Refusal>, StoreError> {
        self.step(call_back_end!(self.reserve(id, wanted, expires_at)), cache).await
    }

    /// Sells the pieces of the reservation `id`, or says why not.
    pub(super) async fn commit(
        &self,
        id: Uuid,
        cache: Cache,
    ) -> Result<Result<Hold, Refusal>, StoreError> {
        self.step(call_back_end!(self.commit(id)), cache).await
    }

    /// Gives back the pieces of the reservation `id`, if it has any, and uses up its id.
    pub(super) async fn release(&self, id: Uuid, cache: Cache) -> Result<(), StoreError> {
        self.step(call_back_end!(self.release(id)), cache).await
    }

    /// Counts `sales`, each once, however often this is called. What is cached stays.
    pub(super) async fn count_sales(&self, sales: Vec<Sale>) -> Result<(), StoreError> {
        on_back_end!(self.count_sales(sales))
    }

    /// The products that were most often bought with each of `with`, at most about `limit` for each, and in how many orders.
    pub(super) async fn bought_with(
        &self,
        with: Vec<ObjectId>,
        limit: i64,
    ) -> Result<Vec<(ObjectId, i64)>, StoreError> {
        on_back_end!(self.bought_with(with, limit))
    }

    /// The products with `ids`, in any order.
    pub(super) async fn among(&self, ids: Vec<ObjectId>) -> Result<Vec<Product>, StoreError> {
        on_back_end!(self.among(ids))
    }

    /// The `limit` most popular products, and of equal ones the newest.
    pub(super) async fn popular(&self, limit: i64) -> Result<Vec<Product>, StoreError> {
        on_back_end!(self.popular(limit))
    }

    /// Gives back the pieces of reservations that have expired, and deletes some that ended longer than `retention` ago, as
    /// well as notes of sales from before that. Returns whether there may be more to do.
    pub(super) async fn sweep(
        &self,
        retention: Duration,
        cache: Cache,
    ) -> Result<bool, StoreError> {
        let forgotten = now() - retention;
        // Without anything to do, nothing is written, and a store that is away puts nothing in doubt.
        let is_due = on_back_end!(self.is_due(forgotten))?;
        let is_more = is_due && self.step(call_back_end!(self.sweep(forgotten)), cache).await?;
        Ok(on_back_end!(self.forget_sales(forgotten))? || is_more)
    }

    /// Runs a step of a reservation, and invalidates `cache` if a product comes into stock or goes out of it.
    async fn step<T: 'static>(
        &self,
        call: impl Future<Output = Result<Step<T>, StoreError>> + 'static,
        cache: Cache,
    ) -> Result<T, StoreError> {
        let step = write::carry_out_if(&self.place.limits, cache, call, |step| step.shows);
        step.await.map(|step| step.outcome)
    }

    /// Checks that the store answers, and takes writes.
    ///
    /// # Errors
    /// What is wrong with it, for the log.
    pub(super) async fn check(&self) -> Result<(), Cause> {
        self.place.limits.state.report(self.ping(), self.try_write()).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        on_back_end!(self.ping())
    }

    /// Tries to write without leaving a trace; returns whether the back end can do that.
    async fn try_write(&self) -> Result<bool, StoreError> {
        on_back_end!(self.try_write())
    }
}

/// For `app copy`.
impl Rows for Store {
    type Row = Product;

    async fn count(&self) -> Result<u64, StoreError> {
        on_back_end!(self.count())
    }

    async fn behind(&self, last: Option<&Product>) -> Result<Vec<Product>, StoreError> {
        // Less than every id.
        let last = last.map_or(ObjectId::from_bytes([0; 12]), |product| product.id);
        on_back_end!(self.behind(last))
    }

    async fn counterparts(&self, rows: &[Product]) -> Result<Vec<Product>, StoreError> {
        self.among(rows.iter().map(|product| product.id).collect()).await
    }

    async fn add(&self, rows: Vec<Product>) -> Result<Written<Product>, StoreError> {
        on_back_end!(self.insert_missing(rows))
    }

    async fn put(&self, rows: Vec<Product>) -> Result<Written<Product>, StoreError> {
        on_back_end!(self.put(rows))
    }
}

impl Store {
    /// What some of the reservations behind `last` have, by id.
    pub(super) async fn supplies_behind(&self, last: String) -> Result<Vec<Supply>, StoreError> {
        on_back_end!(self.supplies_behind(last))
    }

    /// How many more pieces of each of `products` are reserved than held, but for those that are being moved.
    pub(super) async fn excess(
        &self,
        products: Vec<ObjectId>,
    ) -> Result<HashMap<ObjectId, i64>, StoreError> {
        on_back_end!(self.excess(products))
    }
}

/// The reservations of a store, for `app copy`.
#[derive(Clone, Debug)]
pub(super) struct Holds(Store);

impl Store {
    /// Its reservations.
    pub(super) fn holds(&self) -> Holds {
        Holds(self.clone())
    }
}

impl Rows for Holds {
    type Row = Hold;

    async fn count(&self) -> Result<u64, StoreError> {
        let store = &self.0;
        on_back_end!(store.count_holds())
    }

    async fn behind(&self, last: Option<&Hold>) -> Result<Vec<Hold>, StoreError> {
        let last = last.map_or_else(String::new, |hold| hold.id.to_string());
        let store = &self.0;
        on_back_end!(store.holds_behind(last))
    }

    async fn counterparts(&self, rows: &[Hold]) -> Result<Vec<Hold>, StoreError> {
        let ids = rows.iter().map(|hold| hold.id.to_string()).collect::<Vec<_>>();
        let store = &self.0;
        on_back_end!(store.holds_among(ids))
    }

    async fn add(&self, rows: Vec<Hold>) -> Result<Written<Hold>, StoreError> {
        let store = &self.0;
        on_back_end!(store.write_holds(rows, false)).map(Written::all)
    }

    async fn put(&self, rows: Vec<Hold>) -> Result<Written<Hold>, StoreError> {
        let store = &self.0;
        on_back_end!(store.write_holds(rows, true)).map(Written::all)
    }
}

/// Splits `products` that are to be written together: those that can be, and those whose SKU another product has that does
/// not give it up by this. `holders` are the ids of the products that have these SKUs now, by [`Sku::key`].
fn refuse_taken(
    mut products: Vec<Product>,
    holders: &HashMap<String, ObjectId>,
) -> (Vec<Product>, Vec<(Product, String)>) {
    let mut refused = Vec::new();
    loop {
        let moving = products.iter().map(|product| product.id).collect::<HashSet<_>>();
        let is_taken = |product: &mut Product| {
            let holder = product.sku.as_deref().and_then(|sku| holders.get(&Sku::key(sku)));
            holder.is_some_and(|holder| *holder != product.id && !moving.contains(holder))
        };
        let taken = products.extract_if(.., is_taken).collect::<Vec<_>>();
        if taken.is_empty() {
            return (products, refused);
        }
        // Theirs stay taken, too.
        refused.extend(taken.into_iter().map(refusal));
    }
}

/// A product that is not written because another one has its SKU, and what to say about it.
fn refusal(product: Product) -> (Product, String) {
    let sku = product.sku.as_deref().unwrap_or_default();
    let why = format!(
        "the product {} is left out: another one in the target has its SKU {sku:?}",
        product.id
    );
    (product, why)
}

/// A price from minor units, as it is stored.
fn decode_price(minor: i64) -> Result<Money, StoreError> {
    Money::from_minor(minor).map_err(|error| StoreError::corrupt(format!("price {error}")))
}

/// A time from microseconds since 1970, as it is stored.
fn decode_time(micros: i64) -> Result<Timestamp, StoreError> {
    DateTime::from_timestamp_micros(micros)
        .ok_or_else(|| StoreError::corrupt("a time out of range"))
}
