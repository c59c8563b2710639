//! Checks requests against the rule of their route.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{AUTHORIZATION, HeaderMap};
use tokio::time::timeout;
use uuid::Uuid;

use super::access::{Access, Caller, Rule};
use super::cross_origin;
use super::hosts::Hosts;
use super::internal::InternalAccess;
use super::{Identity, Verifier, VerifyError};
use crate::error::{Error, Kind};

/// How long a request waits for the first keys.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whether some routes need no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Routes with [`Rule::or_open`] need none.
    Open,
    /// Every rule holds.
    Enforced,
}

/// Checks tokens and rules; cheap to clone.
#[derive(Clone, Debug)]
pub struct Guard {
    verifier: Arc<Verifier>,
    mode: Mode,
    hosts: Hosts,
    internal: InternalAccess,
}

/// The sender of a request.
#[derive(Clone, Copy, Debug)]
pub enum Sender {
    /// Another role of this process.
    Mailbox,
    /// A connection from this address, if it is known.
    Socket(Option<IpAddr>),
}

/// Why a request is refused, and whose it is if that is known.
#[derive(Debug)]
pub struct Denied {
    /// The client's error.
    pub error: Error,
    /// The signed-in user.
    pub user: Option<Uuid>,
}

impl From<Error> for Denied {
    fn from(error: Error) -> Self {
        Self { error, user: None }
    }
}

/// The token of a request.
enum BearerToken<'a> {
    Absent,
    Given(&'a str),
    Unreadable,
}

impl Guard {
    /// A guard with the knowledge of `verifier`; `internal` says who may call routes for other roles.
    pub fn new(verifier: Arc<Verifier>, mode: Mode, internal: InternalAccess) -> Self {
        Self { verifier, mode, hosts: Hosts::Any, internal }
    }

    /// The same guard, only for requests to `hosts`.
    pub fn for_hosts(self, hosts: Hosts) -> Self {
        Self { hosts, ..self }
    }

    /// Checks that a request with `headers`, whose forwarding headers are believed if that `is_believed`, is for a host
    /// that this listener serves.
    ///
    /// # Errors
    /// 403, which names the settings that would allow it.
    pub fn check_host(&self, headers: &HeaderMap, is_believed: bool) -> Result<(), Error> {
        self.hosts.check(headers, is_believed)
    }

    /// The verifier.
    pub fn verifier(&self) -> Arc<Verifier> {
        self.verifier.clone()
    }

    /// Whether some routes need no token.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The caller with `headers`, if `rule` admits it; `sender` is asked for by the routes of roles alone.
    ///
    /// # Errors
    /// 401 for an invalid token, or a missing one where one is required; 403 where a user may not, or a page of another
    /// origin; 503 while no keys are known.
    pub async fn admit(
        &self,
        rule: Rule,
        headers: &HeaderMap,
        sender: Sender,
    ) -> Result<Caller, Denied> {
        if rule.access == Access::Roles {
            return match sender {
                Sender::Socket(peer) if !self.internal.admits(headers, peer) => {
                    Err(Error::new(Kind::Forbidden, "only other roles may do this").into())
                }
                _ => Ok(Caller { identity: None, trusted: true }),
            };
        }
        if rule.same_origin {
            cross_origin::check(headers)?;
        }
        let trusted = rule.free_when_open && self.mode == Mode::Open;
        let identity = match rule.access {
            Access::Public => None,
            _ => self.identity(headers, trusted || rule.access == Access::Anyone).await?,
        };
        let caller = Caller { identity, trusted };
        match (rule.access, &caller.identity) {
            _ if trusted => Ok(caller),
            (Access::Public | Access::Anyone | Access::Roles, _) | (Access::SignedIn, Some(_)) => {
                Ok(caller)
            }
            (Access::Admin, Some(identity)) if identity.is_admin() => Ok(caller),
            (Access::Admin, Some(identity)) => {
                let error = Error::new(Kind::Forbidden, "only admins may do this");
                Err(Denied { error, user: Some(identity.user) })
            }
            (_, None) => Err(Error::unauthorized("sign in, and send the token", "Bearer").into()),
        }
    }

    /// The identity in the token. `optional` allows a missing token, and unknown keys.
    async fn identity(
        &self,
        headers: &HeaderMap,
        optional: bool,
    ) -> Result<Option<Arc<Identity>>, Error> {
        let token = match token(headers) {
            BearerToken::Absent => return Ok(None),
            BearerToken::Given(token) => token,
            BearerToken::Unreadable => return Err(token_refused("no bearer token")),
        };
        let mut verified = self.verifier.verify(token).await;
        if verified == Err(VerifyError::NoKeys) && !optional {
            // A process that has just started is about to learn them.
            let _ = timeout(PATIENCE, self.verifier.complete()).await;
            verified = self.verifier.verify(token).await;
        }
        match verified {
            Ok(identity) => Ok(Some(identity)),
            Err(VerifyError::Invalid(why)) => Err(token_refused(why)),
            Err(VerifyError::NoKeys) if optional => Ok(None),
            Err(VerifyError::NoKeys) => {
                let detail = "tokens cannot be verified yet, try again";
                Err(Error::unavailable(detail, "no keys of tokens are known"))
            }
        }
    }
}

/// 401 for an invalid token; only the log has `why`.
pub fn token_refused(why: &'static str) -> Error {
    let detail = "the token is invalid, expired or revoked";
    Error::unauthorized(detail, r#"Bearer error="invalid_token""#).caused_by(why)
}

fn token(headers: &HeaderMap) -> BearerToken<'_> {
    let mut lines = headers.get_all(AUTHORIZATION);
    let Some(line) = lines.next() else { return BearerToken::Absent };
    // Faster than `to_str`, which checks hundreds of bytes one by one.
    let parts = str::from_utf8(line.as_bytes()).ok().and_then(|line| line.split_once(' '));
    match parts {
        Some((scheme, token))
            if scheme.eq_ignore_ascii_case("bearer") && lines.next().is_none() =>
        {
            BearerToken::Given(token.trim())
        }
        _ => BearerToken::Unreadable,
    }
}
