//! Who may call a route, and what its handler learns about the caller.

use std::future::{Ready, ready};
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest};
use uuid::Uuid;

use super::guard::Mode;
use super::token::Identity;
use crate::error::Error;

/// Who may call a route: [`public`], [`anyone`], [`signed_in`], [`admin`] or [`roles`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    pub(super) access: Access,
    pub(super) free_when_open: bool,
    pub(super) same_origin: bool,
}

/// The kinds of [`Rule`].
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
    /// See [`roles`].
    Roles,
}

/// Everybody. Tokens are ignored, so that a client with an expired one can get a new one.
pub const fn public() -> Rule {
    Rule::new(Access::Public)
}

/// Everybody, but a token that is sent must be valid.
pub const fn anyone() -> Rule {
    Rule::new(Access::Anyone)
}

/// Users with a valid token. The handler decides what they may see.
pub const fn signed_in() -> Rule {
    Rule::new(Access::SignedIn)
}

/// Admins.
pub const fn admin() -> Rule {
    Rule::new(Access::Admin)
}

/// Other roles, whatever their tokens; see [`InternalAccess`](super::InternalAccess).
pub const fn roles() -> Rule {
    Rule::new(Access::Roles)
}

impl Rule {
    const fn new(access: Access) -> Self {
        Self { access, free_when_open: false, same_origin: false }
    }

    /// The same, but without a token where `auth.mode` is open.
    pub const fn or_open(self) -> Self {
        Self { free_when_open: true, ..self }
    }

    /// The same, but not from pages of other origins: for routes that act on a cookie, which browsers send with any request.
    pub const fn from_same_origin(self) -> Self {
        Self { same_origin: true, ..self }
    }

    /// Its kind where `auth.mode` is `mode`.
    pub fn access(self, mode: Mode) -> Access {
        if self.free_when_open && mode == Mode::Open { Access::Anyone } else { self.access }
    }

    /// Whether the response depends on the caller.
    pub fn is_personal(self) -> bool {
        self.same_origin || matches!(self.access, Access::SignedIn | Access::Admin | Access::Roles)
    }

    /// Whether it admits every request.
    pub fn is_public(self) -> bool {
        self.access == Access::Public && !self.same_origin
    }

    /// Whether it refuses pages of other origins.
    pub fn is_same_origin(self) -> bool {
        self.same_origin
    }
}

/// The caller, as far as the route's rule requires to know.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    pub(super) identity: Option<Arc<Identity>>,
    pub(super) trusted: bool,
}

impl Caller {
    /// The signed-in user.
    ///
    /// # Errors
    /// 500 where the route's rule lets in callers without a token.
    pub fn identity(&self) -> Result<&Identity, Error> {
        self.identity
            .as_deref()
            .ok_or_else(|| Error::internal("the route does not require a token"))
    }

    /// The signed-in user, if the route's rule looks at tokens.
    pub fn user(&self) -> Option<Uuid> {
        self.identity.as_deref().map(|identity| identity.user)
    }

    /// Whose objects the caller may see: its own, or everybody's if there is none.
    ///
    /// # Errors
    /// As [`Caller::identity`].
    pub fn sees_only(&self) -> Result<Option<Uuid>, Error> {
        match self.trusted || self.identity.as_deref().is_some_and(Identity::is_admin) {
            true => Ok(None),
            false => Ok(Some(self.identity()?.user)),
        }
    }

    /// Whether the route needs no token from the caller, because the shop is open.
    pub fn is_trusted(&self) -> bool {
        self.trusted
    }

    /// Whether the caller may see what belongs to `owner`.
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
