//! The composition root: the only file that knows every role.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::App;
use actix_web::body::BoxBody;
use actix_web::dev::{Server, ServiceFactory, ServiceRequest, ServiceResponse};
use futures_util::future::select_all;
use log::Level;
use tokio::net::TcpStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{sleep, timeout};

use crate::cli::Role;
use crate::config::{self, Effective, PeerUrl, Settings};
use crate::edge::{Draining, Edge};
use crate::readiness::Check;
use crate::server::{self, Listener, Readiness};
use crate::storage::copy::{Copied, Progress};
use crate::storage::sqlite;
use crate::transport::{Peer, http, local};
use crate::{gateway, product, user};

/// Roles start in this order, each after those it asks, and stop in its reverse.
const START_ORDER: [Role; 3] = [Role::Product, Role::User, Role::Gateway];

/// Why the process could not start or go on, in one line.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A setting does not work.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The system refused something.
    #[error(transparent)]
    System(#[from] io::Error),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// Runs `roles` until the process is told to stop, and drains.
///
/// # Errors
/// When a setting does not work, or a listener fails.
pub async fn run(settings: Settings, effective: Effective, roles: &[Role]) -> Result<(), Failure> {
    let started = Instant::now();
    let mut signals = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
    let settings = Arc::new(settings);
    check_peers(&settings, &effective, roles)?;
    let management = bind_management(&settings, &effective, roles)?;
    let listeners = bind(&settings, &effective, roles)?;
    let house = House::build(settings.clone(), &effective, roles).await?;
    let readiness = Readiness::new(house.draining.clone());
    actix_rt::spawn(readiness.clone().watch(house.checks()?));

    announce(roles, &listeners);
    let address = management.address;
    let mut servers = Vec::new();
    for (role, listener) in listeners {
        servers.push(house.serve(role, listener)?);
    }
    let management = house.serve_management(management, &readiness, roles)?;
    let handles = servers.iter().map(Server::handle).collect::<Vec<_>>();
    let mut running = select_all(servers.into_iter().map(actix_rt::spawn));
    actix_rt::spawn(management);

    let stopped = tokio::select! {
        signal = told_to_stop(&mut signals) => Ok(signal),
        (outcome, ..) = &mut running => Err(outcome),
        () = report_ready(&readiness, started, address) => unreachable!("it reports, and waits for ever"),
    };
    let signal = stopped.map_err(|outcome| {
        let why = outcome.map_or_else(|error| error.to_string(), |end| format!("{end:?}"));
        Failure::Other(format!("a listener stopped by itself: {why}"))
    })?;
    log::info!("draining");
    house.draining.begin();
    // Whoever presses Ctrl-C has no load balancer to wait for.
    let options = &settings.server;
    let delay =
        if signal == SignalKind::interrupt() { Duration::ZERO } else { options.drain_delay };
    let stop = async {
        sleep(delay).await;
        for handle in handles.iter().rev() {
            handle.stop(true).await;
        }
    };
    tokio::select! {
        stopped = timeout(delay + options.drain_timeout, stop) => {
            if stopped.is_err() {
                log::warn!("requests were still in flight after server.drain_timeout and are cut off");
            }
        }
        _ = told_to_stop(&mut signals) => log::warn!("told twice to stop: not waiting for requests"),
    }
    log::info!("stopped");
    Ok(())
}

/// Brings the tables of `roles` up to date; returns the migrations that were applied.
///
/// # Errors
/// Names the setting of the store that failed.
pub async fn migrate(
    settings: &Settings,
    effective: &Effective,
    roles: &[Role],
) -> Result<Vec<String>, config::Error> {
    let mut applied = Vec::new();
    for role in roles {
        let outcome = match role {
            Role::Gateway => Ok(Vec::new()),
            Role::User => user::migrate(&settings.user).await,
            Role::Product => product::migrate(&settings.product).await,
        };
        applied.extend(outcome.map_err(|problem| effective.blame(store_key(*role), problem))?);
    }
    Ok(applied)
}

/// Fills the catalogue with its first `count` products; see [`product::seed`].
///
/// # Errors
/// When the store cannot be opened or fails.
pub async fn seed(
    settings: &Settings,
    effective: &Effective,
    count: u32,
    progress: impl Fn(u32),
) -> Result<usize, Failure> {
    let key = store_key(Role::Product);
    let seeded = product::seed(&settings.product, count, progress).await;
    seeded.map_err(|error| effective.blame(key, error).into())
}

/// Copies the accounts or the products at one URL to another; the schemes, or between two files the tables
/// of the first, say which. Returns what was copied, in a word, and how.
///
/// # Errors
/// When a URL cannot be used, the two cannot hold the same, or a store fails.
pub async fn copy(
    settings: &Settings,
    from: &str,
    to: &str,
    progress: impl Progress,
) -> Result<(&'static str, Copied), Failure> {
    let fail = |problem: String| Failure::Other(problem);
    if copies_products(from, to)? {
        let at = |url: &str| {
            let database_url = url.to_owned().try_into().map_err(fail)?;
            Ok::<_, Failure>(config::Product { database_url, ..patient_product(settings) })
        };
        let copied = product::copy(&at(from)?, &at(to)?, progress).await.map_err(fail)?;
        return Ok(("products", copied));
    }
    let at = |url: &str| {
        let database_url = url.to_owned().try_into().map_err(fail)?;
        Ok::<_, Failure>(config::User { database_url, ..patient_user(settings) })
    };
    let copied = user::copy(&at(from)?, &at(to)?, progress).await.map_err(fail)?;
    Ok(("accounts", copied))
}

/// How long a batch of a copy may take: nobody waits for an answer.
const BATCH_TIMEOUT: Duration = Duration::from_secs(60);

fn patient_user(settings: &Settings) -> config::User {
    config::User { statement_timeout: BATCH_TIMEOUT, ..settings.user.clone() }
}

fn patient_product(settings: &Settings) -> config::Product {
    config::Product { statement_timeout: BATCH_TIMEOUT, ..settings.product.clone() }
}

fn copies_products(from: &str, to: &str) -> Result<bool, Failure> {
    let is = |scheme: &str| [from, to].iter().any(|url| url.starts_with(scheme));
    let (accounts, products) = (is("postgres"), is("mongodb"));
    if accounts && products {
        let why =
            "accounts are in PostgreSQL, products in MongoDB: neither can be copied to the other";
        return Err(Failure::Other(why.into()));
    }
    let Some(path) = from.strip_prefix("sqlite://") else { return Ok(products) };
    let tables = sqlite::tables(path.as_ref()).map_err(Failure::Other)?;
    let has = |name: &str| tables.iter().any(|table| table == name);
    match (has("users") && !products, has("products") && !accounts) {
        (false, true) => Ok(true),
        (true, false) => Ok(false),
        _ => Err(Failure::Other(format!(
            "{path} does not have the tables that could be copied to {to}"
        ))),
    }
}

/// The management address of a process that runs `roles`: that of its first role.
pub fn management_address(settings: &Settings, roles: &[Role]) -> (&'static str, SocketAddr) {
    match roles.first() {
        Some(Role::User) => ("user.management", settings.user.management),
        Some(Role::Product) => ("product.management", settings.product.management),
        Some(Role::Gateway) | None => ("gateway.management", settings.gateway.management),
    }
}

fn store_key(role: Role) -> &'static str {
    match role {
        Role::Gateway => "gateway",
        Role::User => "user.database_url",
        Role::Product => "product.database_url",
    }
}

