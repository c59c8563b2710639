//! A request to a peer, which can be sent again as long as nothing of its body was read.

use std::sync::Arc;
use std::time::Instant;

use actix_web::http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH, IF_UNMODIFIED_SINCE};

use super::clock::{self, Elapsed};
use super::replay::ReplayBody;
use super::{Body, Context, Endpoint, INTERNAL, INTERNAL_SECRET, PeerError, Reply, Request};
use crate::telemetry::Span;

/// The headers of conditions (RFC 9110, section 13.1; RFC 4918, section 10.4).
const CONDITIONS: [HeaderName; 4] =
    [IF_MATCH, IF_NONE_MATCH, IF_UNMODIFIED_SINCE, HeaderName::from_static("if")];

/// A request that is ready to be sent.
#[derive(Debug)]
pub(super) struct Call {
    /// The request without its body.
    request: Request,
    content: ReplayBody,
}

/// One attempt at a [`Call`], and its limits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt<'a> {
    /// Who is called, if that is to be seen in the trace.
    pub(super) callee: Option<&'a Arc<str>>,
    /// How many attempts there were before.
    pub(super) resend: u32,
    /// When it starts.
    pub(super) now: Instant,
    /// Its deadline, if it is before the caller's.
    pub(super) limit: Option<Instant>,
    /// Whether to keep the request for another attempt, which costs a little. For a role in this process it is not kept,
    /// because there is no other address.
    pub(super) kept: bool,
}

impl Call {
    /// A call with `request`, which has only end-to-end headers.
    pub(super) fn new(mut request: Request) -> Self {
        let content = ReplayBody::new(std::mem::replace(&mut request.body, Body::None));
        Self { request, content }
    }

    /// Whether the method allows to repeat the request if its response is lost. A conditional write must not be repeated: if the
    /// first attempt succeeded, the condition of the second would fail, and the client would get an error (RFC 9110,
    /// sections 9.2.2 and 13.1.1).
    pub(super) fn is_repeatable(&self) -> bool {
        let Request { method, headers, .. } = &self.request;
        let conditional = || CONDITIONS.iter().any(|name| headers.contains_key(name));
        method.is_safe() || method.is_idempotent() && !conditional()
    }

    /// Whether the request can be sent again with its whole body.
    pub(super) fn is_whole(&self) -> bool {
        self.content.is_available()
    }

    /// Marks in the trace that `callee` was not asked, because of `error`.
    pub(super) fn refused(&self, callee: &Arc<str>, error: &PeerError) {
        Span::call(callee, &self.request.method, 0).fail(error.name(), true);
    }

    /// Sends the request to `endpoint` on behalf of `context`, and waits for the head of the reply. Its body is a stream.
    ///
    /// # Errors
    /// When there is no reply in time, or the request or a part of its body is gone; see [`PeerError`].
    pub(super) async fn send(
        &mut self,
        endpoint: &Endpoint,
        context: &Context,
        attempt: Attempt<'_>,
    ) -> Result<Reply, PeerError> {
        let Attempt { callee, resend, .. } = attempt;
        let mut span = callee
            .map_or_else(Span::default, |callee| Span::call(callee, &self.request.method, resend));
        if let Endpoint::Http { peer, .. } = endpoint {
            span.at(|| peer.url(&self.request.target));
        }
        let outcome = match span.context() {
            Some(trace) => Box::pin(self.exchange(endpoint, &context.at(trace), attempt)).await,
            None => self.exchange(endpoint, context, attempt).await,
        };
        match &outcome {
            Ok(reply) => span.answered(reply.status.as_u16()),
            // A caller that had too little time is no fault of the callee.
            Err(error) => span.fail(
                error.name(),
                match error {
                    PeerError::DeadlineExceeded => {
                        attempt.limit.is_some_and(|limit| limit <= context.deadline)
                    }
                    PeerError::Content(_) => false,
                    _ => true,
                },
            ),
        }
        outcome
    }

    async fn exchange(
        &mut self,
        endpoint: &Endpoint,
        context: &Context,
        attempt: Attempt<'_>,
    ) -> Result<Reply, PeerError> {
        let Attempt { now, limit, kept, .. } = attempt;
        let deadline = limit.map_or(context.deadline, |limit| limit.min(context.deadline));
        if let Endpoint::Http { secret, .. } = endpoint {
            let Request { headers, target, .. } = &mut self.request;
            context.write(headers, deadline.saturating_duration_since(now));
            if let Some(secret) = secret.as_ref().filter(|_| target.path().starts_with(INTERNAL)) {
                headers.insert(INTERNAL_SECRET, secret.clone());
            }
        }
        let dispatch = self.dispatch(endpoint, context, deadline, kept, now);
        if limit.is_none() && context.is_watched() {
            return dispatch.await;
        }
        match clock::by(deadline, dispatch).await {
            Ok(outcome) => outcome,
            Err(Elapsed) => Err(PeerError::DeadlineExceeded),
        }
    }

    async fn dispatch(
        &mut self,
        endpoint: &Endpoint,
        context: &Context,
        deadline: Instant,
        kept: bool,
        now: Instant,
    ) -> Result<Reply, PeerError> {
        let Self { request, content } = self;
        let kept = kept && matches!(endpoint, Endpoint::Http { .. });
        let body = if kept { content.for_attempt() } else { content.take() };
        let body = body.ok_or_else(|| PeerError::broken("sent before"))?;
        match endpoint {
            Endpoint::Http { peer, .. } => {
                // The caller may retry, at another address.
                let may_repeat = !kept && request.method.is_safe() && matches!(body, Body::None);
                Ok(peer.exchange(request, body, may_repeat, now).await?)
            }
            Endpoint::Local(peer) => {
                let headers = std::mem::take(&mut request.headers);
                let (method, target) = (request.method.clone(), request.target.clone());
                let request =
                    Request { method, target, headers, body, interims: None, upgrade: None };
                peer.send(request, context.until(deadline)).await
            }
        }
    }
}
