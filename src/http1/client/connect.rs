//! Opens connections to a server.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::Uri;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

/// An open connection: TCP, or TLS over it.
pub(super) type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// The TLS connector and the name that the server's certificate must have, or why there is none.
type Secured = Result<(TlsConnector, ServerName<'static>), &'static str>;

/// Opens connections to a server: TCP, and TLS over it for an `https` URI; cheap to clone.
#[derive(Clone)]
pub struct Connector {
    address: String,
    secured: Option<Secured>,
}

impl Connector {
    /// A connector to the server of `uri`. With `https`, `tls` verifies the server's certificate for the URI's host.
    pub fn new(uri: &Uri, tls: Option<Arc<ClientConfig>>) -> Self {
        let is_secure = uri.scheme_str() == Some("https");
        let host = uri.host().unwrap_or_default();
        let port = uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
        let secured = || {
            let tls = tls.ok_or("this process trusts no certificate authority")?;
            Ok((TlsConnector::from(tls), certificate_name(host)?))
        };
        Self { address: format!("{host}:{port}"), secured: is_secure.then(secured) }
    }

    /// Opens a connection within `limit`, and closes it.
    ///
    /// # Errors
    /// Why the connection could not be opened.
    pub async fn probe(self, limit: Duration) -> io::Result<()> {
        let late = |_| io::Error::other(format!("{} does not answer in time", self.address));
        timeout(limit, self.open()).await.map_err(late)?.map(drop)
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

/// The name in the certificate of `host`; an IPv6 address has brackets in a URI, and none in a certificate.
fn certificate_name(host: &str) -> Result<ServerName<'static>, &'static str> {
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
    name.map_err(|_| "no certificate can have that name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_of_a_uri_decides_on_port_and_tls() {
        let connector = |uri: &str| Connector::new(&uri.parse().unwrap(), None);
        assert_eq!(connector("http://product").address, "product:80");
        assert_eq!(connector("https://product").address, "product:443");
        assert_eq!(connector("https://[::1]:3002").address, "[::1]:3002");
        assert!(connector("http://product").secured.is_none());
        assert!(matches!(connector("https://product").secured, Some(Err(_))), "no authority");
        assert_eq!(certificate_name("[::1]").unwrap().to_str(), "::1");
        assert_eq!(certificate_name("product").unwrap().to_str(), "product");
    }
}
