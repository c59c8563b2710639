//! What every role does with a request before and after its handler, behind a socket and behind a
//! mailbox alike: request id, deadline, limits, faults, problems, the access log.

mod condition;
mod document;
mod fields;
mod page;
mod patterns;
mod routes;

use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::http::header::CONTENT_LENGTH;
use actix_web::http::{ConnectionType, StatusCode};
use actix_web::middleware::{Next, from_fn};
use actix_web::web::ServiceConfig;
use actix_web::{App, HttpMessage as _, HttpRequest, HttpResponse, ResponseError, web};
use futures_util::FutureExt as _;
use log::Level;
use tokio::time::timeout_at;

pub use condition::{Condition, IfMatch, IfNoneMatch};
pub use document::{components, differences, document};
pub use fields::{BodyLimit, Fields, Query};
pub use page::Limit;
#[cfg(test)]
pub(crate) use patterns::allows;
pub use patterns::{line_schema, text_schema};
pub use routes::{Path, guarded, path};

use crate::auth::Guard;
use crate::error::{Error, Kind};
use crate::transport::{Context, REQUEST_ID, RequestId, Trusted, number};

/// The target of the access log's lines, for `log.filter`.
const ACCESS: &str = "access";
/// What the paths begin with that are for other roles alone.
const INTERNAL: &str = "/internal/";

/// What an actix application of ours is made of; a name for the signatures of those who pass one on.
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

/// Set once the process has been told to stop; shared by all its roles.
#[derive(Clone, Debug, Default)]
pub struct Draining(Arc<AtomicBool>);

impl Draining {
    /// From now on.
    pub fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the process has been told to stop.
    pub fn has_begun(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The policy of one role's edge.
#[derive(Clone, Debug)]
pub struct Edge {
    /// The role's name in the log.
    pub role: &'static str,
    /// The most time a request may take.
    pub request_timeout: Duration,
    /// The largest request body, in bytes.
    pub body_limit: usize,
    /// While this is set, answers ask clients to open a new connection, which will be elsewhere.
    pub draining: Draining,
    /// The level of the access log's lines.
    pub access: Level,
    /// Knows who asks, and who may.
    pub guard: Guard,
    /// Who is believed in where a client is.
    pub trusted: Trusted,
}

impl Edge {
    /// The role's actix application: `routes` behind this edge.
    pub fn app(self, routes: impl FnOnce(&mut ServiceConfig)) -> App<impl RoleService> {
        let edge = Rc::new(self);
        App::new()
            .app_data(BodyLimit(edge.body_limit))
            .app_data(edge.guard.clone())
            .configure(routes)
            .default_service(web::to(not_found))
            .wrap(from_fn(move |request, next| edge.clone().serve(request, next)))
    }

    async fn serve<B: MessageBody + 'static>(
        self: Rc<Self>,
        request: ServiceRequest,
        next: Next<B>,
    ) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
        let started = Instant::now();
        let peer = request.peer_addr().map(|address| address.ip());
        let client = self.trusted.client(request.headers(), peer);
        let context = Context::of(request.headers(), self.request_timeout).watched(client);
        request.extensions_mut().insert(context.clone());
        let line = log::log_enabled!(target: ACCESS, self.access).then(|| Line {
            method: request.method().to_string(),
            path: request.path().to_owned(),
            started,
        });
        let id = &context.request_id;
        match self.answer(request, next, &context).await {
            Ok(response) => {
                let response = self.finish(response, id);
                self.log(line, response.status(), || route(&response), id);
                Ok(response)
            }
            // The handler was cut off, and took the request with it.
            Err(error) => {
                self.report(&error, id);
                self.log(line, error.status_code(), || None, id);
                Err(Rendered { error, id: id.clone() }.into())
            }
        }
    }

