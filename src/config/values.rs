//! The types of single settings: each says in words what it wants when it gets something else.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use actix_web::http::Uri;
use serde::{Deserialize, Deserializer, de};

/// Parses `30s`, `1m 30s`, `250ms`.
pub(super) fn duration<'de, D: Deserializer<'de>>(input: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(input)?;
    humantime::parse_duration(&text).map_err(|_| {
        de::Error::custom(format!("{text:?} is no duration, such as 250ms, 30s or 2m"))
    })
}

/// A whole number from `MIN` to `MAX`.
pub(super) fn within<'de, D, T, const MIN: u64, const MAX: u64>(input: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64>,
{
    let number = u64::deserialize(input)?;
    let number = Some(number).filter(|number| (MIN..=MAX).contains(number));
    let fits = number.and_then(|number| T::try_from(number).ok());
    fits.ok_or_else(|| de::Error::custom(format!("must be a whole number from {MIN} to {MAX}")))
}

/// The empty string is an unset value.
pub(super) fn optional<'de, D, T>(input: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err = String>,
{
    let text = String::deserialize(input)?;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(de::Error::custom)
}

/// `auto`, `human` or `json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Human on a terminal, JSON elsewhere.
    Auto,
    /// One line for a person.
    Human,
    /// One JSON object a line.
    Json,
}

/// Where a role keeps what must not be lost; the scheme picks the back end.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum DatabaseUrl {
    /// `sqlite://PATH`: a file of this machine.
    Sqlite(PathBuf),
}

impl TryFrom<String> for DatabaseUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.split_once("://") {
            Some(("sqlite", "")) => {
                Err("sqlite:// needs a path, as in sqlite://data/shop.db".into())
            }
            Some(("sqlite", ":memory:")) => {
                Err("every connection would have a memory of its own; name a file, as in sqlite:///tmp/shop.db".into())
            }
            Some(("sqlite", path)) => Ok(Self::Sqlite(PathBuf::from(path))),
            Some((scheme, _)) => {
                Err(format!("{scheme}:// is no back end for this store; use sqlite://PATH"))
            }
            None => Err("not a URL; use sqlite://PATH".into()),
        }
    }
}

impl DatabaseUrl {
    /// The file, when it is one.
    pub fn path(&self) -> &Path {
        let Self::Sqlite(path) = self;
        path
    }
}

/// Where answers are cached.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum CacheUrl {
    /// `memory://`: in this process.
    Memory,
}

impl TryFrom<String> for CacheUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "memory://" => Ok(Self::Memory),
            _ => Err("not a cache that is known here; use memory://".into()),
        }
    }
}

/// The base URL of a role in another process: a scheme, a host and a port, and nothing behind them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerUrl(Uri);

impl PeerUrl {
    /// The URL as a URI with an empty path.
    pub fn uri(&self) -> &Uri {
        &self.0
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        format!("{}:{}", self.0.host().unwrap_or_default(), self.0.port_u16().unwrap_or(80))
    }
}

impl FromStr for PeerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = "use http://host:port";
        let uri: Uri = text.parse().map_err(|_| format!("not a URL; {wanted}"))?;
        let bare = uri.path_and_query().is_none_or(|rest| rest.as_str() == "/");
        match uri.scheme_str() {
            Some("http") if bare && uri.host().is_some() => Ok(Self(uri)),
            Some("http") => Err(format!("must be a base URL without a path; {wanted}")),
            Some(scheme) => {
                Err(format!("{scheme}:// is no transport that is known here; {wanted}"))
            }
            None => Err(format!("not a URL; {wanted}")),
        }
    }
}

impl fmt::Display for PeerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_a_scheme_a_host_and_a_port() {
        assert!("http://127.0.0.1:3001".parse::<PeerUrl>().is_ok());
        assert!("http://product:3002/".parse::<PeerUrl>().is_ok());
        for bad in ["", "product:3002", "http://x/api", "ftp://x", "http://", "http://x?y"] {
            assert!(bad.parse::<PeerUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_database_is_named_by_scheme_and_path() {
        let url = DatabaseUrl::try_from("sqlite:///var/lib/shop.db".to_owned()).unwrap();
        assert_eq!(url.path(), Path::new("/var/lib/shop.db"));
        for bad in ["sqlite://", "sqlite://:memory:", "mysql://x", "data/user.db"] {
            assert!(DatabaseUrl::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
