//! Every key of the configuration, with the least and the most that it may be, and beyond.

use app::cli::Cli;
use app::config::Sources;
use clap::Parser as _;
use proptest::prelude::*;
use tempfile::TempDir;

use crate::support::{check, start};

/// Values that are the least, the most, none at all or too much of something.
const EDGES: [&str; 26] = [
    "",
    "0",
    "1",
    "-1",
    "600",
    "1023",
    "65536",
    "4294967296",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e3",
    "0.5",
    "0s",
    "1ns",
    "1ms",
    "-1s",
    "1s",
    "1d",
    "1000y",
    "1001y",
    "584542046090y",
    "18446744073709551615y",
    "true",
    "*",
    "/",
];

/// Every key that there is, in a folder without files.
fn keys() -> Vec<String> {
    let (_, effective) = app::config::load(&Sources::default()).unwrap();
    let text = effective.to_string();
    let keys = text.lines().filter_map(|line| line.split_once(" = "));
    keys.map(|(key, _)| key.to_owned()).collect()
}

/// What the program says of `key` as `value`: nothing where it takes it.
fn said(key: &str, value: &str) -> Option<String> {
    let overrides = vec![(key.to_owned(), value.to_owned())];
    app::config::load(&Sources { overrides, ..Sources::default() })
        .err()
        .map(|error| error.to_string())
}

/// The bounds that the program names for `key`, where it has some.
fn bounds(key: &str) -> Option<(String, String)> {
    let line = said(key, "9999999999y").filter(|line| line.contains("must be"));
    let line = line.or_else(|| said(key, "1ns")).or_else(|| said(key, "99999999999999999999"))?;
    let (_, rest) = line.split_once(" from ")?;
    let (low, rest) = rest.split_once(" to ")?;
    let (high, _) = rest.split_once(" (")?;
    Some((low.to_owned(), high.to_owned()))
}

#[test]
fn every_number_and_duration_has_bounds_of_which_each_is_taken_and_no_more() {
    // What is in words of its own, and so has bounds elsewhere.
    let others = ["gateway.routes.auth.limits", "gateway.routes.products.limits"];
    let mut found = 0;
    let (_, effective) = app::config::load(&Sources::default()).unwrap();
    for line in effective.to_string().lines() {
        let (key, rest) = line.split_once(" = ").unwrap();
        let value = rest.split("  #").next().unwrap().trim();
        let is_number = value.parse::<f64>().is_ok() || humantime::parse_duration(value).is_ok();
        let Some((low, high)) = bounds(key) else {
            assert!(!is_number || others.contains(&key), "{key} = {value} has no bounds");
            continue;
        };
        found += 1;
        for taken in [&low, &high] {
            assert_eq!(said(key, taken), None, "{key} = {taken}");
        }
        let is_whole = high.parse::<u64>().is_ok();
        let more = high.parse::<u64>().map_or(format!("{high} 1ms"), |high| (high + 1).to_string());
        let less = low.parse::<u64>().map_or("-1ms".into(), |low| low.wrapping_sub(1).to_string());
        for refused in
            [more.as_str(), less.as_str(), "-1", "1000000000000y", "18446744073709551616"]
        {
            let line = said(key, refused);
            assert!(
                line.is_some_and(|line| line.starts_with(key)),
                "{key} = {refused}, {is_whole}"
            );
        }
    }
    assert!(found >= 50, "{found}");
}

fn both(set: &[(String, String)]) {
    let sets = set.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>();
    let args = sets.iter().flat_map(|set| ["--set", set]).collect::<Vec<_>>();
    let folder = TempDir::new().unwrap();
    let checked = check(&folder, &args);
    assert!(!folder.path().join("data").exists(), "a look makes nothing");
    assert_eq!(checked, start(&folder, &args), "{set:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn what_is_taken_runs_and_what_does_not_run_is_refused(
        key in prop::sample::select(keys()),
        edge in prop::sample::select(EDGES.to_vec()),
        bound in 0..4,
    ) {
        let value = match (bound, bounds(&key)) {
            (0, Some((low, _))) => low,
            (1, Some((_, high))) => high,
            _ => edge.to_owned(),
        };
        // A thread for each of them takes its time, and memory.
        prop_assume!(!(key == "server.workers" && value == "512"));
        both(&[(key, value)]);
    }
}

/// What of `edge` as the value of each key is taken together.
fn taken(edge: &str) -> Vec<(String, String)> {
    let folder = TempDir::new().unwrap();
    let system = actix_rt::System::new();
    let roles = Cli::try_parse_from(["app"]).unwrap().global.roles();
    let store = |name: &str| format!("sqlite://{}/{name}.db", folder.path().display());
    let own = ["user", "product"].map(|name| (format!("{name}.database_url"), store(name)));
    let mut taken = Vec::new();
    // A thread for each worker takes its time, and memory.
    for key in keys().into_iter().filter(|key| key != "server.workers") {
        taken.push((key, edge.to_owned()));
        let overrides = own.iter().chain(&taken).cloned().collect();
        let loaded = app::config::load(&Sources { overrides, ..Sources::default() });
        let runs = loaded.is_ok_and(|(settings, effective)| {
            system.block_on(app::node::check(settings, &effective, &roles)).is_ok()
        });
        if !runs {
            taken.pop();
        }
    }
    taken
}

#[test]
fn every_edge_runs_as_whatever_takes_it() {
    let mut found = 0;
    for edge in EDGES {
        let set = taken(edge);
        found += set.len();
        let sets = set.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>();
        let args = sets.iter().flat_map(|set| ["--set", set]).collect::<Vec<_>>();
        let folder = TempDir::new().unwrap();
        assert_eq!(check(&folder, &args), Ok(()), "{set:?}");
        assert_eq!(start(&folder, &args), Ok(()), "{set:?}");
    }
    assert!(found >= 300, "{found}");
}

#[test]
fn nothing_that_is_looked_at_panics() {
    let folder = TempDir::new().unwrap();
    let system = actix_rt::System::new();
    let roles = Cli::try_parse_from(["app"]).unwrap().global.roles();
    let store = |name: &str| format!("sqlite://{}/{name}.db", folder.path().display());
    for key in keys() {
        for edge in EDGES {
            let overrides = vec![
                ("user.database_url".to_owned(), store("user")),
                ("product.database_url".to_owned(), store("product")),
                (key.clone(), edge.to_owned()),
            ];
            let sources = Sources { overrides, ..Sources::default() };
            let line = match app::config::load(&sources) {
                Err(error) => error.to_string(),
                Ok((settings, effective)) => {
                    match system.block_on(app::node::check(settings, &effective, &roles)) {
                        Err(error) => error.to_string(),
                        Ok(()) => continue,
                    }
                }
            };
            let section = key.split('.').next().unwrap();
            assert!(
                line.starts_with(section) || line.starts_with("auth.mode"),
                "{key}={edge}: {line}"
            );
        }
    }
}

#[test]
fn the_least_of_everything_runs_and_so_does_the_most() {
    let all = |pick: fn((String, String)) -> String| {
        let bounded = keys().into_iter().filter(|key| key != "server.workers");
        bounded.filter_map(|key| Some((key.clone(), pick(bounds(&key)?)))).collect::<Vec<_>>()
    };
    both(&all(|(low, _)| low));
    both(&all(|(_, high)| high));
}
