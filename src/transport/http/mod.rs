//! A role in another process, over HTTP/1.1 with connections that are kept.

mod stream;

use std::sync::Arc;

use actix_service::ServiceExt as _;
use actix_tls::connect::{Connector as Tcp, Resolver};
use actix_web::http::{Uri, uri};
use awc::error::{ConnectError, SendRequestError};
use awc::{Client, Connector};
use tokio::sync::Semaphore;

use super::{Body, PeerError, Reply, Request};
use crate::config::{PeerUrl, Transport};

/// Content up to this many bytes is read whole before the reply is handed on.
const SMALL: u64 = 64 * 1024;
/// A connection is given up after this long, so that a moved address is noticed.
const LIFETIME: std::time::Duration = std::time::Duration::from_secs(600);

/// The way to a role in another process; cheap to clone, and bound to its thread.
#[derive(Clone)]
pub struct Peer {
    client: Client,
    base: Arc<uri::Parts>,
    calls: Arc<Semaphore>,
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer").field("authority", &self.base.authority).finish_non_exhaustive()
    }
}

impl Peer {
    /// The role at `url`. Opens no connection yet.
    pub fn new(url: &PeerUrl, options: &Transport) -> Self {
        let tcp = Tcp::new(Resolver::default()).service();
        let connector = Connector::new()
            .connector(tcp.map(stream::Stream::strict))
            .limit(options.pool_size)
            .conn_keep_alive(options.pool_idle)
            .conn_lifetime(LIFETIME)
            .timeout(options.connect_timeout);
        // The deadline of the request bounds the call, so that awc need not.
        let builder = Client::builder().connector(connector).disable_timeout();
        let client = builder.no_default_headers().disable_redirects().finish();
        let calls = Arc::new(Semaphore::new(options.pool_size));
        Self { client, base: Arc::new(url.uri().clone().into_parts()), calls }
    }

    /// Sends `request` and waits for the head of the reply.
    ///
    /// A kept connection may turn out to be closed just when it is used; a request that may be
    /// repeated is then sent once more.
    pub(super) async fn send(&self, request: Request) -> Result<Reply, PeerError> {
        // With every connection in use, awc would let the call wait without end.
        let _permit = self.calls.try_acquire().map_err(|_| PeerError::Busy)?;
        if !request.may_repeat() {
            return self.attempt(request).await;
        }
        let mut again = Request::new(request.method.clone(), request.target.clone());
        again.headers = request.headers.clone();
        match self.attempt(request).await {
            Err(PeerError::Broken(_)) => self.attempt(again).await,
            outcome => outcome,
        }
    }

    async fn attempt(&self, request: Request) -> Result<Reply, PeerError> {
        let uri = self.locate(&request.target)?;
        let mut call = self.client.request(request.method, uri).no_decompress();
        *call.headers_mut() = request.headers;
        let sending = match request.body {
            Body::None => call.send(),
            body => call.send_body(body.into_box_body()),
        };
        let mut response = sending.await.map_err(failure)?;
        let length = response.headers().get("content-length");
        let length = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let (status, headers) = (response.status(), response.headers().clone());
        let body = match length {
            Some(length) if length <= SMALL => {
                Body::Full(response.body().await.map_err(PeerError::broken)?)
            }
            _ => Body::stream(length, response),
        };
        Ok(Reply { status, headers, body })
    }

    fn locate(&self, target: &Uri) -> Result<Uri, PeerError> {
        let mut parts = uri::Parts::default();
        parts.scheme = self.base.scheme.clone();
        parts.authority = self.base.authority.clone();
        parts.path_and_query = target.path_and_query().cloned();
        Uri::from_parts(parts).map_err(PeerError::broken)
    }
}

fn failure(error: SendRequestError) -> PeerError {
    match error {
        SendRequestError::Connect(ConnectError::Disconnected) => PeerError::broken("disconnected"),
        SendRequestError::Connect(error) => PeerError::Unreachable(error.to_string()),
        error => PeerError::broken(error),
    }
}
