//! Calls to another role or an upstream, with the resilience that keeps its failures from spreading to callers.
//!
//! ```text
//! breaker ─▶ bulkhead ─▶ endpoint ─▶ attempt ─▶ answer
//!  503         503          ▲           │
//!                           └─ backoff ─┘  where it is safe, the budget allows it and there is time
//! ```
//!
//! [`State`] is shared by all threads; [`Peer`] is one thread's access to the callee.

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

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

pub use breaker::Position;
pub use state::{Report, State};

use super::call::{Attempt, Call};
use super::{Context, Endpoint, PeerError, Reply, Request};
use addresses::Tried;
use breaker::Permit;
use retry::Verdict;
use state::Slot;
use upload::Upload;

/// How much longer than the middleware an attempt waits for a client's content.
const GRACE: Duration = Duration::from_millis(100);

/// One worker thread's way to another role or to an upstream; cheap to clone.
#[derive(Clone, Debug)]
pub struct Peer {
    state: Arc<State>,
    endpoints: Rc<[Endpoint]>,
}

impl Peer {
    /// The way to the callee that `state` tells of, whose addresses `endpoints` lead to, in the same order.
    pub fn new(state: Arc<State>, endpoints: impl Into<Rc<[Endpoint]>>) -> Self {
        let endpoints = endpoints.into();
        debug_assert_eq!(state.addresses.count(), endpoints.len());
        Self { state, endpoints }
    }

    /// Whether it runs in this process.
    pub fn is_here(&self) -> bool {
        matches!(self.endpoints[..], [Endpoint::Local(_)])
    }

    /// Sends `request`, whose headers are end to end, on behalf of `context`, more than once where that is safe, and
    /// waits for the head of the reply. The callee counts as busy with it until the reply's content has ended or is
    /// dropped.
    ///
    /// # Errors
    /// When the breaker is open, the bulkhead is full, or the last attempt gave no reply in time; see [`PeerError`].
    /// An answer that is an error is a reply.
    pub fn send<'a>(
        &'a self,
        mut request: Request,
        context: &'a Context,
    ) -> impl Future<Output = Result<Reply, PeerError>> + 'a {
        // No `async fn`, which would take the room of the request twice.
        let upload = Upload::watch(&mut request.body);
        let mut call = Call::new(request);
        async move {
            let state = &*self.state;
            let mut begun = Instant::now();
            let now = state.millis(begun);
            let mut permit = state.breaker.ask(now).map_err(PeerError::breaker_open)?;
            let mut slot = match Slot::take(&self.state) {
                Some(slot) => slot,
                None => {
                    let slot = Box::pin(Slot::wait(&self.state, now)).await?;
                    begun = Instant::now();
                    slot
                }
            };
            state.budget.deposit(now);
            // A caller with a limit of its own waits no longer, and thereby says how soon an answer is due.
            let limit = self.state.options.response_timeout.min(context.limit);
            let course = Course { context, begun, limit, upload: upload.as_ref() };
            let mut reply = self.attempts(&mut call, course, &mut permit, &mut slot).await?;
            reply.body = reply.body.keeping(slot);
            Ok(reply)
        }
    }

    /// Sends `call` until it is answered, or there is no use in trying again.
    async fn attempts(
        &self,
        call: &mut Call,
        course: Course<'_>,
        permit: &mut Permit<'_>,
        slot: &mut Slot,
    ) -> Result<Reply, PeerError> {
        let State { addresses, options, .. } = &*self.state;
        let Course { context, begun: mut started, limit, upload } = course;
        let mut progress = Progress::new(call.is_repeatable(), context);
        let mut at =
            addresses.choose(self.state.millis(started), progress.tried, false).unwrap_or(0);
        loop {
            let endpoint = self.endpoints.get(at).ok_or_else(no_address)?;
            slot.go_to(at);
            progress.tried.add(at);
            // Another attempt is possible for some methods, and for all where there is another address.
            let other = progress.idempotent || self.endpoints.len() > 1;
            let kept = other && progress.retries < options.retries;
            let now = started.into_std();
            let outcome = match upload {
                None => {
                    let limit = Some(now + limit);
                    call.send(endpoint, context, Attempt { now, limit, kept }).await
                }
                Some(upload) => {
                    // The callee's time begins when the client has had its own. The middleware first: it knows whose fault
                    // that is.
                    let deadline = (progress.deadline + GRACE).into();
                    let overdue = upload.overdue(started, limit, deadline);
                    let attempt = Attempt { now, limit: None, kept };
                    Box::pin(unless(overdue, call.send(endpoint, context, attempt))).await
                }
            };
            let ended = Instant::now();
            // Whether it had nearly all the time that an attempt may take: a caller in a hurry says nothing of the
            // callee.
            let (since, until) = match upload {
                None => (Some(started), (started + limit).min(context.deadline.into())),
                Some(upload) => (upload.since(started), ended),
            };
            let given = since.map(|since| until.saturating_duration_since(since));
            let fair = given.is_some_and(|given| given >= limit * 7 / 8);
            let verdict = Verdict::from_outcome(&outcome, fair);
            self.note(at, verdict, permit, ended);
            let again = kept && verdict.allows_retry(progress.idempotent) && call.is_whole();
            let Some(next) = again.then(|| self.next(&progress, ended)).flatten() else {
                return outcome;
            };
            // Whatever has come of the answer is not read to its end.
            drop(outcome);
            sleep(next.pause).await;
            progress.retries += 1;
            (at, started) = (next.at, Instant::now());
        }
    }

    /// Notes what an attempt says of the address `at`, and of the callee.
    fn note(&self, at: usize, verdict: Verdict, permit: &mut Permit<'_>, ended: Instant) {
        let now = self.state.millis(ended);
        match verdict {
            Verdict::Good => self.state.addresses.succeeded(at, now),
            Verdict::Failed | Verdict::Unreachable => self.state.addresses.failed(at, now),
            Verdict::Declined => {}
            Verdict::Unknown => return,
        }
        permit.note(now, matches!(verdict, Verdict::Failed | Verdict::Unreachable));
    }

    /// The attempt after one that failed at `now`, if there is an address for it, time, and a retry in the budget.
    fn next(&self, progress: &Progress, now: Instant) -> Option<Next> {
        let State { addresses, options, budget, .. } = &*self.state;
        let millis = self.state.millis(now);
        let at = addresses.choose(millis, progress.tried, !progress.idempotent)?;
        let pause = retry::backoff(options.retry_backoff, progress.retries);
        if (now + pause).into_std() >= progress.deadline {
            return None;
        }
        budget.withdraw(millis).then_some(Next { at, pause })
    }
}

/// For whom and since when a request is under way.
struct Course<'a> {
    context: &'a Context,
    begun: Instant,
    /// The most time that one attempt may take.
    limit: Duration,
    /// Content that is not all here.
    upload: Option<&'a Upload>,
}

/// What is known of a request from attempt to attempt.
struct Progress {
    /// Whether it comes to the same, for its client too, when it is done twice.
    idempotent: bool,
    deadline: std::time::Instant,
    tried: Tried,
    retries: u32,
}

impl Progress {
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
    PeerError::Unreachable("the peer has no address".into())
}

/// Whole milliseconds, as the parts of a state count time.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
