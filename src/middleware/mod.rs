//! The middleware of every role, the same behind a socket and behind a mailbox: request id, deadline, limits, errors,
//! problems, the access log.

mod condition;
pub mod cors;
mod document;
mod fields;
mod head;
mod headers;
mod inputs;
mod page;
mod patterns;
mod routes;
mod upload;

use std::convert::Infallible;
use std::future::pending;
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
pub use fields::{BodyLimit, Fields, MaybeFields, Query, discard};
pub use head::HeadLimit;
pub use headers::SecurityHeaders;
pub use inputs::Input;
pub use page::Limit;
#[cfg(test)]
pub(crate) use patterns::allows;
pub use patterns::{LineError, is_invisible, line, line_schema, text_schema};
pub use routes::{NO_STORE, Path, admit, other_method, path};

use crate::auth::Guard;
use crate::deadline;
use crate::error::{Error, Kind};
use crate::http1::AbortOnDisconnect;
use crate::peer::clock::{self, Elapsed};
use crate::peer::{Context, Origin, REQUEST_ID, RequestId, Trusted, number};
use crate::tasks;
use crate::telemetry::{Meter, Metrics};
use upload::Upload;

/// The log target of the access log, for `log.filter`.
const ACCESS: &str = "access";
/// The prefix of paths for other roles.
const INTERNAL: &str = "/internal/";

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
    /// Whether a request that may write ends when its client goes, as one that does not: it is for a service, which sees
    /// its own client go.
    pub aborts: bool,
    /// `None` if one of the role's own routes answers.
    pub found: Option<F>,
}

/// The same bounds for all requests, which the role's routes answer.
impl Interceptor for Bounds {
    type Found = Infallible;

    fn lookup(&self, _: &ServiceRequest) -> RouteLookup<Infallible> {
        RouteLookup { bounds: *self, name: None, aborts: false, found: None }
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

/// The middleware of one role.
#[derive(Clone, Debug)]
pub struct Edge {
    /// The role's name in the log.
    pub role: &'static str,
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
}

impl Edge {
    /// The role's actix application: `routes` behind this middleware.
    pub fn app(self, routes: impl FnOnce(&mut ServiceConfig)) -> App<impl RoleService> {
        let same = self.bounds();
        self.app_behind(same, routes)
    }

    /// The same, with `interceptor` before the routes.
    pub fn app_behind(
        self,
        interceptor: impl Interceptor,
        routes: impl FnOnce(&mut ServiceConfig),
    ) -> App<impl RoleService> {
        let meter = Meter::new(self.metrics.clone(), self.role);
        let edge = Rc::new(self);
        let shared = Rc::new((interceptor, meter));
        App::new()
            .app_data(BodyLimit(edge.body_limit))
            .app_data(edge.guard.clone())
            .default_service(web::to(not_found))
            .configure(routes)
            // Boxed, to keep the surrounding futures small.
            .wrap(from_fn(move |request, next| {
                Box::pin(edge.clone().serve(request, next, shared.clone()))
            }))
    }

    /// The default bounds of requests.
    pub fn bounds(&self) -> Bounds {
        Bounds { timeout: self.request_timeout, body_limit: self.body_limit }
    }

    async fn serve<B: MessageBody + 'static>(
        self: Rc<Self>,
        mut request: ServiceRequest,
        next: Next<B>,
        shared: Rc<(impl Interceptor, Meter)>,
    ) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
        let (interceptor, meter) = &*shared;
        let started = Instant::now();
        let RouteLookup { bounds, name: named, aborts, found } = interceptor.lookup(&request);
        let origin = Origin::take(&request);
        let is_mailbox = matches!(origin, Some(Origin::Mailbox(_)));
        let context = match origin {
            Some(Origin::Mailbox(context)) => context.received(bounds.timeout, started),
            Some(Origin::Socket(peer)) => {
                let client = self.trusted.client(request.headers(), peer);
                Context::from_headers(request.headers(), Some(client), bounds.timeout, started)
            }
            None => return Err(Error::internal("a request without an origin").into()),
        };
        let context = context.watched();
        let line =
            log::log_enabled!(target: ACCESS, self.access).then(|| request.path().to_owned());
        let method = request.method().clone();
        let id = &context.request_id;
        let grant = self.cors.as_ref().and_then(|cors| cors.grant(request.headers()));
        if aborts && let Some(abort) = request.extensions().get::<AbortOnDisconnect>() {
            abort.allow();
        }
        // Requests from a mailbox were checked behind the socket that they came from.
        let (checked, upload) = match is_mailbox {
            true => (Ok(()), None),
            false => self.receive(&mut request, bounds.body_limit),
        };
        let answered = match (checked, &self.cors, found) {
            (Err(error), ..) => Err(error),
            (Ok(()), Some(cors), _) if cors::is_preflight(request.method(), request.headers()) => {
                Ok(match cors.preflight(&grant) {
                    Ok(allowed) => request.into_response(allowed),
                    Err(error) => request.error_response(error),
                })
            }
            (Ok(()), ..) if head::asks_of_all(request.head()) => {
                let allowed = other_method(request.head(), &METHODS);
                allowed.map(|allowed| request.into_response(allowed))
            }
            _ if context.deadline <= started => {
                Err(Error::new(Kind::DeadlineExceeded, "no time was left to answer"))
            }
            (Ok(()), _, Some(found)) => {
                let answer = interceptor.answer(request, found, context.clone());
                let ended = within(context.deadline, aborts || method.is_safe(), answer).await;
                judge(ended, upload.as_ref())
            }
            (Ok(()), _, None) => {
                request.extensions_mut().insert(context.clone());
                let ended = within(context.deadline, method.is_safe(), next.call(request)).await;
                judge(ended, upload.as_ref())
            }
        };
        let (outcome, status, route) = match answered {
            Ok(response) => {
                let response = self.finish(response, &context, &grant);
                // The interceptor's name, or the pattern of the path.
                let route = named.or_else(|| response.request().app_data::<RouteName>().cloned());
                let status = response.status();
                (Ok(response), status, route)
            }
            // The handler was cut off and has dropped the request.
            Err(error) => {
                self.report(&error, &context);
                let status = error.status_code();
                // The request was not read to its end.
                let close = status.is_client_error() || self.draining.has_begun();
                let edge = self.clone();
                let cut = Rendered { error, id: id.clone(), edge, grant, close };
                (Err(cut.into()), status, named)
            }
        };
        let (route, duration) = (route.unwrap_or_default(), started.elapsed());
        meter.count(&route.0, method.as_str(), status.as_u16(), duration);
        if let Some(path) = line {
            self.log(&Line { method, path, route, status, duration }, id);
        }
        outcome
    }

