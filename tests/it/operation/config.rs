//! What the program makes of what it is told: configuration that works, and complaints that tell no secret.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;

use app::cli::Cli;
use app::config::Sources;
use clap::Parser as _;
use nix::sys::signal::Signal;
use proptest::prelude::*;
use tempfile::TempDir;

use crate::support::{PATIENCE, Process, until};

/// Runs the program in `folder` with `args`, and `environment` set.
fn run(folder: &TempDir, args: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Process::command(folder.path());
    command.args(args).envs(environment.iter().copied());
    Process::run(command)
}

/// The one line that `command` ends with, by `code`; nothing is said on standard output.
fn complaint(mut command: Command, code: i32) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("app: "), "{text}");
    text.trim_end().to_owned()
}

fn command(folder: &TempDir, args: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Process::command(folder.path());
    command.args(args).envs(environment.iter().copied());
    command
}

/// A folder with files of the configuration.
fn configured(files: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("config")).unwrap();
    for (name, text) in files {
        fs::write(folder.path().join("config").join(name), text).unwrap();
    }
    folder
}

const BROKEN: &str =
    "# accounts\n[user]\ndatabase_url = \"postgres://shop:s3cret@db/shop\npool_size = 4\n";

#[actix_rt::test]
async fn a_missing_quote_tells_the_file_and_the_line_and_no_password() {
    let folder = configured(&[("user.toml", BROKEN)]);
    for args in [vec![], vec!["check-config"], vec!["migrate"], vec!["user", "promote", "a@b.c"]] {
        let line = complaint(command(&folder, &args, &[]), 1);
        assert!(line.starts_with("app: config/user.toml, line 3: "), "{line}");
        assert!(!line.contains("s3cret") && line.contains("string"), "{line}");
    }
}

#[actix_rt::test]
async fn a_missing_quote_at_a_reload_does_not_bring_the_password_into_the_log() {
    let folder = configured(&[]);
    let shop = Process::start(folder.path(), Process::command(folder.path()));
    fs::write(folder.path().join("config/user.toml"), BROKEN).unwrap();
    shop.signal(Signal::SIGHUP);
    until("the reload is refused", async || shop.log().contains("stays as it is")).await;
    let log = shop.log();
    assert!(log.contains("config/user.toml, line 3") && !log.contains("s3cret"), "{log}");
}

#[actix_rt::test]
async fn no_command_line_that_does_not_work_tells_its_secrets() {
    let folder = TempDir::new().unwrap();
    let url = "postgres://shop:s3cret@db/shop?x=1";
    let set = format!("user.database_url:{url}");
    let odd = "user.database_url=mysql://shop:s3cret@db";
    for (args, code) in [
        (vec!["copy", "--from", "sqlite://nowhere.db", "--to", url], 1),
        (vec!["copy", "--from", url, "--to", "mongodb://shop:s3cret@db/shop"], 1),
        (vec!["copy", "--from", "mysql://shop:s3cret@db", "--to", "sqlite://x.db"], 1),
        (vec!["copy", "--from", "postgres://shop:s3cret@db:port/x", "--to", "sqlite://x.db"], 1),
        (vec!["copy", "--from", "sqlite://shop:s3cret@db/x", "--to", "sqlite://x.db"], 1),
        (vec!["copy", url, "sqlite://x.db"], 2),
        (vec!["--set", &set], 1),
        (vec!["--set", "signing_keys:s3cret"], 2),
        (vec!["--set", odd], 1),
        (vec!["--config", url], 1),
        (vec!["--role", url], 2),
        (vec!["seed", "--products", url], 2),
        (vec!["healthcheck", "--address", url], 2),
        (vec!["keys", "rotate", "--delay", url], 2),
        (vec!["user", "password", "neo@example.com", "s3cret"], 2),
        (vec!["user", "create", "--password=s3cret"], 2),
        (vec!["certs", "dev", "--host", url], 1),
    ] {
        let line = complaint(command(&folder, &args, &[]), code);
        assert!(!line.contains("s3cret"), "{args:?}: {line}");
        assert!(line.len() > 30, "no reason: {line}");
    }
    let line = complaint(command(&folder, &["copy", "--from", "sqlite://x"], &[]), 2);
    assert!(line.contains("--to <URL>"), "{line}");
    let line = complaint(command(&folder, &["--role", "orders"], &[]), 2);
    assert!(line.contains("orders") && line.contains("gateway, user, product"), "{line}");
}

