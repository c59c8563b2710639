//! The product role: the catalogue.

mod cache;
mod handlers;
mod model;
mod seed;
mod store;

use std::sync::Arc;

use actix_web::web::{Data, ServiceConfig};

use crate::config;
use crate::edge::path;
use crate::readiness::Check;
use cache::Cache;
use store::Store;

pub use seed::seed;

/// The role, as far as a process has one of it; each worker thread takes its [`Role::routes`].
#[derive(Clone, Debug)]
pub struct Role {
    options: config::Product,
    cache: Arc<Cache>,
}

/// What the handlers of one worker thread share.
struct Shared {
    products: Store,
    cache: Arc<Cache>,
}

impl Role {
    /// The role with its tables up to date. Blocks.
    ///
    /// # Errors
    /// What is wrong with `product.database_url`.
    pub fn build(options: config::Product) -> Result<Self, String> {
        migrate(&options)?;
        let cache = Arc::new(Cache::new(&options));
        Ok(Self { options, cache })
    }

    /// The routes of one worker thread.
    pub fn routes(&self) -> impl FnOnce(&mut ServiceConfig) + use<> {
        let shared = Shared { products: Store::open(&self.options), cache: self.cache.clone() };
        let shared = Data::new(shared);
        move |routes| configure(routes, shared)
    }

    /// What the role needs.
    pub fn checks(&self) -> Vec<Check> {
        let store = Store::open(&self.options);
        let ping = move || {
            let store = store.clone();
            async move { store.ping().await.map_err(|error| error.to_string()) }
        };
        vec![Check::required("product.database", ping)]
    }
}

/// Brings the role's tables up to date; returns the migrations that were applied. Blocks.
///
/// # Errors
/// What is wrong with `product.database_url`.
pub fn migrate(options: &config::Product) -> Result<Vec<String>, String> {
    store::migrate(&options.database_url)
}

/// Every route of the role.
fn configure(routes: &mut ServiceConfig, shared: Data<Shared>) {
    routes
        .app_data(shared)
        .service(path("/products").get(handlers::list).post(handlers::create))
        .service(path("/products/{id}").get(handlers::show));
}
