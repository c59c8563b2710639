//! Modules of the crate, driven from outside: for what no client of the program can bring about.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says why by panicking")]

mod bounds;
mod http2;
mod limits;
mod stuck;
#[expect(dead_code, unused_imports, reason = "the other binary needs the rest")]
#[path = "../it/support/mod.rs"]
mod support;
mod tasks;
mod transport;
