//! The shop back end: one executable, every role in one process or each in its own.
//!
//! ```text
//! main ─▶ commands ─▶ node         cli: the command line      config: the settings
//!                      │
//!      ┌──────────┬────┴─────┬──────────┐
//!      ▼          ▼          ▼          ▼
//!   gateway     user      product     order        one folder per role; no role names another
//!      │          │          │          │
//!      └──────────┴────┬─────┴──────────┘
//!                      ▼
//!                  contract                        what roles say to each other and to the world
//!                      │
//!                      ▼
//!                    peer                          Peer: another role or an upstream, behind its breaker;
//!                      │                           Endpoint: one address of it, by http1 or here (local)
//!                      ▼
//!             http1, config, error                 the wire, the settings, the errors
//! ```
//!
//! Beside the arrows: [`middleware`] is what every role does with a request before and after its handler,
//! [`auth`] verifies tokens and rules, [`events`] tells of what has happened, [`storage`] opens pools, [`limits`] limits requests and logins, [`deadline`] says when
//! a caller stops waiting, [`files`] reads files that settings name, [`server`] listens and drains over [`http1`] and [`http2`], [`tls`] reads certificates, [`role`]
//! defines what a role is, [`readiness`] checks dependencies, [`single_flight`] shares one call among callers, [`watched`]
//! reads changed files again, [`tasks`] supervises background work, [`metrics`] is what
//! layers count with, and [`telemetry`] has logs and writes metrics. `tests/architecture.rs` checks the arrows.

pub mod auth;
pub mod cli;
pub mod commands;
pub mod config;
pub mod contract;
pub mod deadline;
pub mod error;
pub mod events;
pub mod files;
pub mod gateway;
pub mod http1;
pub mod http2;
pub mod limits;
pub mod metrics;
pub mod middleware;
pub mod node;
pub mod order;
pub mod peer;
pub mod product;
pub mod readiness;
pub mod role;
pub mod server;
pub mod single_flight;
pub mod storage;
pub mod tasks;
pub mod telemetry;
pub mod tls;
pub mod user;
pub mod watched;
