//! The shop as its clients and operators see it: every test runs the real program.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says why by panicking")]

mod attacks;
mod auth;
mod cache;
mod client_address;
mod commands;
mod config;
mod content;
mod copy;
mod doubt;
mod failures;
mod gateway;
mod gateway_cors;
mod gateway_headers;
mod http2;
mod identity;
mod limits;
mod openapi;
mod options;
mod prefix;
mod process;
mod products;
mod proxy;
mod refresh;
mod requests;
mod revocation;
mod rolling;
mod route_keys;
mod routes;
mod slow;
mod smuggling;
mod stores;
mod stores_full;
mod stores_held;
mod stuck;
mod support;
mod texts;
mod tls;
mod topologies;
mod transport;
mod upgrade;
