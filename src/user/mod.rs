//! The user role: accounts, sessions, tokens, and the dashboard.

mod commands;
mod cookie;
mod email;
mod export;
mod handlers;
mod hashing;
mod issuer;
mod keys;
mod model;
mod store;
mod sweep;
mod throttle;

use std::net::SocketAddr;
use std::sync::Arc;

use actix_web::App;
use actix_web::web::{Data, ServiceConfig};
use utoipa::OpenApi as _;
use utoipa::openapi::{OpenApi, RefOr, Schema};

use crate::auth::{KeySet, Mode, admin, public, roles, signed_in};
use crate::config::{self, PeerUrl, SettingError, Settings, SqlUrl};
use crate::contract::{OrderClient, OrderStatus, ProductClient, Revocation, order_kind};
use crate::error::Error;
use crate::events::{Consumer, Log};
use crate::limits::Counts;
use crate::middleware::{self, Path, RoleService, add_paths, path};
use crate::peer::Peer;
use crate::readiness::Check;
use crate::role::{Parts, Role, Surroundings};
use crate::storage::copy::{self, Copied, Existing, Progress, of_source, of_target};
use crate::storage::{Preparing, SetupError, StoreError, StoreState, sqlite};
use crate::tasks;
pub use commands::{CommandError, create, enable, promote, set_password};
use handlers::{accounts, browser, dashboard, profile, sessions};
use hashing::Hashing;
use issuer::TokenIssuer;
use keys::Keyring;
pub use keys::rotate as rotate_keys;
pub use model::{ProfilePatch, RightsPatch};
use store::{Revocations, Store};
use throttle::Throttle;

/// The role, once per process; each worker thread takes its [`Role::app`].
#[derive(Clone, Debug)]
pub struct Accounts {
    options: config::User,
    mode: Mode,
    state: StoreState,
    issuer: Arc<TokenIssuer>,
    hashing: Hashing,
    tries: Counts,
}

/// The state that the handlers of one worker thread share.
struct UserState {
    users: Store,
    products: ProductClient,
    /// Absent where nothing says where the order role is.
    orders: Option<OrderClient>,
    throttle: Throttle,
    /// What all threads share.
    role: Accounts,
}

/// What verifiers need of the user role.
struct InternalState {
    users: Store,
    issuer: Arc<TokenIssuer>,
}

impl InternalState {
    async fn revocations(&self) -> Result<Vec<Revocation>, StoreError> {
        self.users.revocations(self.issuer.horizon()).await
    }
}

