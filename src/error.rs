//! The error type of the whole shop, and its mapping to HTTP and back.
//!
//! A role fails with an [`Error`]; the middleware renders it as `application/problem+json`
//! ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)); a calling role decodes the problem into the same [`Error`].
//! The log has the cause of a 5xx; clients never see it.

use std::borrow::Cow;
use std::fmt;

use actix_web::body::MessageBody as _;
use actix_web::http::header::{
    ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpResponse, ResponseError};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The media type of every error body.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// What went wrong, as far as a client can act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request is not valid HTTP or JSON.
    Malformed,
    /// The caller is not authenticated.
    Unauthorized,
    /// The payment was declined; another one may be tried.
    PaymentDeclined,
    /// The caller may not do this.
    Forbidden,
    /// No such path or object.
    NotFound,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// The client took too long to send the request.
    RequestTimeout,
    /// The write conflicts with stored data.
    Conflict,
    /// There are too few pieces of a product; the error has one entry for each.
    OutOfStock,
    /// The client's version is not current.
    PreconditionFailed,
    /// The body is larger than the limit.
    TooLarge,
    /// The path and the query are longer than the limit.
    TargetTooLong,
    /// The body's media type is not supported.
    UnsupportedMediaType,
    /// The request is well formed, but a field breaks a rule; the error has one entry per field.
    Invalid,
    /// The caller exceeded a limit; try again later.
    TooManyRequests,
    /// The headers are larger than the limit.
    HeadTooLarge,
    /// A bug or an unexpected state.
    Internal,
    /// The feature is not supported.
    NotImplemented,
    /// Another role gave an invalid response.
    BadGateway,
    /// A dependency is away or full; try again.
    Unavailable,
    /// The deadline has passed.
    DeadlineExceeded,
    /// The store is full.
    InsufficientStorage,
}

/// Kind, status, the last part of the problem's `type`, and its title.
const TABLE: [(Kind, u16, &str, &str); 22] = [
    (Kind::Malformed, 400, "malformed", "Malformed request"),
    (Kind::Unauthorized, 401, "unauthorized", "Authentication required"),
    (Kind::PaymentDeclined, 402, "payment-declined", "Payment declined"),
    (Kind::Forbidden, 403, "forbidden", "Not allowed"),
    (Kind::NotFound, 404, "not-found", "Not found"),
    (Kind::MethodNotAllowed, 405, "method-not-allowed", "Method not allowed"),
    (Kind::RequestTimeout, 408, "request-timeout", "Request timeout"),
    (Kind::Conflict, 409, "conflict", "Conflict"),
    (Kind::OutOfStock, 409, "out-of-stock", "Out of stock"),
    (Kind::PreconditionFailed, 412, "precondition-failed", "Precondition failed"),
    (Kind::TooLarge, 413, "too-large", "Request body too large"),
    (Kind::TargetTooLong, 414, "target-too-long", "Request target too long"),
    (Kind::UnsupportedMediaType, 415, "unsupported-media-type", "Unsupported media type"),
    (Kind::Invalid, 422, "invalid", "Validation failed"),
    (Kind::TooManyRequests, 429, "too-many-requests", "Too many requests"),
    (Kind::HeadTooLarge, 431, "head-too-large", "Request headers too large"),
    (Kind::Internal, 500, "internal", "Internal error"),
    (Kind::NotImplemented, 501, "not-implemented", "Not implemented"),
    (Kind::BadGateway, 502, "bad-gateway", "Bad gateway"),
    (Kind::Unavailable, 503, "unavailable", "Temporarily unavailable"),
    (Kind::DeadlineExceeded, 504, "deadline-exceeded", "Deadline exceeded"),
    (Kind::InsufficientStorage, 507, "insufficient-storage", "Insufficient storage"),
];

impl Kind {
    fn row(self) -> &'static (Kind, u16, &'static str, &'static str) {
        // The table lists the variants in order; a test checks that.
        &TABLE[self as usize]
    }

    /// All kinds, in the order of their statuses.
    pub fn all() -> impl Iterator<Item = Kind> {
        TABLE.iter().map(|row| row.0)
    }

    /// The `type` of its problems.
    fn reference(self) -> String {
        format!("/problems/{}", self.row().2)
    }

    /// The kind in words.
    pub fn title(self) -> &'static str {
        self.row().3
    }

    /// The HTTP status that stands for this kind.
    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.row().1).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The kind for a peer's status; unknown ones map to [`Kind::Malformed`] below 500, and to [`Kind::BadGateway`] from
    /// 500 on.
    pub fn from_status(status: StatusCode) -> Kind {
        let known = TABLE.iter().find(|row| row.1 == status.as_u16());
        match known {
            Some(row) => row.0,
            None if status.is_client_error() => Kind::Malformed,
            None => Kind::BadGateway,
        }
    }
}

/// One field of a request that broke a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// The JSON key or query parameter.
    pub field: Cow<'static, str>,
    /// The rule, for the client.
    pub detail: Cow<'static, str>,
}

impl FieldError {
    /// `field` broke the rule that `detail` states.
    pub fn new(field: impl Into<Cow<'static, str>>, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { field: field.into(), detail: detail.into() }
    }
}

