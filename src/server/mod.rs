//! Listeners and draining, for a role's socket and for the management port.

mod callees;
mod debug;
mod heartbeat;
mod history;
mod log_filter;
mod management;
mod ops;
mod queue_time;
mod readiness;
mod tls;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;

use actix_http::Request;
use actix_server::GracefulShutdownSignal;
use actix_service::{
    IntoServiceFactory as _, Service, ServiceFactory as _, fn_factory, fn_service, map_config,
};
use actix_web::App;
use actix_web::body::BoxBody;
use actix_web::dev::{AppConfig, Server, ServiceResponse};
use futures_util::FutureExt as _;
use futures_util::future::{LocalBoxFuture, ready};
use rustls::ServerConfig;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::config::{self, Effective};
use crate::error::{Error, Kind};
use crate::http1::head::HeadError;
use crate::http1::server::{ConnectionContext, Options};
use crate::http1::shutdown::Shutdown;
use crate::metrics::Collectors;
use crate::middleware::RoleService;
use crate::{http1, http2, tasks};

pub use callees::collector as callees;
pub use debug::LONGEST as LONGEST_PROFILE;
pub use heartbeat::Heartbeats;
pub use history::Span;
pub use management::{Reporter, Reports, health_route, routes as management_routes};
pub use ops::{Neighbours, RolePlace, Topology};
pub use queue_time::measure_queue_time;
pub use readiness::{Readiness, State};

/// The most connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// A bound socket that is not served yet.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    /// Its address, with the actual port.
    pub address: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
}

impl Listener {
    /// The same, over TLS if `tls` is given.
    pub fn with_tls(self, tls: Option<Arc<ServerConfig>>) -> Self {
        Self { tls, ..self }
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }
}

/// What all listeners of a process count.
pub fn collectors() -> Collectors {
    vec![tls::collector(), queue_time::collector()]
}

/// Binds `address`, the value of the setting `key`. Needs a runtime. `[::]` includes all IPv4 addresses.
///
/// # Errors
/// When the address is in use or not on this machine; the error names `key`.
pub fn bind(
    key: &str,
    address: SocketAddr,
    effective: &Effective,
) -> Result<Listener, config::Error> {
    listen(address).map_err(|error| effective.blame(key, cannot(address, &error)))
}

/// Checks that [`bind`] can listen on `address`, the value of the setting `key`. An address in use is accepted: the shop may
/// be running. Needs a runtime.
///
/// # Errors
/// When the address is not on this machine, or not allowed for this user; the error names `key`.
pub fn check_bind(
    key: &str,
    address: SocketAddr,
    effective: &Effective,
) -> Result<(), config::Error> {
    // Only the privileged ports need a check; others are not bound even for a moment, because another program may want them.
    let port = if address.port() < 1024 { address.port() } else { 0 };
    match listen(SocketAddr::new(address.ip(), port)) {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            Err(effective.blame(key, cannot(address, &error)))
        }
        _ => Ok(()),
    }
}

fn listen(address: SocketAddr) -> io::Result<Listener> {
    let (socket, address) = open(address, TcpSocket::new_v6)?;
    // A restart must not wait for connections of the old process.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let socket = socket.listen(BACKLOG)?.into_std()?;
    Ok(Listener { address: socket.local_addr()?, socket, tls: None })
}

fn cannot(address: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!("{address} is in use by another process"),
        _ => format!("cannot listen on {address}: {error}"),
    }
}

/// A socket for `address`, and the address to bind. On a kernel without IPv6, `[::]` becomes 0.0.0.0.
fn open(
    address: SocketAddr,
    new_v6: fn() -> io::Result<TcpSocket>,
) -> io::Result<(TcpSocket, SocketAddr)> {
    if address.is_ipv4() {
        return Ok((TcpSocket::new_v4()?, address));
    }
    match new_v6() {
        Err(_) if address.ip().is_unspecified() => {
            Ok((TcpSocket::new_v4()?, (Ipv4Addr::UNSPECIFIED, address.port()).into()))
        }
        socket => Ok((socket?, address)),
    }
}

/// The worker threads of a listener.
#[derive(Clone, Debug)]
pub struct Threads {
    /// The number of threads.
    pub workers: usize,
    /// Their heartbeats.
    pub heartbeats: Heartbeats,
}

impl Threads {
    /// The given number of threads, with heartbeats that nothing watches.
    pub fn new(workers: usize) -> Self {
        Self { workers, heartbeats: Heartbeats::default() }
    }
}

