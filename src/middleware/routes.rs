//! A path and its methods, with HEAD for every GET, and 405 with the allowed methods.

use std::collections::BTreeMap;
use std::rc::Rc;

use actix_web::body::BoxBody;
use actix_web::dev::{
    AppService, HttpServiceFactory, RequestHead, ServiceRequest, ServiceResponse,
};
use actix_web::guard;
use actix_web::http::Method;
use actix_web::http::header::{ALLOW, CACHE_CONTROL, HeaderValue};
use actix_web::middleware::{Next, from_fn};
use actix_web::web::ServiceConfig;
use actix_web::{
    FromRequest, Handler, HttpMessage as _, HttpRequest, HttpResponse, Resource, Responder, Route,
    Scope, web,
};

use super::RouteName;
use super::cors::is_preflight;
use super::fields::{BodyLimit, discard};
use super::inputs::{Input, Unread};
use crate::auth::{Audit, Caller, Denied, Guard, Rule, Sender};
use crate::error::{Error, Kind, allow_header};
use crate::peer::Context;

/// Marks a response as private (RFC 9111, section 5.2.2.5).
pub const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// A path of a role; made by [`path`].
pub struct Path {
    pattern: &'static str,
    routes: Vec<Route>,
    operations: Vec<(Method, Rule)>,
    any_query: bool,
}

/// What a variable part of a path matches: visible ASCII but a slash. Of all of Unicode, actix-router would make an automaton
/// for each path and worker, and use 320 kB for that.
const SEGMENT: &str = ":[!-.0-~]+}";

/// The path with `pattern`, as in `/products/{id}`, without methods yet.
pub fn path(pattern: &'static str) -> Path {
    Path { pattern, routes: Vec::new(), operations: Vec::new(), any_query: false }
}

/// Adds `paths` to `routes`, those without variable parts first. Many that are the same up to a variable part share the
/// automaton that matches it: each takes a hundredth of the time of a start, and 20 kB.
pub fn add_paths(routes: &mut ServiceConfig, paths: impl IntoIterator<Item = Path>) {
    // A brace comes after all letters, so that a fixed part is tried before a variable one.
    let mut groups = BTreeMap::<_, Vec<_>>::new();
    for path in paths {
        let (start, end) = path.parts();
        groups.entry(start).or_default().push((path, end));
    }
    for (start, group) in groups {
        // A scope makes two automata, and takes time in each request.
        if start.is_empty() || group.len() <= 2 {
            group.into_iter().for_each(|(path, _)| _ = routes.service(path));
        } else {
            let resources = group.into_iter().map(|(path, end)| path.resource(end));
            routes.service(resources.fold(web::scope(&matching(start)), Scope::service));
        }
    }
}

/// `pattern` for actix-router.
fn matching(pattern: &str) -> String {
    pattern.replace('}', SEGMENT)
}

