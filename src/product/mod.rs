//! The product role: the catalogue.

mod cache;
mod handlers;
mod low_stock;
mod model;
mod page;
mod recommendations;
mod reservations;
mod sales;
mod seed;
mod shelves;
mod store;
mod supply;
mod transfer;
mod values;
mod words;

use std::net::SocketAddr;
use std::time::Duration;

use actix_web::App;
use actix_web::web::{Data, ServiceConfig};
use prometheus::core::Collector;
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;

use crate::auth::{Mode, admin, anyone, roles};
use crate::config::{self, Currency, PeerUrl, SettingError, Settings};
use crate::events::Consumer;
use crate::middleware::{self, Path, RoleService, add_paths, path};
use crate::peer::Peer;
use crate::readiness::Check;
use crate::role::{Parts, Role, Surroundings};
use crate::storage::copy::{
    self, Copied, CopyError, Existing, Progress, Rows as _, of_source, of_target,
};
use crate::storage::{Preparing, SetupError};
use crate::tasks;
use cache::Cache;
use store::{Database, Store};

pub use page::{Cursor, PageRequest};
pub use seed::seed;
pub use shelves::Shelves;
pub use supply::{Pieces, Supplies, Supply};
pub use transfer::{
    Format, ImportError, ImportReport, LineError, Parsed, Parser, export_to, import_from,
};
pub use words::{Words, words};

/// The role, once per process; each worker thread takes its [`Role::app`].
#[derive(Clone, Debug)]
pub struct Catalogue {
    place: Database,
    cache: cache::ProcessCache,
    /// How long reservations that have ended are kept.
    retention: Duration,
    currency: Currency,
}

/// The state that the handlers of one worker thread share.
#[derive(Clone)]
struct ProductState {
    products: Store,
    cache: Cache,
    /// The currency of prices.
    currency: Currency,
}

impl Role for Catalogue {
    const NAME: &'static str = "product";
    const ABOUT: &'static str = "The catalogue";
    const CONSUMERS: &'static [&'static str] = &[sales::POPULARITY];
    const STORE: &'static str = DATABASE_URL;
    const PEER: &'static str = "peers.product";

    /// Tokens are verified with the user role's keys.
    fn asks(mode: Mode) -> &'static [&'static str] {
        match mode {
            Mode::Enforced => &["user"],
            Mode::Open => &[],
        }
    }

    fn addresses(settings: &Settings) -> (SocketAddr, SocketAddr) {
        (settings.product.listen, settings.product.management)
    }

    fn urls(settings: &Settings) -> &[PeerUrl] {
        settings.peers.product.as_slice()
    }

    async fn check(parts: &Parts) -> Result<(), SettingError> {
        let options = &parts.settings.product;
        Ok(Database::check(options).await.map_err(|problem| (DATABASE_URL, problem))?)
    }

    /// Migrates a SQLite file at once. A server is prepared when it first answers; see [`Role::checks`].
    async fn build(parts: &Parts) -> Result<Self, SettingError> {
        let options = &parts.settings.product;
        let place = Database::find(options).await.map_err(|problem| (DATABASE_URL, problem))?;
        if place.is_embedded() {
            place.prepare().await.map_err(|problem| (DATABASE_URL, problem))?;
        }
        // So that worker threads cannot fail to open it.
        place.open().map_err(|problem| (DATABASE_URL, problem))?;
        let retention = options.reservation_retention;
        let currency = parts.settings.shop.currency;
        Ok(Self { place, cache: cache::ProcessCache::new(options), retention, currency })
    }

    async fn migrate(settings: &Settings) -> Result<Vec<String>, SettingError> {
        let migrated = async { Database::find(&settings.product).await?.prepare().await };
        Ok(migrated.await.map_err(|problem: SetupError| (DATABASE_URL, problem))?)
    }

    fn app(self, surroundings: Surroundings) -> App<impl RoleService + use<>> {
        let state = Data::new(self.state());
        surroundings.with_uploads(&[IMPORT]).app(|routes| configure(routes, state))
    }

    /// The first check that reaches the store also prepares its tables and indexes.
    fn checks(&self) -> Vec<Check> {
        let (place, store, cache) = (self.place.clone(), self.store(), self.cache.open());
        let preparing = Preparing::default();
        let ask_store = move || {
            let (place, store, preparing) = (place.clone(), store.clone(), preparing.clone());
            async move {
                if !place.is_prepared() {
                    preparing.look(|| async move { place.prepare().await.map(drop) }).await?;
                }
                store.check().await
            }
        };
        let ask_cache = move || {
            let cache = cache.clone();
            async move { Ok(cache.ping().await?) }
        };
        let store = Check::required("product.database", ask_store);
        vec![store, Check::optional("product.cache", ask_cache)]
    }

    fn openapi(mode: Mode) -> OpenApi {
        middleware::document(ProductApi::openapi(), &paths(), mode)
    }

    fn start_tasks(&self, _: &dyn Fn(&str) -> Peer) {
        let (role, retention) = (self.clone(), self.retention);
        tasks::supervise("reservation_sweep", move || reservations::sweep(role.state(), retention));
    }

    fn consumers(&self) -> Vec<Consumer> {
        vec![sales::consumer(self.store())]
    }

    fn collectors(&self) -> Vec<Box<dyn Collector>> {
        self.cache.collectors()
    }

    /// Writes outstanding invalidations to the cache that processes share, however long that takes.
    async fn settle(&self) {
        self.cache.open().settle().await;
    }
}

