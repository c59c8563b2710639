//! A path and its methods, with HEAD beside every GET and a 405 that says what would have worked.

use std::rc::Rc;

use actix_web::body::BoxBody;
use actix_web::dev::{
    AppService, HttpServiceFactory, RequestHead, ServiceRequest, ServiceResponse,
};
use actix_web::guard;
use actix_web::http::Method;
use actix_web::http::header::{ALLOW, CACHE_CONTROL, HeaderValue};
use actix_web::middleware::{Next, from_fn};
use actix_web::{
    FromRequest, Handler, HttpMessage as _, HttpRequest, HttpResponse, Resource, Responder, Route,
    web,
};

use super::RouteName;
use super::cors::is_preflight;
use super::fields::{BodyLimit, discard};
use super::inputs::{Input, Unread};
use crate::auth::{Audit, Caller, Denied, Guard, Rule};
use crate::error::{Error, Kind, allow_header};
use crate::peer::Context;

/// What says that an answer is nobody else's (RFC 9111, section 5.2.2.5).
pub const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// A path of a role; made by [`path`].
pub struct Path {
    resource: Resource,
    pattern: &'static str,
    operations: Vec<(Method, Rule)>,
    any_query: bool,
}

/// The path that `pattern` matches, as in `/products/{id}`, without any method yet.
pub fn path(pattern: &'static str) -> Path {
    let name = RouteName(pattern.into());
    let resource = web::resource(pattern).app_data(name);
    Path { resource, pattern, operations: Vec::new(), any_query: false }
}

