//! A role in another process, over HTTP/1.1 with connections that are kept, inside TLS where its URL says so.

mod connect;
mod idle;
mod kept;
mod stream;

use std::sync::Arc;

use actix_web::http::header::CONTENT_LENGTH;
use actix_web::http::{Uri, uri};
use actix_web::web::Bytes;
use awc::error::{ConnectError, PayloadError, SendRequestError};
use awc::{Client, ClientRequest, ClientResponse, Connector, SendClientRequest};
use futures_util::{Stream, StreamExt as _};
use rustls::ClientConfig;
use tokio::sync::{OwnedSemaphorePermit as Permit, Semaphore};

pub use connect::Way;

use super::{Body, PeerError, Reply, Request, number};
use crate::config::{PeerUrl, Transport};

pub(super) use kept::Kept;

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
    idle: idle::Tasks,
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer").field("authority", &self.base.authority).finish_non_exhaustive()
    }
}

impl Peer {
    /// The role at `url`, with `tls` where that is `https`. Opens no connection yet.
    pub fn new(url: &PeerUrl, options: &Transport, tls: Option<Arc<ClientConfig>>) -> Self {
        let connector = Connector::new()
            .connector(Way::new(url, tls).into_connector())
            .limit(options.pool_size)
            .conn_keep_alive(options.pool_idle)
            .conn_lifetime(LIFETIME)
            .timeout(options.connect_timeout);
        // The deadline of the request bounds the call, so that awc need not.
        let builder = Client::builder().connector(connector).disable_timeout();
        let client = builder.no_default_headers().disable_redirects().finish();
        let calls = Arc::new(Semaphore::new(options.pool_size));
        Self { client, base: Arc::new(base(url)), calls, idle: idle::Tasks::start() }
    }

    /// Sends `request` and waits for the head of the reply.
    pub(super) async fn send(&self, request: Request) -> Result<Reply, PeerError> {
        let permit = self.permit()?;
        let (call, body) = self.call(request)?;
        self.complete(call.send_body(body.into_box_body()), permit).await
    }

    /// Makes `request` ready to be sent, again and again where need be.
    pub(super) fn keep(&self, request: Request) -> Result<Kept<'_>, PeerError> {
        let (call, body) = self.call(request)?;
        Ok(Kept::new(self, call.freeze().map_err(PeerError::broken)?, body))
    }

    fn call(&self, request: Request) -> Result<(ClientRequest, Body), PeerError> {
        let uri = self.locate(&request.target)?;
        let mut call = self.client.request(request.method, uri).no_decompress();
        *call.headers_mut() = request.headers;
        Ok((call, request.body))
    }

    /// The right to a connection. With every one in use, awc would let the call wait without end.
    fn permit(&self) -> Result<Permit, PeerError> {
        self.calls.clone().try_acquire_owned().map_err(|_| PeerError::Busy)
    }

    async fn complete(&self, call: SendClientRequest, permit: Permit) -> Result<Reply, PeerError> {
        receive(self.idle.around(call).await.map_err(failure)?, permit).await
    }

    fn locate(&self, target: &Uri) -> Result<Uri, PeerError> {
        let mut parts = uri::Parts::default();
        parts.scheme = self.base.scheme.clone();
        parts.authority = self.base.authority.clone();
        parts.path_and_query = target.path_and_query().cloned();
        Uri::from_parts(parts).map_err(PeerError::broken)
    }
}

/// `url` as awc is told it: there is nothing for it to do about TLS, so the port is named that TLS would imply.
fn base(url: &PeerUrl) -> uri::Parts {
    let mut parts = url.uri().clone().into_parts();
    if url.is_secure() {
        parts.scheme = Some(uri::Scheme::HTTP);
        parts.authority = url.address().parse().ok();
    }
    parts
}

/// Takes the head of the reply; `permit` is given back with the end of its content.
async fn receive<S>(mut response: ClientResponse<S>, permit: Permit) -> Result<Reply, PeerError>
where
    S: Stream<Item = Result<Bytes, PayloadError>> + Unpin + 'static,
{
    let length = number(response.headers(), CONTENT_LENGTH);
    let (status, headers) = (response.status(), response.headers().clone());
    let body = match length {
        Some(length) if length <= SMALL => {
            Body::Full(response.body().await.map_err(PeerError::broken)?)
        }
        _ => Body::stream(length, response.inspect(move |_| _ = &permit)),
    };
    Ok(Reply { status, headers, body })
}

fn failure(error: SendRequestError) -> PeerError {
    match error {
        SendRequestError::Connect(ConnectError::Disconnected) => PeerError::broken("disconnected"),
        SendRequestError::Connect(error) => PeerError::Unreachable(error.to_string()),
        SendRequestError::Body(error) => PeerError::Content(error.to_string()),
        error => PeerError::broken(error),
    }
}
