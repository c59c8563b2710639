//! Certificates, and clients that speak TLS and HTTP/2.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use actix_web::web::Bytes;
use awc::http::{Method, Uri};
use h2::client::SendRequest;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Answer, Process};

/// What `app certs dev` has written.
pub(crate) struct Certificates(pub(crate) PathBuf);

impl Certificates {
    /// Lets the program write some into `folder`.
    pub(crate) fn make(folder: PathBuf) -> Self {
        let mut command = Process::command(Path::new("/"));
        command.args(["certs", "dev", "--out"]).arg(&folder);
        let output = Process::run(command);
        assert!(output.status.success(), "{output:?}");
        Self(folder)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// What tells a process of `role` of its own.
    pub(crate) fn environment(&self, role: &str) -> Vec<(String, String)> {
        let file = |name: &str| self.text(&format!("{role}/{name}"));
        let mut environment = vec![
            ("APP__MTLS__CERTIFICATE".to_owned(), file("tls.crt")),
            ("APP__MTLS__KEY".to_owned(), file("tls.key")),
            ("APP__MTLS__AUTHORITY".to_owned(), file("ca.crt")),
        ];
        if role == "gateway" {
            environment.push(("APP__GATEWAY__TLS_CERTIFICATE".to_owned(), file("tls.crt")));
            environment.push(("APP__GATEWAY__TLS_KEY".to_owned(), file("tls.key")));
        }
        environment
    }

    /// A client that believes the authority, and shows the certificate and the key that are `shown`, both PEM.
    pub(crate) fn client(&self, shown: Option<(String, String)>) -> ClientConfig {
        self.client_of(rustls::DEFAULT_VERSIONS, shown)
    }

    /// The same, of these versions of TLS alone.
    pub(crate) fn client_of(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        shown: Option<(String, String)>,
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.path("ca.crt")).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(provider());
        let builder = builder.with_protocol_versions(versions).unwrap();
        let builder = builder.with_root_certificates(roots);
        match shown {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = CertificateDer::pem_slice_iter(certificate.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain.map(Result::unwrap).collect(), key).unwrap()
            }
        }
    }

    /// The certificate and the key of `role`, PEM.
    pub(crate) fn of(&self, role: &str) -> (String, String) {
        let read = |name: &str| fs::read_to_string(self.path(&format!("{role}/{name}"))).unwrap();
        (read("tls.crt"), read("tls.key"))
    }
}

pub(crate) fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Opens a connection to `url`, whose host goes by the name of localhost.
pub(crate) async fn open(url: &str, config: ClientConfig) -> io::Result<TlsStream<TcpStream>> {
    let address = url.split_once("://").unwrap().1;
    let tcp = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await
}

/// A connection that speaks HTTP/2.
#[derive(Clone)]
pub(crate) struct Http2 {
    pub(crate) sender: SendRequest<Bytes>,
    pub(crate) base: String,
}

impl Http2 {
    /// Over TLS to `url`.
    pub(crate) async fn open(url: &str, mut config: ClientConfig) -> Self {
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let stream = open(url, config).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        Self::over(stream, url).await
    }

    async fn over<IO>(stream: IO, url: &str) -> Self
    where
        IO: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        actix_rt::spawn(async move {
            let _ = connection.await;
        });
        Self { sender, base: url.to_owned() }
    }

    pub(crate) async fn try_send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, h2::Error> {
        let uri = format!("{}{path}", self.base).parse::<Uri>().unwrap();
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = body.into();
        let mut sender = self.sender.clone().ready().await?;
        let (answer, mut content) =
            sender.send_request(request.body(()).unwrap(), body.is_empty())?;
        if !body.is_empty() {
            // The other side may have heard enough of it.
            let _ = content.send_data(body, true);
        }
        let (head, mut content) = answer.await?.into_parts();
        let mut body = Vec::new();
        while let Some(chunk) = content.data().await {
            let chunk = chunk?;
            content.flow_control().release_capacity(chunk.len())?;
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status: head.status.as_u16(), headers: head.headers.into(), body })
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        self.try_send(method, path, headers, body).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], "").await
    }

    pub(crate) async fn post(&self, path: &str, json: impl ToString) -> Answer {
        let headers = [("content-type", "application/json")];
        self.send(Method::POST, path, &headers, json.to_string()).await
    }
}
