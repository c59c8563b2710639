//! The order role: orders and their payments.

mod counters;
mod dead_letters;
mod demand;
mod handlers;
mod idempotency;
mod live;
mod model;
mod past;
mod paying;
mod payments;
mod placing;
mod reservations;
mod step;
mod store;
mod sweep;
mod webhook;
mod webhooks;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use actix_web::App;
use actix_web::web::{Data, ServiceConfig};
use chrono::TimeDelta;
use utoipa::OpenApi as _;
use utoipa::openapi::{OpenApi, RefOr, Required, Schema};

use crate::auth::{Mode, admin, public, roles, signed_in};
use crate::config::{self, Currency, PaymentsUrl, PeerUrl, SettingError, Settings, SqlUrl};
use crate::contract::{ProductClient, USER_ERASED};
use crate::events::{Consumer, DeadLetters, Log, News};
use crate::metrics::Collectors;
use crate::middleware::{self, Path, RoleService, add_paths, path};
use crate::peer::Peer;
use crate::readiness::Check;
use crate::role::{Parts, Role, Surroundings};
use crate::storage::copy::{Copied, CopyError, Existing, Progress, of_source, of_target};
use crate::storage::{Preparing, SetupError, StoreState, sqlite};
use crate::tasks;
pub use demand::{Demand, Demands, Need};
use live::{Live, Seats};
pub use past::{Ledger, PastOrder};
use payments::{ClientTls, Payments};
use store::Store;
use webhook::Secrets;
use webhooks::Receivers;

/// The role, once per process; each worker thread takes its [`Role::app`].
#[derive(Clone, Debug)]
pub struct Orders {
    options: Arc<config::Order>,
    rules: Rules,
    state: StoreState,
    /// Tells of new events.
    news: News,
    /// The streams of events that are open.
    listeners: Arc<AtomicUsize>,
    payments_tls: ClientTls,
    webhook: Secrets,
}

/// What all orders of the shop have in common.
#[derive(Clone, Copy, Debug)]
struct Rules {
    currency: Currency,
    /// For how long an order can be paid.
    window: Duration,
    /// How long a request may be at work. What it has left unfinished then, others finish.
    lease: TimeDelta,
    /// For how long an idempotency key gets its first answer again.
    idempotency_ttl: TimeDelta,
    /// For how long deliveries that have ended are kept.
    deliveries_retention: TimeDelta,
}

/// The state that the handlers of one worker thread share.
struct OrderState {
    orders: Store,
    products: ProductClient,
    payments: Payments,
    webhook: Secrets,
    receivers: Receivers,
    rules: Rules,
}