impl Role for Accounts {
    const NAME: &'static str = "user";
    const ABOUT: &'static str = "Accounts, tokens and the dashboard";
    const PUBLISHES: bool = true;
    const CONSUMERS: &'static [&'static str] = &[RECENT_ORDERS];
    const STORE: &'static str = DATABASE_URL;
    const PEER: &'static str = "peers.user";

    fn asks(_: Mode) -> &'static [&'static str] {
        &["product", "order"]
    }

    fn addresses(settings: &Settings) -> (SocketAddr, SocketAddr) {
        (settings.user.listen, settings.user.management)
    }

    fn urls(settings: &Settings) -> &[PeerUrl] {
        settings.peers.user.as_slice()
    }

    async fn check(parts: &Parts) -> Result<(), SettingError> {
        let options = &parts.settings.user;
        if let SqlUrl::Sqlite(path) = &options.database_url {
            sqlite::check(path).map_err(|problem| (DATABASE_URL, problem))?;
        }
        Keyring::check(options, may_make_keys(options, parts.mode))
    }

    /// Migrates a SQLite file at once. A server is migrated when it first answers; see [`Role::checks`].
    async fn build(parts: &Parts) -> Result<Self, SettingError> {
        let (options, auth) = (parts.settings.user.clone(), parts.settings.auth.clone());
        let state = StoreState::default();
        if matches!(options.database_url, SqlUrl::Sqlite(_)) {
            store::migrate(&options).await.map_err(|problem| (DATABASE_URL, problem))?;
            state.set_prepared();
        }
        let may_make = may_make_keys(&options, parts.mode);
        let keys = Keyring::open(&options, auth.access_ttl, may_make)?;
        let issuer = TokenIssuer::new(keys, parts.verifier.clone(), auth, &options);
        Ok(Self {
            issuer: Arc::new(issuer),
            hashing: Hashing::new(&options),
            tries: Counts::new(&options),
            mode: parts.mode,
            options,
            state,
        })
    }

    async fn migrate(settings: &Settings) -> Result<Vec<String>, SettingError> {
        let migrated = store::migrate(&settings.user).await;
        Ok(migrated.map_err(|problem| (DATABASE_URL, problem))?)
    }

    fn app(self, surroundings: Surroundings) -> App<impl RoleService + use<>> {
        let internal = Data::new(self.internal_state());
        let products = ProductClient::new(surroundings.peer("product"));
        let orders = surroundings.optional_peer("order").map(OrderClient::new);
        let throttle = Throttle::new(&self.options, self.tries.limiter());
        let users = internal.users.clone();
        let state = Data::new(UserState { users, products, orders, throttle, role: self });
        surroundings.app(|routes| configure(routes, state, internal))
    }

    /// The first check that reaches the store also migrates it.
    fn checks(&self) -> Vec<Check> {
        let users = Store::open(&self.options, self.state.clone());
        let (role, preparing) = (self.clone(), Preparing::default());
        let ask = move || {
            let (role, users, preparing) = (role.clone(), users.clone(), preparing.clone());
            async move {
                if !role.state.is_prepared() {
                    preparing.look(|| role.prepare()).await?;
                }
                users.check().await
            }
        };
        let tries = self.tries.limiter().readiness();
        std::iter::once(Check::required("user.database", ask)).chain(tries).collect()
    }

    fn start_tasks(&self, _: &dyn Fn(&str) -> Peer) {
        let role = self.clone();
        tasks::supervise("session_sweep", move || role.clone().sweep());
    }

    fn log(&self) -> Option<Log> {
        Some(Store::open(&self.options, self.state.clone()).log())
    }

    async fn find_log(settings: &Settings) -> Result<Option<Log>, SettingError> {
        let options = &settings.user;
        store::expect_migrated(options).await.map_err(|problem| (DATABASE_URL, problem))?;
        Ok(Some(Store::open(options, StoreState::already_prepared()).log()))
    }

    fn consumers(&self) -> Vec<Consumer> {
        let users = Store::open(&self.options, self.state.clone());
        let take = move |events| {
            let users = users.clone();
            async move { users.take_orders(events).await }
        };
        let kinds = OrderStatus::all().map(order_kind).collect();
        vec![Consumer::new(RECENT_ORDERS, kinds, take)]
    }

    fn openapi(mode: Mode) -> OpenApi {
        let mut document = middleware::document(UserApi::openapi(), &paths(), mode);
        let schemas = document.components.as_mut().map(|components| &mut components.schemas);
        let new_user = schemas.and_then(|schemas| schemas.get_mut("NewUser"));
        if let (Mode::Enforced, Some(RefOr::T(Schema::Object(new_user)))) = (mode, new_user) {
            new_user.required.push("password".into());
        }
        document
    }
}

const DATABASE_URL: &str = "user.database_url";
const RECENT_ORDERS: &str = "user.recent_orders";

impl Accounts {
    /// Gives the verifier of this process the keys and revocations.
    pub fn key_feed(&self) -> impl AsyncFn() -> Result<KeySet, Error> + use<> {
        let state = self.internal_state();
        async move || {
            let revocations = state.revocations().await?;
            // Last, so that keys withdrawn while the store answered are not learned again.
            Ok((state.issuer.keys(), revocations))
        }
    }

    fn internal_state(&self) -> InternalState {
        let users = Store::open(&self.options, self.state.clone());
        InternalState { users, issuer: self.issuer.clone() }
    }

    async fn prepare(self) -> Result<(), SetupError> {
        store::migrate(&self.options).await?;
        self.state.set_prepared();
        Ok(())
    }
}