impl Path {
    /// The pattern, as in `/products/{id}`.
    pub fn pattern(&self) -> &'static str {
        self.pattern
    }

    /// The pattern up to its first variable part, and after it. The first is empty if there is none.
    fn parts(&self) -> (&'static str, &'static str) {
        let end = self.pattern.find('}').map_or(0, |brace| brace + 1);
        self.pattern.split_at(end)
    }

    /// Its methods and their rules.
    pub(super) fn operations(&self) -> &[(Method, Rule)] {
        &self.operations
    }

    /// Ignores the query: links to pages may carry parameters of other sites.
    pub fn with_any_query(self) -> Self {
        Self { any_query: true, ..self }
    }

    /// Whether it refuses unknown queries.
    pub(super) fn refuses_queries(&self) -> bool {
        !self.any_query
    }

    /// Adds GET and HEAD with `rule`.
    pub fn get<F, Args>(self, rule: Rule, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + Input + 'static,
        F::Output: Responder + 'static,
    {
        let either = guard::Any(guard::Get()).or(guard::Head());
        self.on(&[Method::GET, Method::HEAD], either, rule, handler)
    }

    /// Adds POST with `rule`.
    pub fn post<F, Args>(self, rule: Rule, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + Input + 'static,
        F::Output: Responder + 'static,
    {
        self.on(&[Method::POST], guard::Post(), rule, handler)
    }

    /// Adds PUT with `rule`.
    pub fn put<F, Args>(self, rule: Rule, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + Input + 'static,
        F::Output: Responder + 'static,
    {
        self.on(&[Method::PUT], guard::Put(), rule, handler)
    }

    /// Adds PATCH with `rule`.
    pub fn patch<F, Args>(self, rule: Rule, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + Input + 'static,
        F::Output: Responder + 'static,
    {
        self.on(&[Method::PATCH], guard::Patch(), rule, handler)
    }

    /// Adds DELETE with `rule`.
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
            // The body of a GET has no meaning (RFC 9110, section 9.3.1).
            body: !Args::BODY && !methods.contains(&Method::GET),
        };
        self.routes.push(guarded(rule, unread, route));
        self
    }

    /// Its resource, at `pattern` within the scope that it is added to.
    fn resource(self, pattern: &str) -> Resource {
        let methods = self.operations.into_iter().map(|(method, _)| method);
        let methods = methods.collect::<Rc<[_]>>();
        let otherwise = web::to(move |request: HttpRequest, content: web::Payload| {
            let methods = methods.clone();
            async move {
                discard(request.headers(), content, BodyLimit::from_app_data(&request)).await;
                other_method(request.head(), &methods)
            }
        });
        let resource = web::resource(matching(pattern)).app_data(RouteName(self.pattern.into()));
        let resource = self.routes.into_iter().fold(resource, Resource::route);
        resource.default_service(otherwise)
    }
}

/// `route` behind `rule`, which refuses the parts that it leaves `unread`.
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

/// Serves `request` if `rule` admits the caller. The response is private if the rule requires a user.
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

/// The caller of `request`, if `rule` admits it. Otherwise this reads the body and writes to the audit log.
///
/// # Errors
/// The errors of [`Guard::admit`].
pub async fn admit(
    rule: Rule,
    request: &mut ServiceRequest,
    context: &Context,
) -> Result<Caller, Error> {
    let admitted = match request.app_data::<Guard>() {
        Some(guard) => {
            let sender = match context.by_mailbox {
                true => Sender::Mailbox,
                false => Sender::Socket(request.peer_addr().map(|peer| peer.ip())),
            };
            guard.admit(rule, request.headers(), sender).await
        }
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

/// The response to a method that is not one of `methods`: for OPTIONS, the list of methods (RFC 9110, section 9.3.7).
///
/// # Errors
/// 405 with the list of methods, for all other methods and for preflights of disallowed origins.
pub fn other_method(head: &RequestHead, methods: &[Method]) -> Result<HttpResponse, Error> {
    // Every path that is there answers OPTIONS.
    let options = Some(&Method::OPTIONS).filter(|options| !methods.contains(options));
    let allow = allow_header(methods.iter().chain(options));
    if head.method != Method::OPTIONS || is_preflight(&head.method, &head.headers) {
        return Err(Error::method_not_allowed(allow));
    }
    Ok(HttpResponse::NoContent().insert_header((ALLOW, allow)).finish())
}

impl HttpServiceFactory for Path {
    fn register(self, config: &mut AppService) {
        let pattern = self.pattern;
        self.resource(pattern).register(config);
    }
}

#[cfg(test)]
mod tests {
    use actix_web::App;
    use actix_web::test::{TestRequest, call_and_read_body, call_service, init_service};

    use super::*;
    use crate::auth::public;

    async fn show_name(request: HttpRequest) -> String {
        request.app_data::<RouteName>().unwrap().0.to_string()
    }

    #[actix_rt::test]
    async fn a_fixed_part_of_a_path_is_tried_before_a_variable_one() {
        let many = ["/a/{x}", "/a/{x}/c", "/a/{x}/d"];
        let few = ["/a/b/{y}", "/a/b/{y}/d", "/a/c/{z}/e", "/a/b"];
        let paths = many.iter().chain(&few).map(|pattern| path(pattern).get(public(), show_name));
        let app = App::new().configure(|routes| add_paths(routes, paths));
        let app = init_service(app).await;
        for (asked, pattern) in [
            ("/a/b", "/a/b"),
            ("/a/1", "/a/{x}"),
            ("/a/c", "/a/{x}"),
            ("/a/1/c", "/a/{x}/c"),
            ("/a/c/d", "/a/{x}/d"),
            ("/a/b/1", "/a/b/{y}"),
            ("/a/b/1/d", "/a/b/{y}/d"),
            ("/a/c/1/e", "/a/c/{z}/e"),
        ] {
            let request = TestRequest::with_uri(asked).to_request();
            assert_eq!(call_and_read_body(&app, request).await, pattern, "{asked}");
        }
        for missing in ["/a/", "/a/1/", "/a/1/e", "/a/1/c/", "/a/b/1/e", "/a/c/1", "/a/c/1/f"] {
            let request = TestRequest::with_uri(missing).to_request();
            assert_eq!(call_service(&app, request).await.status(), 404, "{missing}");
        }
    }
}
