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
mod durations;
mod retry;
mod state;
mod tally;
mod upload;
mod window;

#[cfg(test)]
mod tests;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::CONTENT_TYPE;
use tokio::time::{Instant, sleep};

pub use breaker::Position;
pub use state::{Report, State};
pub use tally::Counted;

use super::call::{Attempt, Call};
use super::{Context, Endpoint, PeerError, Reply, Request};
use crate::telemetry::{Part, Wait};
use addresses::Tried;
use breaker::Permit;
use retry::Verdict;
use state::Slot;
use upload::Upload;

/// How much longer than the middleware an attempt waits for a client's content.
const GRACE: Duration = Duration::from_millis(100);

/// One worker thread's access to another role or an upstream; cheap to clone.
#[derive(Clone, Debug)]
pub struct Peer {
    state: Arc<State>,
    endpoints: Rc<[Endpoint]>,
}

impl Peer {
    /// The callee with `state`, at `endpoints`, which are in the order of its addresses.
    pub fn new(state: Arc<State>, endpoints: impl Into<Rc<[Endpoint]>>) -> Self {
        let endpoints = endpoints.into();
        debug_assert_eq!(state.addresses.count(), endpoints.len());
        Self { state, endpoints }
    }

    /// Whether it runs in this process.
    pub fn is_here(&self) -> bool {
        matches!(self.endpoints[..], [Endpoint::Local(_)])
    }

    /// Sends `request`, which has only end-to-end headers, on behalf of `context`, with retries where that is safe, and
    /// waits for the head of the reply. The request keeps its place in the bulkhead until the reply's body ends or is
    /// dropped; a stream of events, which has no end, keeps none.
    ///
    /// # Errors
    /// When the breaker is open, the bulkhead is full, or the last attempt gave no reply in time; see [`PeerError`].
    /// A reply with an error status is not an error.
    pub fn send<'a>(
        &'a self,
        mut request: Request,
        context: &'a Context,
    ) -> impl Future<Output = Result<Reply, PeerError>> + 'a {
        // Not an `async fn`, which would store the request twice.
        let upload = Upload::watch(&mut request.body);
        let mut call = Call::new(request);
        async move {
            let mut begun = Instant::now();
            let _wait = Wait::begin_at(Part::Peers, || begun.into_std());
            let state = &*self.state;
            let now = state.millis(begun);
            let refused = |error: PeerError| {
                call.refused(state.callee(), &error);
                error
            };
            let mut permit = state.breaker.ask(now).map_err(|wait| {
                state.tally.refused_by_breaker();
                refused(PeerError::breaker_open(wait))
            })?;
            let mut slot = match Slot::take(&self.state) {
                Some(slot) => slot,
                None => {
                    let _turn = Wait::begin(Part::Queues);
                    let slot = Box::pin(Slot::wait(&self.state, now)).await.map_err(refused)?;
                    begun = Instant::now();
                    slot
                }
            };
            state.budget.deposit(now);
            // A caller with its own limit waits no longer, so an attempt may take no longer.
            let limit = self.state.options.response_timeout.min(context.limit);
            let course = Course { context, begun, limit, upload: upload.as_ref() };
            let mut reply = self.attempts(&mut call, course, &mut permit, &mut slot).await?;
            if !is_event_stream(&reply) {
                reply.body = reply.body.keeping(slot);
            }
            Ok(reply)
        }
    }

    /// Sends `call` until there is a reply, or no further attempt is possible.
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
            let (callee, resend) = (Some(self.state.callee()), progress.retries);
            let outcome = match upload {
                None => {
                    let limit = Some(now + limit);
                    let attempt = Attempt { callee, resend, now, limit, kept };
                    call.send(endpoint, context, attempt).await
                }
                Some(upload) => {
                    // The callee's time begins when the client's has ended. The middleware's limit comes first: it knows
                    // whose fault a delay is.
                    let deadline = (progress.deadline + GRACE).into();
                    let overdue = upload.overdue(started, limit, deadline);
                    let attempt = Attempt { callee, resend, now, limit: None, kept };
                    Box::pin(unless(overdue, call.send(endpoint, context, attempt))).await
                }
            };
            let ended = Instant::now();
            // Whether it had nearly the whole time of an attempt: a timeout of a hurried caller is not the callee's
            // failure.
            let (since, until) = match upload {
                None => (Some(started), (started + limit).min(context.deadline.into())),
                Some(upload) => (upload.since(started), ended),
            };
            let given = since.map(|since| until.saturating_duration_since(since));
            let fair = given.is_some_and(|given| given >= limit * 7 / 8);
            let verdict = Verdict::from_outcome(&outcome, fair);
            self.note(at, verdict, permit, (started, ended));
            let again = kept && verdict.allows_retry(progress.idempotent) && call.is_whole();
            let Some(next) = again.then(|| self.next(&progress, ended)).flatten() else {
                return outcome;
            };
            // The rest of the reply is not read.
            drop(outcome);
            sleep(next.pause).await;
            self.state.tally.retry();
            progress.retries += 1;
            (at, started) = (next.at, Instant::now());
        }
    }

    /// Counts the outcome of an attempt from `started` to `ended` for the address `at`, and for the callee.
    fn note(
        &self,
        at: usize,
        verdict: Verdict,
        permit: &mut Permit<'_>,
        (started, ended): (Instant, Instant),
    ) {
        let now = self.state.millis(ended);
        self.state.tally.attempt(verdict, ended.saturating_duration_since(started));
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

/// The caller's context of a request, and its start.
struct Course<'a> {
    context: &'a Context,
    begun: Instant,
    /// The most time that one attempt may take.
    limit: Duration,
    /// A body that is still arriving.
    upload: Option<&'a Upload>,
}

/// The state of a request between attempts.
struct Progress {
    /// Whether it can be repeated without a difference for its client.
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

/// The output of `answer`, unless it is `overdue` before.
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

/// Whether the reply is a stream of server-sent events.
fn is_event_stream(reply: &Reply) -> bool {
    let content = reply.headers.get(CONTENT_TYPE);
    content.is_some_and(|content| content.as_bytes().starts_with(b"text/event-stream"))
}

/// Whole milliseconds.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
