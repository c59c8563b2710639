//! Everything that the shop stores about a user, for that user.

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

use super::store::Session;
use crate::contract::{Account, Order, Timestamp};

/// Everything that is stored about a user, except credentials.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Export {
    /// When it was written.
    #[schema(value_type = String, format = DateTime)]
    #[serde(serialize_with = "crate::contract::in_microseconds")]
    pub(super) exported_at: Timestamp,
    /// The account.
    pub(super) account: Account,
    /// Whether the account has a password.
    pub(super) has_password: bool,
    /// The sessions that have not ended.
    pub(super) sessions: Vec<ExportedSession>,
    /// The orders, the newest first.
    #[schema(value_type = Vec<Order>)]
    pub(super) orders: Vec<Box<RawValue>>,
    /// The roles that were away, if any.
    #[schema(value_type = Vec<String>)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) degraded: Vec<&'static str>,
}

/// A session of a user.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Session)]
pub(super) struct ExportedSession {
    id: Uuid,
    /// When the user signed in.
    #[schema(value_type = String, format = DateTime)]
    #[serde(serialize_with = "crate::contract::in_microseconds")]
    created_at: Timestamp,
    /// When its newest tokens were issued.
    #[schema(value_type = String, format = DateTime)]
    #[serde(serialize_with = "crate::contract::in_microseconds")]
    used_at: Timestamp,
    /// When it ends if it is not used.
    #[schema(value_type = String, format = DateTime)]
    #[serde(serialize_with = "crate::contract::in_microseconds")]
    expires_at: Timestamp,
}

impl From<Session> for ExportedSession {
    fn from(session: Session) -> Self {
        let Session { id, created_at, used_at, expires_at, .. } = session;
        Self { id, created_at, used_at, expires_at }
    }
}