#[actix_rt::test]
async fn a_database_that_two_kinds_of_tables_could_be_copied_to_is_not_told_whole() {
    let folder = TempDir::new().unwrap();
    assert!(run(&folder, &["migrate"], &[]).status.success());
    let to = "postgres://shop:s3cret@db/shop";
    let args = ["copy", "--from", "sqlite://data/product.db", "--to", to];
    let line = complaint(command(&folder, &args, &[]), 1);
    assert!(line.contains("postgres://shop:***@db/shop"), "{line}");
}

/// Does something to a folder with an empty configuration.
type Breaks = fn(&TempDir);

#[actix_rt::test]
async fn configuration_that_cannot_be_read_stops_every_command() {
    let cases: [(&str, Breaks); 6] = [
        ("gateway.toml", |folder| {
            fs::create_dir(folder.path().join("config/gateway.toml")).unwrap()
        }),
        ("gateway.toml", |folder| {
            symlink("nowhere", folder.path().join("config/gateway.toml")).unwrap();
        }),
        ("gateway.toml", |folder| {
            fs::write(folder.path().join("config/gateway.toml"), b"[gateway]\n# \xff\n").unwrap();
        }),
        ("gatway.toml", |folder| {
            fs::write(folder.path().join("config/gatway.toml"), "[gateway]\n").unwrap();
        }),
        ("./config", |folder| {
            fs::remove_dir(folder.path().join("config")).unwrap();
            fs::write(folder.path().join("config"), "").unwrap();
        }),
        ("./config", |folder| {
            fs::remove_dir(folder.path().join("config")).unwrap();
            symlink("nowhere", folder.path().join("config")).unwrap();
        }),
    ];
    for (name, breaks) in cases {
        let folder = configured(&[]);
        breaks(&folder);
        for args in [vec![], vec!["check-config"]] {
            let line = complaint(command(&folder, &args, &[]), 1);
            assert!(line.contains(name), "{line}");
            assert!(!folder.path().join("data").exists(), "it started: {line}");
        }
    }
}

#[actix_rt::test]
async fn a_variable_that_is_not_utf_8_stops_the_start() {
    let folder = TempDir::new().unwrap();
    for name in ["DATABASE_URL", "APP__AUTH__MODE", "APP_ROLE", "DATABASE_URL_FILE"] {
        let mut command = Process::command(folder.path());
        command.env(name, std::ffi::OsStr::from_bytes(b"postgres://\xff"));
        let line = complaint(command, if name == "APP_ROLE" { 2 } else { 1 });
        assert!(line.contains(name) && line.contains("UTF-8"), "{line}");
    }
}

#[actix_rt::test]
async fn one_key_from_two_variables_stops_the_start() {
    let folder = TempDir::new().unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, "sqlite://data/secret.db").unwrap();
    let secret = secret.to_str().unwrap();
    for pair in [
        [("DATABASE_URL", "sqlite://data/a.db"), ("DATABASE_URL_FILE", secret)],
        [("DATABASE_URL", "sqlite://data/a.db"), ("APP__USER__DATABASE_URL", "sqlite://data/b.db")],
        [
            ("APP__USER__DATABASE_URL_FILE", secret),
            ("APP__USER__DATABASE_URL", "sqlite://data/b.db"),
        ],
    ] {
        for args in [vec![], vec!["check-config"]] {
            let line = complaint(command(&folder, &args, &pair), 1);
            assert!(line.starts_with("app: user.database_url: "), "{line}");
            for (name, _) in pair {
                assert!(line.contains(name), "{line}");
            }
        }
    }
}

#[actix_rt::test]
async fn an_empty_role_is_one_line_that_names_the_variable() {
    let folder = TempDir::new().unwrap();
    for (name, value) in [("APP_ROLE", ""), ("APP_ROLE", "orders"), ("APP_CONFIG", "")] {
        let line = complaint(command(&folder, &[], &[(name, value)]), 2);
        assert!(line.contains(name), "{line}");
    }
}

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

