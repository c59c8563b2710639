//! Reads certificates and keys from files.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;

use super::provider;
use super::validity::earliest_end;
use crate::files;

/// One of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    /// A certificate chain.
    Certificate,
    /// The certificate's private key.
    Key,
    /// The authorities that are trusted.
    Authority,
}

/// A file that does not work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Problem {
    /// The file.
    pub file: File,
    text: String,
}

impl Problem {
    pub(super) fn new(file: File, text: impl fmt::Display) -> Self {
        Self { file, text: text.to_string() }
    }

    /// An error that is not about a particular file.
    pub(super) fn of_library(error: rustls::Error) -> Self {
        Self::new(File::Certificate, error)
    }
}

/// Reads a certificate chain and its private key, and checks that they belong together.
pub(super) fn key(certificate: &Path, private: &Path) -> Result<Arc<CertifiedKey>, Problem> {
    let chain = certificates(File::Certificate, certificate)?;
    let wrong = |text: String| Problem::new(File::Key, text);
    let bytes = content(File::Key, private)?;
    let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        let error = match error {
            pem::Error::NoItemsFound => "it has no private key".to_owned(),
            error => error.to_string(),
        };
        wrong(format!("cannot use {}: {error}", private.display()))
    })?;
    let key = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            let (private, certificate) = (private.display(), certificate.display());
            wrong(format!("{private} is not the key of {certificate}"))
        }
        error => wrong(format!("cannot use {}: {error}", private.display())),
    })?;
    Ok(Arc::new(key))
}

/// As [`key`], and checks that `authority` accepts the certificate, as every other role must.
pub(super) fn verified_key(
    certificate: &Path,
    private: &Path,
    authority: &CertificateAuthority,
) -> Result<Arc<CertifiedKey>, Problem> {
    let key = key(certificate, private)?;
    let refused = |error: &dyn fmt::Display| {
        let problem = format!("mtls.authority does not accept {}: {error}", certificate.display());
        Problem::new(File::Certificate, problem)
    };
    let (own, others) = key.cert.split_first().ok_or_else(|| refused(&"it is empty"))?;
    let verified = authority.clients.verify_client_cert(own, others, UnixTime::now());
    verified.map_err(|error| refused(&error))?;
    Ok(key)
}

/// Verifies the certificates of other roles.
#[derive(Clone, Debug)]
pub(super) struct CertificateAuthority {
    pub(super) clients: Arc<dyn ClientCertVerifier>,
    pub(super) servers: Arc<dyn ServerCertVerifier>,
    /// When the first of its certificates ends, in seconds since 1970.
    pub(super) end: Option<i64>,
}

impl CertificateAuthority {
    pub(super) fn read(path: &Path) -> Result<Self, Problem> {
        let wrong = |error: &dyn fmt::Display| {
            Problem::new(File::Authority, format!("cannot use {}: {error}", path.display()))
        };
        let mut roots = RootCertStore::empty();
        let end = earliest_end(&add_authorities(path, &mut roots)?);
        let roots = Arc::new(roots);
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider());
        let servers = WebPkiServerVerifier::builder_with_provider(roots, provider());
        Ok(Self {
            clients: clients.build().map_err(|error| wrong(&error))?,
            servers: servers.build().map_err(|error| wrong(&error))?,
            end,
        })
    }
}

/// Adds the authorities in the file at `path` to `roots`, and gives them.
pub(super) fn add_authorities(
    path: &Path,
    roots: &mut RootCertStore,
) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let certificates = certificates(File::Authority, path)?;
    for certificate in &certificates {
        let wrong = |error| format!("cannot use {}: {error}", path.display());
        let added = roots.add(certificate.clone());
        added.map_err(|error| Problem::new(File::Authority, wrong(error)))?;
    }
    Ok(certificates)
}

fn certificates(file: File, path: &Path) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let bytes = content(file, path)?;
    let read = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    let wrong = |error: &dyn fmt::Display| {
        Problem::new(file, format!("cannot use {}: {error}", path.display()))
    };
    let read = read.map_err(|error| wrong(&error))?;
    if read.is_empty() { Err(wrong(&"it has no certificate")) } else { Ok(read) }
}

fn content(file: File, path: &Path) -> Result<Vec<u8>, Problem> {
    let wrong = |error| Problem::new(file, format!("cannot read {}: {error}", path.display()));
    files::read(path).map_err(wrong)
}
