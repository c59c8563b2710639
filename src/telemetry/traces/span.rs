//! Spans under way.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use actix_web::http::{Method, Uri};
use futures_util::future::Either;

use super::super::{Scope, SpanId, TraceContext};
use super::about::{About, Messages, Operation, Served, SpanKind};
use super::recorder::Recorder;

/// What spans say that were given up, as their client has left or waits no longer.
pub(super) const CANCELLED: &str = "cancelled";

/// A part of a request's work, from when it is made until it is dropped. It costs nothing where nothing is recorded.
#[derive(Debug, Default)]
pub struct Span(Option<Box<SpanRecord>>);

/// A span.
#[derive(Debug)]
pub(super) struct SpanRecord {
    /// Where it goes when it has ended.
    recorder: Option<Recorder>,
    pub(super) role: &'static str,
    pub(super) context: TraceContext,
    /// The span that it is a part of, and whether another process has that.
    pub(super) parent: Option<(SpanId, bool)>,
    pub(super) begun: Instant,
    pub(super) ended: Instant,
    pub(super) about: About,
    /// What went wrong, by the names of metrics; empty if nothing did.
    pub(super) error: Cow<'static, str>,
    /// Whether that is a fault of the shop, or of what it needs.
    pub(super) is_fault: bool,
    /// Spans of other traces that it comes from.
    pub(super) links: Vec<TraceContext>,
}

impl Span {
    /// The answer to a request, which is `context`, in a role. `parent` is the caller's span, and whether that is in another
    /// process.
    pub fn server(
        recorder: Option<&Recorder>,
        role: &'static str,
        context: TraceContext,
        parent: Option<(TraceContext, bool)>,
        served: impl FnOnce() -> Served,
    ) -> Self {
        let Some(recorder) = recorder else { return Self::default() };
        let parent = parent.map(|(parent, is_remote)| (parent.span_id(), is_remote));
        Self::open(recorder.clone(), role, context, parent, About::Served(Box::new(served())))
    }

    /// An attempt to call `callee`, the first for which `resend` is 0.
    pub fn call(callee: &Arc<str>, method: &Method, resend: u32) -> Self {
        Self::begin(|| About::Call {
            callee: callee.clone(),
            method: method.clone(),
            resend,
            url: None,
            status: 0,
        })
    }

    /// A request to the service `name` at `url`, which is not the shop's.
    pub fn request(name: &'static str, method: &Method, url: &Uri) -> Self {
        Self::begin(|| About::Call {
            callee: name.into(),
            method: method.clone(),
            resend: 0,
            url: Some(url.clone()),
            status: 0,
        })
    }

    /// A call to a store of the kind `system`, whose future or closure has the type named `kind`.
    pub fn statement(kind: &'static str, system: &'static str) -> Self {
        Self::begin(|| About::Statement { kind, system })
    }

    /// A read of a cache.
    pub fn cache_read(what: &'static str) -> Self {
        Self::begin(|| About::CacheRead { what, outcome: "" })
    }

    /// A call named `name` of a service outside of the shop.
    pub fn outside(name: &'static str, system: &'static str) -> Self {
        Self::begin(|| About::Work { name, kind: SpanKind::Client, system })
    }

    /// The making or sending of events.
    pub fn messages(messages: impl FnOnce() -> Messages) -> Self {
        Self::begin(|| About::Messages(messages()))
    }

    /// A part of the current request's work.
    fn begin(about: impl FnOnce() -> About) -> Self {
        let Some((recorder, role, trace)) = Scope::recording() else { return Self::default() };
        Self::open(recorder, role, trace.child(), Some((trace.span_id(), false)), about())
    }

    /// The first span of work in the background.
    pub(super) fn root(
        recorder: Recorder,
        role: &'static str,
        context: TraceContext,
        about: About,
        links: Vec<TraceContext>,
    ) -> Self {
        let mut span = Self::open(recorder, role, context, None, about);
        if let Some(record) = &mut span.0 {
            record.links = links;
        }
        span
    }

    fn open(
        recorder: Recorder,
        role: &'static str,
        context: TraceContext,
        parent: Option<(SpanId, bool)>,
        about: About,
    ) -> Self {
        if !recorder.open() {
            return Self::default();
        }
        let begun = Instant::now();
        let links = Vec::new();
        let (recorder, ended, is_fault) = (Some(recorder), begun, false);
        // All others say how they have ended.
        let error = match &about {
            About::Messages(messages) if messages.operation != Operation::Create => "",
            _ => CANCELLED,
        };
        let error = Cow::Borrowed(error);
        let record = SpanRecord {
            recorder,
            role,
            context,
            parent,
            begun,
            ended,
            about,
            error,
            is_fault,
            links,
        };
        Self(Some(Box::new(record)))
    }

    /// Its place in the trace, if it is recorded.
    pub fn context(&self) -> Option<TraceContext> {
        self.0.as_ref().map(|record| record.context)
    }

    /// The value of a `traceparent` header that names it as the parent, if it is recorded.
    pub fn traceparent(&self) -> Option<String> {
        self.context().map(|trace| trace.to_string())
    }

    /// Says by which route the request was answered, and how; whether an error is a fault of the shop, its middleware knows.
    pub fn served(&mut self, route: &Rc<str>, status: u16, is_fault: bool) {
        if let Some(record) = &mut self.0
            && let About::Served(served) = &mut record.about
        {
            served.route = route.clone();
            served.status = status;
            record.error = if status >= 500 { status.to_string().into() } else { "".into() };
            record.is_fault = is_fault;
        }
    }

    /// Says where the call goes, if that is to another process.
    pub fn at(&mut self, there: impl FnOnce() -> Uri) {
        if let Some(record) = &mut self.0
            && let About::Call { url, .. } = &mut record.about
        {
            *url = Some(there());
        }
    }

    /// Says how the call was answered.
    pub fn answered(&mut self, code: u16) {
        if let Some(record) = &mut self.0
            && let About::Call { status, .. } = &mut record.about
        {
            *status = code;
            record.error = if code >= 400 { code.to_string().into() } else { "".into() };
            record.is_fault = code >= 500;
        }
    }

    /// Says what came of the read.
    pub fn read(&mut self, result: &'static str) {
        if let Some(record) = &mut self.0
            && let About::CacheRead { outcome, .. } = &mut record.about
        {
            *outcome = result;
            record.error = "".into();
        }
    }

    /// Says that it ended well.
    pub fn succeed(&mut self) {
        if let Some(record) = &mut self.0 {
            record.error = "".into();
        }
    }

    /// Says what went wrong, in a word that is one of few, and whether that is a fault of what the shop needs.
    pub fn fail(&mut self, error: &'static str, is_fault: bool) {
        if let Some(record) = &mut self.0 {
            record.error = error.into();
            record.is_fault = is_fault;
        }
    }

    /// Forgets it: what it is about has not happened.
    pub fn discard(mut self) {
        if let Some(recorder) = self.0.take().and_then(|mut record| record.recorder.take()) {
            recorder.close(None);
        }
    }

    /// Where its parts belong; `None` if it is not recorded.
    pub fn scope(&self) -> Option<Scope> {
        self.context().and_then(|trace| Some(Scope::current()?.at(trace)))
    }

    /// Runs `work` as what the span is about: what that does are parts of it.
    pub fn within<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        match self.scope() {
            Some(scope) => Either::Left(scope.run(work)),
            None => Either::Right(work),
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(mut record) = self.0.take()
            && let Some(recorder) = record.recorder.take()
        {
            record.ended = Instant::now();
            recorder.close(Some(record));
        }
    }
}