/// The roles that `role` asks.
fn asks(role: Role) -> &'static [Role] {
    match role {
        Role::Gateway => &[Role::User, Role::Product],
        Role::User => &[Role::Product],
        Role::Product => &[],
    }
}

/// The URL of a role outside this process, and the setting it comes from.
fn peer_url(settings: &Settings, role: Role) -> (&'static str, &'static str, Option<&PeerUrl>) {
    match role {
        Role::User => ("peers.user", "USER_URL", settings.peers.user.as_ref()),
        Role::Product => ("peers.product", "PRODUCT_URL", settings.peers.product.as_ref()),
        Role::Gateway => ("peers.gateway", "GATEWAY_URL", None),
    }
}

/// Every role that a role of this process asks must run here or have a URL.
fn check_peers(
    settings: &Settings,
    effective: &Effective,
    roles: &[Role],
) -> Result<(), config::Error> {
    for role in roles {
        for asked in asks(*role).iter().filter(|asked| !roles.contains(asked)) {
            let (key, name, url) = peer_url(settings, *asked);
            if url.is_none() {
                let problem = format!(
                    "the {role} role asks the {asked} role, which does not run in this process; \
                     set {name}=http://host:port or add --role {asked}"
                );
                return Err(effective.blame(key, problem));
            }
        }
    }
    Ok(())
}

