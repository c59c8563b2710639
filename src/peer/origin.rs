//! Where a request came from: over a socket, or out of the mailbox of a role in this process.

use std::net::IpAddr;

use actix_http::Request;
use actix_web::HttpMessage as _;
use actix_web::dev::ServiceRequest;

/// Where a request came from. What has come over a socket is anybody's word; what comes out of a mailbox has passed
/// the checks of another role's edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A connection from this address.
    Socket(IpAddr),
    /// Another role of this process.
    Mailbox,
}

/// Marks a request that a mailbox delivers. Only this module can make one.
struct Delivered;

impl Origin {
    /// The origin of `request`, which is asked for once: the mark of a mailbox makes room for what follows. There is
    /// none for a request that neither a listener nor a mailbox has made, and nobody may take that for either.
    pub fn take(request: &ServiceRequest) -> Option<Self> {
        match request.peer_addr() {
            Some(address) => Some(Self::Socket(address.ip())),
            None => request.extensions_mut().remove::<Delivered>().map(|_| Self::Mailbox),
        }
    }

    /// The address at the other end of the connection, where there is one.
    pub fn address(self) -> Option<IpAddr> {
        match self {
            Self::Socket(address) => Some(address),
            Self::Mailbox => None,
        }
    }
}

/// Marks `request` as one that a mailbox delivers.
pub(super) fn deliver(request: &mut Request) {
    // Heads are used again, and this may have been one of a socket.
    request.head_mut().peer_addr = None;
    request.extensions_mut().insert(Delivered);
}
