//! The audit log: who did what to which account.

use std::future::{Ready, ready};
use std::net::IpAddr;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest};
use uuid::Uuid;

use crate::error::Error;
use crate::peer::{Context, RequestId};

/// The log target of audit lines, for `log.filter`.
pub const AUDIT: &str = "audit";

/// Writes audit lines about one request.
#[derive(Clone, Debug)]
pub struct Audit {
    /// The client's address; `None` in tests.
    pub address: Option<IpAddr>,
    request_id: Option<RequestId>,
}

impl Audit {
    /// For the request with `context`.
    pub fn from_context(context: &Context) -> Self {
        Self { address: context.client, request_id: Some(context.request_id.clone()) }
    }

    /// For a command line command.
    pub fn for_command() -> Self {
        Self { address: None, request_id: None }
    }

    /// Logs that `event` happened to the account of `user`, if it is known. `detail` must not have secrets.
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
        ready(Ok(extensions.get::<Context>().map_or_else(Self::for_command, Self::from_context)))
    }
}
