//! An authority and its certificates for development.

use std::fmt;
use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use chrono::{Datelike as _, Days, Utc};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::DnsName;
use tempfile::NamedTempFile;

use super::files::{CertificateAuthority, verified_key};

/// The roles and the names in their certificates: of the role, its Service and its container.
const ROLES: [(&str, &[&str]); 4] = [
    ("gateway", &["gateway", "api-gateway"]),
    ("user", &["user"]),
    ("product", &["product"]),
    ("order", &["order"]),
];
/// The names of this machine, in every certificate.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// How long the authority and the certificates are valid, in days.
const AUTHORITY_DAYS: u64 = 3650;
const CERTIFICATE_DAYS: u64 = 365;

/// The files that were written.
#[derive(Debug)]
pub struct DevFiles {
    /// The authority's certificate.
    pub authority: PathBuf,
    /// Whether the authority is new.
    pub is_new: bool,
    /// One folder per role with tls.crt, tls.key and ca.crt, as in a Kubernetes Secret.
    pub folders: Vec<PathBuf>,
}

/// Why the files cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// Certificates cannot be for this host.
    #[error(
        "{0:?} is not a host name or address, such as shop.example, *.shop.example or 192.0.2.1"
    )]
    Host(String),
    /// What was tried on a file, and why that failed.
    #[error("cannot {0} {path}: {2}", path = .1.display())]
    File(&'static str, PathBuf, io::Error),
    /// The authority that is there already does not work.
    #[error("cannot use the authority that is there, {path}: {1}", path = .0.display())]
    Authority(PathBuf, String),
    /// The library failed.
    #[error(transparent)]
    Library(#[from] rcgen::Error),
}

impl DevError {
    fn of_file(verb: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        move |error| Self::File(verb, path.to_owned(), error)
    }
}

/// Writes to `folder` a certificate for each role, and the authority that signs them unless there is one. The gateway's
/// certificate also has `hosts`, names or addresses.
///
/// # Errors
/// When a host is invalid, the existing authority does not work, or a file cannot be written.
pub fn write(folder: &Path, hosts: &[String]) -> Result<DevFiles, DevError> {
    if let Some(host) = hosts.iter().find(|host| !is_host(host)) {
        let shown = if host.contains('@') { "--host" } else { host };
        return Err(DevError::Host(shown.to_owned()));
    }
    let (path, key_path) = (folder.join("ca.crt"), folder.join("ca.key"));
    create(folder)?;
    let is_new = !path.exists() && !key_path.exists();
    if is_new {
        let key = KeyPair::generate()?;
        let authority = authority().and_then(|params| params.self_signed(&key));
        let authority = authority?.pem();
        save(&key_path, &key.serialize_pem(), PRIVATE)?;
        // The key alone would make the next attempt fail.
        save(&path, &authority, PUBLIC).inspect_err(|_| drop(fs::remove_file(&key_path)))?;
    }
    let read = |path: &Path| fs::read_to_string(path).map_err(DevError::of_file("read", path));
    let unusable = |why: &dyn fmt::Display| DevError::Authority(path.clone(), why.to_string());
    let (text, key) = (read(&path)?, read(&key_path)?);
    let key = KeyPair::from_pem(&key).map_err(|error| unusable(&error))?;
    let verifier = CertificateAuthority::read(&path).map_err(|error| unusable(&error))?;
    // Only the key is read: the other parameters are always the same.
    let issuer = Issuer::new(authority()?, key);
    let mut folders = Vec::new();
    for (role, names) in ROLES {
        let more = hosts.iter().map(String::as_str).filter(|_| role == "gateway");
        let names = names.iter().copied().chain(LOCAL).chain(more);
        let key = KeyPair::generate()?;
        let certificate =
            certificate(role, names).and_then(|params| params.signed_by(&key, &issuer));
        let certificate = certificate?;
        let folder = folder.join(role);
        create(&folder)?;
        let (shown, private) = (folder.join("tls.crt"), folder.join("tls.key"));
        save(&private, &key.serialize_pem(), PRIVATE)?;
        save(&shown, &certificate.pem(), PUBLIC)?;
        save(&folder.join("ca.crt"), &text, PUBLIC)?;
        verified_key(&shown, &private, &verifier).map_err(|error| unusable(&error))?;
        folders.push(folder);
    }
    Ok(DevFiles { authority: path, is_new, folders })
}

/// Whether `host` is a name, whose first label may be `*`, or an address.
fn is_host(host: &str) -> bool {
    let name = host.strip_prefix("*.").unwrap_or(host);
    host.parse::<IpAddr>().is_ok() || (DnsName::try_from(name).is_ok() && !name.ends_with('.'))
}

fn authority() -> Result<CertificateParams, rcgen::Error> {
    let mut params = lasting(AUTHORITY_DAYS, "shop development authority", Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn certificate<'a>(
    role: &str,
    names: impl Iterator<Item = &'a str>,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = lasting(CERTIFICATE_DAYS, role, names.map(str::to_owned).collect())?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// Parameters of a certificate that is valid from yesterday, because clocks differ.
fn lasting(days: u64, name: &str, names: Vec<String>) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    let day = |days: u64| {
        let day = Utc::now().date_naive() + Days::new(days);
        date_time_ymd(day.year(), day.month() as u8, day.day() as u8)
    };
    params.not_before = day(0) - std::time::Duration::from_secs(86_400);
    params.not_after = day(days);
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

/// The modes of files.
const PRIVATE: u32 = 0o600;
const PUBLIC: u32 = 0o644;

fn create(folder: &Path) -> Result<(), DevError> {
    fs::create_dir_all(folder).map_err(DevError::of_file("make", folder))
}

/// Replaces a file atomically, because a running process may read it.
fn save(path: &Path, text: &str, mode: u32) -> Result<(), DevError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let saving = || {
        let mut file = NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().set_permissions(Permissions::from_mode(mode))?;
        file.persist(path).map_err(|error| error.error)
    };
    saving().map(drop).map_err(DevError::of_file("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authority_stays_and_certificates_are_new_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let text = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(write(folder.path(), &[]).unwrap().is_new);
        let (authority, first) = (text("ca.crt"), text("user/tls.crt"));
        assert!(!write(folder.path(), &[]).unwrap().is_new);
        assert_eq!(text("ca.crt"), authority);
        assert_eq!(text("product/ca.crt"), authority);
        assert_ne!(text("user/tls.crt"), first);
    }

    #[test]
    fn keys_are_for_their_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &[]).unwrap();
        for name in ["ca.key", "gateway/tls.key", "user/tls.key", "product/tls.key"] {
            let mode = fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn what_is_no_host_gets_no_certificate_and_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("certs");
        for bad in [
            "a b",
            "",
            "https://shop",
            "shop:443",
            "-shop",
            "a..b",
            "*",
            "*.*.shop",
            "10.0.0.0/8",
            "shöp",
        ] {
            assert!(write(&out, &[bad.to_owned()]).is_err(), "{bad}");
            assert!(!out.exists(), "{bad}");
        }
        for good in [
            "shop",
            "shop.example",
            "*.shop.example",
            "192.0.2.1",
            "2001:db8::1",
            "xn--shp-ula.example",
        ] {
            assert!(write(&out, &[good.to_owned()]).is_ok(), "{good}");
        }
    }

    #[test]
    fn an_authority_that_somebody_else_made_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let other = rcgen::generate_simple_self_signed(["other".to_owned()]).unwrap();
        let (path, key) = (folder.path().join("ca.crt"), folder.path().join("ca.key"));
        fs::write(&path, other.cert.pem()).unwrap();
        let error = write(folder.path(), &[]).unwrap_err().to_string();
        assert!(error.starts_with("cannot read ") && error.contains("ca.key"), "{error}");
        fs::write(&key, other.signing_key.serialize_pem()).unwrap();
        let error = write(folder.path(), &[]).unwrap_err().to_string();
        assert!(error.starts_with("cannot use the authority that is there"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), other.cert.pem());
    }
}
