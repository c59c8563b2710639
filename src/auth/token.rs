//! Access tokens: JWTs (RFC 7519), signed with Ed25519 (RFC 8037).

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::Utc;
use jsonwebtoken::errors::{Error as TokenError, ErrorKind};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use ring::{digest, hmac};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{VerifyError, crypto};
use crate::config::Auth;
use crate::contract::{Jwk, UserRole};
use crate::error::Error;

/// The longest token that is accepted, in bytes.
const MAX_LENGTH: usize = 4096;

/// The claims of a token. Times are in seconds since 1970.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Claims {
    /// The issuer.
    pub iss: String,
    /// The audience.
    pub aud: String,
    /// The user.
    pub sub: Uuid,
    /// The token's own id.
    pub jti: Uuid,
    /// The session that it belongs to.
    pub sid: Uuid,
    /// When it was issued.
    pub iat: i64,
    /// When it expires.
    pub exp: i64,
    /// The user's roles.
    pub roles: Vec<UserRole>,
    /// How often the user's tokens had been revoked when it was issued.
    #[serde(rename = "gen")]
    pub generation: i64,
}

/// The identity in a valid token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user.
    pub user: Uuid,
    /// The session that the token belongs to.
    pub session: Uuid,
    /// The user's roles.
    pub roles: Vec<UserRole>,
    /// How often the user's tokens had been revoked when the token was issued.
    pub generation: i64,
    /// Includes `auth.leeway`.
    pub(super) expires_at: i64,
}

impl Identity {
    /// Whether the user is an admin.
    pub fn is_admin(&self) -> bool {
        self.roles.contains(&UserRole::Admin)
    }

    /// Whether the token has expired.
    pub(super) fn is_expired(&self) -> bool {
        // Cheaper than `Utc::now`: every request comes here.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.expires_at <= now.cast_signed()
    }
}

/// A key that signs tokens.
#[derive(Clone, Debug)]
pub struct SigningKey {
    private: EncodingKey,
    public: Jwk,
}

impl SigningKey {
    /// The key with this `seed` (RFC 8032, section 5.1.5).
    ///
    /// `None` unless `seed` has 32 bytes.
    pub fn from_seed(seed: &[u8]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        let x = URL_SAFE_NO_PAD.encode(pair.public_key());
        Some(Self { private: EncodingKey::from_ed_der(seed), public: jwk(x) })
    }

    /// The public key.
    pub fn public(&self) -> &Jwk {
        &self.public
    }

    /// A secret for another `purpose` than signing, derived from the key without revealing it.
    pub fn secret_for(&self, purpose: &str) -> hmac::Key {
        let own = hmac::Key::new(hmac::HMAC_SHA256, self.private.as_bytes());
        hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&own, purpose.as_bytes()).as_ref())
    }

    /// A signed token with `claims`.
    ///
    /// # Errors
    /// When the JWT library fails, which is not expected.
    pub fn sign(&self, claims: &Claims) -> Result<String, Error> {
        crypto::install();
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(self.public.kid.clone());
        jsonwebtoken::encode(&header, claims, &self.private).map_err(Error::internal)
    }
}

fn jwk(x: String) -> Jwk {
    // RFC 7638: the required members in the order of their names, without white space.
    let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
    let kid = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, members.as_bytes()));
    let [kty, crv, usage, alg] = ["OKP", "Ed25519", "sig", "EdDSA"].map(str::to_owned);
    Jwk { kty, crv, x, kid, usage, alg }
}

/// The key that `jwk` describes; `None` for another kind of key.
pub(super) fn decoding_key(jwk: &Jwk) -> Option<DecodingKey> {
    let ours =
        (jwk.kty.as_str(), jwk.crv.as_str(), jwk.alg.as_str()) == ("OKP", "Ed25519", "EdDSA");
    ours.then(|| DecodingKey::from_ed_components(&jwk.x).ok()).flatten()
}

/// What every token must satisfy.
#[derive(Debug)]
pub(super) struct Rules {
    validation: Validation,
    /// The longest life of a token in seconds, whatever its claims: revocations are forgotten after that.
    max_age: i64,
    /// The allowed difference between the clocks of two machines, in seconds.
    leeway: i64,
}

impl Rules {
    pub(super) fn new(options: &Auth) -> Self {
        crypto::install();
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.leeway = options.leeway.as_secs();
        validation.validate_nbf = true;
        validation.set_issuer(&[&options.issuer]);
        validation.set_audience(&[&options.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let [max_age, leeway] =
            [options.access_ttl, options.leeway].map(|time| time.as_secs().cast_signed());
        Self { validation, max_age, leeway }
    }

    /// The id of the key that signed `token`, by its header.
    ///
    /// # Errors
    /// [`VerifyError::Invalid`].
    pub(super) fn key_name(&self, token: &str) -> Result<String, VerifyError> {
        if token.len() > MAX_LENGTH {
            return Err(VerifyError::Invalid("too long"));
        }
        let header = jsonwebtoken::decode_header(token).map_err(|error| verify_error(&error))?;
        if header.alg != Algorithm::EdDSA {
            return Err(VerifyError::Invalid("another algorithm"));
        }
        header.kid.ok_or(VerifyError::Invalid("no key named"))
    }

    /// The identity in `token`, if `key` signed it and it is valid now.
    ///
    /// # Errors
    /// As [`Rules::key_name`].
    pub(super) fn read(&self, token: &str, key: &DecodingKey) -> Result<Identity, VerifyError> {
        let decoded = jsonwebtoken::decode::<Claims>(token, key, &self.validation);
        let claims = decoded.map_err(|error| verify_error(&error))?.claims;
        if claims.iat > Utc::now().timestamp() + self.leeway {
            return Err(VerifyError::Invalid("not valid yet"));
        }
        let identity = Identity {
            user: claims.sub,
            session: claims.sid,
            roles: claims.roles,
            generation: claims.generation,
            // A token from when `auth.access_ttl` was longer may outlive the memory of its revocation.
            expires_at: claims
                .exp
                .min(claims.iat.saturating_add(self.max_age))
                .saturating_add(self.leeway),
        };
        if identity.is_expired() { Err(VerifyError::Invalid("expired")) } else { Ok(identity) }
    }
}

fn verify_error(error: &TokenError) -> VerifyError {
    VerifyError::Invalid(match error.kind() {
        ErrorKind::InvalidSignature => "wrong signature",
        ErrorKind::ExpiredSignature => "expired",
        ErrorKind::ImmatureSignature => "not valid yet",
        ErrorKind::InvalidIssuer => "another issuer",
        ErrorKind::InvalidAudience => "another audience",
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => "another algorithm",
        ErrorKind::MissingRequiredClaim(_) => "a claim is missing",
        _ => "malformed",
    })
}
