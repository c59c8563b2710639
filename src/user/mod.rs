//! The user role: accounts and the dashboard.

mod handlers;
mod model;
mod store;

use actix_web::web::{Data, ServiceConfig};
use diesel_migrations::{EmbeddedMigrations, embed_migrations};

use crate::config;
use crate::contract::ProductClient;
use crate::edge::path;
use crate::readiness::Check;
use crate::storage::sqlite;
use crate::transport::Peer;
use store::Store;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite/user");

/// The role, as far as a process has one of it; each worker thread takes its [`Role::routes`].
#[derive(Clone, Debug)]
pub struct Role {
    options: config::User,
}

/// What the handlers of one worker thread share.
struct Shared {
    users: Store,
    products: ProductClient,
    options: config::User,
}

impl Role {
    /// The role with its tables up to date. Blocks.
    ///
    /// # Errors
    /// What is wrong with `user.database_url`.
    pub fn build(options: config::User) -> Result<Self, String> {
        migrate(&options)?;
        Ok(Self { options })
    }

    /// The routes of one worker thread, which ask `product` for recommendations.
    pub fn routes(&self, product: Peer) -> impl FnOnce(&mut ServiceConfig) + use<> {
        let products = ProductClient::new(product);
        let shared = Data::new(Shared {
            users: Store::open(&self.options),
            products,
            options: self.options.clone(),
        });
        move |routes| configure(routes, shared)
    }

    /// What the role needs.
    pub fn checks(&self) -> Vec<Check> {
        let users = Store::open(&self.options);
        let ping = move || {
            let users = users.clone();
            async move { users.ping().await.map_err(|error| error.to_string()) }
        };
        vec![Check::required("user.database", ping)]
    }
}

/// Brings the role's tables up to date; returns the migrations that were applied. Blocks.
///
/// # Errors
/// What is wrong with `user.database_url`.
pub fn migrate(options: &config::User) -> Result<Vec<String>, String> {
    sqlite::migrate(options.database_url.path(), MIGRATIONS)
}

/// Every route of the role.
fn configure(routes: &mut ServiceConfig, shared: Data<Shared>) {
    routes
        .app_data(shared)
        .service(path("/auth/register").post(handlers::register))
        .service(path("/auth/dashboard/{id}").get(handlers::dashboard));
}