/// A product of which there are too few pieces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Shortage {
    /// The product's id.
    pub product_id: String,
    /// How many were wanted.
    pub quantity: i64,
    /// How many there are.
    pub available: i64,
}

/// An RFC 9457 problem as it travels.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem<'a> {
    /// A URI reference that identifies the kind of problem and never changes.
    #[serde(rename = "type", borrow)]
    #[schema(pattern = "^/problems/[a-z-]+$", example = "/problems/not-found")]
    pub kind: Cow<'a, str>,
    /// The kind in words.
    pub title: Cow<'a, str>,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// This occurrence in words.
    pub detail: Cow<'a, str>,
    /// One entry per field, for 422.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    #[schema(value_type = Vec<FieldError>, required = false)]
    pub errors: Cow<'a, [FieldError]>,
    /// One entry per product of which there are too few pieces, for a reservation.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    #[schema(value_type = Vec<Shortage>, required = false)]
    pub lines: Cow<'a, [Shortage]>,
    /// One entry per product of which there are too few pieces, for an order.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    #[schema(value_type = Vec<Shortage>, required = false)]
    pub items: Cow<'a, [Shortage]>,
    /// The id to quote when asking for help; the log has the cause under it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    pub request_id: Option<Cow<'a, str>>,
}

/// The cause of an error.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a request could not be answered as asked.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    detail: Cow<'static, str>,
    fields: Vec<FieldError>,
    short: Box<[Shortage]>,
    is_of_order: bool,
    retry_after: Option<u32>,
    headers: Vec<(HeaderName, HeaderValue)>,
    cause: Option<Cause>,
    logged: bool,
}

impl Error {
    /// An error of `kind`; `detail` tells the client what happened.
    pub fn new(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        let detail = detail.into();
        Self {
            kind,
            detail,
            fields: Vec::new(),
            short: Box::default(),
            is_of_order: false,
            retry_after: None,
            headers: Vec::new(),
            cause: None,
            logged: false,
        }
    }

    /// 404 for the object or path that `what` names, as in `no such user`.
    pub fn not_found(what: &str) -> Self {
        Self::new(Kind::NotFound, format!("no such {what}"))
    }

    /// 405, with the allowed methods.
    pub fn method_not_allowed(allow: impl Into<String>) -> Self {
        let error = Self::new(Kind::MethodNotAllowed, "this path does not support this method");
        match HeaderValue::try_from(allow.into()) {
            Ok(allow) => error.header(ALLOW, allow),
            // Names of methods are valid in a header.
            Err(_) => error,
        }
    }

    /// 401 with `challenge` as WWW-Authenticate (RFC 6750, section 3).
    pub fn unauthorized(detail: &'static str, challenge: &'static str) -> Self {
        let challenge = HeaderValue::from_static(challenge);
        Self::new(Kind::Unauthorized, detail).header(WWW_AUTHENTICATE, challenge)
    }

    /// 422, with one entry per field.
    pub fn invalid(fields: Vec<FieldError>) -> Self {
        let mut error = Self::new(Kind::Invalid, "one or more fields are not valid");
        error.fields = fields;
        error
    }

    /// 409, with the products of which there are too few pieces.
    pub fn out_of_stock(lines: Vec<Shortage>) -> Self {
        let mut error = Self::new(Kind::OutOfStock, "there are too few pieces");
        error.short = lines.into();
        error
    }

    /// The same for an order, whose lines are its items.
    pub fn of_order(self) -> Self {
        Self { is_of_order: true, ..self }
    }

    /// 500; the client does not see `cause`.
    pub fn internal(cause: impl Into<Cause>) -> Self {
        Self::new(Kind::Internal, "the request failed because of an internal error")
            .caused_by(cause)
    }

    /// 503 with Retry-After; the client does not see `cause`.
    pub fn unavailable(detail: &'static str, cause: impl Into<Cause>) -> Self {
        Self::new(Kind::Unavailable, detail).retry_after(1).caused_by(cause)
    }

    /// A copy of `original` for another caller that waited for the same result.
    pub fn shared(original: &Error) -> Self {
        let mut error = Self::new(original.kind, original.detail.clone());
        error.fields.clone_from(&original.fields);
        error.short.clone_from(&original.short);
        error.is_of_order = original.is_of_order;
        error.retry_after = original.retry_after;
        error.cause = original.cause.as_ref().map(|_| original.chain().into());
        error
    }

    /// Adds `further` text to what the client is told.
    pub fn add_detail(mut self, further: &str) -> Self {
        self.detail.to_mut().push_str(further);
        self
    }

