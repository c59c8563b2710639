//! One upstream of the gateway, wherever its addresses are, and what keeps its troubles its own.
//!
//! ```text
//! breaker ─▶ bulkhead ─▶ address ─▶ attempt ─▶ answer
//!  503         503          ▲          │
//!                           └─ backoff ┘  where it is safe, the budget allows it and there is time
//! ```
//!
//! [`State`] is what all threads know of it; [`Upstream`] is one thread's way to it.

mod addresses;
mod breaker;
mod budget;
mod bulkhead;
mod retry;
mod state;
mod upload;
mod window;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

pub use breaker::Position;
pub use state::{Report, State};

use crate::error::Error;
use crate::transport::{Body, Call, Context, Peer, PeerError, Reply, Request};
use addresses::Tried;
use breaker::Ticket;
use retry::Verdict;
use state::Slot;
use upload::Upload;

/// How much longer than the edge an attempt waits for a client's content.
const GRACE: Duration = Duration::from_millis(100);

/// One worker thread's way to an upstream.
#[derive(Debug)]
pub struct Upstream {
    state: Arc<State>,
    peers: Vec<Peer>,
    response_timeout: Duration,
}

impl Upstream {
    /// The way to the upstream that `state` tells of, whose addresses `peers` lead to, in the same order.
    pub fn new(state: Arc<State>, peers: Vec<Peer>) -> Self {
        debug_assert_eq!(state.addresses.count(), peers.len());
        let response_timeout = state.options.response_timeout;
        Self { state, peers, response_timeout }
    }

    /// The same, where one attempt may take no longer than `limit`: for a route with less time than others.
    pub fn within(mut self, limit: Duration) -> Self {
        self.response_timeout = self.response_timeout.min(limit);
        self
    }

    /// Whether it runs in this process.
    pub fn is_here(&self) -> bool {
        matches!(self.peers[..], [Peer::Local(_)])
    }

    /// Sends `request` on behalf of `context`, more than once where that is safe, and waits for the head of
    /// the reply. The upstream counts as busy with it until the reply's content has ended or is dropped.
    ///
    /// # Errors
    /// 503 with Retry-After when the breaker is open, the bulkhead is full or no address can be reached, 502
    /// when the last attempt broke off, 504 when it took too long. An answer that is an error is a reply.
    pub async fn send(&self, request: Request, context: &Context) -> Result<Reply, Error> {
        let state = &*self.state;
        let now = state.millis(Instant::now());
        let mut ticket = state.breaker.ask(now).map_err(State::broken)?;
        let mut slot = Slot::enter(&self.state, now).await?;
        state.budget.deposit(now);
        let mut reply = self.attempts(request, context, &mut ticket, &mut slot).await?;
        reply.body = reply.body.keeping(slot);
        Ok(reply)
    }

    /// Sends `request` until it is answered, or there is no use in trying again.
    async fn attempts(
        &self,
        mut request: Request,
        context: &Context,
        ticket: &mut Ticket<'_>,
        slot: &mut Slot,
    ) -> Result<Reply, PeerError> {
        let State { addresses, options, .. } = &*self.state;
        let mut plan = Plan::new(&request, context);
        let (body, upload) = Upload::watch(std::mem::replace(&mut request.body, Body::None));
        request.body = body;
        let mut started = Instant::now();
        let mut at = addresses.choose(self.state.millis(started), plan.tried, false).unwrap_or(0);
        loop {
            let peer = self.peers.get(at).ok_or_else(no_address)?;
            slot.go_to(at);
            plan.tried.add(at);
            let limit = match &upload {
                None => context.until((started + self.response_timeout).into_std()),
                // The upstream's time begins when the client has had its own.
                Some(_) => context.clone(),
            };
            // Another attempt is possible for some methods, and for all where there is another address.
            let other = plan.idempotent || self.peers.len() > 1;
            let kept = other && plan.retries < options.retries;
            let mut call = peer.prepare(request, &limit, kept, started.into_std());
            let outcome = match &upload {
                None => call.send().await,
                Some(upload) => {
                    // The edge first: it knows whose fault that is.
                    let deadline = (plan.deadline + GRACE).into();
                    let overdue = upload.overdue(started, self.response_timeout, deadline);
                    Box::pin(unless(overdue, call.send())).await
                }
            };
            let ended = Instant::now();
            let fair = match &upload {
                None => self.is_fair(started, limit.deadline.into()),
                Some(upload) => {
                    upload.since(started).is_some_and(|since| self.is_fair(since, ended))
                }
            };
            let verdict = Verdict::of(&outcome, fair);
            self.note(at, verdict, ticket, ended);
            let again = kept && verdict.allows_retry(plan.idempotent);
            let Some(next) = again.then(|| self.next(&plan, call, ended)).flatten() else {
                return outcome;
            };
            // Whatever has come of the answer is not read to its end.
            drop(outcome);
            sleep(next.pause).await;
            plan.retries += 1;
            (at, request, started) = (next.at, next.request, Instant::now());
        }
    }

    /// Whether an attempt from `started` to `deadline` had nearly all the time that an attempt may take. A
    /// caller in a hurry says nothing of the upstream.
    fn is_fair(&self, started: Instant, deadline: Instant) -> bool {
        let given = deadline.saturating_duration_since(started);
        given >= self.response_timeout * 7 / 8
    }

    /// Notes what an attempt says of the address `at`, and of the upstream.
    fn note(&self, at: usize, verdict: Verdict, ticket: &mut Ticket<'_>, ended: Instant) {
        let now = self.state.millis(ended);
        match verdict {
            Verdict::Good => self.state.addresses.succeeded(at, now),
            Verdict::Failed | Verdict::Unreachable => self.state.addresses.failed(at, now),
            Verdict::Declined => {}
            Verdict::Unknown => return,
        }
        ticket.note(now, matches!(verdict, Verdict::Failed | Verdict::Unreachable));
    }

    /// The attempt after one that failed at `now`, if there is an address for it, time, the request with all
    /// of its content, and a retry in the budget.
    fn next(&self, plan: &Plan, call: Call<'_>, now: Instant) -> Option<Next> {
        let State { addresses, options, budget, .. } = &*self.state;
        let millis = self.state.millis(now);
        let at = addresses.choose(millis, plan.tried, !plan.idempotent)?;
        let pause = retry::backoff(options.retry_backoff, plan.retries);
        if (now + pause).into_std() >= plan.deadline {
            return None;
        }
        let request = call.take_back()?;
        budget.withdraw(millis).then_some(Next { at, request, pause })
    }
}

/// What is known of a request from attempt to attempt.
struct Plan {
    idempotent: bool,
    deadline: std::time::Instant,
    tried: Tried,
    retries: u32,
}

impl Plan {
    fn new(request: &Request, context: &Context) -> Self {
        Self {
            idempotent: request.method.is_idempotent(),
            deadline: context.deadline,
            tried: Tried::default(),
            retries: 0,
        }
    }
}

/// Another attempt.
struct Next {
    at: usize,
    request: Request,
    pause: Duration,
}

/// What `answer` comes to, unless it is `overdue` before.
async fn unless(
    overdue: impl Future<Output = ()>,
    answer: impl Future<Output = Result<Reply, PeerError>>,
) -> Result<Reply, PeerError> {
    tokio::select! {
        outcome = answer => outcome,
        () = overdue => Err(PeerError::DeadlineExceeded),
    }
}

fn no_address() -> PeerError {
    PeerError::Unreachable("the upstream has no address".into())
}

/// Whole milliseconds, as the parts of a state count time.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
