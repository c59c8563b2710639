//! The composition root: the only place that knows every role.

mod access;
mod backup;
mod check_stock;
mod commands;
mod composition;
mod dead_letters;
mod demo;
mod document;
mod reload;
mod roles;
mod tls;
mod topology;
mod transfer;
mod validation;
mod watchdog;

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::dev::{Server, ServerHandle};
use futures_util::future::{join3, select_all};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{sleep, timeout};

use crate::auth::Mode;
use crate::config::{self, Effective, Settings, Sources};
use crate::events::DeadLetterError;
use crate::server::{self, Listener, Readiness};
use crate::storage::copy::CopyError;
use crate::storage::{self, SetupError};
use crate::tasks;
use crate::telemetry::{self, traces};
use crate::user;
use composition::Node;
pub use roles::Role;
use roles::start_order;
use tls::Tls;
use validation::{check_listeners, validate};

pub use crate::events::Decision;
pub use backup::{backup, restore};
pub use check_stock::{Comparison, Difference, check_stock};
pub use commands::{
    Existing, Kind, copy, create_user, enable_user, migrate, promote_user, rotate_keys, seed,
    set_password,
};
pub use dead_letters::{Selection, decide, find as find_dead_letters};
pub use demo::{Folder, demo, demo_settings};

pub use transfer::{Format, ImportReport, Pieces, Place, export, import};

/// SIGXFSZ on Linux and the BSDs: a write went beyond the limit of file sizes. Unless it is handled, it ends the process; the
/// write fails either way.
const FILE_TOO_LARGE: i32 = 25;

/// The most time to notify other processes of the last writes; a fifth of it is granted in any case.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);

/// The least time that background tasks have to end: one that waits ends at once when it is cancelled.
const TASKS_TIMEOUT: Duration = Duration::from_millis(200);

/// The least time to close the files of stores.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(300);

