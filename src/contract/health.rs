//! How a role is, as it tells other roles.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::get;
use crate::error::Error;
use crate::peer::{Context, Peer};

/// What a role says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `starting`, `ready`, `degraded` or `draining`.
    pub status: String,
    /// What it misses, as in `/readyz`.
    pub missing: Vec<String>,
}

/// Where a role says so.
pub const PATH: &str = "/internal/health";
const LIMIT: usize = 64 * 1024;

/// Asks the role behind `peer` how it is.
///
/// # Errors
/// Why it gave no answer.
pub async fn health(peer: &Peer, context: &Context) -> Result<Health, Error> {
    get(peer, PATH, LIMIT, context).await
}
