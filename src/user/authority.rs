//! Says who a user is: in access tokens that every role believes, and in refresh tokens for itself alone.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::Serialize;
use uuid::Uuid;

use super::keys::Keyring;
use super::store::{Record, Session};
use crate::auth::{Claims, Verifier};
use crate::config::{Auth, User as Options};
use crate::contract::{JwkSet, Revocation, Timestamp, now};
use crate::error::{Error, Kind};

/// How much longer than a token lives it is remembered that it ended before: clocks differ.
const MARGIN: Duration = Duration::from_secs(60);

/// What signing in gives (RFC 6749, section 5.1, in this API's spelling).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tokens {
    access_token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    token_type: &'static str,
    /// Seconds for which the access token is good.
    expires_in: u64,
}

/// A refresh token: the session that it belongs to, and what only its owner can know.
pub(super) struct RefreshToken {
    session: Uuid,
    secret: String,
}

impl RefreshToken {
    /// A new one for `session`.
    fn new(session: Uuid) -> Result<Self, Error> {
        let mut secret = [0; 32];
        let filled = SystemRandom::new().fill(&mut secret);
        filled.map_err(|_| Error::internal("no random numbers"))?;
        Ok(Self { session, secret: URL_SAFE_NO_PAD.encode(secret) })
    }

    /// Reads what a client sent. What is no refresh token is none that is known.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (session, secret) = text.split_once('.')?;
        Some(Self { session: Uuid::try_parse(session).ok()?, secret: secret.to_owned() })
    }

    pub(super) fn session(&self) -> Uuid {
        self.session
    }

    /// What is stored of it. The secret is random, so that no more than a fast digest is needed.
    pub(super) fn hash(&self) -> String {
        URL_SAFE_NO_PAD.encode(digest(&SHA256, self.secret.as_bytes()))
    }

    fn text(&self) -> String {
        format!("{}.{}", self.session.simple(), self.secret)
    }
}

/// Gives out tokens; one for all threads of a process.
#[derive(Debug)]
pub(super) struct Authority {
    keys: Keyring,
    verifier: Arc<Verifier>,
    auth: Auth,
    refresh_ttl: Duration,
}

impl Authority {
    pub(super) fn new(keys: Keyring, verifier: Arc<Verifier>, auth: Auth, user: &Options) -> Self {
        Self { keys, verifier, auth, refresh_ttl: user.refresh_ttl }
    }

    /// The keys that verify what it says.
    pub(super) fn keys(&self) -> JwkSet {
        self.keys.published()
    }

    /// The time before which no token was made that is still good.
    pub(super) fn horizon(&self) -> Timestamp {
        now() - self.auth.access_ttl - MARGIN
    }

    /// Makes the end of `record`'s tokens hold in this process at once; the others ask for it.
    pub(super) fn revoke(&self, record: &Record) {
        let (user, generation) = (record.id(), record.generation);
        self.verifier.revoke(Revocation { user, generation, at: now() });
    }

    /// A session of `user` from now on, and its first refresh token.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub(super) fn session(&self, user: Uuid) -> Result<(Session, RefreshToken), Error> {
        self.next(Uuid::now_v7(), user)
    }

    /// What `id`, a session, is like once a refresh token has been used; what does not change of it is not
    /// known here.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub(super) fn next(&self, id: Uuid, user: Uuid) -> Result<(Session, RefreshToken), Error> {
        let token = RefreshToken::new(id)?;
        let at = now();
        let session = Session {
            id,
            user,
            token_hash: token.hash(),
            created_at: at,
            used_at: at,
            expires_at: at + self.refresh_ttl,
        };
        Ok((session, token))
    }

    /// The tokens of `record`'s account in `session`.
    ///
    /// # Errors
    /// When they cannot be signed.
    pub(super) fn tokens(
        &self,
        record: &Record,
        session: Uuid,
        refresh_token: Option<&RefreshToken>,
    ) -> Result<Tokens, Error> {
        let expires_in = self.auth.access_ttl.as_secs();
        let iat = now().timestamp();
        let claims = Claims {
            iss: self.auth.issuer.clone(),
            aud: self.auth.audience.clone(),
            sub: record.id(),
            jti: Uuid::now_v7(),
            sid: session,
            iat,
            exp: iat.saturating_add(i64::try_from(expires_in).unwrap_or(i64::MAX)),
            roles: record.account.roles.clone(),
            generation: record.generation,
        };
        Ok(Tokens {
            access_token: self.keys.signing()?.sign(&claims)?,
            refresh_token: refresh_token.map(RefreshToken::text),
            token_type: "Bearer",
            expires_in,
        })
    }
}

/// 401 for a refresh token that is no good, whatever the reason.
pub(super) fn not_good() -> Error {
    Error::unauthorized("the refresh token is not valid (any more)", "Bearer")
}

/// 403 for who may not sign in.
pub(super) fn disabled() -> Error {
    Error::new(Kind::Forbidden, "the account is disabled")
}