    /// Runs the handler within the limits. A request that may write runs to its end even when nobody
    /// waits for it any longer.
    async fn answer<B: MessageBody + 'static>(
        &self,
        request: ServiceRequest,
        next: Next<B>,
        context: &Context,
    ) -> Result<ServiceResponse<BoxBody>, Error> {
        let length = number::<u64>(request.headers(), CONTENT_LENGTH);
        if length.is_some_and(|length| length > self.body_limit as u64) {
            return Err(too_large(self.body_limit));
        }
        let safe = request.method().is_safe();
        let handler = AssertUnwindSafe(next.call(request)).catch_unwind();
        let outcome = if safe {
            timeout_at(context.deadline.into(), handler).await
        } else {
            let written = actix_rt::spawn(handler);
            timeout_at(context.deadline.into(), written)
                .await
                .map(|joined| joined.unwrap_or_else(panicked))
        };
        match outcome {
            Ok(Ok(Ok(response))) => Ok(response.map_into_boxed_body()),
            Ok(Ok(Err(error))) => Err(Error::internal(error.to_string())),
            Ok(Err(_panic)) => Err(Error::internal("a handler panicked")),
            Err(_elapsed) => Err(Error::new(Kind::DeadlineExceeded, "no answer in time")),
        }
    }

    /// Turns an error into its problem, and adds the headers that every response has.
    fn finish(
        &self,
        response: ServiceResponse<BoxBody>,
        id: &RequestId,
    ) -> ServiceResponse<BoxBody> {
        let rendered = match response.response().error() {
            Some(cause) => match cause.as_error::<Error>() {
                Some(error) => Some(self.problem(error, id)),
                None => Some(self.problem(&foreign(response.status(), cause), id)),
            },
            None => None,
        };
        let mut response = match rendered {
            Some(problem) => response.into_response(problem),
            None => response,
        };
        response.headers_mut().insert(REQUEST_ID, id.header());
        if self.draining.has_begun() {
            response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
        }
        response
    }

    fn problem(&self, error: &Error, id: &RequestId) -> HttpResponse {
        self.report(error, id);
        error.render(Some(id.as_str()))
    }

    /// The cause of a fault stands in the log, and only there.
    fn report(&self, error: &Error, id: &RequestId) {
        if error.status_code().is_server_error() {
            log::error!(role = self.role, requestId = id.as_str(); "{}", error.chain());
        }
    }

    fn log(
        &self,
        line: Option<Line>,
        status: StatusCode,
        route: impl FnOnce() -> Option<String>,
        id: &RequestId,
    ) {
        let Some(line) = line else { return };
        let route = route().unwrap_or_else(|| "-".into());
        let (method, path) = (line.method.as_str(), line.path.as_str());
        let millis = line.started.elapsed().as_micros() as f64 / 1000.0;
        // What roles ask each other every few seconds is nobody's news.
        let quiet = path.starts_with(INTERNAL) && status.is_success();
        log::log!(
            target: ACCESS,
            if quiet { Level::Debug } else { self.access },
            role = self.role,
            requestId = id.as_str(),
            method,
            route = route.as_str(),
            status = status.as_u16(),
            durationMs = millis;
            "{method} {path}"
        );
    }
}

async fn not_found(request: HttpRequest, content: web::Payload) -> Result<HttpResponse, Error> {
    fields::discard(content, BodyLimit::of(&request)).await;
    Err(Error::not_found("path"))
}

/// What the access log needs of a request that a handler is going to take.
struct Line {
    method: String,
    path: String,
    started: Instant,
}

/// The route template, such as `/products/{id}`.
fn route(response: &ServiceResponse<BoxBody>) -> Option<String> {
    response.request().match_pattern()
}

fn panicked<T>(_: tokio::task::JoinError) -> Result<T, Box<dyn std::any::Any + Send>> {
    Err(Box::new("cancelled"))
}

/// 413, with the limit in bytes.
pub fn too_large(limit: usize) -> Error {
    Error::new(Kind::TooLarge, format!("the body is larger than {limit} bytes"))
}

/// An error of the framework's own, as one of ours.
fn foreign(status: StatusCode, cause: &actix_web::Error) -> Error {
    let kind = Kind::from_status(status);
    let text = cause.to_string();
    if status.is_client_error() { Error::new(kind, text) } else { Error::internal(text) }
}

/// An error that leaves without its request.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
struct Rendered {
    error: Error,
    id: RequestId,
}

impl ResponseError for Rendered {
    fn status_code(&self) -> StatusCode {
        self.error.status_code()
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = self.error.render(Some(self.id.as_str()));
        response.headers_mut().insert(REQUEST_ID, self.id.header());
        response
    }
}