    /// Checks a client's request head.
    fn receive(
        &self,
        request: &mut ServiceRequest,
        body_limit: usize,
    ) -> (Result<(), Error>, Option<Upload>) {
        let upload = Upload::watch(request, self.body_timeout);
        let is_believed = request.peer_addr().is_some_and(|peer| self.trusted.believes(peer.ip()));
        let checked = head::check(request.head_mut(), self.head_limit).and_then(|()| {
            self.guard.check_host(request.headers(), is_believed)?;
            let length = number::<u64>(request.headers().get(CONTENT_LENGTH));
            match length.is_some_and(|length| length > body_limit as u64) {
                true => Err(too_large(body_limit)),
                false => Ok(()),
            }
        });
        (checked, upload)
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

    /// Logs the cause of a server error. A short deadline of the client is not a server error.
    fn report(&self, error: &Error, context: &Context) {
        let own = matches!(self.trusted, Trusted::Everybody) || !context.hurried;
        let is_fault = error.status_code().is_server_error()
            && !error.is_logged()
            && (own || error.kind() != Kind::DeadlineExceeded || Instant::now() < context.deadline);
        if is_fault {
            let id = context.request_id.as_str();
            log::error!(role = self.role, requestId = id; "{}", error.chain());
        }
    }

    fn log(&self, line: &Line, id: &RequestId) {
        let (method, path) = (line.method.as_str(), line.path.as_str());
        // Frequent calls between roles are logged at debug level; the caller logs failures.
        let quiet = path.starts_with(INTERNAL) && !line.status.is_client_error();
        log::log!(
            target: ACCESS,
            if quiet { Level::Debug } else { self.access },
            role = self.role,
            requestId = id.as_str(),
            method,
            route = &*line.route.0,
            status = line.status.as_u16(),
            durationMs = line.duration.as_micros() as f64 / 1000.0;
            "{method} {path}"
        );
    }
}

/// The outcome of a handler: late, panicked, failed, or a response.
type Ended<B> = Result<std::thread::Result<Result<ServiceResponse<B>, actix_web::Error>>, Elapsed>;

/// Runs the `handler` until `deadline`. Unless it `ends` with its caller, it may write, and runs to its end even when the
/// caller has left. Not an `async fn`, which would store the handler's future twice.
fn within<B: MessageBody + 'static>(
    deadline: Instant,
    ends: bool,
    handler: impl Future<Output = Result<ServiceResponse<B>, actix_web::Error>> + 'static,
) -> impl Future<Output = Ended<B>> {
    let handler = AssertUnwindSafe(handler).catch_unwind();
    if ends {
        return Either::Left(clock::by(deadline, handler));
    }
    // It ends, because a store does not start a call after its deadline.
    let handler = deadline::until(deadline, handler);
    let written = tasks::detach(handler).map(|joined| joined.unwrap_or_else(panicked));
    Either::Right(clock::by(deadline, written))
}

/// The client's response to the outcome of a handler.
fn judge<B: MessageBody + 'static>(
    ended: Ended<B>,
    upload: Option<&Upload>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    match ended {
        Ok(Ok(Ok(response))) => match upload.and_then(|upload| upload.fault(response.status())) {
            Some(fault) => Err(fault),
            None => Ok(response.map_into_boxed_body()),
        },
        Ok(Ok(Err(error))) => Err(Error::internal(error.to_string())),
        Ok(Err(_panic)) => Err(Error::internal("a handler panicked")),
        Err(Elapsed) => Err(upload
            .and_then(Upload::fault_at_deadline)
            .unwrap_or_else(|| Error::new(Kind::DeadlineExceeded, "no answer in time"))),
    }
}

async fn not_found(request: HttpRequest, content: web::Payload) -> Result<HttpResponse, Error> {
    fields::discard(request.headers(), content, BodyLimit::from_app_data(&request)).await;
    Err(Error::not_found("path"))
}

/// A line of the access log.
struct Line {
    method: Method,
    path: String,
    route: RouteName,
    status: StatusCode,
    duration: Duration,
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
    edge: Rc<Edge>,
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
        self.edge.sign(response.headers_mut(), &self.id, &self.grant);
        if self.close {
            response.head_mut().set_connection_type(ConnectionType::Close);
        }
        response
    }
}