fn bind_management(
    settings: &Settings,
    effective: &Effective,
    roles: &[Role],
) -> Result<Listener, config::Error> {
    let (key, address) = management_address(settings, roles);
    server::bind(key, address, effective)
}

/// Binds the roles' addresses in start order. With every role in this process nobody outside asks for
/// any but the gateway.
fn bind(
    settings: &Settings,
    effective: &Effective,
    roles: &[Role],
) -> Result<Vec<(Role, Listener)>, config::Error> {
    let all_in_one = START_ORDER.iter().all(|role| roles.contains(role));
    let bound = START_ORDER.into_iter().filter(|role| match role {
        Role::Gateway => roles.contains(role),
        _ => roles.contains(role) && !all_in_one,
    });
    bound
        .map(|role| {
            let (key, address) = match role {
                Role::Gateway => ("gateway.listen", settings.gateway.listen),
                Role::User => ("user.listen", settings.user.listen),
                Role::Product => ("product.listen", settings.product.listen),
            };
            Ok((role, server::bind(key, address, effective)?))
        })
        .collect()
}

/// The roles of this process. Every worker thread makes its own services of it.
#[derive(Clone)]
struct House {
    settings: Arc<Settings>,
    draining: Draining,
    roles: Vec<Role>,
    user: Option<user::Role>,
    product: Option<product::Role>,
}

impl House {
    async fn build(
        settings: Arc<Settings>,
        effective: &Effective,
        roles: &[Role],
    ) -> Result<Self, config::Error> {
        let blame = |role| move |problem: String| effective.blame(store_key(role), problem);
        let mut product = None;
        if roles.contains(&Role::Product) {
            let built = product::Role::build(settings.product.clone()).await;
            product = Some(built.map_err(blame(Role::Product))?);
        }
        let mut user = None;
        if roles.contains(&Role::User) {
            let built = user::Role::build(settings.user.clone()).await;
            user = Some(built.map_err(blame(Role::User))?);
        }
        Ok(Self { product, user, draining: Draining::default(), roles: roles.to_vec(), settings })
    }

    /// Serves `role` on `listener` with as many threads as the settings say.
    fn serve(&self, role: Role, listener: Listener) -> io::Result<Server> {
        let house = self.clone();
        let options = &self.settings.server;
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let workers = if options.workers == 0 { cores() } else { options.workers };
        match role {
            Role::Gateway => server::serve(listener, workers, options, move || house.gateway_app()),
            Role::User => server::serve(listener, workers, options, move || house.user_app()),
            Role::Product => server::serve(listener, workers, options, move || house.product_app()),
        }
    }

    fn serve_management(
        &self,
        listener: Listener,
        readiness: &Readiness,
        roles: &[Role],
    ) -> io::Result<Server> {
        let readiness = readiness.clone();
        let roles = roles.iter().map(|role| role.name()).collect::<Vec<_>>();
        let mut edge = self.edge("management");
        // Probes come every few seconds and are nobody's news.
        edge.access = Level::Debug;
        server::serve(listener, 1, &self.settings.server, move || {
            edge.clone().app(server::management_routes(readiness.clone(), roles.clone()))
        })
    }

    fn gateway_app(&self) -> App<impl RoleService + use<>> {
        let product = self.product_peer();
        let user = self.user_peer(&product);
        let body_limit = self.settings.server.body_limit;
        self.edge("gateway").app(gateway::routes(gateway::Peers { user, product }, body_limit))
    }

    fn user_app(&self) -> App<impl RoleService + use<>> {
        self.user_app_with(self.product_peer())
    }

    fn user_app_with(&self, product: Peer) -> App<impl RoleService + use<>> {
        let routes = self.user.as_ref().map(|user| user.routes(product));
        self.edge("user").app(move |config| routes.into_iter().for_each(|routes| routes(config)))
    }

