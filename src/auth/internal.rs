//! Who may call routes for other roles over a socket.

use std::net::IpAddr;

use actix_web::http::header::HeaderMap;
use ring::digest::{SHA256, digest};

use crate::config::InternalSecrets;
use crate::peer::INTERNAL_SECRET;

/// Who may call routes for other roles over a socket. What comes through a mailbox is another role's.
#[derive(Clone, Debug)]
pub enum InternalAccess {
    /// Everybody who gets in: the listener asks for the certificate of a role.
    Certificate,
    /// Callers with one of these secrets.
    Secret(InternalSecrets),
    /// This machine.
    Loopback,
    /// Everybody.
    Anybody,
}

impl InternalAccess {
    /// Whether a request with `headers` from `peer` may pass.
    pub(super) fn admits(&self, headers: &HeaderMap, peer: Option<IpAddr>) -> bool {
        match self {
            Self::Certificate | Self::Anybody => true,
            Self::Loopback => peer.is_some_and(|peer| peer.to_canonical().is_loopback()),
            Self::Secret(secrets) => {
                // Digests are compared, so that the time it takes tells nothing of a secret.
                let hash = |secret: &[u8]| digest(&SHA256, secret);
                let given = headers.get(INTERNAL_SECRET).map(|given| hash(given.as_bytes()));
                let is_given = |secret: &str| {
                    given
                        .as_ref()
                        .is_some_and(|given| given.as_ref() == hash(secret.as_bytes()).as_ref())
                };
                secrets.iter().any(is_given)
            }
        }
    }
}
