//! A client's connection with a clock: whoever is too slow is cut off.
//!
//! actix has a clock for the first head of a connection and one for an idle connection, and stops both with the
//! first byte of the next head; and it waits for a client that does not read for as long as that takes. Here one
//! clock goes with each connection, looked at when it rings and not with every request.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::config;
use crate::edge::{Turns, Waiting};
use crate::error::{Error, Kind};
use crate::transport::REQUEST_ID;

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For the head of a request, from its first byte to its last.
    pub(super) head: Duration,
    /// Until it begins one.
    pub(super) idle: Duration,
    /// To take the next piece of an answer.
    pub(super) write: Duration,
}

impl Patience {
    pub(super) fn of(options: &config::Server) -> Self {
        Self { head: options.header_timeout, idle: options.keep_alive, write: options.body_timeout }
    }
}

/// See the module.
pub(super) struct Connection<S> {
    stream: S,
    turns: Turns,
    patience: Patience,
    clock: Pin<Box<Sleep>>,
    /// Whether the clock's bell wakes the task of this connection.
    heard: bool,
    /// Rings when the client has not read for too long.
    stalled: Option<Pin<Box<Sleep>>>,
    over: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// `stream`, whose client has just connected.
    pub(super) fn new(stream: S, patience: Patience) -> Self {
        let now = Instant::now();
        let clock = Box::pin(sleep_until(now + patience.head));
        let turns = Turns::new(now);
        Self { stream, turns, patience, clock, heard: false, stalled: None, over: false }
    }

    /// What the edge is told of, so that it tells of the requests.
    pub(super) fn turns(&self) -> &Turns {
        &self.turns
    }

    /// When the client's time is over, by what is known now.
    fn deadline(&self) -> Option<Instant> {
        match self.turns.waiting() {
            Waiting::ForUs => None,
            Waiting::ForHead(begun) => Some(begun + self.patience.head),
            Waiting::ForRequest(since) => Some(since + self.patience.idle),
        }
    }

    /// Whether the client's time is over; if not, sees to it that the task is woken when that could be.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        let sooner = match self.turns.waiting() {
            Waiting::ForHead(begun) => begun + self.patience.head < self.clock.deadline(),
            _ => false,
        };
        if self.heard && !sooner && !self.clock.is_elapsed() {
            return false;
        }
        loop {
            let now = Instant::now();
            let next = match self.deadline() {
                Some(deadline) if deadline <= now => return true,
                Some(deadline) => deadline,
                None => now + self.patience.head,
            };
            if sooner || self.clock.is_elapsed() {
                self.clock.as_mut().reset(next);
            }
            self.heard = true;
            if self.clock.as_mut().poll(cx).is_pending() {
                return false;
            }
        }
    }

    /// Tells the client, if it has begun a request, and ends the connection.
    fn cut_off(&mut self, cx: &mut Context<'_>) {
        self.over = true;
        if matches!(self.turns.waiting(), Waiting::ForHead(_)) {
            // All answers have left: there is room for one more, or the client gets none.
            let _ = Pin::new(&mut self.stream).poll_write(cx, too_slow().as_bytes());
        }
    }
}

/// The answer to half a head, which no edge will see.
fn too_slow() -> String {
    answer(&Error::new(Kind::RequestTimeout, "the request did not come in time"))
}

/// What is to be said instead of `bytes`, where those are actix's answer to a head that it cannot read: a status
/// and nothing else.
fn refusal(bytes: &[u8]) -> Option<String> {
    let error = match bytes.get(..13)? {
        b"HTTP/1.1 400 " => Error::new(Kind::Malformed, "the request is not one of HTTP/1.1"),
        b"HTTP/1.1 431 " => Error::new(Kind::HeadTooLarge, "the request's head is too large"),
        _ => return None,
    };
    // What has been through the edge says which request it answers.
    let ours =
        bytes.windows(REQUEST_ID.as_str().len()).any(|name| name == REQUEST_ID.as_str().as_bytes());
    (!ours).then(|| answer(&error))
}

