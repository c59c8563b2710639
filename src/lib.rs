//! The shop back end: one executable, every role in one process or each in its own.
//!
//! ```text
//! main ─▶ commands ─▶ node         cli: the command line      config: what can be set
//!                      │
//!      ┌───────────────┼───────────────┐
//!      ▼               ▼               ▼
//!   gateway          user           product        one folder a role; no role names another
//!      │               │               │
//!      └───────────────┼───────────────┘
//!                      ▼
//!                  contract                        what roles say to each other and to the world
//!                      │
//!                      ▼
//!                    peer                          Peer: another role or an upstream, behind its breaker;
//!                      │                           Endpoint: one address of it, by http1 or here (local)
//!                      ▼
//!             http1, config, error                 the wire, what can be set, what can go wrong
//! ```
//!
//! Beside the arrows: [`middleware`] is what every role does with a request before and after its handler,
//! [`auth`] knows who asks and whether they may, [`storage`] opens pools, [`limits`] counts requests and logins, [`deadline`] says when a caller stops waiting, [`server`] listens and drains over [`http1`] and [`http2`], [`tls`] has the certificates, [`role`] says what a role is, [`readiness`] what it needs,
//! [`single_flight`] has one ask for many, [`watched`] reads files again that change, and
//! [`telemetry`] is what a process says of itself. `tests/architecture.rs` holds the arrows.

pub mod auth;
pub mod cli;
pub mod commands;
pub mod config;
pub mod contract;
pub mod deadline;
pub mod error;
pub mod gateway;
pub mod http1;
pub mod http2;
pub mod limits;
pub mod middleware;
pub mod node;
pub mod peer;
pub mod product;
pub mod readiness;
pub mod role;
pub mod server;
pub mod single_flight;
pub mod storage;
pub mod telemetry;
pub mod tls;
pub mod user;
pub mod watched;
