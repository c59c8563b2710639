//! The shop as its clients and operators see it: every test runs the real program.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says why by panicking")]

#[macro_use]
mod cases;
mod support;

/// The README files.
mod docs;

/// Users, their tokens, and what they may do.
mod accounts {
    mod attacks;
    mod auth;
    mod browser;
    mod identity;
    mod refresh;
    mod revocation;
    mod texts;
}

/// Products and their cache.
mod catalogue {
    mod admission;
    mod cache;
    mod chaos;
    mod details;
    mod doubt;
    mod products;
    mod reservations;
    mod search;
    mod transfer;
}

/// Orders and their payments.
mod orders {
    mod access;
    mod chaos;
    mod history;
    mod keys;
    mod life;
    mod live;
    mod popularity;
    mod stripe;
    mod trouble;
    mod webhooks;
}

/// Events between roles.
mod events {
    mod broker;
    mod dead_letters;
    mod exchange;
    mod relay;
}

/// Routes, upstreams, and what the gateway adds to a response.
mod gateway {
    mod answers;
    mod caching;
    mod client_address;
    mod cors;
    mod headers;
    mod options;
    mod prefix;
    mod proxy;
    mod requests;
    mod resilience;
    mod route_keys;
    mod routes;
}

/// The storefront and the administration.
mod pages {
    mod browser;
    mod serving;
}

/// HTTP/1.1, HTTP/2 and TLS, by clients that keep to them and by others.
mod wire {
    mod content;
    mod readings;
    mod slow;
    mod smuggling;
    mod tls;
    mod upgrade;
}

/// One suite for each pair of back ends, and what happens when one is gone.
mod storage {
    mod backup;
    mod check_stock;
    mod copy;
    mod copy_orders;
    mod failures;
    mod sqlite_writes;
    mod stores;
    mod stores_full;
    mod stores_held;
    mod ties;
}

/// Commands, configuration, processes and topologies.
mod operation {
    mod breakers;
    mod commands;
    mod config;
    mod demo;
    mod logs;
    mod metrics;
    mod openapi;
    mod ops;
    mod ops_page;
    mod process;
    mod profiles;
    mod prometheus;
    mod rolling;
    mod stuck;
    mod tasks;
    mod topologies;
    mod traces;
}
