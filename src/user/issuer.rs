//! Issues tokens: access tokens, which every role verifies, and refresh tokens, which only this role knows.

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

/// The tokens of a login (RFC 6749, section 5.1, in camelCase).
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tokens {
    /// For `Authorization: Bearer`.
    access_token: String,
    /// For new tokens.
    refresh_token: String,
    /// `Bearer`.
    #[schema(value_type = String)]
    token_type: &'static str,
    /// How many seconds the access token is valid.
    expires_in: u64,
}

/// A new access token; the client's refresh token stays valid.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct AccessToken {
    /// For `Authorization: Bearer`.
    access_token: String,
    /// `Bearer`.
    #[schema(value_type = String)]
    token_type: &'static str,
    /// How many seconds it is valid.
    expires_in: u64,
}

/// A refresh token: a part that all tokens of its session share, and a secret. Only clients that had a token of the session
/// know the first part.
pub(super) struct RefreshToken {
    family: String,
    secret: String,
}

impl RefreshToken {
    /// The first token of a session.
    fn first() -> Result<Self, Error> {
        Ok(Self { family: random_text()?, secret: random_text()? })
    }

    /// The successor of this token, derived with `key`: always the same, and secret to all others.
    fn next(&self, key: &SigningKey) -> Self {
        let secret =
            hmac::sign(&key.secret_for("successors of refresh tokens"), self.text().as_bytes());
        Self { family: self.family.clone(), secret: URL_SAFE_NO_PAD.encode(secret) }
    }

    /// Parses a client's token; `None` if it is malformed.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (family, secret) = text.split_once('.')?;
        Some(Self { family: family.to_owned(), secret: secret.to_owned() })
    }

    /// The digests that are stored. Both parts are random, so a fast digest is enough.
    pub(super) fn hash(&self) -> TokenHash {
        let hash = |part: &str| URL_SAFE_NO_PAD.encode(digest(&SHA256, part.as_bytes()));
        TokenHash { family: hash(&self.family), secret: hash(&self.secret) }
    }

    /// The token, for its client alone.
    pub(super) fn text(&self) -> String {
        format!("{}.{}", self.family, self.secret)
    }
}

/// A session that has begun or goes on, with its next refresh token.
pub(super) struct Grant {
    pub(super) record: Record,
    pub(super) session: Uuid,
    pub(super) refresh: RefreshToken,
}

/// 256 random bits.
fn random_text() -> Result<String, Error> {
    Ok(URL_SAFE_NO_PAD.encode(random().map_err(Error::internal)?))
}

/// Issues tokens, for all threads of a process.
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

    /// The keys that verify its tokens. Withdraws all others from this process first.
    pub(super) fn keys(&self) -> JwkSet {
        let keys = self.keys.published();
        self.verifier.withdraw_all_but(&keys);
        keys
    }

    /// All valid tokens were issued after this time.
    pub(super) fn horizon(&self) -> Timestamp {
        now() - self.auth.access_ttl - MARGIN
    }

    /// All tokens from before this time have expired, whatever `auth.access_ttl` was or will be.
    pub(super) fn forgotten(&self) -> Timestamp {
        now() - MAX_ACCESS_TTL - MARGIN
    }

    /// Revokes the tokens of `record` in this process at once; other processes fetch revocations.
    pub(super) fn revoke(&self, record: &Record) {
        let (user, generation) = (record.id(), record.generation);
        self.verifier.revoke(Revocation { user, generation, at: now() });
    }

    /// A new session of `user`, and its first refresh token.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub(super) fn session(&self, user: Uuid) -> Result<(Session, RefreshToken), Error> {
        let (token, at) = (RefreshToken::first()?, now());
        let (id, hash, expires_at) = (Uuid::now_v7(), token.hash(), self.end(at));
        let session = Session { id, user, token: hash, created_at: at, used_at: at, expires_at };
        Ok((session, token))
    }

    /// The successor of the refresh token that was `used`.
    ///
    /// # Errors
    /// As [`Keyring::signing`].
    pub(super) fn next(&self, used: &RefreshToken) -> Result<RefreshToken, Error> {
        Ok(used.next(&self.keys.signing()?))
    }

    /// The possible successors of the refresh token that was `used`, one per key.
    pub(super) fn successors(&self, used: &RefreshToken) -> Vec<RefreshToken> {
        self.keys.all().iter().map(|key| used.next(key)).collect()
    }

    /// When a refresh token that is issued `at` this time expires.
    pub(super) fn end(&self, at: Timestamp) -> Timestamp {
        at + self.refresh_ttl
    }

    /// The tokens of `grant`.
    ///
    /// # Errors
    /// When they cannot be signed.
    pub(super) fn tokens(&self, grant: &Grant) -> Result<Tokens, Error> {
        let AccessToken { access_token, token_type, expires_in } =
            self.access(&grant.record, grant.session)?;
        let refresh_token = grant.refresh.text();
        Ok(Tokens { access_token, refresh_token, token_type, expires_in })
    }

    /// An access token of `record` in `session`.
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

/// 401 for an invalid refresh token, whatever the reason.
pub(super) fn invalid_refresh_token() -> Error {
    Error::unauthorized("the refresh token is invalid, expired or revoked", "Bearer")
}

/// 403 for a disabled account.
pub(super) fn account_disabled() -> Error {
    Error::new(Kind::Forbidden, "the account is disabled")
}
