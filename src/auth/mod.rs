//! Authentication and authorisation.
//!
//! Every process verifies tokens itself, with one [`Verifier`] for all its threads, which [`follow`] keeps up to date.
//! Each route has a [`Rule`]; the [`Guard`] in a role's middleware checks every request against it and gives the handler
//! a [`Caller`].

mod access;
mod audit;
mod cross_origin;
mod crypto;
mod feed;
mod guard;
mod hosts;
mod internal;
mod token;
mod verifier;

pub use access::{Access, Caller, Rule, admin, anyone, public, roles, signed_in};
pub use audit::{AUDIT, Audit};
pub use feed::{KeySet, ask, follow};
pub use guard::{Denied, Guard, Mode, Sender, token_refused};
pub use hosts::{Hosts, Reason};
pub use internal::InternalAccess;
pub use token::{Claims, Identity, SigningKey};
pub use verifier::{MARGIN, Verifier, VerifyError};
