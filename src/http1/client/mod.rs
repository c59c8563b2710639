//! The client side of HTTP/1.1: pooled connections to one server, over TLS for an `https` URI.
//!
//! It does not use awc, which takes an interim response (103) for the final one and leaves that to the next request on the
//! connection; reads nothing until it has sent everything, and so loses an early response; and takes the content of a
//! response that ends with its connection for empty.

mod connect;
mod connection;
mod outgoing;
mod pool;
mod response;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::http::uri::Scheme;
use actix_web::http::{Method, Uri};
use rustls::ClientConfig;
use tokio::sync::Semaphore;

use crate::http1::{Body, Reply, Request};
pub use connect::Connector;
use pool::Pool;
use response::Received;

/// Why there was no response.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The limit of concurrent calls is reached.
    #[error("too many calls are under way")]
    Busy,
    /// No connection could be opened.
    #[error("no connection: {0}")]
    Unreachable(String),
    /// The connection ended before the first byte of the response.
    #[error("{0}")]
    Closed(io::Error),
    /// Any other failure; a retry would not help.
    #[error("{0}")]
    Broken(String),
    /// The content of the request failed.
    #[error("{0}")]
    Content(io::Error),
}

impl Error {
    fn broken(cause: impl std::fmt::Display) -> Self {
        Self::Broken(cause.to_string())
    }
}

/// How a client uses its connections.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The most calls under way at once, and so the most connections.
    pub pool_size: usize,
    /// How long an idle connection is kept.
    pub pool_idle: Duration,
    /// How long opening a connection may take.
    pub connect_timeout: Duration,
    /// How long a response may pause after it has begun.
    pub read_timeout: Duration,
}

/// A client of one server; cheap to clone, and bound to its thread.
#[derive(Clone)]
pub struct Peer {
    /// `http` or `https`.
    scheme: Scheme,
    /// The server's host, and its port if that is not the scheme's.
    host: Arc<str>,
    pool: Pool,
    calls: Arc<Semaphore>,
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Peer {
    /// The URL of `target` at the server.
    pub fn url(&self, target: &Uri) -> Uri {
        let mut parts = target.clone().into_parts();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = self.host.parse().ok();
        Uri::from_parts(parts).unwrap_or_default()
    }

    /// A client of the server of `uri`, over TLS with `tls` if that is `https`. Opens no connection yet.
    pub fn new(uri: &Uri, options: impl Into<Options>, tls: Option<Arc<ClientConfig>>) -> Self {
        let options = options.into();
        let scheme = uri.scheme().cloned().unwrap_or(Scheme::HTTP);
        let host = uri.authority().map_or("", |authority| authority.as_str()).into();
        let calls = Arc::new(Semaphore::new(options.pool_size));
        Self { scheme, host, pool: Pool::new(Connector::new(uri, tls), &options), calls }
    }

    /// The same client with another [`Options::read_timeout`].
    pub fn with_read_timeout(self, read_timeout: Duration) -> Self {
        Self { pool: self.pool.with_read_timeout(read_timeout), ..self }
    }

    /// Sends `request` with `body` at the time `now`, and waits for the head of the response.
    ///
    /// A pooled connection may close just when it is used; a request that `may_repeat` is then sent again over a new one.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn exchange(
        &self,
        request: &Request,
        body: Body,
        may_repeat: bool,
        now: Instant,
    ) -> Result<Reply, Error> {
        let permit = self.calls.clone().try_acquire_owned().map_err(|_| Error::Busy)?;
        let outgoing = outgoing::Outgoing::new(request, &self.host, body);
        let is_head = request.method == Method::HEAD;
        let (mut connection, was_idle) = match self.pool.take(now) {
            Some(connection) => (connection, true),
            None => (Box::pin(self.pool.open()).await?, false),
        };
        let interims = request.interims.as_ref();
        let answer = match connection.exchange(outgoing, is_head, interims).await {
            Err(Error::Closed(_)) if was_idle && may_repeat => {
                connection = Box::pin(self.pool.open()).await?;
                let again = outgoing::Outgoing::new(request, &self.host, Body::None);
                connection.exchange(again, is_head, interims).await
            }
            answer => answer,
        };
        let pool = self.pool.clone();
        let following = match response::receive(answer?, is_head, connection, pool, permit) {
            Received::Complete(reply) => return Ok(reply),
            // Boxed, so that the common case does not need the space of a rare one.
            Received::Incomplete(reply, rest) => Box::pin(rest.complete(reply)),
        };
        following.await
    }
}

/// The path and query of `target`, `/` if empty (RFC 9112, section 3.2.1).
fn origin_form(target: &Uri) -> &str {
    target.path_and_query().map_or("/", |target| target.as_str())
}
