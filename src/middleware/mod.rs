//! The middleware of every role, the same behind a socket and behind a mailbox: request id, deadline, limits, errors,
//! problems, the access log.

mod condition;
pub mod cors;
mod document;
mod fields;
mod head;
mod headers;
mod inputs;
mod interceptor;
mod json;
mod page;
mod patterns;
mod routes;
mod scoped_body;
mod upload;

use std::ops::ControlFlow;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::http::header::{CACHE_CONTROL, CONTENT_LENGTH, HeaderMap};
use actix_web::http::{ConnectionType, Method, StatusCode};
use actix_web::middleware::{Next, from_fn};
use actix_web::web::ServiceConfig;
use actix_web::{App, HttpMessage as _, HttpRequest, HttpResponse, ResponseError, web};
use futures_util::FutureExt as _;
use futures_util::future::Either;
use log::Level;

pub use condition::{Condition, IfMatch, IfNoneMatch};
pub use document::{components, differences, document, prune};
pub use fields::{BodyLimit, Fields, MaybeFields, Query, RawBody, check_coding, discard};
pub use head::HeadLimit;
pub use headers::SecurityHeaders;
pub use inputs::Input;
pub use interceptor::{Bounds, Interceptor, RouteLookup, RouteName};
pub use json::Json;
pub use page::Limit;
#[cfg(test)]
pub(crate) use patterns::allows;
pub use patterns::{LineError, is_invisible, line, line_schema, text_schema};
pub use routes::{NO_STORE, Path, add_paths, admit, other_method, path};

use crate::auth::Guard;
use crate::deadline;
use crate::error::{Error, Kind};
use crate::http1::AbortOnDisconnect;
use crate::peer::clock::{self, Elapsed};
use crate::peer::{Context, INTERNAL, Origin, REQUEST_ID, RequestId, Trusted, number};
use crate::tasks;
use crate::telemetry::{MANAGEMENT, Meter, Metrics, Scope, Served, Span, watch_request};
use interceptor::RoleBounds;
use scoped_body::scoped;
use upload::Upload;

/// The log target of the access log, for `log.filter`.
const ACCESS: &str = "access";
/// The methods that the shop uses.
pub const METHODS: [Method; 6] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// The actix service of a role; a short name for signatures.
pub trait RoleService:
    ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<BoxBody>,
        Error = actix_web::Error,
        InitError = (),
    > + 'static
{
}

impl<T> RoleService for T where
    T: ServiceFactory<
            ServiceRequest,
            Config = (),
            Response = ServiceResponse<BoxBody>,
            Error = actix_web::Error,
            InitError = (),
        > + 'static
{
}

/// Whether the process has been told to stop; shared by its roles.
#[derive(Clone, Debug, Default)]
pub struct Draining(Arc<AtomicBool>);

impl Draining {
    /// Starts draining.
    pub fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the process has been told to stop.
    pub fn has_begun(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The middleware of one role.
#[derive(Clone, Debug)]
pub struct Middleware {
    /// The role's name in the log.
    pub role: &'static str,
    /// What its listener speaks: `http` or `https`.
    pub scheme: &'static str,
    /// The most time a request may take.
    pub request_timeout: Duration,
    /// The largest request body, in bytes.
    pub body_limit: usize,
    /// The most time between two pieces of a request's body.
    pub body_timeout: Duration,
    /// The largest head of a request.
    pub head_limit: HeadLimit,
    /// While draining, responses close their connection, so that clients go elsewhere.
    pub draining: Draining,
    /// The level of the access log's lines.
    pub access: Level,
    /// Checks tokens and rules.
    pub guard: Guard,
    /// Whose headers about the client's address are trusted.
    pub trusted: Trusted,
    /// Where requests are counted.
    pub metrics: Metrics,
    /// The security headers; `None` where only other roles and operators call.
    pub security: Option<SecurityHeaders>,
    /// The CORS policy, if any.
    pub cors: Option<cors::Policy>,
    /// The paths that take bodies of any size, for as long as pieces of them arrive.
    pub uploads: &'static [&'static str],
}

impl Middleware {
    /// The role's actix application: `routes` behind this middleware.
    pub fn app(self, routes: impl FnOnce(&mut ServiceConfig)) -> App<impl RoleService> {
        let bounds = RoleBounds { bounds: self.bounds(), uploads: self.uploads };
        self.app_behind(bounds, routes)
    }

    /// The same, with `interceptor` before the routes.
    pub fn app_behind(
        self,
        interceptor: impl Interceptor,
        routes: impl FnOnce(&mut ServiceConfig),
    ) -> App<impl RoleService> {
        let meter = Meter::new(self.metrics.clone(), self.role);
        let middleware = Rc::new(self);
        let shared = Rc::new((interceptor, meter));
        App::new()
            .app_data(BodyLimit(middleware.body_limit))
            .app_data(middleware.guard.clone())
            .default_service(web::to(not_found))
            .configure(routes)
            // Boxed, to keep the surrounding futures small.
            .wrap(from_fn(move |request, next| {
                Box::pin(middleware.clone().serve(request, next, shared.clone()))
            }))
    }

