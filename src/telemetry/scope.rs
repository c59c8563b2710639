//! The request that a task works for: what names it in the log, and where its time goes.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use actix_web::http::header::HeaderValue;
use futures_util::future::Either;

use super::{Recorder, TraceContext};

tokio::task_local! {
    static CURRENT: Scope;
}

/// A request in one role, or a part of its work; cheap to clone. Tasks that work for the same request share one.
#[derive(Clone, Debug)]
pub struct Scope {
    request: Rc<Inner>,
    trace: TraceContext,
}

#[derive(Debug)]
struct Inner {
    role: &'static str,
    /// Empty for work in the background.
    request_id: HeaderValue,
    recorder: Option<Recorder>,
    clocks: [Clock; 3],
}

/// What a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Its turn, in a mailbox or a bulkhead. It is also a part of [`Part::Peers`].
    Queues,
    /// A store or a cache on a server.
    Stores,
    /// Other roles and upstreams.
    Peers,
}

/// Adds up the time in which at least one thing of its kind is under way, as several may be at once.
#[derive(Debug, Default)]
struct Clock {
    total: Cell<Duration>,
    running: Cell<u32>,
    since: Cell<Option<Instant>>,
}

impl Clock {
    fn start(&self, now: impl FnOnce() -> Instant) {
        if self.running.replace(self.running.get() + 1) == 0 {
            self.since.set(Some(now()));
        }
    }

    fn stop(&self) {
        if self.running.replace(self.running.get() - 1) == 1 {
            self.total.set(self.elapsed());
            self.since.set(None);
        }
    }

    fn elapsed(&self) -> Duration {
        self.total.get() + self.since.get().map_or(Duration::ZERO, |since| since.elapsed())
    }
}

impl Scope {
    /// The request with this id and place in a trace, in `role`. Its spans go to the `recorder`, if there is one.
    pub fn new(
        role: &'static str,
        request_id: HeaderValue,
        trace: TraceContext,
        recorder: Option<Recorder>,
    ) -> Self {
        let request = Rc::new(Inner { role, request_id, recorder, clocks: Default::default() });
        Self { request, trace }
    }

    /// What the current task's spans belong to: the recorder, the role and the span above. `None` if nothing is recorded.
    pub(super) fn recording() -> Option<(Recorder, &'static str, TraceContext)> {
        let recording = |scope: &Self| {
            let recorder = scope.request.recorder.clone()?;
            Some((recorder, scope.request.role, scope.trace))
        };
        CURRENT.try_with(recording).ok().flatten()
    }

    /// The same request, in the part of its work that is `trace`.
    pub fn at(&self, trace: TraceContext) -> Self {
        Self { request: self.request.clone(), trace }
    }

    /// The request that this task works for.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Self::clone).ok()
    }

    /// Runs `work` for this request.
    pub fn run<F: Future>(self, work: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, work)
    }

    /// Does `work` for this request at once.
    pub fn enter<T>(&self, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self.clone(), work)
    }

    /// The role's name.
    pub fn role(&self) -> &'static str {
        self.request.role
    }

    /// The request's id.
    pub fn request_id(&self) -> &str {
        self.request.request_id.to_str().unwrap_or_default()
    }

    /// The request's place in a trace.
    pub fn trace(&self) -> TraceContext {
        self.trace
    }

    /// How long the request has waited for `part` so far.
    pub fn waited(&self, part: Part) -> Duration {
        self.clock(part).elapsed()
    }

    fn clock(&self, part: Part) -> &Clock {
        &self.request.clocks[part as usize]
    }
}

/// The current request's place in a trace.
pub fn current_trace() -> Option<TraceContext> {
    CURRENT.try_with(Scope::trace).ok()
}

/// Lets `work` run for the current request, also in a task of its own.
pub fn inherit<F: Future>(work: F) -> impl Future<Output = F::Output> {
    match Scope::current() {
        Some(scope) => Either::Left(scope.run(work)),
        None => Either::Right(work),
    }
}

/// Counts the time until it is dropped as one in which the current request waits for a part.
#[derive(Debug)]
pub struct Wait(Option<(Scope, Part)>);

impl Wait {
    /// Begins to wait for `part`.
    pub fn begin(part: Part) -> Self {
        Self::begin_at(part, Instant::now)
    }

    /// Begins to wait for `part` at the time `now`, which is asked for only where it counts.
    pub fn begin_at(part: Part, now: impl FnOnce() -> Instant) -> Self {
        let scope = Scope::current();
        if let Some(scope) = &scope {
            scope.clock(part).start(now);
        }
        Self(scope.map(|scope| (scope, part)))
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if let Some((scope, part)) = &self.0 {
            scope.clock(*part).stop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope() -> Scope {
        Scope::new("test", HeaderValue::from_static("id"), TraceContext::new(), None)
    }

    #[actix_rt::test]
    async fn a_task_of_its_own_works_for_the_same_request() {
        let scope = scope();
        let found = scope
            .clone()
            .run(async { crate::tasks::detach(inherit(async { current_trace() })).await.unwrap() });
        assert_eq!(found.await, Some(scope.trace()));
        assert_eq!(crate::tasks::detach(inherit(async { current_trace() })).await.unwrap(), None);
    }

    #[test]
    fn what_is_under_way_at_once_is_counted_once_and_also_before_it_ends() {
        let pause = Duration::from_millis(20);
        let (scope, begun) = (scope(), Instant::now());
        let [first, second] =
            scope.enter(|| [Wait::begin(Part::Stores), Wait::begin(Part::Stores)]);
        std::thread::sleep(pause);
        assert!(scope.waited(Part::Stores) >= pause);
        drop(first);
        std::thread::sleep(pause);
        drop(second);
        let waited = scope.waited(Part::Stores);
        assert!(waited >= 2 * pause && waited <= begun.elapsed(), "{waited:?}");
        std::thread::sleep(pause);
        assert_eq!(scope.waited(Part::Stores), waited);
        assert_eq!(scope.waited(Part::Peers), Duration::ZERO);
    }
}
