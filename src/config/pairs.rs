//! Names and values in one setting, as in `a=1,b=2%2C3`: what OpenTelemetry's variables have, after W3C Baggage.

use std::collections::BTreeMap;
use std::fmt;

use actix_web::http::header::{HeaderName, HeaderValue};
use serde::Deserialize;

use super::ValueError;
use super::values::parts;

/// Attributes of a resource, as in `deployment.environment.name=test,host.name=a`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Attributes(BTreeMap<String, String>);

impl Attributes {
    /// The value of `name`.
    pub(super) fn get(&self, name: &str) -> Option<&String> {
        self.0.get(name)
    }

    /// Names and values.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }
}

impl TryFrom<String> for Attributes {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        pairs(&text).collect::<Result<_, _>>().map(Self)
    }
}

/// Headers of requests, as in `authorization=Bearer%20TOKEN,x-tenant=shop`; their values are secret.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Headers(Vec<(HeaderName, HeaderValue)>);

impl Headers {
    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.0.iter().map(|(name, value)| (name, value))
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|(name, _)| name.as_str())).finish()
    }
}

impl TryFrom<String> for Headers {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        let header = |pair: Result<(String, String), ValueError>| {
            let (name, value) = pair?;
            let name = HeaderName::from_bytes(name.as_bytes());
            let pair = name.ok().zip(HeaderValue::from_str(&value).ok());
            pair.ok_or_else(|| ValueError::from("has a name or a value that no header can have"))
        };
        pairs(&text).map(header).collect::<Result<_, _>>().map(Self)
    }
}

/// The names and the decoded values in `text`, as in `a=1,b=2%2C3`. What is wrong is not quoted: it may be secret.
fn pairs(text: &str) -> impl Iterator<Item = Result<(String, String), ValueError>> {
    parts(text).map(|pair| {
        let pair = pair.split_once('=').map(|(name, value)| (name.trim(), value.trim()));
        let pair = pair.filter(|(name, _)| !name.is_empty());
        let (name, value) = pair.ok_or("must be of the form name=value,name=value")?;
        let value = decode(value).ok_or("has a % that is not one of two hexadecimal digits")?;
        Ok((name.to_owned(), value))
    })
}

/// `text` with each `%` and two hexadecimal digits as the byte that they are (RFC 3986, section 2.1).
fn decode(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        bytes.extend(hex::decode(digits).ok()?);
        bytes.extend(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<BTreeMap<String, String>, ValueError> {
        pairs(text).collect()
    }

    proptest! {
        #[test]
        fn any_value_can_be_encoded(values in prop::collection::btree_map("[a-z.]{1,9}", ".*", 0..5)) {
            let encode = |value: &str| value.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
            let pairs = values.iter().map(|(name, value)| format!("{name}={}", encode(value)));
            let text = pairs.collect::<Vec<_>>().join(" , ");
            prop_assert_eq!(read(&text).unwrap(), values);
        }

        #[test]
        fn any_text_is_read_or_refused_without_a_word_of_it(text in "[a%=,é0f ]{0,20}") {
            if let Err(ValueError(problem)) = read(&text) {
                prop_assert!(problem.starts_with("must be ") || problem.starts_with("has a %"));
            }
        }
    }

    #[test]
    fn what_is_not_a_pair_is_refused() {
        for bad in ["a", "=b", "a=%", "a=%2", "a=%zz", "a=%ff", "a=%é"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        let read = read("a=b=c,, d = e%20f ,").unwrap().into_iter().collect::<Vec<_>>();
        assert_eq!(read, [("a".into(), "b=c".into()), ("d".into(), "e f".into())]);
    }
}