    /// The default bounds of requests.
    pub fn bounds(&self) -> Bounds {
        Bounds { timeout: self.request_timeout, body_limit: self.body_limit }
    }

    /// Takes a request through the stages, in this order.
    async fn serve<B: MessageBody + 'static>(
        self: Rc<Self>,
        mut request: ServiceRequest,
        next: Next<B>,
        shared: Rc<(impl Interceptor, Meter)>,
    ) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
        let (interceptor, meter) = &*shared;
        let started = Instant::now();
        let _active = meter.begin();
        let RouteLookup { bounds, name, aborts, found } = interceptor.lookup(&request);
        let mut exchange = self.receive(&mut request, bounds.timeout, started)?;
        let ends = exchange.ends_with_client(&request, aborts);
        let deadline = exchange.context.deadline;
        let answered = match (self.admit(request, &exchange, bounds.body_limit), found) {
            (ControlFlow::Break(answered), _) => answered,
            (ControlFlow::Continue(request), Some(found)) => {
                let answer = interceptor.answer(request, found, exchange.context.clone());
                let answer = exchange.scope.clone().run(answer);
                conclude(within(deadline, ends, answer).await, exchange.upload.as_ref())
            }
            (ControlFlow::Continue(request), None) => {
                request.extensions_mut().insert(exchange.context.clone());
                let answer = exchange.scope.clone().run(next.call(request));
                conclude(within(deadline, ends, answer).await, exchange.upload.as_ref())
            }
        };
        exchange.scope.clone().enter(|| {
            let outcome = self.render(answered, &exchange);
            self.record(&outcome, name, &mut exchange, meter);
            outcome.map(|response| response.map_body(|_, body| scoped(body, &exchange.scope)))
        })
    }

    /// Receives a request: finds out who sent it and by when it is to be answered, and watches its body. Requests from a
    /// mailbox were checked and are watched behind the socket that they came from.
    fn receive(
        &self,
        request: &mut ServiceRequest,
        timeout: Duration,
        started: Instant,
    ) -> Result<Exchange, Error> {
        let (context, upload, peer) = match Origin::take(request) {
            Some(Origin::Mailbox(context)) => (context.received(timeout, started), None, None),
            Some(Origin::Socket(peer)) => {
                let headers = request.headers();
                let client = self.trusted.client(headers, peer);
                let context = Context::from_headers(headers, Some(client), timeout, started);
                // A profile takes as long as an operator wants it to.
                let context = match self.role {
                    MANAGEMENT => context,
                    _ => context.traced(self.trusted.believes(peer)),
                };
                (context, Upload::watch(request, self.body_timeout), Some(peer))
            }
            None => return Err(Error::internal("a request without an origin")),
        };
        let is_logged = log::log_enabled!(target: ACCESS, self.access);
        let (id, recorder) = (context.request_id.header(), context.recorder.clone());
        let parent = context.parent.map(|parent| (parent, !context.by_mailbox));
        let span = Span::server(recorder.as_ref(), self.role, context.trace, parent, || Served {
            request_id: context.request_id.to_string(),
            method: request.method().clone(),
            route: RouteName::default().0,
            scheme: self.trusted.scheme(request.headers(), peer).unwrap_or(self.scheme),
            target: request.uri().clone(),
            status: 0,
        });
        Ok(Exchange {
            started,
            span,
            scope: Scope::new(self.role, id, context.trace, recorder),
            context: context.watched(),
            is_checked: peer.is_none(),
            upload,
            method: request.method().clone(),
            path: is_logged.then(|| request.path().to_owned()),
            grant: self.cors.as_ref().and_then(|cors| cors.grant(request.headers())),
        })
    }

    /// Checks the head of a request, and answers those that need no handler.
    fn admit(
        &self,
        mut request: ServiceRequest,
        exchange: &Exchange,
        body_limit: usize,
    ) -> ControlFlow<Answered, ServiceRequest> {
        let answered = if let Err(error) = self.check(&mut request, exchange, body_limit) {
            Err(error)
        } else if let Some(cors) = &self.cors
            && cors::is_preflight(request.method(), request.headers())
        {
            Ok(match cors.preflight(&exchange.grant) {
                Ok(allowed) => request.into_response(allowed),
                Err(error) => request.error_response(error),
            })
        } else if head::asks_of_all(request.head()) {
            let allowed = other_method(request.head(), &METHODS);
            allowed.map(|allowed| request.into_response(allowed))
        } else if exchange.context.deadline <= exchange.started {
            Err(Error::new(Kind::DeadlineExceeded, "no time was left to answer"))
        } else {
            return ControlFlow::Continue(request);
        };
        ControlFlow::Break(answered)
    }

    /// Checks the head of a client's request.
    fn check(
        &self,
        request: &mut ServiceRequest,
        exchange: &Exchange,
        body_limit: usize,
    ) -> Result<(), Error> {
        if exchange.is_checked {
            return Ok(());
        }
        head::check(request.head_mut(), self.head_limit)?;
        let is_believed = request.peer_addr().is_some_and(|peer| self.trusted.believes(peer.ip()));
        self.guard.check_host(request.headers(), is_believed)?;
        let length = number::<u64>(request.headers().get(CONTENT_LENGTH));
        match length.is_some_and(|length| length > body_limit as u64) {
            true => Err(too_large(body_limit)),
            false => Ok(()),
        }
    }

    /// Renders the client's response, and reports an error.
    fn render(
        self: &Rc<Self>,
        answered: Answered,
        exchange: &Exchange,
    ) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
        match answered {
            Ok(response) => Ok(self.finish(response, &exchange.context, &exchange.grant)),
            // The handler was cut off and has dropped the request.
            Err(error) => {
                self.report(&error, &exchange.context);
                // The request was not read to its end.
                let close = error.status_code().is_client_error() || self.draining.has_begun();
                let (id, grant) = (exchange.context.request_id.clone(), exchange.grant.clone());
                Err(Rendered { error, id, middleware: self.clone(), grant, close }.into())
            }
        }
    }

    /// Counts a request, and writes its line of the access log. `name` is the interceptor's for its route.
    fn record(
        &self,
        outcome: &Result<ServiceResponse<BoxBody>, actix_web::Error>,
        name: Option<RouteName>,
        exchange: &mut Exchange,
        meter: &Meter,
    ) {
        let (status, pattern) = match outcome {
            Ok(response) => (response.status(), response.request().app_data::<RouteName>()),
            Err(error) => (error.as_response_error().status_code(), None),
        };
        let route = name.or_else(|| pattern.cloned()).unwrap_or_default();
        let (method, duration) = (exchange.method.as_str(), exchange.started.elapsed());
        let trace = exchange.context.trace.sampled_id();
        meter.count(&route.0, method, status.as_u16(), duration, trace);
        watch_request(&exchange.scope, method, &route.0, status.as_u16(), duration);
        // What clients can ask for at will is no fault: an answer sooner than it can be made, or a method that is unknown.
        let is_late = status == StatusCode::GATEWAY_TIMEOUT && self.is_hurried(&exchange.context);
        let is_fault =
            status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED && !is_late;
        exchange.span.served(&route.0, status.as_u16(), is_fault);
        let Some(path) = exchange.path.as_deref() else { return };
        // Frequent calls between roles are logged at debug level; the caller logs failures.
        let quiet = path.starts_with(INTERNAL) && !status.is_client_error();
        log::log!(
            target: ACCESS,
            if quiet { Level::Debug } else { self.access },
            role = self.role,
            requestId = exchange.context.request_id.as_str(),
            method,
            route = &*route.0,
            status = status.as_u16(),
            durationMs = duration.as_micros() as f64 / 1000.0;
            "{method} {path}"
        );
    }

    /// Turns an error into its problem, and adds the headers that every response has.
    fn finish(
        &self,
        response: ServiceResponse<BoxBody>,
        context: &Context,
        grant: &cors::Grant,
    ) -> ServiceResponse<BoxBody> {
        let rendered = match response.response().error() {
            Some(cause) => match cause.as_error::<Error>() {
                Some(error) => Some(self.problem(error, context)),
                None => Some(self.problem(&foreign(response.status(), cause), context)),
            },
            None => None,
        };
        let mut response = match rendered {
            Some(mut problem) => {
                // The route decides whether the response is private, whatever the handler says.
                if let Some(whose) = response.headers().get(CACHE_CONTROL) {
                    problem.headers_mut().insert(CACHE_CONTROL, whose.clone());
                }
                response.into_response(problem)
            }
            None => response,
        };
        self.sign(response.headers_mut(), &context.request_id, grant);
        if self.draining.has_begun() {
            response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
        }
        response
    }

    /// Adds the headers that every response has.
    fn sign(&self, headers: &mut HeaderMap, id: &RequestId, grant: &cors::Grant) {
        headers.insert(REQUEST_ID, id.header());
        if let Some(security) = &self.security {
            security.write(headers);
        }
        if let Some(cors) = &self.cors {
            cors.write(grant, headers);
        }
    }

    fn problem(&self, error: &Error, context: &Context) -> HttpResponse {
        self.report(error, context);
        error.render(Some(context.request_id.as_str()))
    }

    /// Whether a client asks for an answer sooner than the settings do.
    fn is_hurried(&self, context: &Context) -> bool {
        !matches!(self.trusted, Trusted::Everybody) && context.hurried
    }

    /// Logs the cause of a server error. A short deadline of the client is not a server error.
    fn report(&self, error: &Error, context: &Context) {
        let is_fault = error.status_code().is_server_error()
            && !error.is_logged()
            && (!self.is_hurried(context)
                || error.kind() != Kind::DeadlineExceeded
                || Instant::now() < context.deadline);
        if is_fault {
            let id = context.request_id.as_str();
            log::error!(role = self.role, requestId = id; "{}", error.chain());
        }
    }
}

