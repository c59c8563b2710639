//! Says who a user is: in access tokens that every role believes, and in refresh tokens for itself alone.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::Utc;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::Serialize;
use uuid::Uuid;

use super::keys::Keyring;
use super::store::Session;
use crate::auth::{Claims, Verifier};
use crate::config::{Auth, User as Options};
use crate::contract::{Account, JwkSet, Revocation, now};
use crate::error::{Error, Kind};

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

    /// The time, in seconds since 1970, before which no token is good any more.
    pub(super) fn horizon(&self) -> i64 {
        let ttl = i64::try_from(self.auth.access_ttl.as_secs()).unwrap_or(i64::MAX / 2);
        Utc::now().timestamp() - ttl - 60
    }

    /// Makes a revocation hold in this process at once; the others ask for it.
    pub(super) fn tell(&self, revocation: Option<Revocation>) {
        if let Some(revocation) = revocation {
            self.verifier.revoke(revocation);
        }
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

    /// The tokens of `account` in `session`: an access token as of `asked_at`, when what is known of the account
    /// had not been read yet, but not of before `valid_from`, both in seconds since 1970.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub(super) fn tokens(
        &self,
        account: &Account,
        session: Uuid,
        refresh_token: Option<&RefreshToken>,
        (asked_at, valid_from): (i64, i64),
    ) -> Result<Tokens, Error> {
        let expires_in = self.auth.access_ttl.as_secs();
        let iat = asked_at.max(valid_from);
        let claims = Claims {
            iss: self.auth.issuer.clone(),
            aud: self.auth.audience.clone(),
            sub: account.user.id,
            jti: Uuid::now_v7(),
            sid: session,
            iat,
            exp: iat.saturating_add(i64::try_from(expires_in).unwrap_or(i64::MAX)),
            roles: account.roles.clone(),
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
