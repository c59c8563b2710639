//! One function a subcommand.

use std::io::{self, IsTerminal as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use awc::http::StatusCode;
use clap::CommandFactory as _;
use clap_complete::Shell;
use indicatif::{ProgressBar, ProgressStyle};

use crate::app::{self, Failure};
use crate::cli::{Cli, Global, UserAction};
use crate::config::{self, Effective, Settings, Sources};
use crate::contract::UserRole;
use crate::{telemetry, tls};

/// How long `healthcheck` waits for an answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Says why a command failed, behind all that is logged, and gives what the process ends with.
pub fn conclude(outcome: Result<(), Failure>) -> ExitCode {
    let failure = outcome.err().map(|failure| format!("app: {failure}"));
    telemetry::last_word(failure.as_deref());
    if failure.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// `app run`
///
/// # Errors
/// See [`app::run`].
pub fn run(global: &Global) -> Result<(), Failure> {
    let sources = sources(global);
    let (settings, effective) = config::load(&sources)?;
    telemetry::start(&settings.log, &effective)?;
    let roles = global.roles();
    let running = app::run(sources, (settings, effective), &roles);
    actix_rt::System::new().block_on(running)
}

/// `app migrate`
///
/// # Errors
/// See [`app::migrate`].
pub fn migrate(global: &Global) -> Result<(), Failure> {
    let (settings, effective) = load(global)?;
    let roles = global.roles();
    let migrating = app::migrate(&settings, &effective, &roles);
    let applied = actix_rt::System::new().block_on(migrating)?;
    let mut out = io::stdout().lock();
    for name in &applied {
        writeln!(out, "applied {name}")?;
    }
    if applied.is_empty() {
        writeln!(out, "nothing to do")?;
    }
    Ok(())
}

/// `app seed`
///
/// # Errors
/// See [`app::seed`].
pub fn seed(global: &Global, products: u32) -> Result<(), Failure> {
    let (settings, effective) = load(global)?;
    let ttl = settings.product.cache_ttl;
    let bar = progress_bar();
    bar.set_length(products.into());
    let seeding = app::seed(&settings, &effective, products, |done| bar.set_position(done.into()));
    let added = actix_rt::System::new().block_on(seeding)?;
    bar.finish_and_clear();
    let mut out = io::stdout().lock();
    writeln!(out, "added {added} of {products} products; the others were there")?;
    if added > 0 {
        let wait = humantime::format_duration(ttl);
        writeln!(out, "a shop that is running may take {wait} (product.cache_ttl) to show them")?;
    }
    Ok(())
}

/// `app copy`
///
/// # Errors
/// See [`app::copy`]; also when the target has more than the source, or something else.
pub fn copy(global: &Global, from: &str, to: &str) -> Result<(), Failure> {
    let (settings, _) = load(global)?;
    let bar = progress_bar();
    let copying = app::copy(&settings, from, to, |done, all| {
        bar.set_length(all);
        bar.set_position(done);
    });
    let (what, copied) = actix_rt::System::new().block_on(copying)?;
    bar.finish_and_clear();
    let mut out = io::stdout().lock();
    writeln!(out, "wrote {} {what}; the others were there", copied.written)?;
    for (side, summary) in [("source", copied.from), ("target", copied.to)] {
        writeln!(out, "{side}: {} {what}, checksum {:032x}", summary.count, summary.checksum)?;
    }
    if copied.from != copied.to {
        return Err(Failure::Other(format!("the target has other {what} than the source")));
    }
    Ok(())
}

/// `app user`
///
/// # Errors
/// See [`app::create_user`], [`app::promote_user`] and [`app::enable_user`].
pub fn user(global: &Global, action: UserAction) -> Result<(), Failure> {
    let (settings, effective) = load(global)?;
    // Who is made an admin is a matter for the audit log.
    telemetry::start(&settings.log, &effective)?;
    let system = actix_rt::System::new();
    let mut out = io::stdout().lock();
    match action {
        UserAction::Create { username, email, admin, password_stdin } => {
            let password = password(password_stdin)?;
            let role = if admin { UserRole::Admin } else { UserRole::Customer };
            let account = (username, email, password.clone());
            let id = system.block_on(app::create_user(&settings, account, role))?;
            writeln!(out, "made the account {id}")?;
            tell_unless(password_stdin, &mut out, &password)?;
        }
        UserAction::Password { email, password_stdin } => {
            let password = password(password_stdin)?;
            system.block_on(app::set_password(&settings, &email, password.clone()))?;
            writeln!(out, "{email} has another password, and its sessions are over")?;
            tell_unless(password_stdin, &mut out, &password)?;
        }
        UserAction::Promote { email } => {
            let said = match system.block_on(app::promote_user(&settings, &email))? {
                true => "is an admin now",
                false => "was an admin already",
            };
            writeln!(out, "{email} {said}")?;
        }
        UserAction::Enable { email } => {
            let said = match system.block_on(app::enable_user(&settings, &email))? {
                true => "is enabled now",
                false => "was enabled already",
            };
            writeln!(out, "{email} {said}")?;
        }
    }
    Ok(())
}

/// The first line of standard input where it is `given`, else 122 random bits.
fn password(given: bool) -> io::Result<String> {
    if !given {
        return Ok(uuid::Uuid::new_v4().simple().to_string());
    }
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn tell_unless(known: bool, out: &mut impl io::Write, password: &str) -> io::Result<()> {
    if known { Ok(()) } else { writeln!(out, "password: {password}") }
}

/// `app keys rotate`
///
/// # Errors
/// See [`app::rotate_keys`].
pub fn rotate_keys(global: &Global, delay: Duration) -> Result<(), Failure> {
    let (settings, effective) = load(global)?;
    telemetry::start(&settings.log, &effective)?;
    let name = app::rotate_keys(&settings, &effective, delay)?;
    let path = settings.user.signing_keys_path;
    let delay = humantime::format_duration(delay);
    let old = "if there was one before, it begins to sign in";
    writeln!(io::stdout(), "added key {name} to {}; {old} {delay}", path.display())?;
    Ok(())
}

/// `app certs dev`
///
/// # Errors
/// See [`tls::dev::write`].
pub fn make_certificates(folder: &Path, hosts: &[String]) -> Result<(), Failure> {
    let written = tls::dev::write(folder, hosts).map_err(Failure::Other)?;
    let mut out = io::stdout().lock();
    let (authority, folder) = (written.authority.display(), folder.display());
    let what =
        if written.is_new { "made the authority" } else { "used the authority that was there," };
    writeln!(out, "{what} {authority}")?;
    for folder in &written.folders {
        writeln!(out, "wrote {0}/tls.crt, {0}/tls.key, {0}/ca.crt", folder.display())?;
    }
    writeln!(
        out,
        "\nHTTPS for the gateway's clients, as curl --cacert {authority} https://localhost:8000/\n\
         export APP__GATEWAY__TLS_CERTIFICATE={folder}/gateway/tls.crt \
         APP__GATEWAY__TLS_KEY={folder}/gateway/tls.key\n\n\
         TLS between roles, for each with its own folder in the place of ROLE\n\
         export APP__MTLS__CERTIFICATE={folder}/ROLE/tls.crt APP__MTLS__KEY={folder}/ROLE/tls.key \
         APP__MTLS__AUTHORITY={folder}/ROLE/ca.crt\n\
         export USER_URL=https://127.0.0.1:3001 PRODUCT_URL=https://127.0.0.1:3002"
    )?;
    Ok(())
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
/// When the process does not answer, or is not ready; says what it misses.
pub fn healthcheck(global: &Global, address: Option<SocketAddr>) -> Result<(), Failure> {
    let (settings, _) = load(global)?;
    let configured = app::management_address(&settings, &global.roles()).1;
    let (first, second) = reachable(address.unwrap_or(configured));
    let (url, answer) = actix_rt::System::new().block_on(async {
        match (ask(first).await, second) {
            ((_, Err(_)), Some(second)) => ask(second).await,
            (asked, _) => asked,
        }
    });
    match answer {
        Ok((status, body)) if status.is_success() => Ok(writeln!(io::stdout(), "{body}")?),
        Ok((status, body)) => Err(Failure::Other(format!("{url} answered {status}: {body}"))),
        Err(error) => Err(Failure::Other(format!("{url} does not answer: {error}"))),
    }
}

/// What the management port at `address` answers as to whether its process is ready, and where it was asked.
async fn ask(address: SocketAddr) -> (String, Result<(StatusCode, String), String>) {
    let url = format!("http://{address}/readyz");
    let answer = async {
        let client = awc::Client::builder().timeout(PATIENCE).finish();
        let mut response = client.get(&url).send().await.map_err(|error| error.to_string())?;
        let body = response.body().await.map_err(|error| error.to_string())?;
        Ok((response.status(), String::from_utf8_lossy(&body).into_owned()))
    };
    let answer = answer.await;
    (url, answer)
}

/// An address that stands for every interface is asked over loopback: `[::]` has both, and some containers have the
/// loopback of IPv4 alone.
fn reachable(mut address: SocketAddr) -> (SocketAddr, Option<SocketAddr>) {
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()));
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => (v4, None),
        IpAddr::V6(ip) if ip.is_unspecified() => {
            address.set_ip(Ipv6Addr::LOCALHOST.into());
            (address, Some(v4))
        }
        _ => (address, None),
    }
}

/// `app check-config`
///
/// # Errors
/// The first setting that does not work.
pub fn check_config(global: &Global) -> Result<(), Failure> {
    let (settings, effective) = load(global)?;
    app::check(&settings, &effective)?;
    write!(io::stdout(), "{effective}")?;
    Ok(())
}

/// `app completions`
///
/// # Errors
/// When standard output cannot be written.
pub fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "app", &mut script);
    Ok(io::stdout().write_all(&script)?)
}

fn load(global: &Global) -> Result<(Settings, Effective), config::Error> {
    config::load(&sources(global))
}

fn sources(global: &Global) -> Sources {
    Sources::of_process(global.config.clone(), global.overrides.clone())
}
