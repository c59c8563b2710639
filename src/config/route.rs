//! The types of settings that change requests and responses of a route.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::http::uri::Authority;
use serde::{Deserialize, Deserializer, de};

use super::layers::{ValueError, value_error};

/// The prefix that is removed from the path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Strip {
    /// `false`, or empty.
    #[default]
    Nothing,
    /// `true`: the route's path.
    Path,
    /// This prefix, as in `/api`.
    Prefix(String),
}

impl<'de> Deserialize<'de> for Strip {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(StripVisitor)
    }
}

struct StripVisitor;

impl de::Visitor<'_> for StripVisitor {
    type Value = Strip;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true, false or a path such as /api")
    }

    fn visit_bool<E: de::Error>(self, whole: bool) -> Result<Strip, E> {
        Ok(if whole { Strip::Path } else { Strip::Nothing })
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Strip, E> {
        match text {
            "" | "false" => Ok(Strip::Nothing),
            "true" => Ok(Strip::Path),
            path if path.starts_with('/') => Ok(Strip::Prefix(path.to_owned())),
            other => Err(E::custom(format!("{other:?} is not true, false or a path such as /api"))),
        }
    }
}

/// A value of the Host header: a name or an address, and optionally a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName(pub HeaderValue);

impl FromStr for HostName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wanted =
            || value_error!("{text:?} is not a host, such as reviews.example or 10.0.0.1:8080");
        let authority = text.parse::<Authority>().ok().filter(|_| !text.contains(['@', ' ']));
        authority.filter(|authority| !authority.host().is_empty()).ok_or_else(wanted)?;
        HeaderValue::from_str(text).map(Self).map_err(|_| wanted())
    }
}

/// Response headers to set, or to remove where the value is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>")]
pub struct ResponseHeaders(pub Vec<(HeaderName, Option<HeaderValue>)>);

impl TryFrom<BTreeMap<String, String>> for ResponseHeaders {
    type Error = ValueError;

    fn try_from(table: BTreeMap<String, String>) -> Result<Self, ValueError> {
        let line = |(name, value): (String, String)| {
            // Environment variables cannot have dashes.
            let said = name.replace('_', "-").parse::<HeaderName>();
            let said = said.map_err(|_| value_error!("{name:?} is not a header name"))?;
            if is_reserved(&said) || (is_hidden(&said) && !value.is_empty()) {
                return Err(value_error!("a route cannot set {said}"));
            }
            let known = (!value.is_empty()).then(|| HeaderValue::from_str(value.trim()));
            let known = known.transpose();
            Ok((said, known.map_err(|_| value_error!("{name} cannot have the value {value:?}"))?))
        };
        table.into_iter().map(line).collect::<Result<_, _>>().map(Self)
    }
}

/// Whether `name` belongs to the connection or to the gateway.
fn is_reserved(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "content-length"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "x-request-id"
    )
}

/// Whether `name` is removed from every response.
fn is_hidden(name: &HeaderName) -> bool {
    matches!(name.as_str(), "server" | "x-powered-by")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address() {
        for good in ["reviews.example", "reviews:8080", "10.0.0.1", "[::1]:80"] {
            assert_eq!(good.parse::<HostName>().unwrap().0, good);
        }
        for bad in ["", "http://x", "x/y", "u@x", "a b", "x?y", ":80"] {
            assert!(bad.parse::<HostName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_taken_off_is_said_in_three_ways() {
        let strip = |json: &str| serde_json::from_str::<Strip>(json);
        for (json, found) in [
            ("true", Strip::Path),
            ("\"true\"", Strip::Path),
            ("false", Strip::Nothing),
            ("\"\"", Strip::Nothing),
            ("\"/api\"", Strip::Prefix("/api".into())),
        ] {
            assert_eq!(strip(json).unwrap(), found, "{json}");
        }
        assert!(strip("\"api\"").is_err() && strip("1").is_err());
    }

    #[test]
    fn headers_are_said_or_taken_out() {
        let headers = |json: &str| serde_json::from_str::<ResponseHeaders>(json);
        let said = headers(r#"{"X_Frame_Options": "DENY", "server": "", "cache-control": "a, b"}"#);
        let said = said.unwrap().0;
        let lines = said.iter().map(|(name, value)| {
            (name.as_str(), value.as_ref().map(|value| value.to_str().unwrap()))
        });
        let expected =
            [("x-frame-options", Some("DENY")), ("cache-control", Some("a, b")), ("server", None)];
        assert_eq!(lines.collect::<Vec<_>>(), expected);
        for bad in [
            r#"{"a b": "x"}"#,
            r#"{"x-a": "b\r\nc"}"#,
            r#"{"content-length": ""}"#,
            r#"{"connection": "close"}"#,
            r#"{"server": "mine"}"#,
        ] {
            assert!(headers(bad).is_err(), "{bad}");
        }
    }
}
