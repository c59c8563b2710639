//! The product role: the catalogue.

mod cache;
mod handlers;
mod model;
mod seed;
mod store;

use actix_web::web::{Data, ServiceConfig};
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;

use crate::auth::{Mode, admin, anyone};
use crate::config;
use crate::middleware::{self, Path, path};
use crate::readiness::Check;
use crate::storage::Preparing;
use crate::storage::copy::{self, Copied, Existing, Progress};
use cache::Cache;
use store::{Place, Store};

pub use seed::seed;

/// The role, as far as a process has one of it; each worker thread takes its [`Role::routes`].
#[derive(Clone, Debug)]
pub struct Role {
    place: Place,
    cache: cache::Shared,
}

/// What the handlers of one worker thread share.
#[derive(Clone)]
struct Shared {
    products: Store,
    cache: Cache,
}

impl Role {
    /// The role, with its tables up to date where they are in a file. Those on a server follow once it
    /// answers; see [`Role::checks`].
    ///
    /// # Errors
    /// What is wrong with `product.database_url`.
    pub async fn build(options: config::Product) -> Result<Self, String> {
        let place = Place::find(&options).await?;
        if place.is_embedded() {
            place.prepare().await?;
        }
        // So that each worker thread can open what it needs without a surprise.
        place.open()?;
        Ok(Self { place, cache: cache::Shared::new(&options) })
    }

    /// The routes of one worker thread.
    ///
    /// # Errors
    /// What is wrong with the role's settings; [`check`] and [`Role::build`] have seen that there is nothing.
    pub fn routes(&self) -> Result<impl FnOnce(&mut ServiceConfig) + use<>, String> {
        let shared = Data::new(Shared { products: self.place.open()?, cache: self.cache.open()? });
        Ok(move |routes: &mut ServiceConfig| configure(routes, shared))
    }

    /// Tells the other processes of the role what they have to forget because of this one, where that could not be told
    /// yet. Returns once it is done, however long that takes.
    pub async fn settle(&self) {
        match self.cache.open() {
            Ok(cache) => cache.settle().await,
            Err(error) => unreachable!("check has opened it: {error}"),
        }
    }

    /// What the role needs. Asking also brings tables and indexes up to date when the store answers for the
    /// first time.
    ///
    /// # Errors
    /// As [`Role::routes`].
    pub fn checks(&self) -> Result<Vec<Check>, String> {
        let (place, store, cache) = (self.place.clone(), self.place.open()?, self.cache.open()?);
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
            async move { cache.ping().await }
        };
        let store = Check::required("product.database", ask_store);
        Ok(vec![store, Check::optional("product.cache", ask_cache)])
    }
}

/// Looks at what stops [`Role::build`], and makes nothing.
///
/// # Errors
/// The setting that does not work, and what is wrong with it.
pub async fn check(options: &config::Product) -> Result<(), (&'static str, String)> {
    Place::check(options).await.map_err(|problem| ("product.database_url", problem))?;
    let cache = cache::Shared::new(options).open();
    cache.map(drop).map_err(|problem| ("product.cache_url", problem))
}

/// Brings the role's tables and indexes up to date; returns the migrations that were applied.
///
/// # Errors
/// What is wrong with `product.database_url`.
pub async fn migrate(options: &config::Product) -> Result<Vec<String>, String> {
    Place::find(options).await?.prepare().await
}

/// Copies the products at `from` to `to`; of those that are there already, `existing` says what becomes of them.
///
/// # Errors
/// Which of the two failed, and why.
pub async fn copy(
    from: &config::Product,
    to: &config::Product,
    existing: Existing,
    progress: impl Progress,
) -> Result<Copied, String> {
    let (from, to) = (Place::find(from).await?, Place::find(to).await?);
    from.expect_migrated()?;
    to.prepare().await?;
    copy::copy(&from.open_as_it_is()?, &to.open()?, existing, progress)
        .await
        .map_err(|error| error.to_string())
}

/// Every route of the role, and who may ask it.
fn configure(routes: &mut ServiceConfig, shared: Data<Shared>) {
    routes.app_data(shared);
    for path in paths() {
        routes.service(path);
    }
}

fn paths() -> Vec<Path> {
    vec![
        path("/products").get(anyone(), handlers::list).post(admin().or_open(), handlers::create),
        path("/products/{id}")
            .get(anyone(), handlers::show)
            .put(admin(), handlers::replace)
            .delete(admin(), handlers::remove),
    ]
}

/// What handlers say of themselves.
#[derive(utoipa::OpenApi)]
#[openapi(
    paths(
        handlers::list,
        handlers::create,
        handlers::show,
        handlers::replace,
        handlers::remove
    ),
    tags((name = "products", description = "The catalogue"))
)]
struct Written;

/// The role's part of the OpenAPI document, where `auth.mode` is `mode`.
pub fn openapi(mode: Mode) -> OpenApi {
    middleware::document(Written::openapi(), &paths(), mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_documented_and_nothing_else() {
        assert_eq!(middleware::differences(&openapi(Mode::Enforced), &paths()), [""; 0]);
    }
}
