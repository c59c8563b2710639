//! What a server needs of a connection besides reading and writing.

use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A connection to a client.
pub trait Socket: AsyncRead + AsyncWrite + Unpin {
    /// Has the system end the connection when the client takes no byte for `limit`; returns whether it will. The system
    /// sees every byte that the client takes, the program only that its send buffer has space again.
    fn limit_writes(&self, limit: Duration) -> bool;

    /// Makes the connection end in a reset, for a client that would take a normal end for the end of the response.
    fn reset_at_end(&self);
}

impl Socket for TcpStream {
    fn limit_writes(&self, limit: Duration) -> bool {
        // TCP_USER_TIMEOUT (RFC 5482), in milliseconds; 0 would mean no limit.
        SockRef::from(self).set_tcp_user_timeout(Some(limit.max(Duration::from_millis(1)))).is_ok()
    }

    fn reset_at_end(&self) {
        // If that fails, the connection ends normally.
        let _ = SockRef::from(self).set_linger(Some(Duration::ZERO));
    }
}

#[cfg(test)]
impl Socket for tokio::io::DuplexStream {
    fn limit_writes(&self, _: Duration) -> bool {
        false
    }

    fn reset_at_end(&self) {}
}
