//! What the user role says, and how another role asks it who may ask.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Product, Timestamp, get};
use crate::error::Error;
use crate::peer::{Context, Peer};

/// An account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// A UUID of version 7.
    pub id: Uuid,
    /// What the user is called.
    #[schema(example = "Neo")]
    pub username: String,
    /// As it was registered; no other account has it in any mix of cases, nor with its domain in another spelling.
    #[schema(example = "neo@matrix.com")]
    pub email: String,
    /// When the account was registered.
    #[schema(value_type = String, format = DateTime)]
    #[serde(serialize_with = "super::in_microseconds")]
    pub created_at: Timestamp,
}

/// What a user sees first.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Dashboard {
    /// Whose dashboard it is.
    pub user: User,
    /// The newest products; empty when the product role is away.
    #[schema(value_type = Vec<Product>)]
    pub recommended_products: Vec<Box<RawValue>>,
    /// The roles that were away; absent when none was.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub degraded: Vec<String>,
}

/// What a user is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum UserRole {
    /// Everything: the catalogue, and other people's accounts.
    Admin,
    /// What is their own.
    Customer,
}

impl fmt::Display for UserRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Admin => "admin",
            Self::Customer => "customer",
        })
    }
}

impl FromStr for UserRole {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "admin" => Ok(Self::Admin),
            "customer" => Ok(Self::Customer),
            _ => Err("must be admin or customer"),
        }
    }
}

/// An account, as its owner and admins see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    /// What everybody may know who sees the user.
    #[serde(flatten)]
    pub user: User,
    /// What the user is allowed.
    pub roles: Vec<UserRole>,
    /// Whether the account is closed to its owner.
    pub disabled: bool,
}

/// A public key that verifies tokens (RFC 7517, RFC 8037).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Jwk {
    /// `OKP`.
    pub kty: String,
    /// `Ed25519`.
    pub crv: String,
    /// The key, 32 bytes in base64url.
    pub x: String,
    /// Its name: the thumbprint of RFC 7638.
    pub kid: String,
    /// `sig`.
    #[serde(rename = "use")]
    pub usage: String,
    /// `EdDSA`.
    pub alg: String,
}

/// The keys that verify tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JwkSet {
    /// In no order that matters.
    pub keys: Vec<Jwk>,
}

/// A user whose tokens end before their time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// Whose.
    pub user: Uuid,
    /// Those of generations before this one.
    pub generation: i64,
    /// When they ended.
    pub at: Timestamp,
}

/// The bytes of keys or revocations that are read.
const LIMIT: usize = 16 * 1024 * 1024;

/// Asks the user role.
#[derive(Clone, Debug)]
pub struct UserClient {
    peer: Peer,
}

impl UserClient {
    /// Asks through `peer`.
    pub fn new(peer: Peer) -> Self {
        Self { peer }
    }

    /// The keys that verify tokens.
    ///
    /// # Errors
    /// The user role's own error, or why it gave no answer.
    pub async fn keys(&self, context: &Context) -> Result<JwkSet, Error> {
        get(&self.peer, "/internal/jwks.json", LIMIT, context).await
    }

    /// The users whose tokens end before their time.
    ///
    /// # Errors
    /// As [`UserClient::keys`].
    pub async fn revocations(&self, context: &Context) -> Result<Vec<Revocation>, Error> {
        get(&self.peer, "/internal/revocations", LIMIT, context).await
    }
}
