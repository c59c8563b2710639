//! Traces that begin in the background: with events that came, or are on their way.

use actix_web::http::header::HeaderValue;
use futures_util::future::Either;

use super::super::{Scope, TraceContext};
use super::about::{About, Messages};
use super::recorder::Recorder;
use super::span::Span;

/// Work in the background, from when it begins until this is dropped. It costs nothing where nothing is recorded.
#[derive(Debug, Default)]
pub struct Work(Option<(Scope, Span)>);

impl Work {
    /// Begins work of `role` with messages, in a trace of its own. It comes from the spans whose `traceparent` the messages
    /// have, and is sampled if one of them is.
    pub fn begin<'a>(
        role: &'static str,
        parents: impl Iterator<Item = Option<&'a str>>,
        messages: impl FnOnce() -> Messages,
    ) -> Self {
        let parse = |parent: &str| TraceContext::parse(parent.as_bytes());
        let begin = || {
            let links = parents.flatten().filter_map(parse).collect::<Vec<_>>();
            let is_sampled = links.iter().any(|link| link.is_sampled());
            let trace = TraceContext::new().with_sampled(is_sampled);
            let recorder = Recorder::for_work(is_sampled);
            let about = About::Messages(messages());
            let span = Span::root(recorder.clone(), role, trace, about, links);
            let scope = Scope::new(role, HeaderValue::from_static(""), trace, Some(recorder));
            (scope, span)
        };
        Self(Recorder::is_wanted().then(begin))
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

    /// Says what went wrong, in a word that is one of few.
    pub fn fail(&mut self, error: &'static str) {
        if let Some((_, span)) = &mut self.0 {
            span.fail(error);
        }
    }
}
