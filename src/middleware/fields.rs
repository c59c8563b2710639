//! Reads a JSON object or a query field by field, so that one response names all invalid and all unknown fields. Nothing is
//! ignored in silence.

use std::fmt;
use std::str::FromStr;

use actix_web::dev::Payload;
use actix_web::http::Method;
use actix_web::http::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, EXPECT, HeaderMap, HeaderName,
    HeaderValue,
};
use actix_web::web::{self, Bytes};
use actix_web::{FromRequest, HttpRequest};
use futures_util::future::LocalBoxFuture;
use futures_util::{Stream, StreamExt as _};
use serde::Deserializer as _;
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::json::Json;
use super::too_large;
use crate::error::{Error, FieldError, Kind};
use crate::http1::lines::words;

/// The largest body that a handler may read, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimit(pub usize);

impl BodyLimit {
    /// The limit that the middleware has set for `request`.
    pub fn from_app_data(request: &HttpRequest) -> Self {
        request.app_data::<Self>().copied().unwrap_or(Self(0))
    }
}

/// How many unknown fields a response names, and how many characters of each name.
const NAMED: usize = 20;
const NAME: usize = 64;

/// The fields of a request's JSON object.
#[derive(Debug, Default)]
pub struct Fields {
    object: Map<String, Value>,
    errors: Vec<FieldError>,
}

/// A JSON object, and its duplicate names.
#[derive(Default)]
struct Object {
    fields: Map<String, Value>,
    repeated: Vec<String>,
}

/// Reads an [`Object`]. Has the name of the field that it reads.
struct Entries<'a>(&'a mut Option<String>);

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Object, A::Error> {
        let mut object = Object::default();
        while let Some(name) = entries.next_key()? {
            let name: &String = self.0.insert(name);
            let Json(value) = entries.next_value()?;
            if object.fields.insert(name.clone(), value).is_some() {
                object.repeated.push(name.clone());
            }
        }
        *self.0 = None;
        Ok(object)
    }
}

impl Fields {
    /// Takes the required field `name`; records an error if it is missing or invalid.
    pub fn required<T: DeserializeOwned>(&mut self, name: &'static str) -> Option<T> {
        let mut unknown = Vec::new();
        let parsed = match self.object.shift_remove(name) {
            None | Some(Value::Null) => Err("is required".to_owned()),
            Some(value) => serde_ignored::deserialize(value, |path| {
                unknown.push(format!("{name}.{path}"));
            })
            .map_err(|error| error.to_string()),
        };
        refuse(&mut self.errors, unknown, UNKNOWN);
        parsed.map_err(|detail| self.errors.push(FieldError::new(name, detail))).ok()
    }

    /// Takes the optional field `name`; records an error if it is invalid. Null is invalid: in a JSON merge patch (RFC 7396) it
    /// would remove the field; see [`Fields::nullable`].
    pub fn optional<T: DeserializeOwned>(&mut self, name: &'static str) -> Option<T> {
        if !self.object.contains_key(name) {
            return None;
        }
        self.required(name)
    }

    /// Takes the field `name` of a JSON merge patch (RFC 7396): `Some(None)` if it is null, which removes a value. Records
    /// an error if it is invalid.
    pub fn nullable<T: DeserializeOwned>(&mut self, name: &'static str) -> Option<Option<T>> {
        if self.object.get(name).is_some_and(Value::is_null) {
            self.object.shift_remove(name);
            return Some(None);
        }
        self.optional(name).map(Some)
    }

    /// Records that the field `name` is invalid.
    pub fn refuse(&mut self, name: &'static str, detail: String) {
        self.errors.push(FieldError::new(name, detail));
    }

    /// Returns `value` if all fields were valid and none is left.
    ///
    /// # Errors
    /// 422 with one entry per invalid or unknown field.
    pub fn finish<T>(mut self, value: Option<T>) -> Result<T, Error> {
        refuse(&mut self.errors, self.object.into_iter().map(|(name, _)| name), UNKNOWN);
        match value {
            Some(value) if self.errors.is_empty() => Ok(value),
            _ => Err(Error::invalid(self.errors)),
        }
    }
}

impl From<Map<String, Value>> for Fields {
    fn from(object: Map<String, Value>) -> Self {
        Self { object, errors: Vec::new() }
    }
}

impl FromRequest for Fields {
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self, Error>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        Self::read(request, payload, false)
    }
}

/// The bytes of a request's body, whatever they are.
#[derive(Debug)]
pub struct RawBody(pub Bytes);

impl FromRequest for RawBody {
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self, Error>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let BodyLimit(limit) = BodyLimit::from_app_data(request);
        let content = web::Payload::from_request(request, payload);
        Box::pin(async move {
            let broken = |_| Error::new(Kind::Malformed, "the body is incomplete");
            let content = content.await.map_err(broken)?;
            let body = content.to_bytes_limited(limit).await.map_err(|_| too_large(limit))?;
            body.map(Self).map_err(broken)
        })
    }
}

