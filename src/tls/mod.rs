//! Certificates: what this process shows of itself, and by what it judges others.
//!
//! Everything comes from PEM files that are looked at again once a second, when a connection is opened: what has
//! changed is used from then on, and what does not work is refused. Connections that are open stay. The one
//! implementation of cryptography is ring.

pub mod dev;
mod files;
mod verify;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::DnsName;
use rustls::server::NoServerSessionStorage;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::watched;
use files::{CertificateAuthority, judged_key, key};
pub use files::{File, Problem};
use verify::{ClientVerifier, OwnCertificate, ServerVerifier};

/// What comes from files that may change.
type Watched<T> = watched::Watched<T, Problem>;

/// A certificate with its key, as it is now.
type Key = Watched<Arc<CertifiedKey>>;

fn watch<T: Clone>(
    paths: impl IntoIterator<Item = PathBuf>,
    read: impl Fn() -> Result<T, Problem> + Send + Sync + 'static,
) -> Result<Arc<Watched<T>>, Problem> {
    let changed = |names: &str| log::info!("certificates were read again: {names}");
    Watched::open("certificates", paths, read, changed).map(Arc::new)
}

/// What a listener for everybody needs: it shows the certificate and asks for none.
///
/// # Errors
/// Which of the two files does not work, and why.
pub fn public_server(certificate: &Path, private: &Path) -> Result<Arc<ServerConfig>, Problem> {
    let paths = [certificate.to_owned(), private.to_owned()];
    let shown = watch(paths.clone(), move || key(&paths[0], &paths[1]))?;
    let builder = ServerConfig::builder_with_provider(provider());
    let builder = builder.with_safe_default_protocol_versions().map_err(Problem::of_library)?;
    let mut config =
        builder.with_no_client_auth().with_cert_resolver(Arc::new(OwnCertificate(shown)));
    // Clients come back without a full handshake, and nothing is remembered of them here.
    config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(Problem::of_library)?;
    Ok(Arc::new(config))
}

/// What roles of different processes need to know each other: each shows a certificate, and believes the one authority.
#[derive(Clone, Debug)]
pub struct Mutual {
    shown: Arc<Key>,
    authority: Arc<Watched<CertificateAuthority>>,
}

impl Mutual {
    /// Reads the files of the certificate, of its `private` key, and of the authority.
    ///
    /// # Errors
    /// Which of the files does not work, and why; also when the authority would not believe the certificate.
    pub fn read(certificate: &Path, private: &Path, authority: &Path) -> Result<Self, Problem> {
        let path = authority.to_owned();
        let authority = watch([authority.to_owned()], move || CertificateAuthority::read(&path))?;
        let paths: [PathBuf; 2] = [certificate.to_owned(), private.to_owned()];
        let judge = authority.clone();
        let shown = watch(paths.clone(), move || judged_key(&paths[0], &paths[1], &judge.now()))?;
        Ok(Self { shown, authority })
    }

    /// For a role that answers those alone whose certificate has one of `names`.
    ///
    /// # Errors
    /// When the library has no such protocol.
    pub fn server<'a>(
        &self,
        names: impl Iterator<Item = &'a DnsName<'static>>,
    ) -> Result<Arc<ServerConfig>, Problem> {
        let callers = Arc::new(ClientVerifier::new(self.authority.clone(), names));
        let builder = ServerConfig::builder_with_provider(provider());
        let builder = builder.with_protocol_versions(MUTUAL).map_err(Problem::of_library)?;
        let builder = builder.with_client_cert_verifier(callers);
        let mut config = builder.with_cert_resolver(Arc::new(OwnCertificate(self.shown.clone())));
        // Who resumes a session is not judged again: by then the authority may be another.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    /// For a role that asks others.
    ///
    /// # Errors
    /// When the library has no such protocol.
    pub fn client(&self) -> Result<Arc<ClientConfig>, Problem> {
        let called = Arc::new(ServerVerifier(self.authority.clone()));
        let builder = ClientConfig::builder_with_provider(provider());
        let builder = builder.with_protocol_versions(MUTUAL).map_err(Problem::of_library)?;
        let builder = builder.dangerous().with_custom_certificate_verifier(called);
        let mut config =
            builder.with_client_cert_resolver(Arc::new(OwnCertificate(self.shown.clone())));
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}

/// Both ends are of this program.
const MUTUAL: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// For a process without a certificate of its own, which asks roles that show one: judged by the authorities that
/// this machine trusts, or that SSL_CERT_FILE names.
///
/// # Errors
/// When there are none.
pub fn platform_client() -> Result<Arc<ClientConfig>, Problem> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(Problem::new(File::Authority, "this machine trusts no authority"));
    }
    let builder = ClientConfig::builder_with_provider(provider());
    let builder = builder.with_safe_default_protocol_versions().map_err(Problem::of_library)?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
