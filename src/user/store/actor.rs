//! Who writes to an account, checked against the store in the transaction of the write: other processes learn of a
//! revocation a moment later, and must not make lasting changes in between.

use diesel::result::Error as QueryError;
use uuid::Uuid;

use super::Row;
use crate::contract::UserRole;
use crate::storage::StoreError;
use crate::user::model::roles_from_text;

/// A pattern for the stored roles of admins.
pub(super) const ADMINS: &str = "%admin%";

/// Who writes to an account.
#[derive(Clone, Copy, Debug)]
pub(in crate::user) enum Actor {
    /// The operator, or the role itself for a client with a refresh token.
    Operator,
    /// The account's owner, with a token of this generation.
    Owner {
        /// The token's.
        generation: i64,
    },
    /// An admin, with a token of this generation.
    Admin {
        /// The admin's id.
        user: Uuid,
        /// The token's.
        generation: i64,
    },
}

/// What the account of the actor must satisfy.
pub(super) struct ActorCondition {
    pub(super) user: String,
    generation: i64,
    is_admin: bool,
}

impl ActorCondition {
    /// Whether `row`, the actor's, satisfies it.
    pub(super) fn holds(&self, row: &Row) -> bool {
        let is_enabled = !row.disabled && row.generation == self.generation;
        is_enabled && (!self.is_admin || is_admin(row))
    }
}

fn is_admin(row: &Row) -> bool {
    roles_from_text(&row.roles).is_some_and(|roles| roles.contains(&UserRole::Admin))
}

impl Actor {
    /// The user who writes to the account with `id`; the operator counts as its owner.
    pub(in crate::user) fn user(self, id: Uuid) -> Uuid {
        match self {
            Self::Operator | Self::Owner { .. } => id,
            Self::Admin { user, .. } => user,
        }
    }

    /// The condition for a write to the account with `id`; `None` if any is allowed.
    pub(super) fn condition(self, id: Uuid) -> Option<ActorCondition> {
        let (generation, is_admin) = match self {
            Self::Operator => return None,
            Self::Owner { generation } => (generation, false),
            Self::Admin { generation, .. } => (generation, true),
        };
        Some(ActorCondition { user: self.user(id).to_string(), generation, is_admin })
    }

    /// Whether an admin may lose that role by the write, which `deletes` the account or not.
    pub(super) fn may_take_rights(self, deletes: bool) -> bool {
        matches!((self, deletes), (Self::Admin { .. }, _) | (Self::Owner { .. }, true))
    }

    /// Whether the actor was an admin and no longer is. `row` is the account after the write, or before a write that
    /// `deletes` it. An admin who writes to another account stays one.
    pub(super) fn takes_own_rights(self, row: &Row, deletes: bool) -> bool {
        let is_admin = is_admin(row) && !row.disabled;
        match self {
            Self::Operator => false,
            Self::Owner { .. } => deletes && is_admin,
            Self::Admin { user, .. } => row.id == user.to_string() && (deletes || !is_admin),
        }
    }
}

/// Why a write to an account is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::user) enum Refusal {
    /// The actor is gone, disabled or no longer allowed, or the token was revoked.
    #[error("the token has ended")]
    TokenEnded,
    /// There is no such account.
    #[error("there is no such account")]
    Unknown,
    /// No admin would be left.
    #[error("it is the last enabled admin")]
    LastAdmin,
}

/// Why a write to an account failed.
#[derive(Debug, thiserror::Error)]
pub(in crate::user) enum WriteError {
    /// It was refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<QueryError> for WriteError {
    fn from(error: QueryError) -> Self {
        Self::Store(error.into())
    }
}

impl From<WriteError> for StoreError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Refused(refusal) => Self::Failed(refusal.to_string()),
            WriteError::Store(error) => error,
        }
    }
}
