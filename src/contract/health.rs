//! The health of a role, for other roles.

use actix_web::http::Method;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{read, request};
use crate::error::Error;
use crate::peer::{Context, Endpoint};

/// The health of a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `starting`, `ready`, `degraded` or `draining`.
    pub status: String,
    /// The dependencies that are missing, as in `/readyz`.
    pub missing: Vec<String>,
}

/// The path that answers with it.
pub const PATH: &str = "/internal/health";
const LIMIT: usize = 64 * 1024;

/// Asks the role at `endpoint` for its health, bypassing breakers.
///
/// # Errors
/// When it gives no valid answer.
pub async fn health(endpoint: &Endpoint, context: &Context) -> Result<Health, Error> {
    read(endpoint.send(request(Method::GET, PATH)?, context).await?, LIMIT).await
}