/// Serves `listener` with the application that `app` makes on each of `threads`.
///
/// # Errors
/// When the socket cannot be registered with the system.
pub fn serve<F, T>(
    listener: Listener,
    threads: Threads,
    options: &config::Server,
    app: F,
) -> io::Result<Server>
where
    F: Fn() -> App<T> + Send + Clone + 'static,
    T: RoleService,
{
    let builder = Server::build()
        .workers(threads.workers)
        .shutdown_timeout(shutdown_timeout(options))
        .disable_signals();
    let signal = builder.graceful_shutdown_signal();
    let acceptor = listener.tls.as_deref().map(tls::acceptor);
    let options = Options {
        head_timeout: options.header_timeout,
        keep_alive: options.keep_alive,
        write_timeout: options.body_timeout,
        refuse,
    };
    let server = builder.listen("http", listener.socket, move || {
        let (app, acceptor) = (app.clone(), acceptor.clone());
        let (signal, heartbeats) = (signal.clone(), threads.heartbeats.clone());
        fn_factory(move || {
            heartbeats.start();
            worker(app(), acceptor.clone(), options, signal.clone())
        })
    })?;
    Ok(server.run())
}

/// The service of one thread, which handles connections.
async fn worker<T: RoleService>(
    app: App<T>,
    acceptor: Option<TlsAcceptor>,
    options: Options,
    signal: GracefulShutdownSignal,
) -> Result<impl Service<TcpStream, Response = (), Error = ()>, ()> {
    let factory = map_config(app.into_factory(), |()| AppConfig::default());
    let app = factory.new_service(()).await?;
    let shutdown = Rc::<Shutdown>::default();
    let context =
        Rc::new(ConnectionContext { app, options: Rc::new(options), shutdown: shutdown.clone() });
    tasks::spawn("shutdown", async move {
        signal.notified().await;
        shutdown.begin();
    });
    Ok(fn_service(move |tcp| connection(tcp, context.clone(), acceptor.clone()).map(Ok)))
}

/// Serves a connection until its end. Boxed, because the server stores the future twice.
fn connection<A>(
    tcp: TcpStream,
    context: Rc<ConnectionContext<A>>,
    acceptor: Option<TlsAcceptor>,
) -> LocalBoxFuture<'static, ()>
where
    A: Service<Request, Response = ServiceResponse<BoxBody>, Error = actix_web::Error> + 'static,
{
    // A connection that was reset before it was accepted has no address.
    let Ok(peer) = tcp.peer_addr() else { return ready(()).boxed_local() };
    // An IPv4 client has the same address on a listener for both versions.
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    // Without it, the end of a response waits until its beginning is acknowledged.
    let _ = tcp.set_nodelay(true);
    let Some(acceptor) = acceptor else {
        return http1::server::serve(tcp, peer, context).boxed_local();
    };
    let secure = async move {
        let ConnectionContext { app, options, shutdown } = &*context;
        let Some(stream) = tls::accept(&acceptor, tcp, peer, options.head_timeout).await else {
            return;
        };
        if stream.is_http2() {
            http2::serve(stream, peer, app, options, shutdown.begun()).await;
        } else {
            http1::server::serve(stream, peer, context).await;
        }
    };
    secure.boxed_local()
}

/// The response to an invalid request head, in bytes of HTTP/1.1.
pub fn refuse(peer: SocketAddr, error: HeadError) -> String {
    let kind = match error {
        HeadError::Malformed(_) => Kind::Malformed,
        HeadError::TooLarge => Kind::HeadTooLarge,
        HeadError::TargetTooLong => Kind::TargetTooLong,
        HeadError::UnknownCoding => Kind::NotImplemented,
        HeadError::Slow => Kind::RequestTimeout,
    };
    let status = kind.status().as_u16();
    log::info!(target: "http", peer:% = peer, status; "no request: {error}");
    Error::new(kind, error.to_string()).bare()
}

/// The timeout in whole seconds for actix, which does not wait at all for 0. The caller has its own limit.
fn shutdown_timeout(options: &config::Server) -> u64 {
    options.drain_timeout.as_secs() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn without_ipv6() -> io::Result<TcpSocket> {
        Err(io::ErrorKind::Unsupported.into())
    }

    #[test]
    fn every_address_is_one_of_ipv4_where_the_kernel_has_no_ipv6() {
        let opened = |address: &str| {
            let opened = open(address.parse().unwrap(), without_ipv6);
            opened.map(|(_, address)| address.to_string())
        };
        assert_eq!(opened("[::]:8000").unwrap(), "0.0.0.0:8000");
        assert_eq!(opened("127.0.0.1:8000").unwrap(), "127.0.0.1:8000");
        opened("[::1]:8000").unwrap_err();
    }
}
