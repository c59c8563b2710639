//! Connections that switch to another protocol (RFC 9110, section 7.8), such as WebSocket: from then on bytes are copied
//! both ways, uninterpreted.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::http::header::HeaderValue;
use actix_web::web::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio::time::{Instant, sleep_until};

/// A bidirectional connection.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

/// The connection to a peer that has switched to another protocol.
pub struct Upgraded {
    /// The protocol that the peer agreed to.
    pub protocol: HeaderValue,
    stream: Box<dyn Duplex>,
    /// What the peer sent right after its response.
    early: Bytes,
    /// How long both sides may be silent.
    idle: Duration,
    /// How long the connection may last.
    total: Option<Duration>,
    /// Are dropped with the connection.
    guards: Vec<Box<dyn Any>>,
}

impl fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgraded").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

impl Upgraded {
    /// `stream`, whose peer has agreed to `protocol` and has sent `early` already. It ends when both sides are silent for
    /// `idle`.
    pub fn new(
        protocol: HeaderValue,
        stream: impl Duplex + 'static,
        early: Bytes,
        idle: Duration,
    ) -> Self {
        let stream = Box::new(stream);
        Self { protocol, stream, early, idle, total: None, guards: Vec::new() }
    }

    /// The same, which holds `guard` to its end.
    pub fn keeping<T: 'static>(mut self, guard: T) -> Self {
        self.guards.push(Box::new(guard));
        self
    }

    /// The same, which ends after `total` at the latest.
    pub fn within(self, total: Duration) -> Self {
        Self { total: Some(total), ..self }
    }

    /// Copies bytes both ways, beginning with what the `client` has `sent` already, until both sides have ended or a limit
    /// is reached.
    ///
    /// # Errors
    /// Those of either connection, and `TimedOut` at a limit.
    pub async fn tunnel(self, client: impl Duplex, sent: Bytes) -> io::Result<()> {
        let Self { stream, early, idle, total, guards, .. } = self;
        let last_active = Rc::new(Cell::new(Instant::now()));
        let mut client = Tracked { stream: client, early: sent, last_active: last_active.clone() };
        let mut peer = Tracked { stream, early, last_active: last_active.clone() };
        let over = async {
            let last = total.map(|total| Instant::now() + total);
            loop {
                let silent = last_active.get() + idle;
                let until = last.map_or(silent, |last| last.min(silent));
                if until <= Instant::now() {
                    return;
                }
                sleep_until(until).await;
            }
        };
        let joined = tokio::select! {
            joined = copy_bidirectional(&mut client, &mut peer) => joined.map(drop),
            () = over => Err(io::ErrorKind::TimedOut.into()),
        };
        drop(guards);
        joined
    }
}

/// A connection that records when it last received bytes.
struct Tracked<S> {
    stream: S,
    early: Bytes,
    last_active: Rc<Cell<Instant>>,
}

impl<S: Duplex> AsyncRead for Tracked<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.early.is_empty() {
            let length = self.early.len().min(buffer.remaining());
            buffer.put_slice(&self.early[..length]);
            self.early.advance(length);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.last_active.set(Instant::now());
        }
        polled
    }
}

impl<S: Duplex> AsyncWrite for Tracked<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    fn upgraded(early: &'static [u8]) -> (Upgraded, tokio::io::DuplexStream) {
        let (stream, peer) = duplex(64);
        let protocol = HeaderValue::from_static("echo");
        (Upgraded::new(protocol, stream, Bytes::from_static(early), IDLE), peer)
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_go_both_ways_until_both_sides_have_ended() {
        let (upgraded, mut peer) = upgraded(b"early ");
        let (stream, mut client) = duplex(64);
        let talk = async {
            client.write_all(b"ping").await.unwrap();
            client.shutdown().await.unwrap();
            let mut said = String::new();
            peer.read_to_string(&mut said).await.unwrap();
            peer.write_all(b"pong").await.unwrap();
            drop(peer);
            let mut answered = String::new();
            client.read_to_string(&mut answered).await.unwrap();
            (said, answered)
        };
        let (joined, said) = tokio::join!(upgraded.tunnel(stream, Bytes::new()), talk);
        assert!(joined.is_ok());
        assert_eq!(said, ("ping".into(), "early pong".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_ends_after_silence_or_its_total_time() {
        for (total, ends) in [(None, 90), (Some(Duration::from_secs(45)), 45)] {
            let (mut upgraded, peer) = upgraded(b"");
            upgraded.total = total;
            let guard = Rc::new(());
            let upgraded = upgraded.keeping(guard.clone());
            let (stream, mut client) = duplex(64);
            let start = Instant::now();
            let talk = async {
                tokio::time::sleep(Duration::from_secs(30)).await;
                client.write_all(b"x").await.unwrap();
            };
            let (joined, ()) = tokio::join!(upgraded.tunnel(stream, Bytes::new()), talk);
            assert_eq!(joined.unwrap_err().kind(), io::ErrorKind::TimedOut);
            assert_eq!(start.elapsed().as_secs(), ends, "{total:?}");
            assert_eq!(Rc::strong_count(&guard), 1);
            drop(peer);
        }
    }
}
