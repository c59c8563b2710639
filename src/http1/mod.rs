//! HTTP/1.1 (RFC 9110 and 9112), for a server and for a client. Nothing in here knows of a shop.

mod body;
pub mod chunks;
pub mod client;
pub mod date;
mod headers;
mod interim;
pub mod lines;
pub mod server;
pub mod shutdown;
pub mod socket;
mod upgrade;

use std::time::Duration;

pub use body::{Body, ChunkStream, Chunks};
pub use headers::Headers;
pub use interim::{Interim, InterimSender, Interims};
pub use upgrade::Upgraded;

/// How long the end of a connection may take.
pub const DISCONNECT: Duration = Duration::from_secs(1);