fn answer(error: &Error) -> String {
    let (head, body) = error.bare();
    format!("{head}\r\n{body}")
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.over {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        match polled {
            Poll::Ready(Ok(())) if buf.filled().len() > before => {
                this.turns.heard(Instant::now);
                polled
            }
            Poll::Ready(_) => polled,
            Poll::Pending if this.is_late(cx) => {
                this.cut_off(cx);
                Poll::Ready(Ok(()))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let unread = matches!(this.turns.waiting(), Waiting::ForHead(_));
        if let Some(refusal) = unread.then(|| refusal(buf)).flatten() {
            // There is room for it, as in `cut_off`.
            let written = Pin::new(&mut this.stream).poll_write(cx, refusal.as_bytes());
            return written.map_ok(|_| buf.len());
        }
        let polled = Pin::new(&mut this.stream).poll_write(cx, buf);
        if polled.is_ready() {
            this.stalled = None;
            return polled;
        }
        let until = || Box::pin(sleep_until(Instant::now() + this.patience.write));
        let clock = this.stalled.get_or_insert_with(until);
        clock.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
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
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    const PATIENCE: Patience = Patience {
        head: Duration::from_secs(5),
        idle: Duration::from_secs(75),
        write: Duration::from_secs(10),
    };

    /// A connection, the client's end of it, and the time.
    fn start() -> (Connection<DuplexStream>, DuplexStream, Instant) {
        tokio::time::pause();
        let (client, server) = duplex(64);
        (Connection::new(server, PATIENCE), client, Instant::now())
    }

    async fn all(mut client: DuplexStream) -> String {
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[actix_rt::test]
    async fn a_client_that_sends_nothing_is_told_and_cut_off() {
        let (mut connection, client, start) = start();
        let told = actix_rt::spawn(all(client));
        assert_eq!(connection.read(&mut [0; 64]).await.unwrap(), 0);
        assert_eq!(start.elapsed().as_secs(), 5);
        drop(connection);
        assert!(told.await.unwrap().starts_with("HTTP/1.1 408 "));
    }

    #[actix_rt::test]
    async fn so_is_one_that_sends_a_byte_now_and_then() {
        let (mut connection, mut client, start) = start();
        let dripping = actix_rt::spawn(async move {
            while client.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        while connection.read(&mut [0; 64]).await.unwrap() > 0 {}
        assert_eq!(start.elapsed().as_secs(), 5);
        drop(connection);
        dripping.await.unwrap();
    }

    #[actix_rt::test]
    async fn the_next_head_has_its_own_time_and_an_answer_as_long_as_it_takes() {
        let (mut connection, mut client, start) = start();
        client.write_all(b"a whole head").await.unwrap();
        assert_eq!(connection.read(&mut [0; 64]).await.unwrap(), 12);
        let turns = connection.turns().clone();
        let request = turns.begin();
        actix_rt::spawn(async move {
            tokio::time::sleep(Duration::from_secs(200)).await;
            drop(request);
            tokio::time::sleep(Duration::from_secs(60)).await;
            client.write_all(b"half a head").await.unwrap();
            std::future::pending::<()>().await;
        });
        assert_eq!(connection.read(&mut [0; 64]).await.unwrap(), 11);
        assert_eq!(start.elapsed().as_secs(), 260);
        assert_eq!(connection.read(&mut [0; 64]).await.unwrap(), 0);
        assert_eq!(start.elapsed().as_secs(), 265);
    }

    #[actix_rt::test]
    async fn an_idle_client_is_cut_off_without_a_word() {
        let (mut connection, client, start) = start();
        let told = actix_rt::spawn(all(client));
        drop(connection.turns().begin());
        assert_eq!(connection.read(&mut [0; 64]).await.unwrap(), 0);
        assert!((75..=80).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
        drop(connection);
        assert_eq!(told.await.unwrap(), "");
    }

    #[actix_rt::test]
    async fn a_client_that_does_not_read_is_cut_off() {
        let (mut connection, mut client, start) = start();
        actix_rt::spawn(async move {
            tokio::time::sleep(Duration::from_secs(9)).await;
            client.read_exact(&mut [0; 32]).await.unwrap();
            std::future::pending::<()>().await;
        });
        let error = connection.write_all(&[0; 1000]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed().as_secs(), 19);
    }
}
