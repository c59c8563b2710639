//! What the program makes of what it is told: configuration that works, and complaints that tell no secret.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::support::{Process, check, start, until};

/// Runs the program in `folder` with `args`, and `environment` set.
fn run(folder: &TempDir, args: &[&str], environment: &[(&str, &str)]) -> Output {
    Process::run(command(folder, args, environment))
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
    fs::write(folder.path().join("large"), vec![b'#'; 1024 * 1024 + 1]).unwrap();
    assert!(Command::new("mkfifo").arg(folder.path().join("pipe")).status().unwrap().success());
    let cases: [(&str, Vec<&str>); 30] = [
        ("user.acquire_timeout", vec!["user.acquire_timeout=0s"]),
        ("server.workers", vec!["server.workers=600"]),
        ("product.cache_ttl", vec!["product.cache_ttl=1000y"]),
        ("server.header_timeout", vec!["server.header_timeout=0s"]),
        ("user.signing_keys", vec!["user.signing_keys=zz"]),
        ("user.signing_keys", vec![&cut_off]),
        ("user.signing_keys_path", vec!["user.signing_keys_path=keys"]),
        ("user.signing_keys_path", vec!["user.signing_keys_path=/dev/null/keys"]),
        ("user.signing_keys_path", vec!["user.signing_keys_path="]),
        ("user.signing_keys_path", vec!["user.signing_keys_path=."]),
        ("user.signing_keys_path", vec!["user.signing_keys_path=nowhere/"]),
        ("user.signing_keys_path", vec!["user.signing_keys_path=keys/below"]),
        ("user.signing_keys_path", vec!["user.signing_keys_path=data/user.db"]),
        ("user.signing_keys_path", vec!["user.signing_keys_path=data/../data/product.db"]),
        ("user.signing_keys_path", vec!["user.signing_keys_path=/dev/zero"]),
        ("user.signing_keys_path", vec!["user.signing_keys_path=pipe"]),
        ("user.signing_keys_path", vec!["user.signing_keys_path=large"]),
        ("user.database_url", vec!["user.database_url=sqlite://data/"]),
        ("user.database_url", vec!["user.database_url=sqlite:///dev/null"]),
        ("product.database_url", vec!["product.database_url=sqlite://pipe"]),
        ("user.database_url", vec!["user.database_url=postgres://u:p@/d"]),
        ("gateway.upstreams.x.urls", vec!["gateway.upstreams.x.urls=http://h:70000"]),
        ("gateway.upstreams.x.urls", vec!["gateway.upstreams.x.urls=http://u:p@h"]),
        (
            "gateway.tls_certificate",
            vec!["gateway.tls_certificate=/dev/zero", "gateway.tls_key=/dev/zero"],
        ),
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
async fn two_roles_on_one_file_are_refused_however_it_is_spelt() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("linked")).unwrap();
    symlink("../data/product.db", folder.path().join("linked/user.db")).unwrap();
    let whole = format!("{}/data/product.db", folder.path().display());
    for path in ["data/product.db", "data/../data/product.db", "linked/user.db", &whole] {
        let set = format!("user.database_url=sqlite://{path}");
        let checked = check(&folder, &["--set", &set]).unwrap_err();
        assert!(checked.starts_with("app: user.database_url: "), "{checked}");
        assert!(checked.contains("product.database_url"), "{checked}");
        assert_eq!(checked.lines().count(), 1, "{checked}");
        assert_eq!(start(&folder, &["--set", &set]).unwrap_err(), checked);
        assert!(!folder.path().join("data").exists());
    }
    let other = ["--set", "product.database_url=sqlite://data/user.db"];
    let checked = check(&folder, &other).unwrap_err();
    assert!(checked.starts_with("app: product.database_url: "), "{checked}");
}

#[actix_rt::test]
async fn no_command_waits_for_a_pipe() {
    let folder = TempDir::new().unwrap();
    assert!(Command::new("mkfifo").arg(folder.path().join("pipe")).status().unwrap().success());
    for args in [
        vec!["--set", "user.signing_keys_path=pipe", "keys", "rotate"],
        vec!["--set", "user.database_url=sqlite://pipe", "migrate"],
        vec!["--set", "product.database_url=sqlite://pipe", "seed"],
        vec!["copy", "--from", "sqlite://pipe", "--to", "sqlite://x.db"],
    ] {
        let line = complaint(command(&folder, &args, &[]), 1);
        assert!(line.contains("pipe: it is not a file"), "{line}");
    }
    let line = complaint(command(&folder, &[], &[("DATABASE_URL_FILE", "pipe")]), 1);
    assert!(line.contains("cannot read pipe: it is not a file"), "{line}");
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
async fn a_reload_without_the_folder_of_the_start_is_refused() {
    for flags in [vec![], vec!["--config", "config"]] {
        let file = "[gateway.routes.auth]\ntimeout = \"9s\"\n";
        let folder = configured(&[("gateway.toml", file)]);
        let shop = Process::start(folder.path(), command(&folder, &flags, &[]));
        fs::rename(folder.path().join("config"), folder.path().join("moved")).unwrap();
        shop.signal(Signal::SIGHUP);
        until("the reload is refused", async || shop.log().contains("stays as it is")).await;
        let log = shop.log();
        assert!(log.contains("config: no such directory") && !log.contains("read again"), "{log}");
    }
}

#[actix_rt::test]
async fn a_variable_with_one_underscore_too_few_stops_the_start() {
    let folder = TempDir::new().unwrap();
    for args in [vec![], vec!["check-config"]] {
        let line = complaint(command(&folder, &args, &[("APP_AUTH_MODE", "enforced")]), 1);
        assert!(
            line.contains("APP_AUTH_MODE: no such variable; did you mean APP__AUTH__MODE?"),
            "{line}"
        );
    }
}

#[actix_rt::test]
async fn a_reload_compares_with_what_runs() {
    let folder = configured(&[]);
    let shop = Process::start(folder.path(), Process::command(folder.path()));
    let file = folder.path().join("config/user.toml");
    let warning = "user.pool_size has changed";
    for (size, warnings) in [("9", 1), ("9", 2), ("4", 2), ("5", 3)] {
        let before = shop.log().matches("read again").count();
        fs::write(&file, format!("[user]\npool_size = {size}\n")).unwrap();
        shop.signal(Signal::SIGHUP);
        until("it was read again", async || shop.log().matches("read again").count() > before)
            .await;
        assert_eq!(shop.log().matches(warning).count(), warnings, "{size}: {}", shop.log());
    }
}
