//! One function per subcommand.

mod dead_letters;
mod transfer;

use std::error::Error;
use std::io::{self, IsTerminal as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use awc::http::StatusCode;
use awc::http::header::CONTENT_LENGTH;
use clap::CommandFactory as _;
use clap_complete::Shell;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::timeout;

use crate::cli::{Cli, DemoOptions, Global, UserAction};
use crate::config::{self, Effective, Settings, Sources};
use crate::contract::UserRole;
use crate::node::{self, Existing, Failure, Folder, Role};
use crate::{telemetry, tls};

pub use dead_letters::dead_letters;
pub use transfer::{export, import};

/// How long `healthcheck` waits for an answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Prints why a command failed, after the log, and returns the exit code.
pub fn conclude(outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => {
            telemetry::last_word(None);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            say_last(&failure.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Prints `line` after the log.
pub fn say_last(line: &str) {
    telemetry::last_word(Some(&format!("app: {line}")));
}

/// `app run`
///
/// # Errors
/// See [`node::run`].
pub fn run(global: &Global) -> Result<(), Failure> {
    let sources = sources(global);
    let (settings, effective) = config::load(&sources)?;
    telemetry::start(&settings.log);
    let roles = global.roles();
    let running = node::run(sources, (settings, effective), &roles);
    actix_rt::System::new().block_on(running)
}

/// `app demo`
///
/// # Errors
/// See [`node::demo`]; also when not all roles are to run, or the folder cannot be used.
pub fn demo(global: &Global, options: &DemoOptions) -> Result<(), Failure> {
    if global.roles().len() < Role::ALL.len() {
        let problem = "--role: a demo runs all roles in one process";
        return Err(Failure::Other(problem.into()));
    }
    let mut folder = Folder::open(options.folder.as_deref(), options.keep)?;
    let (sources, loaded) = node::demo_settings(sources(global), &folder)?;
    telemetry::start(&loaded.0.log);
    let running = node::demo(&mut folder, sources, loaded, !options.no_load);
    let outcome = actix_rt::System::new().block_on(running);
    outcome.and(folder.close())
}

/// `app migrate`
///
/// # Errors
/// See [`node::migrate`].
pub fn migrate(global: &Global) -> Result<(), Failure> {
    let (settings, effective) = load(global)?;
    let roles = global.roles();
    let migrating = node::migrate(&settings, &effective, &roles);
    let applied = actix_rt::System::new().block_on(migrating)?;
    let lines = applied.iter().map(|name| format!("applied {name}\n")).collect::<String>();
    say(if lines.is_empty() { "nothing to do\n" } else { &lines })
}

/// `app seed`
///
/// # Errors
/// See [`node::seed`].
pub fn seed(global: &Global, products: u32) -> Result<(), Failure> {
    let (settings, effective) = load(global)?;
    let ttl = settings.product.cache_ttl;
    let bar = progress_bar();
    bar.set_length(products.into());
    let seeding = node::seed(&settings, &effective, products, |done| bar.set_position(done.into()));
    let added = actix_rt::System::new().block_on(seeding)?;
    bar.finish_and_clear();
    let mut text = format!("added {added} of {products} products; the others were there\n");
    if added > 0 {
        let wait = humantime::format_duration(ttl);
        text +=
            &format!("a shop that is running may take {wait} (product.cache_ttl) to show them\n");
    }
    say(&text)
}

/// `app backup`
///
/// # Errors
/// See [`node::backup`].
pub fn backup(global: &Global, file: &Path) -> Result<(), Failure> {
    let (settings, _) = load(global)?;
    let names = node::backup(&settings, file)?;
    say(&format!("{} has {}\n", file.display(), names.join(", ")))
}

/// `app restore`
///
/// # Errors
/// See [`node::restore`].
pub fn restore(global: &Global, file: &Path, overwrite: bool) -> Result<(), Failure> {
    let (settings, _) = load(global)?;
    let names = node::restore(&settings, file, overwrite)?;
    say(&format!("restored {}\n", names.join(", ")))
}

/// `app check-stock`
///
/// # Errors
/// See [`node::check_stock`]; also when orders and stock differ.
pub fn check_stock(global: &Global) -> Result<(), Failure> {
    let (settings, effective) = load(global)?;
    let checking = node::check_stock(&settings, &effective);
    let found = actix_rt::System::new().block_on(checking)?;
    let lines = found.differences.values().map(|words| format!("{words}\n"));
    let node::Comparison { orders, reservations, .. } = found;
    say(&format!(
        "{}compared {orders} orders and {reservations} reservations\n",
        lines.collect::<String>()
    ))?;
    match found.differences.len() {
        0 => Ok(()),
        1 => Err(Failure::Other("orders and stock differ in 1 point".into())),
        count => Err(Failure::Other(format!("orders and stock differ in {count} points"))),
    }
}

/// How many of the rows that `copy` could not write it names.
const REFUSALS: usize = 10;

/// `app copy`
///
/// # Errors
/// See [`node::copy`]; also when the target has other records than the source.
pub fn copy(
    global: &Global,
    urls: (&str, &str),
    what: Option<node::Kind>,
    overwrite: bool,
) -> Result<(), Failure> {
    let (settings, _) = load(global)?;
    let existing = if overwrite { Existing::Overwrite } else { Existing::Keep };
    let bar = progress_bar();
    let copying = node::copy(&settings, urls, what, existing, |done, all| {
        bar.set_length(all);
        bar.set_position(done);
    });
    let all = actix_rt::System::new().block_on(copying)?;
    bar.finish_and_clear();
    for (what, copied) in &all {
        let mut text = format!("wrote {} {what}; the others were there\n", copied.written);
        if copied.kept > 0 {
            let kept = copied.kept;
            text +=
                &format!("{kept} of them differ and stay as they are; --overwrite replaces them\n");
        }
        if copied.removed > 0 {
            text += &format!("{} were removed from the target and stay so\n", copied.removed);
        }
        for why in copied.refused.iter().take(REFUSALS) {
            text += &format!("{why}\n");
        }
        if copied.refused.len() > REFUSALS {
            text += &format!("and {} more like these\n", copied.refused.len() - REFUSALS);
        }
        for (side, summary) in [("source", copied.from), ("target", copied.to)] {
            let (count, checksum) = (summary.count, summary.checksum);
            text += &format!("{side}: {count} {what}, checksum {checksum:032x}\n");
        }
        say(&text)?;
    }
    match all.iter().find(|(_, copied)| copied.from != copied.to) {
        Some((what, _)) => {
            Err(Failure::Other(format!("the target has other {what} than the source")))
        }
        None => Ok(()),
    }
}

/// `app user`
///
/// # Errors
/// See [`node::create_user`], [`node::promote_user`] and [`node::enable_user`].
pub fn user(global: &Global, action: UserAction) -> Result<(), Failure> {
    let (settings, _) = load(global)?;
    // The audit log has changes of rights.
    telemetry::start(&settings.log);
    let system = actix_rt::System::new();
    match action {
        UserAction::Create { username, email, admin, password_stdin } => {
            let password = password(password_stdin)?;
            let role = if admin { UserRole::Admin } else { UserRole::Customer };
            let account = (username, email, password.clone());
            let tell = || tell_unless(password_stdin, &password);
            let id = system.block_on(node::create_user(&settings, account, role, tell))?;
            say(&format!("made the account {id}\n"))
        }
        UserAction::Password { email, password_stdin } => {
            let password = password(password_stdin)?;
            let tell = || tell_unless(password_stdin, &password);
            system.block_on(node::set_password(&settings, &email, password.clone(), tell))?;
            say(&format!("{email} has a new password, and its sessions have ended\n"))
        }
        UserAction::Promote { email } => {
            let said = match system.block_on(node::promote_user(&settings, &email))? {
                true => "is an admin now",
                false => "was an admin already",
            };
            say(&format!("{email} {said}\n"))
        }
        UserAction::Enable { email } => {
            let said = match system.block_on(node::enable_user(&settings, &email))? {
                true => "is enabled now",
                false => "was enabled already",
            };
            say(&format!("{email} {said}\n"))
        }
    }
}

/// `app --help` and `app --version`
///
/// # Errors
/// When standard output cannot be written.
pub fn help(text: &clap::Error) -> Result<(), Failure> {
    told(text.print().and_then(|()| io::stdout().flush()))
}

/// Writes `text` to standard output.
fn say(text: &str) -> Result<(), Failure> {
    told(write(text))
}

/// The failure of writing to standard output. A closed pipe is not one.
fn told(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome.map_err(|error| {
            Failure::Other(format!(
                "the command succeeded, but cannot write to standard output: {error}"
            ))
        }),
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// The first line of standard input if the password is `given`; otherwise 122 random bits.
fn password(given: bool) -> Result<String, Failure> {
    if !given {
        return Ok(uuid::Uuid::new_v4().simple().to_string());
    }
    let mut line = String::new();
    io::stdin().read_line(&mut line).map_err(|error| {
        Failure::Other(format!("cannot read the password from standard input: {error}"))
    })?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Writes a generated `password` to standard output.
fn tell_unless(known: bool, password: &str) -> io::Result<()> {
    if known { Ok(()) } else { write(&format!("password: {password}\n")) }
}

/// `app keys rotate`
///
/// # Errors
/// See [`node::rotate_keys`].
pub fn rotate_keys(global: &Global, delay: Duration) -> Result<(), Failure> {
    let (settings, effective) = load(global)?;
    telemetry::start(&settings.log);
    let path = settings.user.signing_keys_path.display().to_string();
    let wait = humantime::format_duration(delay);
    let old = "if there was one before, it begins to sign in";
    let tell = |name: &str| write(&format!("added key {name} to {path}; {old} {wait}\n"));
    Ok(node::rotate_keys(&settings, &effective, delay, tell)?)
}

/// `app certs dev`
///
/// # Errors
/// See [`tls::dev::write`].
pub fn make_certificates(folder: &Path, hosts: &[String]) -> Result<(), Failure> {
    let written =
        tls::dev::write(folder, hosts).map_err(|error| Failure::Other(error.to_string()))?;
    let (authority, folder) = (written.authority.display(), folder.display());
    let what = if written.is_new { "made the authority" } else { "used the existing authority," };
    let mut text = format!("{what} {authority}\n");
    for folder in &written.folders {
        text += &format!("wrote {0}/tls.crt, {0}/tls.key, {0}/ca.crt\n", folder.display());
    }
    text += &format!(
        "\nHTTPS for the gateway's clients, as curl --cacert {authority} https://localhost:8000/\n\
         export APP__GATEWAY__TLS_CERTIFICATE={folder}/gateway/tls.crt \
         APP__GATEWAY__TLS_KEY={folder}/gateway/tls.key\n\n\
         TLS between roles, for each with its own folder in the place of ROLE\n\
         export APP__MTLS__CERTIFICATE={folder}/ROLE/tls.crt APP__MTLS__KEY={folder}/ROLE/tls.key \
         APP__MTLS__AUTHORITY={folder}/ROLE/ca.crt\n\
         export USER_URL=https://127.0.0.1:3001 PRODUCT_URL=https://127.0.0.1:3002\n"
    );
    say(&text)
}

/// A bar on a terminal, and nothing elsewhere.
fn progress_bar() -> ProgressBar {
    let bar = if io::stderr().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() };
    match ProgressStyle::with_template("{bar:40} {pos}/{len}, {eta} left") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// `app healthcheck`
///
/// # Errors
/// When the process does not answer, or is not ready; the error names what is missing.
pub fn healthcheck(global: &Global, address: Option<SocketAddr>) -> Result<(), Failure> {
    let (settings, _) = load(global)?;
    let configured = node::management_address(&settings, &global.roles()).1;
    let (first, second) = reachable(address.unwrap_or(configured));
    let (asked, answer) = actix_rt::System::new().block_on(async move {
        match (ask(first).await, second) {
            (Err(_), Some(second)) => (second, ask(second).await),
            (answer, _) => (first, answer),
        }
    });
    let url = format!("http://{asked}/readyz");
    match answer {
        Ok((StatusCode::OK, body)) if is_whole(&body) => say(&format!("{body}\n")),
        Ok((status, body)) => Err(Failure::Other(format!("{url} answered {status}: {body}"))),
        Err(problem) => Err(Failure::Other(format!("{url} does not answer: {problem}"))),
    }
}

/// The status and the whole body of `/readyz` on the management port at `address`.
///
/// # Errors
/// Why there was no whole answer in time.
async fn ask(address: SocketAddr) -> Result<(StatusCode, String), Box<dyn Error>> {
    let answer = async {
        let client = awc::Client::builder().disable_timeout().finish();
        let request = client.get(format!("http://{address}/readyz"));
        let mut response = request.send().await?;
        let length = response.headers().get(CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        let body = response.body().limit(ANSWER_LIMIT).await?;
        // awc does not notice truncated bodies, so the length is checked here.
        match length {
            Some(length) if length == body.len() => {
                Ok((response.status(), String::from_utf8_lossy(&body).into_owned()))
            }
            Some(_) => Err("the answer was cut off".into()),
            None => Err("the answer has no content-length".into()),
        }
    };
    timeout(PATIENCE, answer).await.unwrap_or_else(|_| Err(LATE.into()))
}

const LATE: &str = "the answer was not complete within 3 s";
/// The largest response, in bytes.
const ANSWER_LIMIT: usize = 64 * 1024;

/// Whether `body` is the answer of a ready process.
fn is_whole(body: &str) -> bool {
    let read = serde_json::from_str::<serde_json::Value>(body);
    read.is_ok_and(|read| matches!(read["status"].as_str(), Some("ready" | "degraded")))
}

/// The address of a listener for this machine. `[::]` has two, because some containers have only IPv4.
fn reachable(address: SocketAddr) -> (SocketAddr, Option<SocketAddr>) {
    let is_any = address.is_ipv6() && address.ip().is_unspecified();
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()));
    (node::for_this_machine(address), is_any.then_some(v4))
}

/// `app check-config`
///
/// # Errors
/// The first setting that would prevent a start; see [`node::check`]. The settings are printed even then.
pub fn check_config(global: &Global) -> Result<(), Failure> {
    let (settings, effective) = load(global)?;
    let roles = global.roles();
    let checked = actix_rt::System::new().block_on(node::check(settings, &effective, &roles));
    say(&effective.to_string())?;
    Ok(checked?)
}

/// `app completions`
///
/// # Errors
/// When standard output cannot be written.
pub fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "app", &mut script);
    say(&String::from_utf8_lossy(&script))
}

fn load(global: &Global) -> Result<(Settings, Effective), config::Error> {
    config::load(&sources(global))
}

fn sources(global: &Global) -> Sources {
    Sources::of_process(global.config.clone(), global.overrides.clone())
}
