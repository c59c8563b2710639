//! Where a request came from: over a socket, or out of the mailbox of a role in this process.

use std::net::IpAddr;

use actix_http::Request;
use actix_web::HttpMessage as _;
use actix_web::dev::ServiceRequest;

use super::Context;

/// Where a request came from. A stranger may have written anything that comes over a socket; what comes out of a mailbox
/// has passed the checks of another role's middleware.
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
    /// The origin of `request`; it can be taken once. A request that neither a listener nor a mailbox has made has none,
    /// and must not be taken for either.
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
    // Heads are used again, and this may have been one of a socket.
    request.head_mut().peer_addr = None;
    request.extensions_mut().insert(Delivered(context));
}
