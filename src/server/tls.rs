//! Connections over TLS, on which the client chooses the version of HTTP (ALPN, RFC 7301).

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{IntCounter, IntCounterVec};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::http1::socket::Socket;
use crate::metrics::counters;

/// The supported protocols, the best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

static HANDSHAKES: LazyLock<Handshakes> = LazyLock::new(Handshakes::new);

/// The handshakes of a process with its clients.
struct Handshakes {
    all: IntCounterVec,
    done: IntCounter,
    failed: IntCounter,
    late: IntCounter,
}

impl Handshakes {
    fn new() -> Self {
        let about =
            "TLS handshakes with clients: done, failed, or given up because they took too long.";
        let all = counters("tls_handshakes_total", about, &["result"]);
        let [done, failed, late] =
            ["done", "failed", "timeout"].map(|result| all.with_label_values(&[result]));
        Self { all, done, failed, late }
    }
}

/// Counts handshakes.
pub(super) fn collector() -> Box<dyn Collector> {
    Box::new(HANDSHAKES.all.clone())
}

/// An acceptor with the configuration `tls`, for either version of HTTP.
pub(super) fn acceptor(tls: &ServerConfig) -> TlsAcceptor {
    let mut tls = tls.clone();
    tls.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
    TlsAcceptor::from(Arc::new(tls))
}

/// TLS over `tcp`, if the handshake succeeds within `limit`.
pub(super) async fn accept(
    acceptor: &TlsAcceptor,
    tcp: TcpStream,
    peer: SocketAddr,
    limit: Duration,
) -> Option<Stream> {
    match timeout(limit, acceptor.accept(tcp)).await {
        Ok(Ok(tls)) => {
            HANDSHAKES.done.inc();
            Some(Stream(tls))
        }
        failed => {
            if failed.is_err() {
                HANDSHAKES.late.inc()
            } else {
                HANDSHAKES.failed.inc()
            }
            report(peer, &failed.map_or_else(io::Error::from, unwrap_error));
            None
        }
    }
}

fn unwrap_error<T>(result: io::Result<T>) -> io::Error {
    result.err().unwrap_or_else(|| io::ErrorKind::Other.into())
}

/// Logs a failed handshake; at debug level if the client only closed the connection.
fn report(peer: SocketAddr, error: &io::Error) {
    let is_gone =
        [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset].contains(&error.kind());
    let level = if is_gone { log::Level::Debug } else { log::Level::Info };
    log::log!(target: "tls", level, peer:% = peer; "no handshake: {error}");
}

/// A TLS stream that accepts an end without close_notify, as many clients do: HTTP frames its messages itself.
pub(super) struct Stream(TlsStream<TcpStream>);

impl Stream {
    /// Whether the client chose HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        self.0.get_ref().1.alpn_protocol() == Some(PROTOCOLS[0])
    }
}

impl Socket for Stream {
    fn limit_writes(&self, limit: Duration) -> bool {
        self.0.get_ref().0.limit_writes(limit)
    }

    fn reset_at_end(&self) {
        self.0.get_ref().0.reset_at_end();
    }
}

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