impl Role for Orders {
    const NAME: &'static str = "order";
    const ABOUT: &'static str = "Orders and their payments";
    const IS_OPTIONAL: bool = true;
    const PUBLISHES: bool = true;
    const CONSUMERS: &'static [&'static str] = &[ERASED_USERS, WEBHOOKS];
    const STORE: &'static str = DATABASE_URL;
    const PEER: &'static str = "peers.order";

    /// Pieces are the product role's; tokens are verified with the user role's keys.
    fn asks(mode: Mode) -> &'static [&'static str] {
        match mode {
            Mode::Enforced => &["product", "user"],
            Mode::Open => &["product"],
        }
    }

    fn addresses(settings: &Settings) -> (SocketAddr, SocketAddr) {
        (settings.order.listen, settings.order.management)
    }

    fn urls(settings: &Settings) -> &[PeerUrl] {
        settings.peers.order.as_slice()
    }

    async fn check(parts: &Parts) -> Result<(), SettingError> {
        let options = &parts.settings.order;
        if let SqlUrl::Sqlite(path) = &options.database_url {
            sqlite::check(path).map_err(|problem| (DATABASE_URL, problem))?;
        }
        payments::client_tls(options).map(drop)
    }

    /// Migrates a SQLite file at once. A server is migrated when it first answers; see [`Role::checks`].
    async fn build(parts: &Parts) -> Result<Self, SettingError> {
        let (options, settings) = (parts.settings.order.clone(), &parts.settings);
        let state = StoreState::default();
        let payments_tls = payments::client_tls(&options)?;
        let webhook = Secrets::from(&options.payments_webhook_secret);
        if matches!(options.database_url, SqlUrl::Sqlite(_)) {
            store::migrate(&options).await.map_err(|problem| (DATABASE_URL, problem))?;
            state.set_prepared();
        }
        if options.payments_url == PaymentsUrl::Sandbox {
            log::warn!(
                role = Self::NAME;
                "order.payments_url is sandbox://: payments are played, and no money moves"
            );
        }
        let span = |time| TimeDelta::from_std(time).unwrap_or(TimeDelta::MAX);
        let rules = Rules {
            currency: settings.shop.currency,
            window: options.payment_window,
            lease: span(settings.server.request_timeout + LEASE),
            idempotency_ttl: span(options.idempotency_ttl),
            deliveries_retention: span(options.webhooks_retention),
        };
        Ok(Self {
            options: Arc::new(options),
            rules,
            state,
            news: News::default(),
            listeners: Arc::default(),
            payments_tls,
            webhook,
        })
    }

    async fn migrate(settings: &Settings) -> Result<Vec<String>, SettingError> {
        let migrated = store::migrate(&settings.order).await;
        Ok(migrated.map_err(|problem| (DATABASE_URL, problem))?)
    }

    fn app(self, surroundings: Surroundings) -> App<impl RoleService + use<>> {
        let state = Data::new(self.state_with(surroundings.peer("product")));
        let draining = surroundings.middleware.draining.clone();
        let seats = Seats::new(self.listeners.clone(), self.options.listeners);
        let live = Data::new(Live::new(state.orders.log(), seats, draining));
        let dead_letters = Data::new((surroundings.dead_letters)());
        surroundings.app(|routes| configure(routes, state, live, dead_letters))
    }

    /// The first check that reaches the store also migrates it.
    fn checks(&self) -> Vec<Check> {
        let orders = self.store();
        let (role, preparing) = (self.clone(), Preparing::default());
        let ask = move || {
            let (role, orders, preparing) = (role.clone(), orders.clone(), preparing.clone());
            async move {
                if !role.state.is_prepared() {
                    preparing.look(|| role.prepare()).await?;
                }
                orders.check().await
            }
        };
        vec![Check::required("order.database", ask)]
    }

    fn collectors(&self) -> Collectors {
        let mut collectors = counters::collectors(self.rules.currency);
        collectors.push(payments::collector(self.options.payments_url.provider()));
        collectors
    }

    fn start_tasks(&self, peers: &dyn Fn(&str) -> Peer) {
        let (role, products) = (self.clone(), peers("product"));
        tasks::supervise("order_sweep", move || sweep::sweep(role.clone(), products.clone()));
        let role = self.clone();
        tasks::supervise("order_webhooks", move || webhooks::deliver(role.clone()));
    }

    fn log(&self) -> Option<Log> {
        Some(self.store().log())
    }

    async fn find_log(settings: &Settings) -> Result<Option<Log>, SettingError> {
        let options = &settings.order;
        store::expect_migrated(options).await.map_err(|problem| (DATABASE_URL, problem))?;
        Ok(Some(Store::open(options, StoreState::already_prepared(), News::default()).log()))
    }

    fn consumers(&self) -> Vec<Consumer> {
        let orders = self.store();
        let take = move |events| {
            let orders = orders.clone();
            async move { orders.take_erased(events).await }
        };
        let told = self.store();
        let tell = move |events| {
            let orders = told.clone();
            async move { orders.take_for_webhooks(events).await }
        };
        vec![
            Consumer::new(ERASED_USERS, vec![USER_ERASED.to_owned()], take),
            Consumer::new(WEBHOOKS, webhooks::kinds(), tell),
        ]
    }

    fn openapi(mode: Mode) -> OpenApi {
        let mut document = middleware::document(OrderApi::openapi(), &paths(), mode);
        let schemas = document.components.as_mut().map(|components| &mut components.schemas);
        let new_order = schemas.and_then(|schemas| schemas.get_mut("NewOrder"));
        if let Some(RefOr::T(Schema::Object(new_order))) = new_order {
            match mode {
                Mode::Open => new_order.required.push("userId".into()),
                Mode::Enforced => drop(new_order.properties.shift_remove("userId")),
            }
        }
        if mode == Mode::Enforced {
            require_key(&mut document);
        }
        document
    }
}

const DATABASE_URL: &str = "order.database_url";
const ERASED_USERS: &str = "order.erased_users";
const WEBHOOKS: &str = "order.webhooks";
/// How much longer than a request may take its claims are respected.
const LEASE: Duration = Duration::from_secs(1);

impl Orders {
    fn store(&self) -> Store {
        Store::open(&self.options, self.state.clone(), self.news.clone())
    }

    /// The state of one thread, which calls the product role by `products`.
    fn state_with(&self, products: Peer) -> OrderState {
        let orders = self.store();
        OrderState {
            payments: Payments::new(&self.options, self.payments_tls.clone(), orders.clone()),
            webhook: self.webhook.clone(),
            receivers: Receivers::new(&self.options),
            products: ProductClient::new(products),
            rules: self.rules,
            orders,
        }
    }

