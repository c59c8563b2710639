//! One request on its way, which can be sent again while nothing of its content was taken.

use std::time::Instant;

use actix_web::http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH, IF_UNMODIFIED_SINCE};

use super::clock::{self, Elapsed};
use super::replay::ReplayBody;
use super::{Body, Context, Endpoint, PeerError, Reply, Request};

/// What a write may depend on (RFC 9110, section 13.1; RFC 4918, section 10.4).
const CONDITIONS: [HeaderName; 4] =
    [IF_MATCH, IF_NONE_MATCH, IF_UNMODIFIED_SINCE, HeaderName::from_static("if")];

/// A request that is ready to be sent.
#[derive(Debug)]
pub(super) struct Call {
    /// Without its content.
    request: Request,
    content: ReplayBody,
}

/// How one attempt at a [`Call`] goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    /// When it begins.
    pub(super) now: Instant,
    /// When it must have ended, if that is before the end of the caller's time.
    pub(super) limit: Option<Instant>,
    /// Whether the request is to be had for another attempt, if this one is in vain; that costs a little. A role in this
    /// process keeps nothing: there is no elsewhere.
    pub(super) kept: bool,
}

impl Call {
    /// `request`, whose headers are end to end.
    pub(super) fn new(mut request: Request) -> Self {
        let content = ReplayBody::new(std::mem::replace(&mut request.body, Body::None));
        Self { request, content }
    }

    /// Whether the request may be sent again when its answer is lost, as far as it says itself. A write under a
    /// condition may not, whatever its method: where the first has done it, the second meets what that has made, and
    /// the client is told that it failed (RFC 9110, sections 9.2.2 and 13.1.1).
    pub(super) fn is_repeatable(&self) -> bool {
        let Request { method, headers, .. } = &self.request;
        let conditional = || CONDITIONS.iter().any(|name| headers.contains_key(name));
        method.is_safe() || method.is_idempotent() && !conditional()
    }

    /// Whether the request is here with all of its content, to be sent once more.
    pub(super) fn is_whole(&self) -> bool {
        self.content.is_available()
    }

    /// Sends the request to `endpoint` on behalf of `context`, and waits for the head of the reply, which the content
    /// follows in a stream.
    ///
    /// # Errors
    /// When there is no reply in time, or the request is gone, or any of its content; see [`PeerError`].
    pub(super) async fn send(
        &mut self,
        endpoint: &Endpoint,
        context: &Context,
        attempt: Attempt,
    ) -> Result<Reply, PeerError> {
        let Attempt { now, limit, kept } = attempt;
        let deadline = limit.map_or(context.deadline, |limit| limit.min(context.deadline));
        if let Endpoint::Http(_) = endpoint {
            context.write(&mut self.request.headers, deadline.saturating_duration_since(now));
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
        let kept = kept && matches!(endpoint, Endpoint::Http(_));
        let body = if kept { content.for_attempt() } else { content.take() };
        let body = body.ok_or_else(|| PeerError::broken("sent before"))?;
        match endpoint {
            Endpoint::Http(peer) => {
                // Whoever keeps it repeats it, elsewhere where that is better.
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
