//! What it costs to hold a request against limits that are counted in this process: prints the nanoseconds of
//! a check by the number of clients and of limits. The last limit refuses nearly all: a refusal is an error
//! with headers.

#![expect(clippy::unwrap_used, reason = "a program that measures ends where it cannot")]
#![expect(clippy::print_stdout, reason = "the numbers are what it is for")]

use std::hint::black_box;
use std::net::IpAddr;
use std::time::Instant;

use app::config::{self, Limits, Sources};
use app::limits::{Counts, Limiter, Policies};
use futures_util::FutureExt as _;

const CHECKS: u32 = 4_000_000;
const ROUNDS: u32 = 5;
const LIMITS: [&str; 3] = [
    "1000000000/1d by address",
    "1000000000/1d by address, 1000000000/1d by user, 1000000000/1d by route",
    "1/1d by address",
];

fn main() {
    let (settings, _) = config::load(&Sources::default()).unwrap();
    for limits in LIMITS {
        let policies = Policies::new("products", &Limits::try_from(limits.to_owned()).unwrap());
        for clients in [10, 10_000, 100_000, 1_000_000] {
            let limiter = Counts::new(&settings.gateway).limiter();
            round(&limiter, &policies, clients);
            let best = (0..ROUNDS).map(|_| round(&limiter, &policies, clients)).min().unwrap();
            println!("{best:>4} ns  {clients:>7} clients  {limits}");
        }
    }
}

/// The nanoseconds of a check, of clients in turn.
fn round(limiter: &Limiter, policies: &Policies, clients: u32) -> u128 {
    let start = Instant::now();
    for n in 0..CHECKS {
        let client = IpAddr::from((n % clients).wrapping_mul(2_654_435_761).to_be_bytes());
        let _ = black_box(limiter.check(policies, Some(client), None).now_or_never().unwrap());
    }
    start.elapsed().as_nanos() / u128::from(CHECKS)
}
