//! The user role's values, and a client for other roles.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Money, OrderStatus, Product, Timestamp, get};
use crate::error::Error;
use crate::peer::{Context, Peer};

/// An account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// A UUIDv7.
    pub id: Uuid,
    /// The user's name.
    #[schema(example = "Neo")]
    pub username: String,
    /// The e-mail address as it was registered. It is unique, in any mix of cases and any spelling of its domain.
    #[schema(example = "neo@matrix.com")]
    pub email: String,
    /// When the account was registered.
    #[schema(value_type = String, format = DateTime)]
    #[serde(serialize_with = "super::in_microseconds")]
    pub created_at: Timestamp,
}

/// A user's dashboard.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Dashboard {
    /// The user.
    pub user: User,
    /// What goes with the user's last orders, then what is popular, then what is new; empty while the product role is away.
    #[schema(value_type = Vec<Product>)]
    pub recommended_products: Vec<Box<RawValue>>,
    /// The last orders, the newest first; absent where there are none.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub recent_orders: Vec<RecentOrder>,
    /// The roles that were away, if any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub degraded: Vec<String>,
}

/// An order of a user, as the events of the order role have told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecentOrder {
    /// Its id.
    pub id: Uuid,
    /// How far it is.
    pub status: OrderStatus,
    /// What it costs.
    pub total: Money,
    /// The currency of its amounts.
    pub currency: String,
    /// When it was placed.
    #[schema(value_type = String, format = DateTime)]
    #[serde(serialize_with = "super::in_microseconds")]
    pub created_at: Timestamp,
}

/// A role of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum UserRole {
    /// May change the catalogue and other people's accounts.
    Admin,
    /// May use their own account.
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
    /// The user.
    #[serde(flatten)]
    pub user: User,
    /// The user's roles.
    pub roles: Vec<UserRole>,
    /// Whether the owner is locked out.
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
    /// The key's id: its thumbprint (RFC 7638).
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
    /// The keys, in no particular order.
    pub keys: Vec<Jwk>,
}

/// Ends a user's tokens before they expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// The user.
    pub user: Uuid,
    /// Tokens of earlier generations have ended.
    pub generation: i64,
    /// When they ended.
    pub at: Timestamp,
}

/// The largest response that is read, in bytes.
const LIMIT: usize = 16 * 1024 * 1024;

/// A client of the user role.
#[derive(Clone, Debug)]
pub struct UserClient {
    peer: Peer,
}

impl UserClient {
    /// A client that calls `peer`.
    pub fn new(peer: Peer) -> Self {
        Self { peer }
    }

    /// The keys that verify tokens.
    ///
    /// # Errors
    /// The user role's error, or why it gave no answer.
    pub async fn keys(&self, context: &Context) -> Result<JwkSet, Error> {
        get(&self.peer, "/internal/jwks.json", LIMIT, context).await
    }

    /// The revocations of recent tokens.
    ///
    /// # Errors
    /// As [`UserClient::keys`].
    pub async fn revocations(&self, context: &Context) -> Result<Vec<Revocation>, Error> {
        get(&self.peer, "/internal/revocations", LIMIT, context).await
    }
}
