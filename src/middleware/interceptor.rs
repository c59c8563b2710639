//! What answers requests before a role's routes do, and what it says of each of them.

use std::convert::Infallible;
use std::future::pending;
use std::rc::Rc;
use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};

use crate::peer::Context;

/// How long a request may take, and how large its body may be.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The most time that it may take.
    pub timeout: Duration,
    /// The largest body, in bytes.
    pub body_limit: usize,
}

/// Handles requests before the role's routes do.
pub trait Interceptor: 'static {
    /// Its result for a request that it answers itself.
    type Found;

    /// Examines `request` first of all.
    fn lookup(&self, request: &ServiceRequest) -> RouteLookup<Self::Found>;

    /// Answers a request for which it has `found` something.
    fn answer(
        &self,
        request: ServiceRequest,
        found: Self::Found,
        context: Context,
    ) -> impl Future<Output = Result<ServiceResponse<BoxBody>, actix_web::Error>> + 'static;
}

/// What an [`Interceptor`] knows about a request.
#[derive(Debug)]
pub struct RouteLookup<F> {
    /// Its bounds.
    pub bounds: Bounds,
    /// The name of its route; `None` if the role's own routes know it.
    pub name: Option<RouteName>,
    /// Whether the handler ends when the client goes, even if the request may write: the service behind the route then sees
    /// its own client go.
    pub aborts: bool,
    /// `None` if one of the role's own routes answers.
    pub found: Option<F>,
}

/// The bounds of requests that a role's own routes answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct RoleBounds {
    /// Those of all but uploads.
    pub(super) bounds: Bounds,
    /// The paths that take bodies of any size.
    pub(super) uploads: &'static [&'static str],
}

/// How long an upload may take. It ends before, where its client pauses for longer than `server.body_timeout`.
const UPLOAD: Duration = Duration::from_hours(24);

impl Interceptor for RoleBounds {
    type Found = Infallible;

    fn lookup(&self, request: &ServiceRequest) -> RouteLookup<Infallible> {
        let bounds = match self.uploads.contains(&request.path()) {
            true => Bounds { timeout: UPLOAD, body_limit: usize::MAX },
            false => self.bounds,
        };
        RouteLookup { bounds, name: None, aborts: false, found: None }
    }

    fn answer(
        &self,
        _: ServiceRequest,
        _: Infallible,
        _: Context,
    ) -> impl Future<Output = Result<ServiceResponse<BoxBody>, actix_web::Error>> + 'static {
        // It never finds anything.
        pending()
    }
}

/// The name of a request's route in the log and in the metrics, such as `/products/{id}`.
#[derive(Clone, Debug)]
pub struct RouteName(pub Rc<str>);

thread_local! {
    static NO_ROUTE: RouteName = RouteName("-".into());
}

impl Default for RouteName {
    fn default() -> Self {
        NO_ROUTE.with(Clone::clone)
    }
}