const DATABASE_URL: &str = "product.database_url";
/// Takes a body of any size, for as long as pieces of it arrive.
const IMPORT: &str = "/products/import";

impl Catalogue {
    /// The state of one worker thread.
    fn state(&self) -> ProductState {
        ProductState { products: self.store(), cache: self.cache.open(), currency: self.currency }
    }

    /// The store, for this thread.
    fn store(&self) -> Store {
        self.place.open().unwrap_or_else(|error| unreachable!("build has opened it: {error}"))
    }
}

/// Copies the products at `from` to `to`, and then their reservations, unless products differ there still: they would have
/// other pieces reserved. `existing` says what happens to those that `to` has already. Returns what was copied, in a
/// word, and how.
///
/// # Errors
/// When either store cannot be used.
pub async fn copy(
    from: &config::Product,
    to: &config::Product,
    existing: Existing,
    progress: impl Progress,
) -> Result<Vec<(&'static str, Copied)>, CopyError> {
    let from = Database::find(from).await.map_err(of_source)?;
    let to = Database::find(to).await.map_err(of_target)?;
    from.expect_migrated().map_err(of_source)?;
    to.prepare().await.map_err(of_target)?;
    let from = from.open_as_it_is().map_err(of_source)?;
    let to = to.open().map_err(of_target)?;
    let products = copy::copy(&from, &to, existing, progress).await?;
    let is_whole = products.kept == 0 && products.removed == 0 && products.refused.is_empty();
    let mut copied = vec![("products", products)];
    let (from, to) = (from.holds(), to.holds());
    let is_any = from.count().await.map_err(of_source)? > 0;
    if is_whole && is_any {
        copied.push(("reservations", copy::copy(&from, &to, existing, |_, _| {}).await?));
    }
    Ok(copied)
}

/// Every route of the role, and who may call it.
fn configure(routes: &mut ServiceConfig, state: Data<ProductState>) {
    routes.app_data(state);
    add_paths(routes, paths().into_iter().chain(internal_paths()));
}

fn paths() -> Vec<Path> {
    vec![
        path("/products").get(anyone(), handlers::list).post(admin().or_open(), handlers::create),
        path("/categories").get(anyone(), handlers::categories),
        path(IMPORT).post(admin().or_open(), transfer::import),
        path("/products/export").get(admin().or_open(), transfer::export),
        path("/products/stock").get(admin().or_open(), low_stock::list),
        path("/products/{id}")
            .get(anyone(), handlers::show)
            .put(admin().or_open(), handlers::replace)
            .patch(admin().or_open(), handlers::change)
            .delete(admin().or_open(), handlers::remove),
        path("/products/{id}/stock")
            .get(admin().or_open(), handlers::stock)
            .patch(admin().or_open(), handlers::change_stock),
    ]
}

/// The routes for other roles, which the public document does not have.
fn internal_paths() -> [Path; 3] {
    [
        path("/internal/recommendations").get(roles(), recommendations::list),
        path("/internal/reservations/{id}")
            .put(roles(), reservations::put)
            .delete(roles(), reservations::release),
        path("/internal/reservations/{id}/commit").post(roles(), reservations::commit),
    ]
}

/// The OpenAPI description of the handlers.
#[derive(utoipa::OpenApi)]
#[openapi(
    paths(
        handlers::list,
        handlers::create,
        handlers::categories,
        handlers::show,
        handlers::replace,
        handlers::change,
        handlers::remove,
        low_stock::list,
        handlers::stock,
        handlers::change_stock,
        transfer::import,
        transfer::export
    ),
    tags((name = "products", description = "The catalogue"))
)]
struct ProductApi;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_documented_and_nothing_else() {
        assert_eq!(middleware::differences(&Catalogue::openapi(Mode::Enforced), &paths()), [""; 0]);
    }
}