    async fn prepare(self) -> Result<(), SetupError> {
        store::migrate(&self.options).await?;
        self.state.set_prepared();
        Ok(())
    }
}

/// Copies the orders at `from` to `to`, with the requests that have an idempotency key, the payments of a sandbox, and
/// webhooks.
/// `existing` says what happens to those that `to` has already. Returns what was copied, in a word, and how.
///
/// # Errors
/// Which of the two failed, and why.
pub async fn copy(
    from: &config::Order,
    to: &config::Order,
    existing: Existing,
    progress: impl Progress,
) -> Result<Vec<(&'static str, Copied)>, CopyError> {
    store::expect_migrated(from).await.map_err(of_source)?;
    store::migrate(to).await.map_err(of_target)?;
    let open = |options| Store::open(options, StoreState::already_prepared(), News::default());
    store::copy(&open(from), &open(to), existing, progress).await
}

/// Every route of the role, and who may call it.
fn configure(
    routes: &mut ServiceConfig,
    state: Data<OrderState>,
    live: Data<Live>,
    dead_letters: Data<DeadLetters>,
) {
    routes.app_data(state).app_data(live).app_data(dead_letters);
    add_paths(routes, paths().into_iter().chain([internal_path()]));
}

fn paths() -> Vec<Path> {
    vec![
        path("/orders")
            .get(signed_in().or_open(), handlers::list)
            .post(signed_in().or_open(), handlers::place),
        path("/events").get(signed_in().or_open(), live::listen),
        path("/events/dead-letters").get(admin(), dead_letters::list),
        path("/events/dead-letters/{id}").delete(admin(), dead_letters::discard),
        path("/events/dead-letters/{id}/redrive").post(admin(), dead_letters::redrive),
        path("/orders/summary").get(admin().or_open(), handlers::summary),
        path("/orders/payments/stripe").with_any_query().post(public(), webhook::receive),
        path("/orders/{id}").get(signed_in().or_open(), handlers::show),
        path("/orders/{id}/pay").post(signed_in().or_open(), handlers::pay),
        path("/orders/{id}/cancel").post(signed_in().or_open(), handlers::cancel),
        path("/orders/{id}/fulfil").post(admin().or_open(), handlers::fulfil),
        path("/orders/{id}/refund").post(admin().or_open(), handlers::refund),
        // Not free in an open shop: admins say what is sent, and where.
        path("/webhooks")
            .get(admin(), webhooks::handlers::list)
            .post(admin(), webhooks::handlers::register),
        path("/webhooks/{id}")
            .get(admin(), webhooks::handlers::show)
            .delete(admin(), webhooks::handlers::remove),
        path("/webhooks/{id}/rotate").post(admin(), webhooks::handlers::rotate),
        path("/webhooks/{id}/enable").post(admin(), webhooks::handlers::enable),
        path("/webhooks/{id}/test").post(admin(), webhooks::handlers::test),
        path("/webhooks/{id}/deliveries").get(admin(), webhooks::handlers::deliveries),
    ]
}

/// The route for the user role, which the public document does not have.
fn internal_path() -> Path {
    path("/internal/users/{id}/orders").get(roles(), handlers::of_user)
}

/// The OpenAPI description of the handlers.
#[derive(utoipa::OpenApi)]
#[openapi(
    paths(
        handlers::list,
        handlers::place,
        handlers::summary,
        handlers::show,
        handlers::pay,
        handlers::cancel,
        handlers::fulfil,
        handlers::refund,
        live::listen,
        dead_letters::list,
        dead_letters::discard,
        dead_letters::redrive,
        webhook::receive,
        webhooks::handlers::list,
        webhooks::handlers::register,
        webhooks::handlers::show,
        webhooks::handlers::remove,
        webhooks::handlers::rotate,
        webhooks::handlers::enable,
        webhooks::handlers::test,
        webhooks::handlers::deliveries,
    ),
    tags(
        (name = "orders", description = "Orders and their payments"),
        (name = "webhooks", description = "Who is told of events"),
    )
)]
struct OrderApi;

/// Makes the idempotency key a required header of the request that places an order.
fn require_key(document: &mut OpenApi) {
    let place = document.paths.paths.get_mut("/orders").and_then(|path| path.post.as_mut());
    let headers = place.and_then(|place| place.parameters.as_mut()).into_iter().flatten();
    headers.for_each(|header| {
        if let RefOr::T(key) = header {
            key.required = Required::True;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_documented_and_nothing_else() {
        assert_eq!(middleware::differences(&Orders::openapi(Mode::Enforced), &paths()), [""; 0]);
    }
}
