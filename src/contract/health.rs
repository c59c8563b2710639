//! How a role is, as it tells other roles.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{asking, read};
use crate::error::Error;
use crate::peer::{Context, Endpoint};

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

/// Asks the role at `endpoint` how it is, whatever breakers say.
///
/// # Errors
/// Why it gave no answer.
pub async fn health(endpoint: &Endpoint, context: &Context) -> Result<Health, Error> {
    read(endpoint.send(asking(PATH)?, context).await?, LIMIT).await
}
