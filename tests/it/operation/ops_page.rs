//! The page for operators, as a browser shows it.

use std::path::Path;
use std::process::Command;

use crate::support::{Shop, Topology, blocking};

/// Runs a part of `tests/browser/ops.mjs`, which fails when the page is not as it should be.
async fn browse(args: &[&str]) {
    run("ops.mjs", args).await;
}

/// Runs a script of `tests/browser`.
async fn run(script: &str, args: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser").join(script);
    let mut command = Command::new("node");
    command.arg(script).args(args);
    let output = blocking(move || command.output()).await;
    let output =
        output.unwrap_or_else(|error| panic!("node does not start, see make needs: {error}"));
    let told = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&told));
}

#[actix_rt::test]
async fn it_makes_rates_percentiles_and_states_of_counters() {
    run("numbers.mjs", &[]).await;
}

each_case!(it_fits_every_screen_and_takes_no_mouse:
    in_one_process(Topology::OneProcess, "gateway"),
    in_the_process_of_a_role(Topology::OneProcessARole, "product"),
);
async fn it_fits_every_screen_and_takes_no_mouse(topology: Topology, role: &str) {
    let shop = Shop::start(topology);
    browse(&["looks", &shop.process(role).urls["management"]]).await;
}

#[actix_rt::test]
async fn the_arrow_to_a_role_turns_within_two_seconds_after_its_end() {
    let shop = Shop::start(Topology::OneProcessARole);
    let product = shop.process("product").id().to_string();
    browse(&["stopped", &shop.process("gateway").urls["management"], &product]).await;
}

#[actix_rt::test]
async fn a_slow_payment_appears_with_its_waterfall_and_its_lines_of_the_log() {
    let shop = Shop::start(Topology::OneProcess);
    let urls = &shop.process("gateway").urls;
    browse(&["slow", &urls["management"], &urls["gateway"]]).await;
}

#[actix_rt::test]
async fn the_arrow_to_a_role_that_hangs_turns_and_turns_back() {
    let shop = Shop::start(Topology::OneProcessARole);
    let product = shop.process("product").id().to_string();
    browse(&["hangs", &shop.process("gateway").urls["management"], &product]).await;
}