/// Whether the start creates missing keys. It must not where several processes share the keys.
fn may_make_keys(options: &config::User, mode: Mode) -> bool {
    matches!(options.database_url, SqlUrl::Sqlite(_)) || mode == Mode::Open
}

/// Copies the accounts at `from` to `to`; `existing` says what happens to accounts that `to` has already. Revocations
/// are copied too.
///
/// # Errors
/// Which of the two failed, and why.
pub async fn copy(
    from: &config::User,
    to: &config::User,
    existing: Existing,
    progress: impl Progress,
) -> Result<Copied, CommandError> {
    store::expect_migrated(from).await.map_err(of_source)?;
    let to = prepared(to).await.map_err(of_target)?;
    let from = Store::open(from, StoreState::already_prepared());
    // Revocations come first, so that a copy that is cut off leaves no account without them.
    copy::copy(&Revocations(&from), &Revocations(&to), Existing::Keep, |_, _| {}).await?;
    copy::copy(&from, &to, existing, progress).await.map_err(|failed| match failed.error {
        SetupError::Store(StoreError::Duplicate) => CommandError::TakenInTarget,
        _ => failed.into(),
    })
}

/// The store, with its tables up to date.
async fn prepared(options: &config::User) -> Result<Store, SetupError> {
    store::migrate(options).await?;
    Ok(Store::open(options, StoreState::already_prepared()))
}

/// Every route of the role, and who may call it.
fn configure(routes: &mut ServiceConfig, state: Data<UserState>, internal: Data<InternalState>) {
    routes.app_data(state).app_data(internal);
    // For other roles: the gateway passes on /auth alone.
    routes
        .service(path("/internal/jwks.json").get(roles(), sessions::keys))
        .service(path("/internal/revocations").get(roles(), sessions::revocations));
    add_paths(routes, paths());
}

/// The routes that the gateway passes on.
fn paths() -> Vec<Path> {
    vec![
        path("/auth/register").post(public(), sessions::register),
        path("/auth/login").post(public(), sessions::login),
        path("/auth/refresh").post(public(), sessions::refresh),
        path("/auth/logout").post(public(), sessions::logout),
        path("/auth/logout-all").post(signed_in(), sessions::logout_all),
        path("/auth/session")
            .post(public().from_same_origin(), browser::sign_in)
            .delete(public().from_same_origin(), browser::sign_out),
        path("/auth/session/renew").post(public().from_same_origin(), browser::renew_session),
        path("/auth/.well-known/jwks.json").get(public(), sessions::keys),
        path("/auth/dashboard/{id}").get(signed_in().or_open(), dashboard::show),
        path("/auth/me")
            .get(signed_in(), profile::show)
            .patch(signed_in(), profile::patch)
            .delete(signed_in(), profile::erase),
        path("/auth/me/password").put(signed_in(), profile::change_password),
        path("/auth/me/export").get(signed_in(), profile::export),
        path("/auth/users").get(admin(), accounts::list),
        path("/auth/users/{id}").patch(admin(), accounts::patch),
        path("/auth/users/{id}/sessions").delete(admin(), accounts::end_sessions),
    ]
}

/// The OpenAPI description of the handlers.
#[derive(utoipa::OpenApi)]
#[openapi(
    paths(
        sessions::register,
        sessions::login,
        sessions::refresh,
        sessions::logout,
        sessions::logout_all,
        browser::sign_in,
        browser::renew_session,
        browser::sign_out,
        sessions::keys,
        profile::show,
        profile::patch,
        profile::erase,
        profile::change_password,
        profile::export,
        dashboard::show,
        accounts::list,
        accounts::patch,
        accounts::end_sessions,
    ),
    tags(
        (name = "sessions", description = "Registering, signing in and out"),
        (name = "me", description = "The caller's own account"),
        (name = "accounts", description = "Dashboards, and other people's accounts for admins"),
    )
)]
struct UserApi;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_documented_and_nothing_else() {
        assert_eq!(middleware::differences(&Accounts::openapi(Mode::Enforced), &paths()), [""; 0]);
    }
}