/// Why the process could not start or go on, in one line.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A setting does not work.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// A system call failed.
    #[error(transparent)]
    System(#[from] io::Error),
    /// A command on accounts failed.
    #[error(transparent)]
    Accounts(#[from] user::CommandError),
    /// The source or the target of a copy failed.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// A store cannot be used.
    #[error(transparent)]
    Store(#[from] SetupError),
    /// A shop that was asked gave an error.
    #[error("{0}: {1}")]
    Shop(String, Box<crate::error::Error>),
    /// An import ended early.
    #[error(transparent)]
    Import(#[from] crate::product::ImportError),
    /// Dead letters could not be read or changed.
    #[error(transparent)]
    DeadLetters(#[from] DeadLetterError),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// Runs `roles` with the settings of `sources` until the process gets a signal to stop, and drains. SIGHUP reloads the
/// settings.
///
/// # Errors
/// When a setting does not work, or a listener fails.
pub async fn run(
    sources: Sources,
    loaded: (Settings, Effective),
    roles: &[Role],
) -> Result<(), Failure> {
    // Boxed, as all of what it awaits is deep.
    Box::pin(open(sources, loaded, roles, Ordinary)).await
}

/// What a process does and says while it opens.
trait Opening {
    /// Prepares the stores, once the addresses are bound.
    async fn prepare(
        &mut self,
        settings: &Settings,
        effective: &Effective,
        listeners: &[(Role, Listener)],
    ) -> Result<(), Failure>;

    /// Is called when `roles` are about to be served by `listeners`.
    fn bound(&self, roles: &[Role], listeners: &[(Role, Listener)]);

    /// Is called when the process that `started` then is ready; its management port is at an address.
    fn ready(&self, started: Instant, management: SocketAddr);
}

/// Says where roles listen.
struct Ordinary;

impl Opening for Ordinary {
    async fn prepare(
        &mut self,
        _: &Settings,
        _: &Effective,
        _: &[(Role, Listener)],
    ) -> Result<(), Failure> {
        Ok(())
    }

    fn bound(&self, roles: &[Role], listeners: &[(Role, Listener)]) {
        print_addresses(roles, listeners);
    }

    fn ready(&self, started: Instant, management: SocketAddr) {
        let millis = started.elapsed().as_millis();
        print_line(&format!("ready after {millis} ms; management on http://{management}"));
    }
}

/// See [`run`]; `opening` takes part in the start.
async fn open(
    sources: Sources,
    (settings, effective): (Settings, Effective),
    roles: &[Role],
    mut opening: impl Opening,
) -> Result<(), Failure> {
    let started = Instant::now();
    let hangup = signal(SignalKind::hangup())?;
    let mut signals = stop_signals()?;
    let _handled = signal(SignalKind::from_raw(FILE_TOO_LARGE))?;
    let settings = Arc::new(settings);
    watchdog::start(settings.server.drain_delay + settings.server.drain_timeout)?;
    let validated = validate(&settings, &effective, roles).await?;
    let mode = validated.parts.mode;
    let management = bind_management(&settings, &effective, roles)?;
    let listeners = bind(&settings, &effective, roles, &validated.tls)?;
    Box::pin(opening.prepare(&settings, &effective, &listeners)).await?;
    let names = roles.iter().map(|role| role.name()).collect::<Vec<_>>();
    traces::start(&settings.traces, &names, validated.tls.traces())?;
    let node = Node::build(&effective, roles, validated).await?;
    let readiness = node.readiness.clone();
    node.heartbeats.start();
    let follower = node.clone();
    tasks::supervise("keys", move || follower.clone().follow_keys());
    readiness.follow(node.checks());
    node.start_tasks();
    tasks::supervise("log", telemetry::follow_left_out);

    access::warn(mode, &listeners);
    opening.bound(roles, &listeners);
    let address = management.address;
    let mut servers = Vec::new();
    for (role, listener) in listeners {
        servers.push(node.serve(role, listener)?);
    }
    let management = node.serve_management(management, roles)?;
    reload::follow(hangup, node.clone(), sources, effective);
    let handles = servers.iter().map(Server::handle).collect::<Vec<_>>();
    let mut running = select_all(servers.into_iter().map(|server| tasks::spawn("server", server)));
    tasks::spawn("management", async {
        let ended = management.await;
        log::error!("the management port is closed: {ended:?}");
    });

    let stopped = tokio::select! {
        signal = wait_for_stop(&mut signals) => Ok(signal),
        (outcome, ..) = &mut running => Err(outcome),
        () = report_ready(&readiness, &opening, started, address) => unreachable!("it never returns"),
    };
    let signal = stopped.map_err(|outcome| {
        Failure::Other(format!("a listener stopped unexpectedly: {outcome:?}"))
    })?;
    node.draining.begin();
    // Ctrl-C comes from a terminal: no load balancer needs the delay.
    let options = &settings.server;
    let delay =
        if signal == SignalKind::interrupt() { Duration::ZERO } else { options.drain_delay };
    drain(&handles, delay, options.drain_timeout, node.settle(), &mut signals).await;
    Ok(())
}

/// Serves for another `delay`, and stops the servers in reverse order, each once no request is in flight. Then lets the
/// roles `settle`, ends the background tasks, sends the last traces, and closes the files. Gives up after `limit`, or at a
/// second signal.
async fn drain(
    handles: &[ServerHandle],
    delay: Duration,
    limit: Duration,
    settle: impl Future<Output = ()>,
    signals: &mut [Signal; 2],
) {
    log::info!("draining");
    let end = Instant::now() + delay + limit;
    let stop = async {
        sleep(delay).await;
        for handle in handles.iter().rev() {
            handle.stop(true).await;
        }
    };
    let stopping = async {
        if timeout(delay + limit, stop).await.is_err() {
            log::warn!("requests were still in flight after server.drain_timeout and are cut off");
        }
        let left = end.saturating_duration_since(Instant::now());
        let tasks = tasks::drain(left.max(TASKS_TIMEOUT));
        let left = left.clamp(SETTLE_TIMEOUT / 5, SETTLE_TIMEOUT);
        let (settled, hung, ()) = join3(timeout(left, settle), tasks, traces::stop(left)).await;
        if !hung.is_empty() {
            log::warn!("background tasks did not end in time: {}", hung.join(", "));
        }
        if settled.is_err() {
            log::warn!(
                "other processes were not notified of the last writes: a cache may be stale until the role starts again"
            );
        }
        let left = end.saturating_duration_since(Instant::now());
        storage::close(left.max(CLOSE_TIMEOUT)).await;
    };
    tokio::select! {
        () = stopping => {}
        _ = wait_for_stop(signals) => log::warn!("second signal to stop: not waiting for requests"),
    }
    log::info!("stopped");
}

/// The management address of a process that runs `roles`, and its setting: that of its first role.
pub fn management_address(settings: &Settings, roles: &[Role]) -> (String, SocketAddr) {
    roles.first().unwrap_or(&Role::Gateway).management_address(settings)
}

/// The roles of other processes that a process of `roles` calls.
fn asks_away(roles: &[Role], mode: Mode) -> impl Iterator<Item = Role> {
    let asked = move |role: &Role| roles.iter().any(|asking| asking.asks(mode).any(|r| r == *role));
    let away = start_order().into_iter().filter(|role| !roles.contains(role));
    away.filter(asked)
}

/// Checks what would stop a start of `roles`, except for addresses in use and stores that do not answer.
///
/// # Errors
/// The setting that does not work.
pub async fn check(
    settings: Settings,
    effective: &Effective,
    roles: &[Role],
) -> Result<(), config::Error> {
    let settings = Arc::new(settings);
    validate(&settings, effective, roles).await?;
    check_listeners(&settings, effective, roles)
}

/// Every role that a role of this process asks must run here or have a URL.
fn check_peers(
    settings: &Settings,
    effective: &Effective,
    roles: &[Role],
    mode: Mode,
) -> Result<(), config::Error> {
    for role in roles {
        let away = role.asks(mode).filter(|asked| !roles.contains(asked));
        let mut away = away.filter(|asked| !asked.is_optional());
        if let Some(asked) = away.find(|asked| asked.urls(settings).is_empty()) {
            let variable = asked.name().to_uppercase();
            let problem = format!(
                "the {role} role asks the {asked} role, which does not run in this process; \
                 set {variable}_URL=http://host:port or add --role {asked}"
            );
            return Err(effective.blame(asked.peer_key(), problem));
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
    server::bind(&key, address, effective)
}

/// Binds the roles' addresses in start order.
fn bind(
    settings: &Settings,
    effective: &Effective,
    roles: &[Role],
    tls: &Tls,
) -> Result<Vec<(Role, Listener)>, config::Error> {
    let bound = listening(roles).map(|role| {
        let (key, address) = role.listen_address(settings);
        Ok((role, server::bind(&key, address, effective)?.with_tls(tls.listener(role))))
    });
    bound.collect()
}

/// Whether `roles` are all roles.
fn all_in_one(roles: &[Role]) -> bool {
    Role::ALL.iter().all(|role| roles.contains(role))
}

/// Those of `roles` that listen, in start order. With every role in one process, only the public ones do.
fn listening(roles: &[Role]) -> impl Iterator<Item = Role> {
    let all_in_one = all_in_one(roles);
    let listens = move |role: &Role| role.is_public() || !all_in_one;
    start_order().into_iter().filter(|role| roles.contains(role)).filter(listens)
}

fn print_addresses(roles: &[Role], listeners: &[(Role, Listener)]) {
    for role in roles {
        let listener = listeners.iter().find(|(bound, _)| bound == role);
        match listener {
            Some((_, listener)) => print_line(&format!("{:<8} {}", role.name(), listener.url())),
            None => print_line(&format!("{:<8} in this process", role.name())),
        }
    }
}

/// Tells `opening` once the process is ready. Never returns.
async fn report_ready(
    readiness: &Readiness,
    opening: &impl Opening,
    started: Instant,
    management: SocketAddr,
) {
    readiness.ready().await;
    opening.ready(started, management);
    std::future::pending().await
}

/// The address of a listener for this machine: loopback for an unspecified one.
pub fn for_this_machine(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// Writes a line to standard output, whose reader may be gone.
fn print_line(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// The signals to stop.
fn stop_signals() -> io::Result<[Signal; 2]> {
    Ok([signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?])
}

/// Waits for one of the signals to stop.
async fn wait_for_stop(signals: &mut [Signal; 2]) -> SignalKind {
    let [terminate, interrupt] = signals;
    tokio::select! {
        _ = terminate.recv() => SignalKind::terminate(),
        _ = interrupt.recv() => SignalKind::interrupt(),
    }
}
