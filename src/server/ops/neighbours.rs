//! How roles in other processes are, by their own word.

use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;

use crate::contract::{Health, health};
use crate::peer::{Context, Endpoint};

/// How long a role may take to answer: one that hangs is seen within the time of two answers.
const PATIENCE: Duration = Duration::from_millis(400);

/// The roles in other processes that those of this one call, by name, for this thread.
#[derive(Clone, Debug, Default)]
pub struct Neighbours(pub Vec<(&'static str, Rc<[Endpoint]>)>);

/// How a role elsewhere is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Neighbour {
    role: &'static str,
    /// As in `/readyz` of that process, or `away` if it does not answer.
    status: String,
    missing: Vec<String>,
}

impl Neighbours {
    /// Asks each, on behalf of `context`. One that does not admit this process is left out.
    pub(super) async fn ask(&self, context: &Context) -> Vec<Neighbour> {
        let context = &context.within(PATIENCE);
        let asked = self.0.iter().map(async |(role, endpoints)| {
            let Health { status, missing } = best(endpoints, context).await?;
            Some(Neighbour { role, status, missing })
        });
        join_all(asked).await.into_iter().flatten().collect()
    }
}

/// The health of the role at `endpoints`: that of the process that is best off.
async fn best(endpoints: &[Endpoint], context: &Context) -> Option<Health> {
    let answers = join_all(endpoints.iter().map(|endpoint| health(endpoint, context))).await;
    let known = answers.into_iter().filter_map(|answer| match answer {
        Ok(health) => Some(health),
        Err(error) if error.kind().status().is_client_error() => None,
        Err(_) => Some(Health { status: "away".to_owned(), missing: Vec::new() }),
    });
    known.max_by_key(|health| match health.status.as_str() {
        "ready" => 3,
        "degraded" => 2,
        "away" => 0,
        _ => 1,
    })
}
