//! Counts that processes share, on Redis. One round trip decides on all limits of a request.

use std::rc::Rc;

use deadpool_redis::redis::{RedisError, Script};

use super::Options;
use super::gcra::Quota;
use crate::storage::redis::{self, Client, Use};

/// The counts on a server, for one worker thread; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct RedisCounts {
    client: Client,
    script: Rc<Script>,
}

/// How `options` use a server.
pub(super) fn used(options: &Options<'_>) -> Use {
    let Options { name, timeout, prefix, .. } = *options;
    let [tagged, prefix] = ["{limits}", "limits"].map(|tag| format!("{prefix}:{tag}"));
    Use { name, timeout, prefix, tagged, other: None }
}

impl RedisCounts {
    /// Opens no connection yet.
    pub(super) fn new(server: &redis::Server) -> Self {
        let script = Rc::new(Script::new(include_str!("take.lua")));
        Self { client: server.client(), script }
    }

    /// Counts a request, unless one of the limits refuses it. Each limit is a key and a quota. Returns the server's time
    /// and the arrival times before the request, in µs; `None` when the server is away.
    pub(super) async fn take(
        &self,
        limits: impl Iterator<Item = (String, Quota)>,
    ) -> Option<(u64, Vec<u64>)> {
        let limits = limits.collect::<Vec<_>>();
        let answer = self.client.ask(async |connection| {
            let mut call = self.script.prepare_invoke();
            for (key, quota) in &limits {
                call.key(self.client.key(key)).arg(quota.interval()).arg(quota.window());
            }
            call.invoke_async::<Vec<u64>>(connection).await
        });
        let answer = answer.await?;
        let (now, tats) = answer.split_first()?;
        Some((*now, tats.to_vec()))
    }

    /// Checks that the server answers and takes writes.
    ///
    /// # Errors
    /// Why it is not.
    pub(super) async fn ping(&self) -> Result<(), RedisError> {
        self.client.trial().await
    }
}
