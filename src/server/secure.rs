//! A listener that speaks TLS alone: HTTP/1.1 by actix, HTTP/2 by [`super::http2`], as the client chooses (ALPN, RFC
//! 7301).

use std::future::ready;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_http::{HttpService, KeepAlive, Request};
use actix_server::GracefulShutdownSignal;
use actix_service::{
    IntoServiceFactory as _, Service, ServiceFactory, fn_factory, fn_service, map_config,
};
use actix_web::App;
use actix_web::body::BoxBody;
use actix_web::dev::{AppConfig, Server, ServiceResponse};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::connection::{Connection, Patience};
use super::{DISCONNECT, expect, http2, shutdown_timeout};
use crate::config;
use crate::edge::RoleService;

/// What a client may choose, the best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// As [`super::serve`], inside TLS.
pub(super) fn serve<F, T>(
    socket: TcpListener,
    tls: Arc<ServerConfig>,
    workers: usize,
    options: &config::Server,
    app: F,
) -> io::Result<Server>
where
    F: Fn() -> App<T> + Send + Clone + 'static,
    T: RoleService,
{
    let mut tls = ServerConfig::clone(&tls);
    tls.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let builder = Server::build()
        .workers(workers)
        .shutdown_timeout(shutdown_timeout(options))
        .disable_signals();
    let leaving = builder.graceful_shutdown_signal();
    let options = options.clone();
    let server = builder.listen("tls", socket, move || {
        let (app, acceptor, options, leaving) =
            (app.clone(), acceptor.clone(), options.clone(), leaving.clone());
        fn_factory(move || worker(app(), acceptor.clone(), options.clone(), leaving.clone()))
    })?;
    Ok(server.run())
}

/// What one worker thread does with each connection.
async fn worker<T: RoleService>(
    app: App<T>,
    acceptor: TlsAcceptor,
    options: config::Server,
    leaving: GracefulShutdownSignal,
) -> Result<impl Service<TcpStream, Response = (), Error = ()>, ()> {
    let factory = map_config(app.into_factory(), |()| AppConfig::default());
    let app = Rc::new(factory.new_service(()).await?);
    let (http1, told, body_limit) = (app.clone(), leaving.clone(), options.body_limit);
    let http1 = HttpService::build()
        .graceful_shutdown_signal(move || {
            let told = told.clone();
            async move { told.notified().await }
        })
        // The connection has the clocks.
        .keep_alive(KeepAlive::Os)
        .client_request_timeout(Duration::ZERO)
        .client_disconnect_timeout(DISCONNECT)
        .on_connect_ext(|connection: &Connection<Stream>, data| {
            data.insert(connection.turns().clone());
        })
        .expect(fn_service(move |request: Request| expect(request, body_limit)))
        .h1(fn_factory(move || ready(Ok::<_, ()>(http1.clone()))));
    let http1 = http1.new_service(()).await?;
    let worker = Rc::new(Worker { app, http1, acceptor, options, leaving });
    Ok(fn_service(move |tcp| {
        let worker = worker.clone();
        async move {
            worker.connection(tcp).await;
            Ok::<_, ()>(())
        }
    }))
}

struct Worker<A, H> {
    app: Rc<A>,
    http1: H,
    acceptor: TlsAcceptor,
    options: config::Server,
    leaving: GracefulShutdownSignal,
}

impl<A, H> Worker<A, H>
where
    A: Service<Request, Response = ServiceResponse<BoxBody>, Error = actix_web::Error>,
    H: Service<(Connection<Stream>, Option<SocketAddr>), Response = ()>,
{
    /// Serves a connection until its end. A handshake has as much time as the head of a request.
    async fn connection(&self, tcp: TcpStream) {
        let peer = tcp.peer_addr().ok();
        let _ = tcp.set_nodelay(true);
        let tls = match timeout(self.options.header_timeout, self.acceptor.accept(tcp)).await {
            Ok(Ok(tls)) => tls,
            failed => return report(peer, &failed.map_or_else(io::Error::from, unwrap_error)),
        };
        let is_http2 = tls.get_ref().1.alpn_protocol() == Some(PROTOCOLS[0]);
        let stream = Stream(tls);
        if is_http2 {
            http2::serve(stream, peer, &*self.app, &self.options, self.leaving.notified()).await;
        } else {
            let connection = Connection::new(stream, Patience::of(&self.options));
            // What went wrong has been logged where it happened.
            let _ = self.http1.call((connection, peer)).await;
        }
    }
}

fn unwrap_error<T>(result: io::Result<T>) -> io::Error {
    result.err().unwrap_or_else(|| io::ErrorKind::Other.into())
}

/// Who tries without what it takes is news; who only looks whether somebody listens is not.
fn report(peer: Option<SocketAddr>, error: &io::Error) {
    let peer = peer.map(|peer| peer.to_string()).unwrap_or_default();
    let gone =
        [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset].contains(&error.kind());
    let level = if gone { log::Level::Debug } else { log::Level::Info };
    log::log!(target: "tls", level, peer = peer.as_str(); "no handshake: {error}");
}

/// Many clients end a connection without the word that TLS has for it; HTTP says where its messages end.
struct Stream(TlsStream<TcpStream>);

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf).map(|read| match read {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            read => read,
        })
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
