//! Says who a user is: in access tokens that every role believes, and in refresh tokens for itself alone.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::hmac;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::keys::{Keyring, random};
use super::store::{Record, Session, TokenHash};
use crate::auth::{Claims, MARGIN, SigningKey, Verifier};
use crate::config::{Auth, MAX_ACCESS_TTL, User as Options};
use crate::contract::{JwkSet, Revocation, Timestamp, now};
use crate::error::{Error, Kind};

/// What signing in gives (RFC 6749, section 5.1, in this API's spelling).
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tokens {
    /// For `Authorization: Bearer`.
    access_token: String,
    /// For the next access token.
    refresh_token: String,
    /// `Bearer`.
    #[schema(value_type = String)]
    token_type: &'static str,
    /// Seconds for which the access token is good.
    expires_in: u64,
}

/// A new access token; the refresh token that the client has stays good.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct AccessToken {
    /// For `Authorization: Bearer`.
    access_token: String,
    /// `Bearer`.
    #[schema(value_type = String)]
    token_type: &'static str,
    /// Seconds for which it is good.
    expires_in: u64,
}

/// A refresh token: what all of its session have in common, and a secret of its own. Who knows the first has
/// had one of them: it stands nowhere else.
pub(super) struct RefreshToken {
    family: String,
    secret: String,
}

impl RefreshToken {
    /// The first one of a session.
    fn first() -> Result<Self, Error> {
        Ok(Self { family: random_text()?, secret: random_text()? })
    }

    /// The one after this, by `key`: whoever has this one is given the same again, and nobody else can tell it.
    fn next(&self, key: &SigningKey) -> Self {
        let secret =
            hmac::sign(&key.secret_for("successors of refresh tokens"), self.text().as_bytes());
        Self { family: self.family.clone(), secret: URL_SAFE_NO_PAD.encode(secret) }
    }

    /// Reads what a client sent. What is no refresh token is none that is known.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (family, secret) = text.split_once('.')?;
        Some(Self { family: family.to_owned(), secret: secret.to_owned() })
    }

    /// What is stored of it. Both parts are random, so that no more than a fast digest is needed.
    pub(super) fn hash(&self) -> TokenHash {
        let hash = |part: &str| URL_SAFE_NO_PAD.encode(digest(&SHA256, part.as_bytes()));
        TokenHash { family: hash(&self.family), secret: hash(&self.secret) }
    }

    fn text(&self) -> String {
        format!("{}.{}", self.family, self.secret)
    }
}

/// 256 random bits.
fn random_text() -> Result<String, Error> {
    Ok(URL_SAFE_NO_PAD.encode(random().map_err(Error::internal)?))
}

/// Gives out tokens; one for all threads of a process.
#[derive(Debug)]
pub(super) struct TokenIssuer {
    keys: Keyring,
    verifier: Arc<Verifier>,
    auth: Auth,
    refresh_ttl: Duration,
}

impl TokenIssuer {
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

    /// The time before which no token was made that could be good by any setting: `auth.access_ttl` may be lower now than
    /// it was before, and will be again.
    pub(super) fn forgotten(&self) -> Timestamp {
        now() - MAX_ACCESS_TTL - MARGIN
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
        let (token, at) = (RefreshToken::first()?, now());
        let (id, hash, expires_at) = (Uuid::now_v7(), token.hash(), self.end(at));
        let session = Session { id, user, token: hash, created_at: at, used_at: at, expires_at };
        Ok((session, token))
    }

    /// The refresh token that follows the one that was `used`.
    ///
    /// # Errors
    /// As [`Keyring::signing`].
    pub(super) fn next(&self, used: &RefreshToken) -> Result<RefreshToken, Error> {
        Ok(used.next(&self.keys.signing()?))
    }

    /// Those of which one has followed the one that was `used`, whichever key signed then.
    pub(super) fn successors(&self, used: &RefreshToken) -> Vec<RefreshToken> {
        self.keys.all().iter().map(|key| used.next(key)).collect()
    }

    /// When a refresh token of `at` ends.
    pub(super) fn end(&self, at: Timestamp) -> Timestamp {
        at + self.refresh_ttl
    }

    /// The tokens of `record`'s account in `session`, of which `refresh` is the one to come back with.
    ///
    /// # Errors
    /// When they cannot be signed.
    pub(super) fn tokens(
        &self,
        record: &Record,
        session: Uuid,
        refresh: &RefreshToken,
    ) -> Result<Tokens, Error> {
        let AccessToken { access_token, token_type, expires_in } = self.access(record, session)?;
        Ok(Tokens { access_token, refresh_token: refresh.text(), token_type, expires_in })
    }

    /// An access token of `record`'s account in `session`.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub(super) fn access(&self, record: &Record, session: Uuid) -> Result<AccessToken, Error> {
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
        let access_token = self.keys.signing()?.sign(&claims)?;
        Ok(AccessToken { access_token, token_type: "Bearer", expires_in })
    }
}

/// 401 for a refresh token that is no good, whatever the reason.
pub(super) fn invalid_refresh_token() -> Error {
    Error::unauthorized("the refresh token is invalid, expired or revoked", "Bearer")
}

/// 403 for who may not sign in.
pub(super) fn account_disabled() -> Error {
    Error::new(Kind::Forbidden, "the account is disabled")
}