impl Path {
    /// What it matches, as in `/products/{id}`.
    pub fn pattern(&self) -> &'static str {
        self.pattern
    }

    /// Its methods, and whom each of them answers.
    pub(super) fn operations(&self) -> &[(Method, Rule)] {
        &self.operations
    }

    /// Takes any query, and thinks nothing of it: for what people follow links to, that carry what others put there.
    pub fn with_any_query(self) -> Self {
        Self { any_query: true, ..self }
    }

    /// Whether it refuses a query that it does not know.
    pub(super) fn refuses_queries(&self) -> bool {
        !self.any_query
    }

    /// Answers GET and HEAD of those whom `rule` lets.
    pub fn get<F, Args>(self, rule: Rule, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + Input + 'static,
        F::Output: Responder + 'static,
    {
        let either = guard::Any(guard::Get()).or(guard::Head());
        self.on(&[Method::GET, Method::HEAD], either, rule, handler)
    }

    /// Answers POST of those whom `rule` lets.
    pub fn post<F, Args>(self, rule: Rule, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + Input + 'static,
        F::Output: Responder + 'static,
    {
        self.on(&[Method::POST], guard::Post(), rule, handler)
    }

    /// Answers PUT of those whom `rule` lets.
    pub fn put<F, Args>(self, rule: Rule, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + Input + 'static,
        F::Output: Responder + 'static,
    {
        self.on(&[Method::PUT], guard::Put(), rule, handler)
    }

    /// Answers PATCH of those whom `rule` lets.
    pub fn patch<F, Args>(self, rule: Rule, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + Input + 'static,
        F::Output: Responder + 'static,
    {
        self.on(&[Method::PATCH], guard::Patch(), rule, handler)
    }

    /// Answers DELETE of those whom `rule` lets.
    pub fn delete<F, Args>(self, rule: Rule, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + Input + 'static,
        F::Output: Responder + 'static,
    {
        self.on(&[Method::DELETE], guard::Delete(), rule, handler)
    }

    fn on<F, Args>(
        mut self,
        methods: &[Method],
        guard: impl actix_web::guard::Guard + 'static,
        rule: Rule,
        handler: F,
    ) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + Input + 'static,
        F::Output: Responder + 'static,
    {
        self.operations.extend(methods.iter().map(|method| (method.clone(), rule)));
        let route = web::route().guard(guard).to(handler);
        let unread = Unread {
            query: !Args::QUERY && !self.any_query,
            // What comes with GET means nothing (RFC 9110, section 9.3.1).
            body: !Args::BODY && !methods.contains(&Method::GET),
        };
        self.resource = self.resource.route(guarded(rule, unread, route));
        self
    }
}

/// `route`, for those whom `rule` lets and who send nothing of what it leaves `unread`.
fn guarded(rule: Rule, unread: Unread, route: Route) -> Route {
    match (rule.is_public(), unread.is_nothing()) {
        (true, true) => route,
        (true, false) => route.wrap(from_fn(
            move |mut request: ServiceRequest, next: Next<BoxBody>| async move {
                match unread.check(&mut request).await {
                    Ok(()) => next.call(request).await,
                    Err(error) => Ok(request.error_response(error)),
                }
            },
        )),
        (false, _) => route.wrap(from_fn(move |request, next| serve(rule, unread, request, next))),
    }
}

/// Serves `request`, if `rule` lets whoever asks. What they are answered is theirs alone where somebody had to ask.
async fn serve(
    rule: Rule,
    unread: Unread,
    mut request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let context = request.extract::<Context>().await?;
    let admitted = match admit(rule, &mut request, &context).await {
        Ok(caller) => unread.check(&mut request).await.map(|()| caller),
        Err(error) => Err(error),
    };
    let mut response = match admitted {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.call(request).await?
        }
        Err(error) => request.error_response(error),
    };
    if rule.is_personal() && !response.headers().contains_key(CACHE_CONTROL) {
        response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    }
    Ok(response)
}

/// Who asks with `request`, when `rule` lets them; else the body is read, and the audit log told.
///
/// # Errors
/// Those of [`Guard::admit`].
pub async fn admit(
    rule: Rule,
    request: &mut ServiceRequest,
    context: &Context,
) -> Result<Caller, Error> {
    let admitted = match request.app_data::<Guard>() {
        Some(guard) => guard.admit(rule, request.headers()).await,
        None => Err(Error::internal("there is a rule and no guard").into()),
    };
    match admitted {
        Ok(caller) => Ok(caller),
        Err(Denied { error, user }) => {
            let limit = BodyLimit::from_app_data(request.request());
            let content = request.take_payload();
            discard(request.headers(), content, limit).await;
            if let Kind::Unauthorized | Kind::Forbidden = error.kind() {
                Audit::from_context(context).note("access_denied", user, &error.chain());
            }
            Err(error.header(CACHE_CONTROL, NO_STORE))
        }
    }
}

/// The answer to a method that is none of the `methods` of a path: which those are (RFC 9110, section 9.3.7), to
/// whoever asks that and nothing more.
///
/// # Errors
/// 405, which says the same, to all others: what a script may do, which a browser asks by OPTIONS, is not for a path to
/// say.
pub fn other_method(head: &RequestHead, methods: &[Method]) -> Result<HttpResponse, Error> {
    let methods = allow_header(methods);
    if head.method != Method::OPTIONS || is_preflight(&head.method, &head.headers) {
        return Err(Error::method_not_allowed(methods));
    }
    let allow = [&*methods, if methods.is_empty() { "" } else { ", " }, Method::OPTIONS.as_str()];
    Ok(HttpResponse::NoContent().insert_header((ALLOW, allow.concat())).finish())
}

impl HttpServiceFactory for Path {
    fn register(self, config: &mut AppService) {
        let methods = self.operations.into_iter().map(|(method, _)| method);
        let methods = methods.collect::<Rc<[_]>>();
        let otherwise = web::to(move |request: HttpRequest, content: web::Payload| {
            let methods = methods.clone();
            async move {
                discard(request.headers(), content, BodyLimit::from_app_data(&request)).await;
                other_method(request.head(), &methods)
            }
        });
        self.resource.default_service(otherwise).register(config);
    }
}
