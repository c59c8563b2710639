//! By whose right an account is written to, held against what is stored in the transaction of the write: a process
//! learns of tokens that have ended a moment later than the one that ended them, and nothing that lasts may come of it.

use diesel::result::Error as QueryError;
use uuid::Uuid;

use super::Row;
use crate::contract::UserRole;
use crate::storage::StoreError;
use crate::user::model::roles_from_text;

/// What the roles of admins are like, as they are stored.
pub(super) const ADMINS: &str = "%admin%";

/// By whose right an account is written to.
#[derive(Clone, Copy, Debug)]
pub(in crate::user) enum Actor {
    /// Whoever runs the shop, or the role itself, which has been shown a refresh token.
    Operator,
    /// The account's owner, who has a token of this generation.
    Owner {
        /// That of the token.
        generation: i64,
    },
    /// An admin, who has a token of this generation.
    Admin {
        /// Who that is.
        user: Uuid,
        /// That of the token.
        generation: i64,
    },
}

/// What must hold of the account of whoever writes.
pub(super) struct ActorCondition {
    pub(super) user: String,
    generation: i64,
    is_admin: bool,
}

impl ActorCondition {
    /// Whether it holds of `row`, which is the user's.
    pub(super) fn holds(&self, row: &Row) -> bool {
        let is_enabled = !row.disabled && row.generation == self.generation;
        is_enabled && (!self.is_admin || is_admin(row))
    }
}

fn is_admin(row: &Row) -> bool {
    roles_from_text(&row.roles).is_some_and(|roles| roles.contains(&UserRole::Admin))
}

impl Actor {
    /// Who writes to the account with `id`, as far as somebody is known.
    pub(in crate::user) fn user(self, id: Uuid) -> Uuid {
        match self {
            Self::Operator | Self::Owner { .. } => id,
            Self::Admin { user, .. } => user,
        }
    }

    /// What must hold of whoever writes to the account with `id`.
    pub(super) fn condition(self, id: Uuid) -> Option<ActorCondition> {
        let (generation, is_admin) = match self {
            Self::Operator => return None,
            Self::Owner { generation } => (generation, false),
            Self::Admin { generation, .. } => (generation, true),
        };
        Some(ActorCondition { user: self.user(id).to_string(), generation, is_admin })
    }

    /// Whether somebody may be an admin no more by a write of theirs, which `deletes` the account or not.
    pub(super) fn may_take_rights(self, deletes: bool) -> bool {
        matches!((self, deletes), (Self::Admin { .. }, _) | (Self::Owner { .. }, true))
    }

    /// Whether whoever writes was an admin and is none from now on. `row` is what has become of the account, or what
    /// it was before the write `deletes` it. An admin who writes to others stays one.
    pub(super) fn takes_own_rights(self, row: &Row, deletes: bool) -> bool {
        let is_admin = is_admin(row) && !row.disabled;
        match self {
            Self::Operator => false,
            Self::Owner { .. } => deletes && is_admin,
            Self::Admin { user, .. } => row.id == user.to_string() && (deletes || !is_admin),
        }
    }
}

/// Why an account is not written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::user) enum Refusal {
    /// Whoever writes is gone or disabled, has another right by now, or the token has ended.
    #[error("the token has ended")]
    TokenEnded,
    /// There is no such account.
    #[error("there is no such account")]
    Unknown,
    /// Nobody could give rights any more.
    #[error("it is the last enabled admin")]
    LastAdmin,
}

/// Why an account has not been written to.
#[derive(Debug, thiserror::Error)]
pub(in crate::user) enum WriteError {
    /// It must not be.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store gave no answer.
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
