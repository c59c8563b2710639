//! Opening a connection to a role in another process.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use crate::config::PeerUrl;

/// An open connection: TCP, or TLS over it.
pub(super) type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// How, and for which name, a certificate is verified; or why it cannot be.
type Secured = Result<(TlsConnector, ServerName<'static>), &'static str>;

/// Opens connections to a role: TCP, and TLS over it for an `https` URL; cheap to clone.
#[derive(Clone)]
pub struct Connector {
    address: String,
    secured: Option<Secured>,
}

impl Connector {
    /// A connector to `url`. The role's certificate is verified with `tls` and the host of the URL.
    pub fn new(url: &PeerUrl, tls: Option<Arc<ClientConfig>>) -> Self {
        let secured = || {
            let tls = tls.ok_or("this process trusts no certificate authority")?;
            let name = ServerName::try_from(url.host().to_owned());
            Ok((TlsConnector::from(tls), name.map_err(|_| "no certificate can have that name")?))
        };
        Self { address: url.address(), secured: url.is_secure().then(secured) }
    }

    /// Opens a connection within `patience`, and closes it.
    ///
    /// # Errors
    /// Why it cannot be opened, in words.
    pub async fn probe(self, patience: Duration) -> io::Result<()> {
        let late = |_| io::Error::other(format!("{} does not answer in time", self.address));
        timeout(patience, self.open()).await.map_err(late)?.map(drop)
    }

    /// Opens a connection.
    pub(super) async fn open(&self) -> io::Result<Stream> {
        let stream = TcpStream::connect(&self.address).await?;
        // Nagle's algorithm would hold back the end of a request until its beginning is acknowledged.
        let _ = stream.set_nodelay(true);
        match &self.secured {
            None => Ok(Stream::Left(stream)),
            Some(Ok((tls, name))) => {
                let secured = tls.connect(name.clone(), stream).await?;
                Ok(Stream::Right(Box::new(secured)))
            }
            Some(Err(problem)) => Err(io::Error::other(*problem)),
        }
    }
}