/// A request under way.
struct Exchange {
    started: Instant,
    span: Span,
    scope: Scope,
    context: Context,
    /// Whether its head was checked before it came here.
    is_checked: bool,
    /// The state of its body, if it has one and came over a socket.
    upload: Option<Upload>,
    method: Method,
    /// The path for the access log; `None` if that is off.
    path: Option<String>,
    grant: cors::Grant,
}

impl Exchange {
    /// Whether its handler ends when the client goes: always for a safe method, otherwise if the route `aborts`.
    fn ends_with_client(&self, request: &ServiceRequest, aborts: bool) -> bool {
        if aborts && let Some(abort) = request.extensions().get::<AbortOnDisconnect>() {
            abort.allow();
        }
        aborts || self.method.is_safe()
    }
}

/// A response or an error, before the middleware adds to it.
type Answered = Result<ServiceResponse<BoxBody>, Error>;

/// The outcome of a handler: late, panicked, failed, or a response.
type Outcome<B> =
    Result<std::thread::Result<Result<ServiceResponse<B>, actix_web::Error>>, Elapsed>;

/// Runs the `handler` until `deadline`. Unless it `ends` with its caller, it may write, and runs to its end even when the
/// caller has left. Not an `async fn`, which would store the handler's future twice.
fn within<B: MessageBody + 'static>(
    deadline: Instant,
    ends: bool,
    handler: impl Future<Output = Result<ServiceResponse<B>, actix_web::Error>> + 'static,
) -> impl Future<Output = Outcome<B>> {
    let handler = AssertUnwindSafe(handler).catch_unwind();
    if ends {
        return Either::Left(clock::by(deadline, handler));
    }
    // It ends, because a store does not start a call after its deadline.
    let handler = deadline::until(deadline, handler);
    let written = tasks::detach(handler).map(|joined| joined.unwrap_or_else(panicked));
    Either::Right(clock::by(deadline, written))
}

