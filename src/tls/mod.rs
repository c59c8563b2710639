//! TLS: the certificate of this process, and the verification of others.
//!
//! Certificates come from PEM files. When a connection is opened, the files are checked again, at most once per second: a
//! changed file is used from then on, unless it does not work. Open connections stay. All cryptography is ring's.

pub mod dev;
mod files;
mod validity;
mod verify;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::DnsName;
use rustls::server::NoServerSessionStorage;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::watched;
use files::{CertificateAuthority, add_authorities, key, verified_key};
pub use files::{File, Problem};
use validity::earliest_end;
use verify::{ClientVerifier, OwnCertificate, ServerVerifier};

/// A value from files that may change.
type Watched<T> = watched::Watched<T, Problem>;

/// A certificate with its key.
type Key = Watched<Arc<CertifiedKey>>;

fn watch<T: Clone>(
    paths: impl IntoIterator<Item = PathBuf>,
    read: impl Fn() -> Result<T, Problem> + Send + Sync + 'static,
) -> Result<Arc<Watched<T>>, Problem> {
    let changed = |names: &str| log::info!("certificates were read again: {names}");
    Watched::open("certificates", paths, read, changed).map(Arc::new)
}

/// Certificates that are in use, as they are now; cheap to clone.
#[derive(Clone)]
pub struct InUse(Arc<dyn Fn() -> Option<i64> + Send + Sync>);

impl InUse {
    fn of(key: &Arc<Key>) -> Self {
        let key = key.clone();
        Self(Arc::new(move || earliest_end(&key.current().cert)))
    }

    /// When the first of them ends, in seconds since 1970; `None` if it does not say so in the form that it should.
    pub fn end(&self) -> Option<i64> {
        (self.0)()
    }
}

impl fmt::Debug for InUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("InUse").field(&self.end()).finish()
    }
}

/// The configuration of a public listener, which requests no client certificate, and its own certificate.
///
/// # Errors
/// The file that does not work.
pub fn public_server(
    certificate: &Path,
    private: &Path,
) -> Result<(Arc<ServerConfig>, InUse), Problem> {
    let paths = [certificate.to_owned(), private.to_owned()];
    let shown = watch(paths.clone(), move || key(&paths[0], &paths[1]))?;
    let builder = ServerConfig::builder_with_provider(provider());
    let builder = builder.with_safe_default_protocol_versions().map_err(Problem::of_library)?;
    let in_use = InUse::of(&shown);
    let mut config =
        builder.with_no_client_auth().with_cert_resolver(Arc::new(OwnCertificate(shown)));
    // Stateless session tickets, so that clients resume without a full handshake.
    config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(Problem::of_library)?;
    Ok((Arc::new(config), in_use))
}

/// Mutual TLS between roles of different processes: each has a certificate and trusts one authority.
#[derive(Clone, Debug)]
pub struct Mutual {
    shown: Arc<Key>,
    authority: Arc<Watched<CertificateAuthority>>,
}

impl Mutual {
    /// Reads the files of the certificate, its `private` key, and the authority.
    ///
    /// # Errors
    /// The file that does not work; also when the authority does not accept the certificate.
    pub fn read(certificate: &Path, private: &Path, authority: &Path) -> Result<Self, Problem> {
        let path = authority.to_owned();
        let authority = watch([authority.to_owned()], move || CertificateAuthority::read(&path))?;
        let paths: [PathBuf; 2] = [certificate.to_owned(), private.to_owned()];
        let verifier = authority.clone();
        let shown =
            watch(paths.clone(), move || verified_key(&paths[0], &paths[1], &verifier.now()))?;
        Ok(Self { shown, authority })
    }

    /// The certificate of this process, and those of the authority.
    pub fn in_use(&self) -> [InUse; 2] {
        let authority = self.authority.clone();
        [InUse::of(&self.shown), InUse(Arc::new(move || authority.current().end))]
    }

    /// The configuration of a listener for clients whose certificate has one of `names`.
    ///
    /// # Errors
    /// When the library lacks the protocol.
    pub fn server<'a>(
        &self,
        names: impl Iterator<Item = &'a DnsName<'static>>,
    ) -> Result<Arc<ServerConfig>, Problem> {
        let callers = Arc::new(ClientVerifier::new(self.authority.clone(), names));
        let builder = ServerConfig::builder_with_provider(provider());
        let builder = builder.with_protocol_versions(MUTUAL).map_err(Problem::of_library)?;
        let builder = builder.with_client_cert_verifier(callers);
        let mut config = builder.with_cert_resolver(Arc::new(OwnCertificate(self.shown.clone())));
        // No resumption: it would skip the verification, and the authority may have changed.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    /// The configuration of a client of other roles.
    ///
    /// # Errors
    /// When the library lacks the protocol.
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

/// Only TLS 1.3: both ends are this program.
const MUTUAL: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// The configuration of a client without a certificate. It trusts the authorities that this machine trusts, or those in
/// SSL_CERT_FILE.
///
/// # Errors
/// When there are none.
pub fn platform_client() -> Result<Arc<ClientConfig>, Problem> {
    let roots = platform_roots();
    if roots.is_empty() {
        return Err(Problem::new(File::Authority, "this machine trusts no authority"));
    }
    trusting(roots)
}

/// The same, which also trusts the authorities in the file at `path`.
///
/// # Errors
/// When the file does not work.
pub fn platform_client_and(path: &Path) -> Result<Arc<ClientConfig>, Problem> {
    let mut roots = platform_roots();
    add_authorities(path, &mut roots)?;
    trusting(roots)
}

fn platform_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

fn trusting(roots: RootCertStore) -> Result<Arc<ClientConfig>, Problem> {
    let builder = ClientConfig::builder_with_provider(provider());
    let builder = builder.with_safe_default_protocol_versions().map_err(Problem::of_library)?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
