//! Requests and responses as values.

use actix_web::http::header::HeaderValue;
use actix_web::http::{Method, StatusCode, Uri};

use super::{Body, Headers, InterimSender};

/// A request to a server.
#[derive(Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The path and the query.
    pub target: Uri,
    /// End-to-end headers, without Content-Length.
    pub headers: Headers,
    /// The content.
    pub body: Body,
    /// Receives interim responses; without it they are dropped.
    pub interims: Option<InterimSender>,
    /// The protocols that the client offers to switch to; only over HTTP/1.1, and without content.
    pub upgrade: Option<Box<HeaderValue>>,
}

impl Request {
    /// A request without content.
    pub fn new(method: Method, target: Uri) -> Self {
        let (headers, body) = (Headers::new(), Body::None);
        Self { method, target, headers, body, interims: None, upgrade: None }
    }
}

/// A server's response.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// End-to-end headers, without Content-Length.
    pub headers: Headers,
    /// The content.
    pub body: Body,
}