    fn product_app(&self) -> App<impl RoleService + use<>> {
        let routes = self.product.as_ref().map(product::Role::routes).transpose();
        // House::build has seen that they can be had.
        let routes = routes.unwrap_or_else(|error| unreachable!("{error}"));
        self.edge("product").app(move |config| routes.into_iter().for_each(|routes| routes(config)))
    }

    /// The way to the user role: the role itself on this thread, or its URL.
    fn user_peer(&self, product: &Peer) -> Peer {
        let start =
            || local::Peer::start(self.user_app_with(product.clone()), &self.settings.transport);
        self.peer(Role::User, self.user.as_ref().map(|_| start()))
    }

    /// The way to the product role: the role itself on this thread, or its URL.
    fn product_peer(&self) -> Peer {
        let start = || local::Peer::start(self.product_app(), &self.settings.transport);
        self.peer(Role::Product, self.product.as_ref().map(|_| start()))
    }

    fn peer(&self, role: Role, here: Option<local::Peer>) -> Peer {
        match (here, peer_url(&self.settings, role).2) {
            (Some(peer), _) => Peer::Local(peer),
            (None, Some(url)) => Peer::Http(http::Peer::new(url, &self.settings.transport)),
            (None, None) => unreachable!("check_peers has seen to it"),
        }
    }

    fn edge(&self, role: &'static str) -> Edge {
        Edge {
            role,
            request_timeout: self.settings.server.request_timeout,
            body_limit: self.settings.server.body_limit,
            draining: self.draining.clone(),
            access: Level::Info,
        }
    }

    /// Whether a role of this process asks `role`, which runs in another.
    fn asks_away(&self, role: Role) -> bool {
        !self.roles.contains(&role) && self.roles.iter().any(|asking| asks(*asking).contains(&role))
    }

    /// What the roles of this process need, other roles among it.
    fn checks(&self) -> Result<Vec<Check>, Failure> {
        let user = self.user.iter().flat_map(user::Role::checks);
        let product =
            self.product.as_ref().map(product::Role::checks).transpose().map_err(Failure::Other)?;
        let product = product.into_iter().flatten();
        let away = [Role::User, Role::Product].into_iter().filter(|role| self.asks_away(*role));
        let away = away.filter_map(|role| {
            let (key, _, url) = peer_url(&self.settings, role);
            Some(reachable(key, url?.clone()))
        });
        Ok(user.chain(product).chain(away).collect())
    }
}

/// What an actix application is made of, for the signatures above.
trait RoleService:
    ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<BoxBody>,
        Error = actix_web::Error,
        InitError = (),
    > + 'static
{
}

impl<T> RoleService for T where
    T: ServiceFactory<
            ServiceRequest,
            Config = (),
            Response = ServiceResponse<BoxBody>,
            Error = actix_web::Error,
            InitError = (),
        > + 'static
{
}

/// Whether something listens at `url`. Optional: what does not ask that role goes on.
fn reachable(name: &'static str, url: PeerUrl) -> Check {
    Check::optional(name, move || {
        let address = url.address();
        async move { TcpStream::connect(address).await.map(drop).map_err(|error| error.to_string()) }
    })
}

fn announce(roles: &[Role], listeners: &[(Role, Listener)]) {
    for role in roles {
        let listener = listeners.iter().find(|(bound, _)| bound == role);
        match listener {
            Some((_, listener)) => say(&format!("{:<8} http://{}", role.name(), listener.address)),
            None => say(&format!("{:<8} in this process", role.name())),
        }
    }
}

/// Says so once the process is ready. Never returns.
async fn report_ready(readiness: &Readiness, started: Instant, management: SocketAddr) {
    readiness.ready().await;
    let millis = started.elapsed().as_millis();
    say(&format!("ready after {millis} ms; management on http://{management}"));
    std::future::pending().await
}

/// Writes a line to standard output, where somebody may have stopped listening.
fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Which of the two signals came.
async fn told_to_stop(signals: &mut [Signal; 2]) -> SignalKind {
    let [terminate, interrupt] = signals;
    tokio::select! {
        _ = terminate.recv() => SignalKind::terminate(),
        _ = interrupt.recv() => SignalKind::interrupt(),
    }
}
