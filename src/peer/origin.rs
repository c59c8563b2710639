//! The origin of a request: a socket, or the mailbox of a role in this process.

use std::net::IpAddr;

use actix_http::Request;
use actix_web::HttpMessage as _;
use actix_web::dev::ServiceRequest;

use super::Context;

/// The origin of a request. Anybody may send anything over a socket; a request in a mailbox has passed the checks of another
/// role's middleware.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A connection from this address.
    Socket(IpAddr),
    /// Another role of this process, which calls with this context.
    Mailbox(Context),
}

/// Marks a request that a mailbox delivers. Only this module can make one.
struct Delivered(Context);

impl Origin {
    /// Takes the origin of `request`, once. `None` for a request that neither a listener nor a mailbox has made.
    pub fn take(request: &ServiceRequest) -> Option<Self> {
        match request.peer_addr() {
            Some(address) => Some(Self::Socket(address.ip())),
            None => {
                let delivered = request.extensions_mut().remove::<Delivered>();
                delivered.map(|Delivered(context)| Self::Mailbox(context))
            }
        }
    }
}

/// Marks `request` as one that a mailbox delivers on behalf of `context`.
pub(super) fn deliver(request: &mut Request, context: Context) {
    // Heads are reused, and this one may have been a socket's.
    request.head_mut().peer_addr = None;
    request.extensions_mut().insert(Delivered(context));
}
