//! The user role: accounts and the dashboard.

mod handlers;
mod model;
mod store;

use actix_web::web::{Data, ServiceConfig};

use crate::config::{self, SqlUrl};
use crate::contract::ProductClient;
use crate::edge::path;
use crate::readiness::Check;
use crate::storage::copy::{self, Copied, Progress};
use crate::storage::{Prepared, Preparing, StoreError};
use crate::transport::Peer;
use store::Store;

/// The role, as far as a process has one of it; each worker thread takes its [`Role::routes`].
#[derive(Clone, Debug)]
pub struct Role {
    options: config::User,
    prepared: Prepared,
}

/// What the handlers of one worker thread share.
struct Shared {
    users: Store,
    products: ProductClient,
    options: config::User,
}

impl Role {
    /// The role, with its tables up to date where they are in a file. Those on a server follow once it
    /// answers; see [`Role::checks`].
    ///
    /// # Errors
    /// What is wrong with `user.database_url`.
    pub async fn build(options: config::User) -> Result<Self, String> {
        let prepared = Prepared::default();
        if let SqlUrl::Sqlite(_) = options.database_url {
            migrate(&options).await?;
            prepared.set();
        }
        Ok(Self { options, prepared })
    }

    /// The routes of one worker thread, which ask `product` for recommendations.
    pub fn routes(&self, product: Peer) -> impl FnOnce(&mut ServiceConfig) + use<> {
        let users = Store::open(&self.options, self.prepared.clone());
        let products = ProductClient::new(product);
        let shared = Data::new(Shared { users, products, options: self.options.clone() });
        move |routes| configure(routes, shared)
    }

    /// What the role needs. Asking also brings the tables up to date when the store answers for the first
    /// time.
    pub fn checks(&self) -> Vec<Check> {
        let users = Store::open(&self.options, self.prepared.clone());
        let (role, preparing) = (self.clone(), Preparing::default());
        let ask = move || {
            let (role, users, preparing) = (role.clone(), users.clone(), preparing.clone());
            async move {
                if !role.prepared.is_set() {
                    preparing.look(|| role.prepare()).await?;
                }
                users.ping().await.map_err(|error| error.to_string())
            }
        };
        vec![Check::required("user.database", ask)]
    }

    async fn prepare(self) -> Result<(), String> {
        migrate(&self.options).await?;
        self.prepared.set();
        Ok(())
    }
}

/// Brings the role's tables up to date; returns the migrations that were applied.
///
/// # Errors
/// What is wrong with `user.database_url`.
pub async fn migrate(options: &config::User) -> Result<Vec<String>, String> {
    store::migrate(options).await
}

/// Makes the accounts at `to` those at `from`, with everything else that is there left alone.
///
/// # Errors
/// Which of the two failed, and why.
pub async fn copy(
    from: &config::User,
    to: &config::User,
    progress: impl Progress,
) -> Result<Copied, String> {
    migrate(to).await?;
    let prepared = Prepared::default();
    prepared.set();
    let [from, to] = [from, to].map(|options| Store::open(options, prepared.clone()));
    copy::copy(&from, &to, progress).await.map_err(|error| match error {
        StoreError::Duplicate => {
            "the target has an e-mail address of the source under another id".into()
        }
        error => error.to_string(),
    })
}

/// Every route of the role.
fn configure(routes: &mut ServiceConfig, shared: Data<Shared>) {
    routes
        .app_data(shared)
        .service(path("/auth/register").post(handlers::register))
        .service(path("/auth/dashboard/{id}").get(handlers::dashboard));
}