    /// Adds the cause, which is logged and not shown to the client.
    pub fn caused_by(mut self, cause: impl Into<Cause>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Asks the client to wait `seconds` before it tries again.
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Adds a header to the response.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Marks the error as logged: many requests share its cause, which is logged once for all.
    pub fn logged(mut self) -> Self {
        self.logged = true;
        self
    }

    /// Whether the cause was logged already.
    pub fn is_logged(&self) -> bool {
        self.logged
    }

    /// What went wrong, as far as a client can act on it.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The fields that broke a rule; empty except for 422.
    pub fn fields(&self) -> &[FieldError] {
        &self.fields
    }

    /// The error with its causes, outermost first, on one line for the log.
    pub fn chain(&self) -> String {
        let mut line = self.detail.to_string();
        let mut next = self.cause.as_ref().map(|cause| cause.as_ref() as &dyn std::error::Error);
        while let Some(cause) = next {
            line = format!("{line}: {cause}");
            next = cause.source();
        }
        line
    }

    /// The client's response, with `request_id`.
    pub fn render(&self, request_id: Option<&str>) -> HttpResponse {
        let (_, status, _, title) = self.kind.row();
        let problem = Problem {
            kind: self.kind.reference().into(),
            title: (*title).into(),
            status: *status,
            detail: self.detail.as_ref().into(),
            errors: Cow::Borrowed(&self.fields),
            lines: Cow::Borrowed(if self.is_of_order { &[] } else { &self.short }),
            items: Cow::Borrowed(if self.is_of_order { &self.short } else { &[] }),
            request_id: request_id.map(Into::into),
        };
        let mut response = HttpResponse::build(self.kind.status());
        response.insert_header((CONTENT_TYPE, PROBLEM_JSON));
        if let Some(seconds) = self.retry_after {
            response.insert_header((RETRY_AFTER, seconds));
        }
        for (name, value) in &self.headers {
            response.append_header((name.clone(), value.clone()));
        }
        // A Problem has only strings and numbers, which always serialise.
        response.body(serde_json::to_vec(&problem).unwrap_or_default())
    }

    /// The response as bytes of HTTP/1.1, for a connection that closes after it.
    pub fn bare(&self) -> String {
        let response = self.render(None);
        let body = response.into_body().try_into_bytes().unwrap_or_default();
        let (status, length) = (self.kind.status(), body.len());
        let body = String::from_utf8_lossy(&body);
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: {PROBLEM_JSON}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        )
    }

    /// The error in a peer's unsuccessful response with `status` and `body`.
    pub fn decode(status: StatusCode, body: &[u8], retry_after: Option<u32>) -> Error {
        let Ok(problem) = serde_json::from_slice::<Problem<'_>>(body) else {
            let cause = format!("peer answered {status} without a problem");
            return Error::new(Kind::from_status(status), "another role failed").caused_by(cause);
        };
        let known = Kind::all()
            .find(|kind| kind.status() == status && kind.reference() == problem.kind)
            .unwrap_or_else(|| Kind::from_status(status));
        let mut error = Error::new(known, problem.detail.into_owned());
        error.fields = problem.errors.into_owned();
        error.is_of_order = !problem.items.is_empty();
        let short = if error.is_of_order { problem.items } else { problem.lines };
        error.short = short.into_owned().into();
        error.retry_after = retry_after;
        error
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_ref().map(|cause| cause.as_ref() as _)
    }
}

impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        self.kind.status()
    }

    /// The problem without a request id; the middleware renders it again with one.
    fn error_response(&self) -> HttpResponse {
        self.render(None)
    }
}

/// `GET, HEAD, POST`: the value of an `Allow` header.
pub fn allow_header<'a>(methods: impl Iterator<Item = &'a Method>) -> String {
    methods.map(Method::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_survives_the_network() {
        for (kind, status, _, _) in TABLE {
            assert_eq!(kind.row().0, kind, "the table is in the order of the variants");
            let sent = Error::new(kind, "what happened").render(Some("r-1"));
            assert_eq!(sent.status().as_u16(), status);
            let body = sent.into_body().try_into_bytes().unwrap();
            let back = Error::decode(kind.status(), &body, None);
            assert_eq!((back.kind(), back.to_string().as_str()), (kind, "what happened"));
        }
    }

    #[test]
    fn fields_survive_the_network_and_causes_do_not() {
        let fields = vec![FieldError::new("price", "must not be negative")];
        let sent = Error::invalid(fields.clone()).caused_by("a secret");
        let body = sent.render(None).into_body().try_into_bytes().unwrap();
        assert!(!String::from_utf8_lossy(&body).contains("secret"));
        assert!(sent.chain().ends_with(": a secret"));
        let back = Error::decode(StatusCode::UNPROCESSABLE_ENTITY, &body, None);
        assert_eq!(back.fields(), fields);
        let short = Shortage { product_id: "1".into(), quantity: 2, available: 1 };
        let sent = Error::out_of_stock(vec![short.clone()]).render(None);
        let body = sent.into_body().try_into_bytes().unwrap();
        let back = Error::decode(StatusCode::CONFLICT, &body, None);
        assert_eq!((back.kind(), &*back.short), (Kind::OutOfStock, &[short][..]));
    }

    #[test]
    fn an_answer_that_is_no_problem_still_has_a_kind() {
        let error = Error::decode(StatusCode::IM_A_TEAPOT, b"<html>", None);
        assert_eq!(error.kind(), Kind::Malformed);
        let error = Error::decode(StatusCode::LOOP_DETECTED, b"", Some(3));
        assert_eq!(error.kind(), Kind::BadGateway);
    }
}
