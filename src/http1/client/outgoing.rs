//! Writes the head of a request.

use actix_web::http::header::{HOST, UPGRADE};
use actix_web::web::BytesMut;

use super::origin_form;
use crate::http1::content::Framing;
use crate::http1::lines::{header, line};
use crate::http1::{Body, Request};

/// A request with its head written.
pub(super) struct Outgoing {
    pub(super) head: BytesMut,
    pub(super) body: Body,
    pub(super) framing: Framing,
    /// Whether the server may switch to another protocol.
    pub(super) may_upgrade: bool,
}

impl Outgoing {
    /// Writes the head of `request` with `body`, to the server `host`.
    pub(super) fn new(request: &Request, host: &str, body: Body) -> Self {
        let mut head = BytesMut::with_capacity(1024);
        let target = origin_form(&request.target);
        let method = request.method.as_str();
        line(&mut head, &[method.as_bytes(), b" ", target.as_bytes(), b" HTTP/1.1"]);
        if !request.headers.contains_key(HOST) {
            line(&mut head, &[b"host: ", host.as_bytes()]);
        }
        for (name, value) in &request.headers {
            header(&mut head, name, value);
        }
        if let Some(protocol) = &request.upgrade {
            line(&mut head, &[b"connection: upgrade"]);
            header(&mut head, &UPGRADE, protocol);
        }
        let framing = body.framing();
        if let Some(framing) = framing {
            framing.write(&mut head);
        }
        head.extend_from_slice(b"\r\n");
        let framing = framing.unwrap_or(Framing::Length(0));
        Self { head, body, framing, may_upgrade: request.upgrade.is_some() }
    }
}
