//! Which parts of a request a handler reads, by its arguments. A route refuses the other parts.

use std::convert::Infallible;
use std::future::{Ready, ready};

use actix_web::dev::{Payload, ServiceRequest};
use actix_web::web::{self, Data};
use actix_web::{FromRequest, HttpMessage as _, HttpRequest};

use super::fields::{Fields, MaybeFields, Query, RawBody};
use super::{BodyLimit, Condition, discard};
use crate::auth::{Audit, Caller};
use crate::error::Error;
use crate::peer::Context;

/// An argument of a handler, or all of them.
pub trait Input {
    /// Whether it reads the query.
    const QUERY: bool = false;
    /// Whether it reads the body.
    const BODY: bool = false;
}

/// What is parsed from the head of a request is extracted without an error.
macro_rules! from_head {
    ($($input:ident)*) => {$(
        impl FromRequest for $input {
            type Error = Infallible;
            type Future = Ready<Result<Self, Infallible>>;

            fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
                ready(Ok(Self::parse(request)))
            }
        }
    )*};
}

from_head!(Condition Query);

impl Input for Query {
    const QUERY: bool = true;
}

impl Input for Fields {
    const BODY: bool = true;
}

impl Input for MaybeFields {
    const BODY: bool = true;
}

impl<T> Input for web::Query<T> {
    const QUERY: bool = true;
}

impl Input for RawBody {
    const BODY: bool = true;
}

impl Input for web::Bytes {
    const BODY: bool = true;
}

impl Input for web::Payload {
    const BODY: bool = true;
}

impl<T: ?Sized> Input for Data<T> {}
impl<T> Input for web::Path<T> {}
/// It may read all parts.
impl Input for HttpRequest {
    const QUERY: bool = true;
}

impl Input for Condition {}
impl Input for Caller {}
impl Input for Audit {}
impl Input for Context {}

macro_rules! inputs {
    ($($part:ident)*) => {
        impl<$($part: Input),*> Input for ($($part,)*) {
            const QUERY: bool = false $(|| $part::QUERY)*;
            const BODY: bool = false $(|| $part::BODY)*;
        }
    };
}

inputs!();
inputs!(A);
inputs!(A B);
inputs!(A B C);
inputs!(A B C D);
inputs!(A B C D E);
inputs!(A B C D E F);

/// The parts of a request that its handler does not read, and that must be empty.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unread {
    pub(super) query: bool,
    pub(super) body: bool,
}

impl Unread {
    pub(super) fn is_nothing(self) -> bool {
        !self.query && !self.body
    }

    /// Checks that these parts of `request` are empty.
    ///
    /// # Errors
    /// 422 that names what the request has; for a body also the errors of [`Fields`].
    pub(super) async fn check(self, request: &mut ServiceRequest) -> Result<(), Error> {
        if self.query && !request.query_string().is_empty() {
            let outcome = Query::parse(request.request()).finish(());
            if outcome.is_err() {
                let (content, limit) =
                    (request.take_payload(), BodyLimit::from_app_data(request.request()));
                discard(request.headers(), content, limit).await;
                return outcome;
            }
        }
        match self.body {
            true => request.extract::<MaybeFields>().await?.0.finish(Some(())),
            false => Ok(()),
        }
    }
}
