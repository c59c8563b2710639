//! What the user role says.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Product, Timestamp};

/// An account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// A UUID of version 7.
    pub id: Uuid,
    /// What the user is called.
    pub username: String,
    /// As it was registered; no other account has it in any mix of cases.
    pub email: String,
    /// When the account was registered.
    pub created_at: Timestamp,
}

/// What a user sees first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dashboard {
    /// Whose dashboard it is.
    pub user: User,
    /// The newest products; empty when the product role is away.
    pub recommended_products: Vec<Product>,
    /// The roles that were away; absent when none was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub degraded: Vec<String>,
}
