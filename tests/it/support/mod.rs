//! Starting the shop, and asking it.

mod balancer;
mod browser;
pub(crate) mod chaos;
mod check;
mod client;
#[expect(dead_code, reason = "what sends spans to it comes next")]
pub(crate) mod collector;
pub(crate) mod metrics;
mod mongo_proxy;
mod process;
mod servers;
pub(crate) mod stripe;
pub(crate) mod tls;
mod upstream;

pub(crate) use balancer::Balancer;
pub(crate) use browser::browse;
pub(crate) use check::{check, start};
pub(crate) use client::{Answer, Client, order_items};
pub(crate) use collector::{Collector, Span};
pub(crate) use mongo_proxy::MongoProxy;
pub(crate) use process::{Process, Shop, Statistics, Storage, Topology};
pub(crate) use servers::{Kind, Server, free_port, postgres, run};
pub(crate) use upstream::{Line, Raw, Upstream, ask};

use std::process::Output;
use std::time::{Duration, Instant};

use actix_rt::task::spawn_blocking;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::Ed25519KeyPair;
use serde_json::{Value, json};

/// How long a test waits for what should happen soon.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// How soon a shop is well again once what it missed is back.
pub(crate) const RECOVERY: Duration = Duration::from_secs(5);

/// A good one, by zxcvbn's measure.
pub(crate) const PASSWORD: &str = "follow the white rabbit";

/// A key to sign with (that of RFC 8032, section 7.1, test 1).
pub(crate) const SIGNING_KEY: &str =
    "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";

/// The `n`th of accounts without a password, as it is registered.
pub(crate) fn account(n: usize) -> Value {
    json!({ "username": "u", "email": format!("u{n}@example.com") })
}

/// The key of `seed`.
pub(crate) fn pair(seed: &str) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&hex::decode(seed).unwrap()).unwrap()
}

/// `header` and `claims` as a token, signed with the key of `seed`.
pub(crate) fn token(header: &Value, claims: &Value, seed: &str) -> String {
    let parts = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    let message = parts.join(".");
    let signature = URL_SAFE_NO_PAD.encode(pair(seed).sign(message.as_bytes()));
    format!("{message}.{signature}")
}

/// Runs `test`, which blocks, beside this thread's tasks.
pub(crate) async fn blocking<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    spawn_blocking(test).await.unwrap()
}

/// The password that a command of the program has made, of what it printed.
pub(crate) fn password_in(output: &Output) -> String {
    let text = str::from_utf8(&output.stdout).unwrap();
    text.lines().find_map(|line| line.strip_prefix("password: ")).unwrap().to_owned()
}

/// The header of a token, which is part 0, or its claims, part 1.
pub(crate) fn token_part(token: &str, part: usize) -> Value {
    let bytes = URL_SAFE_NO_PAD.decode(token.split('.').nth(part).unwrap()).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

/// Waits, and blocks, until `condition` holds; `why` tells what has become of it when it does not.
pub(crate) fn block_until(why: impl Fn() -> String, condition: impl FnMut() -> bool) {
    block_within(PATIENCE, why, condition);
}

/// The same, for another `limit`.
fn block_within(limit: Duration, why: impl Fn() -> String, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < limit, "{}", why());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        actix_rt::time::sleep(Duration::from_millis(10)).await;
    }
}
