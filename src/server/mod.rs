//! Listening and draining: one role on its socket, and the process's management port.

mod connection;
mod http2;
mod management;
mod readiness;
mod secure;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_http::{HttpService, KeepAlive, Protocol, Request};
use actix_service::{ServiceFactoryExt as _, fn_service, map_config};
use actix_web::App;
use actix_web::dev::{AppConfig, Server};
use actix_web::http::header::CONTENT_LENGTH;
use rustls::ServerConfig;
use tokio::net::{TcpSocket, TcpStream};

use crate::config::{self, Effective};
use crate::edge::{RoleService, too_large};
use crate::transport::number;

use connection::{Connection, Patience};
pub use management::{Upstreams, health_route, routes as management_routes};
pub use readiness::{Readiness, State};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;
/// How long the end of a connection may take.
const DISCONNECT: Duration = Duration::from_secs(1);

/// A socket that is bound and not yet served.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    /// Where it listens; the port that was given when any would do.
    pub address: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
}

impl Listener {
    /// The same, speaking TLS alone where there is `tls`.
    pub fn secured(self, tls: Option<Arc<ServerConfig>>) -> Self {
        Self { tls, ..self }
    }

    /// The base URL of what is served here.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }
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
        Ok(Listener { address: socket.local_addr()?, socket, tls: None })
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
    if let Some(tls) = listener.tls {
        return secure::serve(listener.socket, tls, workers, options, app);
    }
    let patience = Patience::of(options);
    let body_limit = options.body_limit;
    let builder = Server::build();
    let draining = builder.graceful_shutdown_signal();
    let service = move || {
        let draining = draining.clone();
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let draining = draining.clone();
                async move { draining.notified().await }
            })
            // The connection has the clocks.
            .keep_alive(KeepAlive::Os)
            .client_request_timeout(Duration::ZERO)
            .client_disconnect_timeout(DISCONNECT)
            .on_connect_ext(|connection: &Connection<TcpStream>, data| {
                data.insert(connection.turns().clone());
            })
            .expect(fn_service(move |request: Request| expect(request, body_limit)))
            .finish(map_config(app(), |()| AppConfig::default()));
        let connect = fn_service(move |stream: TcpStream| async move {
            // Without it an answer's end would wait until its beginning is acknowledged.
            let _ = stream.set_nodelay(true);
            let peer = stream.peer_addr().ok();
            Ok((Connection::new(stream, patience), Protocol::Http1, peer))
        });
        connect.and_then(http)
    };
    let builder = builder
        .workers(workers)
        .shutdown_timeout(shutdown_timeout(options))
        .disable_signals()
        .listen("http", listener.socket, service)?;
    Ok(builder.run())
}

/// In whole seconds, as actix wants it, and 0 would not wait at all: whoever stops the server looks at the clock.
fn shutdown_timeout(options: &config::Server) -> u64 {
    options.drain_timeout.as_secs() + 1
}

/// What becomes of a client that waits for 100 before it sends its content: it gets that, unless it would be
/// refused behind it (RFC 9110, section 10.1.1).
async fn expect(request: Request, body_limit: usize) -> Result<Request, actix_web::Error> {
    let length = number::<u64>(&request.head().headers, CONTENT_LENGTH);
    if length.is_some_and(|length| length > body_limit as u64) {
        return Err(too_large(body_limit).into());
    }
    Ok(request)
}