/// The fields of a request whose body is optional, such as DELETE.
#[derive(Debug)]
pub struct MaybeFields(pub Fields);

impl FromRequest for MaybeFields {
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self, Error>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let fields = Fields::read(request, payload, true);
        Box::pin(async move { fields.await.map(Self) })
    }
}

impl Fields {
    /// Reads the body of `request`, which `may_be_absent` or not.
    fn read(
        request: &HttpRequest,
        payload: &mut Payload,
        may_be_absent: bool,
    ) -> LocalBoxFuture<'static, Result<Self, Error>> {
        let (is_plain, is_json) = (check_coding(request), check_type(request));
        let body = RawBody::from_request(request, payload);
        Box::pin(async move {
            let RawBody(body) = body.await?;
            if may_be_absent && body.is_empty() {
                return Ok(Self::default());
            }
            is_plain?;
            is_json?;
            Self::parse("body", &body)
        })
    }

    /// The fields of a `line` that is a JSON object.
    ///
    /// # Errors
    /// 400 when it is not JSON, 422 when it is no object.
    pub fn from_line(line: &[u8]) -> Result<Self, Error> {
        Self::parse("line", line)
    }

    /// Drops the field `name`, if it is there.
    pub fn ignore(&mut self, name: &str) {
        self.object.shift_remove(name);
    }

    fn parse(what: &str, body: &[u8]) -> Result<Self, Error> {
        let (mut field, mut json) = (None, serde_json::Deserializer::from_slice(body));
        let object = json.deserialize_map(Entries(&mut field));
        let object = object.and_then(|object| json.end().map(|()| object));
        let broken =
            |error| Error::new(Kind::Malformed, format!("the {what} is not JSON: {error}"));
        let Object { fields, repeated } = object.map_err(|error| {
            match (Json::refusal(&error), field) {
                (None, _) => broken(error),
                (Some(why), Some(field)) => {
                    Error::invalid(vec![FieldError::new(shorten(field), why)])
                }
                // Any other value is parsed to its end, to find syntax errors.
                (Some(_), None) => match serde_json::from_slice::<IgnoredAny>(body) {
                    Err(error) => broken(error),
                    Ok(_) => Error::new(Kind::Invalid, format!("the {what} must be a JSON object")),
                },
            }
        })?;
        let mut errors = Vec::new();
        refuse(&mut errors, repeated, REPEATED);
        Ok(Self { object: fields, errors })
    }
}

const UNKNOWN: &str = "is unknown";
pub(super) const REPEATED: &str = "must be given once";

/// The first [`NAME`] characters of `name`.
pub(super) fn shorten(mut name: String) -> String {
    if let Some((end, _)) = name.char_indices().nth(NAME) {
        name.truncate(end);
        name.push('…');
    }
    name
}

/// Adds the unknown `names` to `errors`, at most [`NAMED`] of them.
fn refuse(
    errors: &mut Vec<FieldError>,
    names: impl IntoIterator<Item = String>,
    why: &'static str,
) {
    let room = NAMED.saturating_sub(errors.len());
    let named = names.into_iter().take(room).map(|name| FieldError::new(shorten(name), why));
    errors.extend(named);
}

/// Checks that the content of `request` has no coding except `identity` (RFC 9110, section 8.4). Several lines are one list.
///
/// # Errors
/// 415 with the accepted codings (section 12.5.3).
pub fn check_coding(request: &HttpRequest) -> Result<(), Error> {
    let lines = request.headers().get_all(CONTENT_ENCODING);
    let mut codings = lines.flat_map(|line| words(line.as_bytes()));
    if codings.all(|name| name.is_empty() || name.eq_ignore_ascii_case(b"identity")) {
        return Ok(());
    }
    let detail = "send the body without a content-encoding";
    let error = Error::new(Kind::UnsupportedMediaType, detail);
    Err(error.header(ACCEPT_ENCODING, HeaderValue::from_static("identity")))
}

/// Checks that the body of `request` is `application/json`, or a type with the suffix `+json`.
///
/// # Errors
/// 415 with the accepted types (RFC 9110, section 15.5.16; RFC 5789, section 2.2).
fn check_type(request: &HttpRequest) -> Result<(), Error> {
    const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");
    if is_json(request) {
        return Ok(());
    }
    let error =
        Error::new(Kind::UnsupportedMediaType, "send JSON, with content-type application/json");
    let (name, types) = match *request.method() {
        Method::PATCH => (ACCEPT_PATCH, "application/merge-patch+json, application/json"),
        _ => (ACCEPT, "application/json"),
    };
    Err(error.header(name, HeaderValue::from_static(types)))
}

