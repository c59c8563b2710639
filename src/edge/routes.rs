//! A path and its methods, with HEAD beside every GET and a 405 that says what would have worked.

use actix_web::dev::{AppService, HttpServiceFactory};
use actix_web::guard::{self, Guard};
use actix_web::http::Method;
use actix_web::{FromRequest, Handler, HttpResponse, Resource, Responder, web};

use super::fields::discard;
use crate::error::{Error, allow_header};

/// A path of a role; made by [`path`].
pub struct Path {
    resource: Resource,
    methods: Vec<Method>,
}

/// The path that `pattern` matches, as in `/products/{id}`, without any method yet.
pub fn path(pattern: &str) -> Path {
    Path { resource: web::resource(pattern), methods: Vec::new() }
}

impl Path {
    /// Answers GET and HEAD.
    pub fn get<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        let either = guard::Any(guard::Get()).or(guard::Head());
        self.on(&[Method::GET, Method::HEAD], either, handler)
    }

    /// Answers POST.
    pub fn post<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.on(&[Method::POST], guard::Post(), handler)
    }

    /// Answers PUT.
    pub fn put<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.on(&[Method::PUT], guard::Put(), handler)
    }

    /// Answers DELETE.
    pub fn delete<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.on(&[Method::DELETE], guard::Delete(), handler)
    }

    fn on<F, Args>(mut self, methods: &[Method], guard: impl Guard + 'static, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.methods.extend_from_slice(methods);
        self.resource = self.resource.route(web::route().guard(guard).to(handler));
        self
    }
}

impl HttpServiceFactory for Path {
    fn register(self, config: &mut AppService) {
        let allow = allow_header(&self.methods);
        let refuse = web::to(move |content: web::Payload| {
            let allow = allow.clone();
            async move {
                discard(content).await;
                Err::<HttpResponse, _>(Error::method_not_allowed(allow))
            }
        });
        self.resource.default_service(refuse).register(config);
    }
}
