//! Traces that begin in the background: with events that came, or are on their way.

use actix_web::http::header::HeaderValue;
use futures_util::future::Either;

use super::super::{Scope, TraceContext};
use super::about::{About, Messages, SpanKind};
use super::recorder::Recorder;
use super::span::Span;
use super::tracer;

/// Work in the background, from when it begins until this is dropped. It costs nothing where nothing is recorded.
#[derive(Debug, Default)]
pub struct Work(Option<(Scope, Span)>);

impl Work {
    /// Begins work of `role` with messages, in a trace of its own. `links` are the `traceparent` of the messages; it is sampled
    /// if one of them is.
    pub fn begin<L: AsRef<str>>(
        role: &'static str,
        links: impl Iterator<Item = Option<L>>,
        messages: impl FnOnce() -> Messages,
    ) -> Self {
        Self::with(role, || {
            let parse = |link: L| TraceContext::parse(link.as_ref().as_bytes());
            let links = links.flatten().filter_map(parse).collect::<Vec<_>>();
            (About::Messages(messages()), links)
        })
    }

    /// Begins a task of `role` that is named `name`, in a trace of its own.
    pub fn task(role: &'static str, name: &'static str) -> Self {
        let kind = SpanKind::Internal;
        Self::with(role, || (About::Work { name, kind, system: role }, Vec::new()))
    }

    fn with(role: &'static str, about: impl FnOnce() -> (About, Vec<TraceContext>)) -> Self {
        let begin = || {
            let (about, links) = about();
            let trace = TraceContext::new();
            let is_sampled = match links[..] {
                [] => tracer::samples(trace.trace_id(), None),
                _ => links.iter().any(|link| link.is_sampled()),
            };
            let trace = trace.with_sampled(is_sampled);
            let recorder = Recorder::new(is_sampled);
            let span = Span::root(recorder.clone(), role, trace, about, links);
            let scope = Scope::new(role, HeaderValue::from_static(""), trace, Some(recorder));
            (scope, span)
        };
        Self(tracer::is_recording().then(begin))
    }

    /// Runs `work` as a part of it.
    pub fn run<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        match &self.0 {
            Some((scope, _)) => Either::Left(scope.clone().run(work)),
            None => Either::Right(work),
        }
    }

    /// The value of a `traceparent` header that names it as the parent.
    pub fn header(&self) -> Option<HeaderValue> {
        self.0.as_ref().map(|(scope, _)| scope.trace().header())
    }

    /// Says what went wrong, in a word that is one of few, and whether that is a fault of what the shop needs.
    pub fn fail(&mut self, error: &'static str, is_fault: bool) {
        if let Some((_, span)) = &mut self.0 {
            span.fail(error, is_fault);
        }
    }

    /// Says that it ended well.
    pub fn succeed(&mut self) {
        if let Some((_, span)) = &mut self.0 {
            span.succeed();
        }
    }
}
