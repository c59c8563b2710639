//! HTTP/1.1 (RFC 9110 and 9112): one parser and one codec, for a server and for a client. Nothing here knows the shop:
//! of the crate, only `tasks` is named, which supervises the pool's sweep and knows nothing of the shop either.
//!
//! [`head`] parses heads, [`lines`] their header lines, [`content`] the content, [`chunks`] the chunked coding.
//! [`server`] and [`client`] drive them over a connection.

mod body;
pub mod chunks;
pub mod client;
pub mod content;
pub mod date;
mod disconnect;
pub mod head;
mod headers;
mod interim;
pub mod lines;
mod message;
pub mod server;
pub mod shutdown;
pub mod socket;
mod upgrade;

use std::time::Duration;

pub use body::{Body, ChunkStream, Chunks};
pub use disconnect::AbortOnDisconnect;
pub use headers::{Headers, is_hop_by_hop};
pub use interim::{Interim, InterimSender, Interims};
pub use message::{Reply, Request};
pub use upgrade::Upgraded;

/// How long closing a connection may take.
pub const DISCONNECT: Duration = Duration::from_secs(1);
