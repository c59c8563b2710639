//! What a server wants of a connection beside its bytes.

use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A connection to a client.
pub trait Socket: AsyncRead + AsyncWrite + Unpin {
    /// Has the system end the connection when the client takes nothing of what is sent for as long as `limit`; whether
    /// it will. The system sees every byte that the client takes, and a program only when there is room for many.
    fn limit_writes(&self, limit: Duration) -> bool;

    /// Sees to it that the connection ends in a reset, for a client to which its end would be that of an answer.
    fn reset_at_end(&self);
}

impl Socket for TcpStream {
    fn limit_writes(&self, limit: Duration) -> bool {
        // TCP_USER_TIMEOUT (RFC 5482); the system counts milliseconds, of which none would be for ever.
        SockRef::from(self).set_tcp_user_timeout(Some(limit.max(Duration::from_millis(1)))).is_ok()
    }

    fn reset_at_end(&self) {
        // Without that, there is nothing better than the end.
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
