//! Idempotency keys (draft-ietf-httpapi-idempotency-key-header): a request that is repeated with its key is done once.

use std::fmt;
use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::header::HeaderName;
use actix_web::{FromRequest, HttpRequest};
use utoipa::IntoParams;

use crate::error::{Error, Kind};
use crate::middleware::Input;

const NAME: HeaderName = HeaderName::from_static("idempotency-key");
/// The longest key, in characters.
const LONGEST: usize = 255;

/// A key: 1 to 255 visible ASCII characters and spaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key(String);

impl Key {
    /// The key in a header's `value`: a string of a structured field (RFC 9651, section 3.3.3), or the bare key.
    fn parse(value: &str) -> Option<Self> {
        let value = value.trim();
        let key = match value.strip_prefix('"') {
            Some(rest) => unquote(rest)?,
            None => value.to_owned(),
        };
        let is_valid = key.chars().all(|letter| matches!(letter, ' '..='~'));
        (is_valid && (1..=LONGEST).contains(&key.len())).then_some(Self(key))
    }
}

/// The string whose quoted form goes on with `rest` behind its first quote.
fn unquote(rest: &str) -> Option<String> {
    let (mut text, mut letters) = (String::new(), rest.chars());
    loop {
        match letters.next()? {
            '"' => return letters.next().is_none().then_some(text),
            '\\' => text.push(letters.next().filter(|letter| matches!(letter, '"' | '\\'))?),
            letter => text.push(letter),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The key of a request, if it has one.
#[derive(Clone, Debug)]
pub(super) struct MaybeKey(pub(super) Option<Key>);

impl MaybeKey {
    /// The key; required unless `may_be_absent`.
    ///
    /// # Errors
    /// 400 when it is missing.
    pub(super) fn check(self, may_be_absent: bool) -> Result<Option<Key>, Error> {
        match self.0 {
            None if !may_be_absent => {
                let detail = "send an Idempotency-Key, so that a repeated request orders once";
                Err(Error::new(Kind::Malformed, detail))
            }
            key => Ok(key),
        }
    }
}

impl FromRequest for MaybeKey {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let mut lines = request.headers().get_all(NAME);
        let key = match (lines.next(), lines.next()) {
            (None, _) => return ready(Ok(Self(None))),
            (Some(line), None) => line.to_str().ok().and_then(Key::parse),
            _ => None,
        };
        let detail = "Idempotency-Key must be one string of 1 to 255 visible ASCII characters";
        ready(key.map(|key| Self(Some(key))).ok_or_else(|| Error::new(Kind::Malformed, detail)))
    }
}

impl Input for MaybeKey {}

/// Idempotency-Key, for the OpenAPI document.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes the header for the OpenAPI document")]
pub(super) struct IdempotencyKey {
    /// Makes a repeated request get the first answer again, for a day. Required unless the shop is open.
    #[param(
        rename = "Idempotency-Key",
        value_type = String,
        required = false,
        pattern = r#"^([!#-~]([ -~]{0,253}[!-~])?|"([ !#-\[\]-~]|\\["\\]){1,255}")$"#
    )]
    key: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_key_is_quoted_or_bare() {
        let parse = |value: &str| Key::parse(value).map(|key| key.0);
        assert_eq!(parse("abc"), parse("\"abc\""));
        assert_eq!(parse(r#""a\"b\\c""#).as_deref(), Some(r#"a"b\c"#));
        for bad in ["", "\"\"", "\"", "\"a", "\"a\"b", r#""a\b""#, "a\tb", "é", &"x".repeat(256)] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_key_survives_its_quotes(key in "[ -~]{1,255}") {
            let quoted = format!("\"{}\"", key.replace('\\', r"\\").replace('"', "\\\""));
            prop_assert_eq!(Key::parse(&quoted), Some(Key(key)));
        }
    }
}
