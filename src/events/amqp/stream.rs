//! The connection below AMQP: TCP, and TLS by the program's own configuration. The client's own TLS would bring another
//! thirty crates, and without them takes `amqps` for `amqp`.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_rs::traits::Reactor;
use async_rs::util::RuntimeParts;
use async_rs::{Runtime, Tokio};
use futures_util::{AsyncRead, AsyncWrite, Stream};
use lapin::tcp::AsyncTcpStream;
use lapin::uri::{AMQPScheme, AMQPUri};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

/// What reads and writes.
pub(super) trait Duplex:
    tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin
{
}

impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection, with TLS or without.
pub(super) type Socket = Compat<Box<dyn Duplex>>;

/// This thread's runtime, whose connections may have TLS.
pub(super) type Parts = RuntimeParts<Tokio, Sockets>;

/// This thread's runtime.
pub(super) fn runtime() -> Runtime<Parts> {
    Runtime::new(RuntimeParts::new(Tokio::current(), Sockets(Tokio::current())))
}

/// Connects to the broker at `uri`.
pub(super) async fn connect(
    uri: AMQPUri,
    tls: Option<Arc<ClientConfig>>,
) -> lapin::Result<AsyncTcpStream<Socket>> {
    let host = uri.authority.host;
    let tcp = TcpStream::connect((&*host, uri.authority.port)).await?;
    tcp.set_nodelay(true)?;
    let socket: Box<dyn Duplex> = match (uri.scheme, tls) {
        (AMQPScheme::AMQP, _) => Box::new(tcp),
        (AMQPScheme::AMQPS, None) => return Err(io::Error::other("there is no TLS").into()),
        (AMQPScheme::AMQPS, Some(tls)) => {
            let name = ServerName::try_from(host).map_err(io::Error::other)?;
            Box::new(TlsConnector::from(tls).connect(name, tcp).await?)
        }
    };
    Ok(AsyncTcpStream::Plain(socket.compat()))
}

/// What the client asks of a runtime, but for tasks.
#[derive(Clone, Debug)]
pub(super) struct Sockets(Tokio);

impl Reactor for Sockets {
    type TcpStream = Socket;
    type Sleep = <Tokio as Reactor>::Sleep;

    /// Never called: sockets are ours.
    fn register<H: Read + Write + Send + 'static>(
        &self,
        _: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        Err::<Socket, _>(io::ErrorKind::Unsupported.into())
    }

    fn sleep(&self, time: Duration) -> Self::Sleep {
        self.0.sleep(time)
    }

    fn interval(&self, time: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(time)
    }

    #[expect(clippy::manual_async_fn, reason = "the future must not borrow the runtime")]
    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Socket>> + Send + 'static {
        async move {
            let socket: Box<dyn Duplex> = Box::new(TcpStream::connect(address).await?);
            Ok(socket.compat())
        }
    }
}