/// The answer to the client, from the outcome of a handler.
fn conclude<B: MessageBody + 'static>(outcome: Outcome<B>, upload: Option<&Upload>) -> Answered {
    match outcome {
        Ok(Ok(Ok(response))) => match upload.and_then(|upload| upload.fault(response.status())) {
            Some(fault) => Err(fault),
            None => Ok(response.map_into_boxed_body()),
        },
        Ok(Ok(Err(error))) => Err(Error::internal(error.to_string())),
        // The panic itself is in the log, with its place, and counted.
        Ok(Err(_panic)) => Err(Error::internal("a handler panicked")),
        Err(Elapsed) => Err(upload
            .and_then(Upload::fault_at_deadline)
            .unwrap_or_else(|| Error::new(Kind::DeadlineExceeded, "deadline exceeded"))),
    }
}

async fn not_found(request: HttpRequest, content: web::Payload) -> Result<HttpResponse, Error> {
    fields::discard(request.headers(), content, BodyLimit::from_app_data(&request)).await;
    Err(Error::not_found("path"))
}

fn panicked<T>(_: tokio::task::JoinError) -> Result<T, Box<dyn std::any::Any + Send>> {
    Err(Box::new("cancelled"))
}

/// 413, with the limit in bytes.
pub fn too_large(limit: usize) -> Error {
    Error::new(Kind::TooLarge, format!("the body is larger than {limit} bytes"))
}

/// An error of the framework as a problem.
fn foreign(status: StatusCode, cause: &actix_web::Error) -> Error {
    let kind = Kind::from_status(status);
    let text = cause.to_string();
    if status.is_client_error() { Error::new(kind, text) } else { Error::internal(text) }
}

/// An error whose request is gone.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
struct Rendered {
    error: Error,
    id: RequestId,
    middleware: Rc<Middleware>,
    grant: cors::Grant,
    /// Whether the connection must not be used again.
    close: bool,
}

impl ResponseError for Rendered {
    fn status_code(&self) -> StatusCode {
        self.error.status_code()
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = self.error.render(Some(self.id.as_str()));
        self.middleware.sign(response.headers_mut(), &self.id, &self.grant);
        if self.close {
            response.head_mut().set_connection_type(ConnectionType::Close);
        }
        response
    }
}
