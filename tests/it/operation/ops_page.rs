//! The page for operators, as a browser shows it.

use crate::support::{Shop, Topology, browse};

#[actix_rt::test]
async fn it_makes_rates_percentiles_and_states_of_counters() {
    browse("numbers.mjs", &[]).await;
}

each_case!(it_fits_every_screen_and_takes_no_mouse:
    in_one_process(Topology::OneProcess, "gateway"),
    in_the_process_of_a_role(Topology::OneProcessARole, "product"),
);
async fn it_fits_every_screen_and_takes_no_mouse(topology: Topology, role: &str) {
    let shop = Shop::start(topology);
    browse("ops.mjs", &["looks", &shop.process(role).urls["management"]]).await;
}

#[actix_rt::test]
async fn the_arrow_to_a_role_turns_within_two_seconds_after_its_end() {
    let shop = Shop::start(Topology::OneProcessARole);
    let product = shop.process("product").id().to_string();
    browse("ops.mjs", &["stopped", &shop.process("gateway").urls["management"], &product]).await;
}

#[actix_rt::test]
async fn a_slow_payment_appears_with_its_waterfall_and_its_lines_of_the_log() {
    let shop = Shop::start(Topology::OneProcess);
    let urls = &shop.process("gateway").urls;
    browse("ops.mjs", &["slow", &urls["management"], &urls["gateway"]]).await;
}

#[actix_rt::test]
async fn the_arrow_to_a_role_that_hangs_turns_and_turns_back() {
    let shop = Shop::start(Topology::OneProcessARole);
    let product = shop.process("product").id().to_string();
    browse("ops.mjs", &["hangs", &shop.process("gateway").urls["management"], &product]).await;
}
