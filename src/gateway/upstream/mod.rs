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
use crate::peer::{Attempt, Call, Context, Peer, PeerError, Reply, Request};
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
    pub fn send<'a>(
        &'a self,
        mut request: Request,
        context: &'a Context,
    ) -> impl Future<Output = Result<Reply, Error>> + 'a {
        // No `async fn`, which would take the room of the request twice.
        let upload = Upload::watch(&mut request.body);
        let mut call = Call::new(request);
        async move {
            let state = &*self.state;
            let mut begun = Instant::now();
            let now = state.millis(begun);
            let mut ticket = state.breaker.ask(now).map_err(State::broken)?;
            let mut slot = match Slot::take(&self.state) {
                Some(slot) => slot,
                None => {
                    let slot = Box::pin(Slot::wait(&self.state, now)).await?;
                    begun = Instant::now();
                    slot
                }
            };
            state.budget.deposit(now);
            let course = Course { context, begun, upload: upload.as_ref() };
            let mut reply = self.attempts(&mut call, course, &mut ticket, &mut slot).await?;
            reply.body = reply.body.keeping(slot);
            Ok(reply)
        }
    }

    /// Sends `call` until it is answered, or there is no use in trying again.
    async fn attempts(
        &self,
        call: &mut Call,
        course: Course<'_>,
        ticket: &mut Ticket<'_>,
        slot: &mut Slot,
    ) -> Result<Reply, PeerError> {
        let State { addresses, options, .. } = &*self.state;
        let Course { context, begun: mut started, upload } = course;
        let mut plan = Plan::new(call.is_repeatable(), context);
        let mut at = addresses.choose(self.state.millis(started), plan.tried, false).unwrap_or(0);
        loop {
            let peer = self.peers.get(at).ok_or_else(no_address)?;
            slot.go_to(at);
            plan.tried.add(at);
            // Another attempt is possible for some methods, and for all where there is another address.
            let other = plan.idempotent || self.peers.len() > 1;
            let kept = other && plan.retries < options.retries;
            let now = started.into_std();
            let outcome = match upload {
                None => {
                    let limit = Some(now + self.response_timeout);
                    call.send(peer, context, Attempt { now, limit, kept }).await
                }
                Some(upload) => {
                    // The upstream's time begins when the client has had its own. The edge first: it knows whose fault
                    // that is.
                    let deadline = (plan.deadline + GRACE).into();
                    let overdue = upload.overdue(started, self.response_timeout, deadline);
                    let attempt = Attempt { now, limit: None, kept };
                    Box::pin(unless(overdue, call.send(peer, context, attempt))).await
                }
            };
            let ended = Instant::now();
            let fair = match upload {
                None => {
                    let limit = started + self.response_timeout;
                    self.is_fair(started, limit.min(context.deadline.into()))
                }
                Some(upload) => {
                    upload.since(started).is_some_and(|since| self.is_fair(since, ended))
                }
            };
            let verdict = Verdict::of(&outcome, fair);
            self.note(at, verdict, ticket, ended);
            let again = kept && verdict.allows_retry(plan.idempotent) && call.is_whole();
            let Some(next) = again.then(|| self.next(&plan, ended)).flatten() else {
                return outcome;
            };
            // Whatever has come of the answer is not read to its end.
            drop(outcome);
            sleep(next.pause).await;
            plan.retries += 1;
            (at, started) = (next.at, Instant::now());
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

    /// The attempt after one that failed at `now`, if there is an address for it, time, and a retry in the budget.
    fn next(&self, plan: &Plan, now: Instant) -> Option<Next> {
        let State { addresses, options, budget, .. } = &*self.state;
        let millis = self.state.millis(now);
        let at = addresses.choose(millis, plan.tried, !plan.idempotent)?;
        let pause = retry::backoff(options.retry_backoff, plan.retries);
        if (now + pause).into_std() >= plan.deadline {
            return None;
        }
        budget.withdraw(millis).then_some(Next { at, pause })
    }
}

/// For whom and since when a request is under way.
struct Course<'a> {
    context: &'a Context,
    begun: Instant,
    /// Content that is not all here.
    upload: Option<&'a Upload>,
}

/// What is known of a request from attempt to attempt.
struct Plan {
    /// Whether it comes to the same, for its client too, when it is done twice.
    idempotent: bool,
    deadline: std::time::Instant,
    tried: Tried,
    retries: u32,
}

impl Plan {
    fn new(idempotent: bool, context: &Context) -> Self {
        Self { idempotent, deadline: context.deadline, tried: Tried::default(), retries: 0 }
    }
}

/// Another attempt.
struct Next {
    at: usize,
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
