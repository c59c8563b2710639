//! Reads a JSON object or a query field by field, so that one answer names all that is wrong.

use std::str::FromStr;

use actix_web::dev::Payload;
use actix_web::http::header::{CONTENT_TYPE, EXPECT, HeaderMap};
use actix_web::web::{self, Bytes};
use actix_web::{FromRequest, HttpRequest};
use futures_util::future::LocalBoxFuture;
use futures_util::{Stream, StreamExt as _};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::too_large;
use crate::error::{Error, FieldError, Kind};

/// The largest body that the edge lets a handler read, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimit(pub usize);

impl BodyLimit {
    /// That of the edge which `request` has come through.
    pub fn of(request: &HttpRequest) -> Self {
        request.app_data::<Self>().copied().unwrap_or(Self(0))
    }
}

/// The fields of a request's JSON object. Unknown ones are ignored.
#[derive(Debug)]
pub struct Fields {
    object: Map<String, Value>,
    errors: Vec<FieldError>,
}

impl Fields {
    /// Takes the field `name`, whose type says what is valid; notes what is wrong with it.
    pub fn required<T: DeserializeOwned>(&mut self, name: &'static str) -> Option<T> {
        let parsed = match self.object.remove(name) {
            None | Some(Value::Null) => Err("is required".to_owned()),
            Some(value) => serde_json::from_value(value).map_err(|error| error.to_string()),
        };
        parsed.map_err(|detail| self.errors.push(FieldError::new(name, detail))).ok()
    }

    /// Takes the field `name` where it is there; notes what is wrong with it. In a JSON merge patch
    /// (RFC 7396) null would remove what it names, and nothing here can be removed.
    pub fn optional<T: DeserializeOwned>(&mut self, name: &'static str) -> Option<T> {
        if !self.object.contains_key(name) {
            return None;
        }
        self.required(name)
    }

    /// Gives back `value`, which was made of fields that were all valid.
    ///
    /// # Errors
    /// 422 with one entry a field that was not.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Error> {
        match value {
            Some(value) if self.errors.is_empty() => Ok(value),
            _ => Err(Error::invalid(self.errors)),
        }
    }
}

impl FromRequest for Fields {
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self, Error>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        Self::read(request, payload, false)
    }
}

/// The fields of a request that may come without a body, and then has none: of DELETE, where many clients send none.
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
        let is_json = is_json(request);
        let BodyLimit(limit) = BodyLimit::of(request);
        let content = web::Payload::from_request(request, payload);
        Box::pin(async move {
            let broken = |_| Error::new(Kind::Malformed, "the body broke off");
            let content = content.await.map_err(broken)?;
            let body = content.to_bytes_limited(limit).await.map_err(|_| too_large(limit))?;
            let body = body.map_err(broken)?;
            if may_be_absent && body.is_empty() {
                return Ok(Self { object: Map::new(), errors: Vec::new() });
            }
            if !is_json {
                let detail = "send JSON, with content-type application/json";
                return Err(Error::new(Kind::UnsupportedMediaType, detail));
            }
            match serde_json::from_slice(&body) {
                Ok(Value::Object(object)) => Ok(Self { object, errors: Vec::new() }),
                Ok(_) => Err(Error::new(Kind::Invalid, "the body must be a JSON object")),
                Err(error) => {
                    Err(Error::new(Kind::Malformed, format!("the body is not JSON: {error}")))
                }
            }
        })
    }
}

/// `application/json`, or a type built on it such as `application/merge-patch+json`.
fn is_json(request: &HttpRequest) -> bool {
    let value = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let essence = essence.to_ascii_lowercase();
    essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// Reads what a handler is not interested in, at most `limit` bytes: an answer that leaves before the request is
/// over can get lost on the way, because the connection is closed under whoever still sends. A client that waits to be
/// asked for it, by the `headers` of its request, is not asked.
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

/// The parameters of a request's query. Unknown ones are ignored.
#[derive(Debug)]
pub struct Query {
    pairs: Vec<(String, String)>,
    errors: Vec<FieldError>,
}

impl Query {
    /// The query of `request`.
    pub fn of(request: &HttpRequest) -> Self {
        let pairs = url::form_urlencoded::parse(request.query_string().as_bytes());
        Self { pairs: pairs.into_owned().collect(), errors: Vec::new() }
    }

    /// Takes the parameter `name` where it is given; notes what is wrong with it.
    pub fn optional<T: FromStr>(&mut self, name: &'static str) -> Option<T>
    where
        T::Err: ToString,
    {
        let mut values = self.pairs.iter().filter(|(key, _)| key == name);
        let (_, value) = values.next()?;
        let parsed = match values.next() {
            Some(_) => Err("must be given once".to_owned()),
            None => value.parse().map_err(|error: T::Err| error.to_string()),
        };
        parsed.map_err(|detail| self.errors.push(FieldError::new(name, detail))).ok()
    }

    /// Gives back `value`, which was made of parameters that were all valid.
    ///
    /// # Errors
    /// 422 with one entry a parameter that was not.
    pub fn finish<T>(self, value: T) -> Result<T, Error> {
        if self.errors.is_empty() { Ok(value) } else { Err(Error::invalid(self.errors)) }
    }
}
