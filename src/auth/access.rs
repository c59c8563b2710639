//! What a route asks of those who ask it, and what its handler is told of them.

use std::future::{Ready, ready};
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest};
use uuid::Uuid;

use super::guard::Mode;
use super::token::Identity;
use crate::error::Error;

/// Who may ask a route. The words of a role's policy are [`public`], [`anyone`], [`signed_in`] and [`admin`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    pub(super) access: Access,
    pub(super) free_when_open: bool,
}

/// Whom a route lets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// See [`public`].
    Public,
    /// See [`anyone`].
    Anyone,
    /// See [`signed_in`].
    SignedIn,
    /// See [`admin`].
    Admin,
}

/// Everybody; a token is not even looked at, as one that has ended must not keep a user from a new one.
pub const fn public() -> Rule {
    Rule::new(Access::Public)
}

/// Everybody; but a token that is given must be good.
pub const fn anyone() -> Rule {
    Rule::new(Access::Anyone)
}

/// Whoever has a good token. What the token's user may see is for the handler.
pub const fn signed_in() -> Rule {
    Rule::new(Access::SignedIn)
}

/// Whoever has an admin's token.
pub const fn admin() -> Rule {
    Rule::new(Access::Admin)
}

impl Rule {
    const fn new(access: Access) -> Self {
        Self { access, free_when_open: false }
    }

    /// Nor does it need a token where `auth.mode` is open.
    pub const fn or_open(self) -> Self {
        Self { free_when_open: true, ..self }
    }

    /// Whom it lets in where `auth.mode` is `mode`.
    pub fn access(self, mode: Mode) -> Access {
        if self.free_when_open && mode == Mode::Open { Access::Anyone } else { self.access }
    }

    /// Whether the answer depends on who asks: somebody has to, if not in every mode.
    pub fn is_personal(self) -> bool {
        matches!(self.access, Access::SignedIn | Access::Admin)
    }

    /// Whether a request's token makes no difference.
    pub fn is_public(self) -> bool {
        self.access == Access::Public
    }
}

/// Who asks, as far as the route's rule wanted to know.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    pub(super) identity: Option<Arc<Identity>>,
    pub(super) trusted: bool,
}

impl Caller {
    /// The signed-in user.
    ///
    /// # Errors
    /// 500 where the route's rule lets others in.
    pub fn identity(&self) -> Result<&Identity, Error> {
        self.identity.as_deref().ok_or_else(|| Error::internal("the route lets strangers in"))
    }

    /// The signed-in user, where the route's rule wanted to know.
    pub fn user(&self) -> Option<Uuid> {
        self.identity.as_deref().map(|identity| identity.user)
    }

    /// Whether what belongs to `owner` is any business of theirs.
    pub fn may_see(&self, owner: Uuid) -> bool {
        let identity = self.identity.as_deref();
        self.trusted || identity.is_some_and(|who| who.user == owner || who.is_admin())
    }
}

impl FromRequest for Caller {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(request.extensions().get::<Caller>().cloned().unwrap_or_default()))
    }
}