fn is_json(request: &HttpRequest) -> bool {
    let value = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let essence = essence.to_ascii_lowercase();
    essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// Reads and drops the rest of a request, at most `limit` bytes: if the connection were closed while the client is still
/// sending, the response could get lost. Does nothing for a client that waits for 100 Continue, by its `headers`.
pub async fn discard<E>(
    headers: &HeaderMap,
    mut content: impl Stream<Item = Result<Bytes, E>> + Unpin,
    limit: BodyLimit,
) {
    if headers.contains_key(EXPECT) {
        return;
    }
    let mut left = limit.0;
    while let Some(Ok(chunk)) = content.next().await {
        match left.checked_sub(chunk.len()) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

/// The parameters of a request's query.
#[derive(Debug)]
pub struct Query {
    pairs: Vec<(String, String)>,
    errors: Vec<FieldError>,
}

impl Query {
    /// The query of `request`.
    pub fn parse(request: &HttpRequest) -> Self {
        let pairs = url::form_urlencoded::parse(request.query_string().as_bytes());
        Self { pairs: pairs.into_owned().collect(), errors: Vec::new() }
    }

    /// Takes the parameter `name` if it is there; records an error if it is invalid.
    pub fn optional<T: FromStr>(&mut self, name: &'static str) -> Option<T>
    where
        T::Err: ToString,
    {
        if self.pairs.is_empty() {
            return None;
        }
        let mut values = self.pairs.extract_if(.., |(key, _)| key == name);
        let (_, value) = values.next()?;
        let parsed = match values.next() {
            Some(_) => Err(REPEATED.to_owned()),
            None => value.parse().map_err(|error: T::Err| error.to_string()),
        };
        parsed.map_err(|detail| self.errors.push(FieldError::new(name, detail))).ok()
    }

    /// Records that the parameter `name` is invalid.
    pub fn refuse(&mut self, name: &'static str, detail: &'static str) {
        self.errors.push(FieldError::new(name, detail));
    }

    /// Whether all parameters so far were valid.
    pub fn is_valid(&self) -> bool {
        self.errors.is_empty()
    }

    /// Returns `value` if all parameters were valid and none is left.
    ///
    /// # Errors
    /// 422 with one entry per invalid or unknown parameter.
    pub fn finish<T>(mut self, value: T) -> Result<T, Error> {
        let mut unknown = Vec::new();
        for (name, _) in self.pairs {
            if !unknown.contains(&name) && unknown.len() < NAMED {
                unknown.push(name);
            }
        }
        refuse(&mut self.errors, unknown, UNKNOWN);
        if self.errors.is_empty() { Ok(value) } else { Err(Error::invalid(self.errors)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Address {
        city: String,
        lines: Vec<Line>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Line {
        text: String,
    }

    fn named(error: &Error) -> Vec<&str> {
        error.fields().iter().map(|wrong| &*wrong.field).collect()
    }

    #[test]
    fn what_nobody_takes_is_named_at_any_depth() {
        let body = br#"{"to":{"city":"Zion","zip":1,"lines":[{"text":"a"},{"text":"b","x":null}]},"more":{}}"#;
        let mut fields = Fields::from_line(body).unwrap();
        let address = fields.required::<Address>("to");
        assert_eq!(address.as_ref().unwrap().city, "Zion");
        let error = fields.finish(address).unwrap_err();
        assert_eq!(named(&error), ["to.zip", "to.lines.1.x", "more"]);
    }

    #[test]
    fn what_is_said_twice_is_refused() {
        let mut fields = Fields::from_line(br#"{"a":1,"a":2}"#).unwrap();
        let value = fields.required::<u8>("a");
        assert_eq!(named(&fields.finish(value).unwrap_err()), ["a"]);
    }

    #[test]
    fn a_flood_of_names_is_no_flood_of_errors() {
        let long = "ö".repeat(1000);
        let flood = (0..1000).map(|n| format!("\"{n}{long}\":0")).collect::<Vec<_>>().join(",");
        let fields = Fields::from_line(format!("{{{flood}}}").as_bytes()).unwrap();
        let error = fields.finish(Some(())).unwrap_err();
        assert_eq!(error.fields().len(), NAMED);
        assert!(error.fields().iter().all(|wrong| wrong.field.chars().count() == NAME + 1));
    }

    #[test]
    fn what_is_no_object_is_told_from_what_is_no_json() {
        for (body, kind) in [("[]", Kind::Invalid), ("1", Kind::Invalid), ("null", Kind::Invalid)] {
            assert_eq!(Fields::from_line(body.as_bytes()).unwrap_err().kind(), kind, "{body}");
        }
        for body in ["", "{", "{} {}", "{\"a\":}", "[", "x", "{\"a\":\"\\ud800\"}"] {
            let kind = Fields::from_line(body.as_bytes()).unwrap_err().kind();
            assert_eq!(kind, Kind::Malformed, "{body}");
        }
    }
}
