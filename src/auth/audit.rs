//! Who did what to whose account, for those who look into it later.

use std::future::{Ready, ready};
use std::net::IpAddr;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest};
use uuid::Uuid;

use crate::error::Error;
use crate::peer::{Context, RequestId};

/// The target of audit lines, for `log.filter`.
pub const AUDIT: &str = "audit";

/// Writes lines of the audit log about one request.
#[derive(Clone, Debug)]
pub struct Audit {
    /// Where the client is; nothing where only a test knows.
    pub address: Option<IpAddr>,
    request_id: Option<RequestId>,
}

impl Audit {
    /// Of the request that `context` is of.
    pub fn of(context: &Context) -> Self {
        Self { address: context.client, request_id: Some(context.request_id.clone()) }
    }

    /// Of a command that somebody runs beside the shop.
    pub fn of_command() -> Self {
        Self { address: None, request_id: None }
    }

    /// `event` happened to the account of `user`, or to one that is not known. No secret may be part of
    /// `detail`.
    pub fn note(&self, event: &str, user: Option<Uuid>, detail: &str) {
        let user = user.map(|user| user.to_string());
        let address = self.address.map(|address| address.to_string());
        log::info!(
            target: AUDIT,
            event,
            user = user.as_deref().unwrap_or("-"),
            address = address.as_deref().unwrap_or("-"),
            requestId = self.request_id.as_ref().map_or("-", RequestId::as_str);
            "{event}{}{detail}",
            if detail.is_empty() { "" } else { ": " }
        );
    }
}

impl FromRequest for Audit {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let extensions = request.extensions();
        ready(Ok(extensions.get::<Context>().map_or_else(Self::of_command, Self::of)))
    }
}
