//! Opening a connection to a role in another process.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use actix_service::{Service, fn_service};
use actix_tls::connect::{
    ConnectError, ConnectInfo, Connection, Connector, ConnectorService, Resolver,
};
use actix_web::http::Uri;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::stream::Stream;
use crate::config::PeerUrl;

/// By what, and for which name, a certificate is judged; or why it cannot be.
type Secured = Result<(TlsConnector, ServerName<'static>), &'static str>;

/// How a role is reached: by TCP, and by TLS over it where its URL says so; cheap to clone.
#[derive(Clone)]
pub struct Way {
    address: String,
    secured: Option<Secured>,
}

impl Way {
    /// The way to `url`. The role's certificate is judged by `tls` and the host of the URL.
    pub fn new(url: &PeerUrl, tls: Option<Arc<ClientConfig>>) -> Self {
        let secured = || {
            let tls =
                tls.ok_or("this process has nothing to judge certificates by; start it again")?;
            let name = ServerName::try_from(url.host().to_owned());
            Ok((TlsConnector::from(tls), name.map_err(|_| "no certificate can have that name")?))
        };
        Self { address: url.address(), secured: url.is_secure().then(secured) }
    }

    /// Opens a connection within `patience`, and closes it.
    ///
    /// # Errors
    /// Why it cannot be opened, in words.
    pub async fn open(self, patience: Duration) -> Result<(), String> {
        let opening = async {
            let tcp = TcpStream::connect(&self.address).await?;
            self.secure(tcp).await
        };
        match timeout(patience, opening).await {
            Ok(opened) => opened.map(drop).map_err(|error| error.to_string()),
            Err(_elapsed) => Err(format!("{} does not answer in time", self.address)),
        }
    }

    /// Opens connections for awc.
    ///
    /// awc would speak TLS itself, but it would take the end that either side may put to it for the end of the
    /// content; so it gets what is underneath HTTP ready made.
    pub(super) fn into_connector(
        self,
    ) -> impl Service<ConnectInfo<Uri>, Response = Connection<Uri, Stream>, Error = ConnectError>
    + Clone
    + 'static {
        let tcp: ConnectorService = Connector::new(Resolver::default()).service();
        fn_service(move |wanted: ConnectInfo<Uri>| {
            let (opening, way) = (tcp.call(wanted), self.clone());
            async move {
                let (stream, wanted) = opening.await?.into_parts();
                // Nagle's algorithm would hold back the end of a request until its beginning is acknowledged.
                let _ = stream.set_nodelay(true);
                let stream = way.secure(stream).await.map_err(ConnectError::Io)?;
                Ok(Connection::new(wanted, stream))
            }
        })
    }

    async fn secure(&self, stream: TcpStream) -> io::Result<Stream> {
        match &self.secured {
            None => Ok(Stream::Plain(stream)),
            Some(Ok((tls, name))) => {
                let secured = tls.connect(name.clone(), stream).await?;
                Ok(Stream::Secure(Box::new(secured)))
            }
            Some(Err(problem)) => Err(io::Error::other(*problem)),
        }
    }
}
