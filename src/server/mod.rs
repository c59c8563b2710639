//! Listening and draining: one role on its socket, and the process's management port.

mod management;
mod readiness;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::{App, HttpServer};
use tokio::net::TcpSocket;

use crate::config::{self, Effective};
use crate::edge::RoleService;

pub use management::{Upstreams, health_route, routes as management_routes};
pub use readiness::{Readiness, State};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// A socket that is bound and not yet served.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    /// Where it listens; the port that was given when any would do.
    pub address: SocketAddr,
}

/// Binds `address`, the value of the setting `key`. Needs a runtime.
///
/// # Errors
/// When the address is in use or not one of this machine's; the line names `key`.
pub fn bind(
    key: &str,
    address: SocketAddr,
    effective: &Effective,
) -> Result<Listener, config::Error> {
    let bound = || -> io::Result<Listener> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A restart must not wait for the connections of the process before.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let socket = socket.listen(BACKLOG)?.into_std()?;
        Ok(Listener { address: socket.local_addr()?, socket })
    };
    bound().map_err(|error| {
        let problem = match error.kind() {
            io::ErrorKind::AddrInUse => format!("{address} is in use by another process"),
            _ => format!("cannot listen on {address}: {error}"),
        };
        effective.blame(key, problem)
    })
}

/// Serves the application that `app` makes, once on each of `workers` threads, on `listener`.
///
/// # Errors
/// When the socket cannot be registered with the system.
pub fn serve<F, T>(
    listener: Listener,
    workers: usize,
    options: &config::Server,
    app: F,
) -> io::Result<Server>
where
    F: Fn() -> App<T> + Send + Clone + 'static,
    T: RoleService,
{
    let server = HttpServer::new(app)
        .workers(workers)
        .keep_alive(options.keep_alive)
        .client_request_timeout(options.header_timeout)
        .client_disconnect_timeout(Duration::from_secs(1))
        // Whole seconds only, and 0 would not wait at all: whoever stops the server looks at the clock.
        .shutdown_timeout(options.drain_timeout.as_secs() + 1)
        .tcp_nodelay(true)
        .disable_signals()
        .listen(listener.socket)?;
    Ok(server.run())
}