/// How the program ended, with its line, or that it was ready, by which it is ended.
fn start(folder: &TempDir, args: &[&str]) -> Result<(), String> {
    let mut command = Process::command(folder.path());
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let mut lines = out.lines().map_while(Result::ok);
        let _ = tell.send(lines.any(|line| line.starts_with("ready")));
    });
    let is_ready = told.recv_timeout(PATIENCE).unwrap_or_default();
    let _ = child.kill();
    let output = child.wait_with_output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(!log.contains("panicked"), "{args:?}: {log}");
    if is_ready { Ok(()) } else { Err(log) }
}

/// What `app check-config` says of the same.
fn check(folder: &TempDir, args: &[&str]) -> Result<(), String> {
    let mut command = Process::command(folder.path());
    command.args(args).arg("check-config");
    let output = Process::run(command);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!said.contains("panicked"), "{args:?}: {said}");
    if output.status.success() { Ok(()) } else { Err(said) }
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

#[actix_rt::test]
async fn what_used_to_pass_and_not_to_run_is_refused_by_both() {
    let broken =
        ["certificate", "key", "authority"].map(|name| format!("mtls.{name}=/nowhere/{name}"));
    let tls = ["gateway.tls_certificate=/nowhere/tls.crt", "gateway.tls_key=/nowhere/tls.key"];
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("keys"), "zz").unwrap();
    fs::write(folder.path().join("text.db"), "this is no database of anybody's").unwrap();
    let secret = "5".repeat(63);
    let cut_off = format!("user.signing_keys={secret}");
    let cases: [(&str, Vec<&str>); 14] = [
        ("user.acquire_timeout", vec!["user.acquire_timeout=0s"]),
        ("server.workers", vec!["server.workers=600"]),
        ("product.cache_ttl", vec!["product.cache_ttl=1000y"]),
        ("server.header_timeout", vec!["server.header_timeout=0s"]),
        ("user.signing_keys", vec!["user.signing_keys=zz"]),
        ("user.signing_keys", vec![&cut_off]),
        ("user.signing_keys_path", vec!["user.signing_keys_path=keys"]),
        ("user.signing_keys_path", vec!["user.signing_keys_path=/dev/null/keys"]),
        ("mtls.authority", broken.iter().map(String::as_str).collect()),
        ("gateway.tls_certificate", tls.to_vec()),
        ("log.filter", vec!["log.filter=inof"]),
        ("auth.mode", vec!["auth.open_beyond_loopback=false", "gateway.listen=0.0.0.0:0"]),
        ("user.database_url", vec!["user.database_url=sqlite://text.db"]),
        (
            "gateway.listen",
            vec!["gateway.listen=127.0.0.1:7999", "gateway.management=127.0.0.1:7999"],
        ),
    ];
    for (key, set) in cases {
        let args = set.iter().flat_map(|set| ["--set", *set]).collect::<Vec<_>>();
        let checked = check(&folder, &args).unwrap_err();
        assert!(
            checked.starts_with(&format!("app: {key}: ")) && !checked.contains(&secret),
            "{checked}"
        );
        assert_eq!(checked.lines().count(), 1, "{checked}");
        assert_eq!(start(&folder, &args).unwrap_err(), checked);
    }
}

#[actix_rt::test]
async fn a_look_at_the_configuration_does_not_mind_a_shop_that_runs() {
    let folder = TempDir::new().unwrap();
    let shop = Process::start(folder.path(), Process::command(folder.path()));
    let listen = shop.urls["gateway"].replace("http://", "gateway.listen=");
    assert_eq!(check(&folder, &["--set", &listen]), Ok(()));
    let elsewhere = ["--set", "gateway.listen=192.0.2.1:80", "--set", "auth.mode=enforced"];
    assert!(check(&folder, &elsewhere).unwrap_err().starts_with("app: gateway.listen: cannot"));
}

#[actix_rt::test]
async fn a_reload_compares_with_what_runs() {
    let folder = configured(&[]);
    let shop = Process::start(folder.path(), Process::command(folder.path()));
    let file = folder.path().join("config/user.toml");
    let warning = "user.pool_size is another now";
    for (size, warnings) in [("9", 1), ("9", 2), ("4", 2), ("5", 3)] {
        let before = shop.log().matches("read again").count();
        fs::write(&file, format!("[user]\npool_size = {size}\n")).unwrap();
        shop.signal(Signal::SIGHUP);
        until("it was read again", async || shop.log().matches("read again").count() > before)
            .await;
        assert_eq!(shop.log().matches(warning).count(), warnings, "{size}: {}", shop.log());
    }
}
