//! The settings of CORS: what browsers let scripts of other origins do.

use std::str::FromStr;

use actix_web::http::header::HeaderValue;
use serde::Deserialize;
use url::{Host, Url};

use super::layers::{ValueError, value_error};
use super::redact::quote;
use super::values::parts;

/// The origins whose scripts may read responses.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Origins {
    /// Only the gateway's own.
    None,
    /// `*`: any.
    Any,
    /// These, as in the Origin header; `*.` before a host matches any name below it.
    Named(Vec<HeaderValue>),
}

impl Origins {
    /// A source list of Content Security Policy, as in `https://images.example https://*.shop.example`.
    pub fn sources(&self) -> String {
        match self {
            Self::None => String::new(),
            Self::Any => "*".to_owned(),
            Self::Named(origins) => {
                let texts = origins.iter().filter_map(|origin| origin.to_str().ok());
                texts.collect::<Vec<_>>().join(" ")
            }
        }
    }
}

impl TryFrom<String> for Origins {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        let named = parts(&text).map(origin).collect::<Result<Vec<_>, _>>();
        match text.trim() {
            "" => Ok(Self::None),
            "*" => Ok(Self::Any),
            _ => named.map(Self::Named),
        }
    }
}

/// An origin as the Fetch standard serialises it: in lower case, without a path or default port. A leading `*.` of the
/// host is kept.
///
/// # Errors
/// For an origin that no browser sends and that would never match.
fn origin(text: &str) -> Result<HeaderValue, ValueError> {
    let wanted = || {
        value_error!(
            "{} is not an origin, such as https://shop.example or http://localhost:5173",
            quote(text)
        )
    };
    let (scheme, rest) = text.split_once("://").ok_or_else(wanted)?;
    let (wildcard, rest) = match rest.strip_prefix("*.") {
        Some(rest) => ("*.", rest),
        None => ("", rest),
    };
    let url = Url::parse(&format!("{scheme}://{rest}")).map_err(|_| wanted())?;
    let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    if !bare || !url.username().is_empty() || url.password().is_some() {
        return Err(wanted());
    }
    let host = url.host_str().map(str::to_ascii_lowercase).filter(|host| !host.is_empty());
    let host = host.ok_or_else(wanted)?;
    let is_name = matches!(url.host(), Some(Host::Domain(_)));
    if host.contains('*') || (!wildcard.is_empty() && !is_name) {
        return Err(value_error!(
            "{} matches nothing: * stands for the first labels of a host's name, as in https://*.shop.example",
            quote(text)
        ));
    }
    if matches!(url.scheme(), "ws" | "wss" | "ftp") {
        return Err(value_error!(
            "{} matches nothing: pages are not loaded by {}",
            quote(text),
            url.scheme()
        ));
    }
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let written = format!("{}://{wildcard}{host}{port}", url.scheme());
    HeaderValue::from_str(&written).map_err(|_| wanted())
}

/// Names, separated by commas.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String", bound = "T: FromStr")]
pub struct List<T>(pub Vec<T>);

impl<T: FromStr> TryFrom<String> for List<T> {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        let name = |part: &str| {
            // `*` is a valid name in HTTP, but would look like a wildcard here.
            let name = Some(part).filter(|part| *part != "*").and_then(|part| part.parse().ok());
            name.ok_or_else(|| {
                value_error!("{} is not a name; separate names by commas", quote(part))
            })
        };
        parts(&text).map(name).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Result<Vec<String>, ValueError> {
        match Origins::try_from(text.to_owned())? {
            Origins::Named(list) => {
                Ok(list.iter().map(|origin| origin.to_str().unwrap().to_owned()).collect())
            }
            other => Err(value_error!("{other:?}")),
        }
    }

    #[test]
    fn origins_are_taken_as_browsers_write_them() {
        assert_eq!(
            named("https://Shop.Example:443/, http://localhost:5173").unwrap(),
            ["https://shop.example", "http://localhost:5173"]
        );
        assert_eq!(named("app://shop").unwrap(), ["app://shop"]);
        assert_eq!(named("APP://Shop:1").unwrap(), ["app://shop:1"]);
        assert_eq!(named("http://[2001:DB8::1]:80").unwrap(), ["http://[2001:db8::1]"]);
        assert_eq!(named("https://bücher.example").unwrap(), ["https://xn--bcher-kva.example"]);
        assert_eq!(
            named("https://*.Shop.Example:443, http://*.localhost:3000").unwrap(),
            ["https://*.shop.example", "http://*.localhost:3000"]
        );
        assert_eq!(Origins::try_from(" ".to_owned()), Ok(Origins::None));
        assert_eq!(Origins::try_from("*".to_owned()), Ok(Origins::Any));
        for bad in [
            "null",
            "shop.example",
            "https://",
            "https://shop.example/path",
            "https://u@shop.example",
            "https:shop.example",
            "//shop.example",
            "localhost:5173",
            "*.shop.example",
            "*://shop.example",
            "https://*",
            "https://*.",
            "https://*shop.example",
            "https://shop.*",
            "https://a.*.shop.example",
            "https://*.*.shop.example",
            "https://%2A.shop.example",
            "https://*.192.0.2.1",
            "https://*.[2001:db8::1]",
            "https://shop.example:*",
            "https://*.shop.example/path",
            "https://shop.example/?",
            "https://shop.example#x",
            "wss://shop.example",
            "file:///",
            "https://shop.example, *",
        ] {
            assert!(named(bad).is_err(), "{bad}");
        }
    }
}
