//! The command line: the program's whole surface.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::node::Role;

/// The shop back end: every role in one process, or each in its own.
///
/// Without arguments all roles start in this process, on embedded storage in ./data, and answer on
/// http://127.0.0.1:8000. With --role the roles that are named start, and reach the others by URL.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

const EXAMPLES: &str = "\
Examples:
  app                                                    the whole shop on http://127.0.0.1:8000
  app --role product                                     the product role alone, on port 3002
  PRODUCT_URL=http://127.0.0.1:3002 app --role user      the user role, which asks it
  app --set gateway.listen=0.0.0.0:80                    any setting, for this run
  app seed --products 1000                               something to sell
  app check-config                                       every setting, and where it comes from";

/// Options of every command.
#[derive(Args, Debug)]
pub struct Global {
    /// The roles of this process, by comma or repeated [default: all]
    #[arg(
        long = "role",
        value_name = "ROLE",
        value_delimiter = ',',
        env = "APP_ROLE",
        global = true
    )]
    pub roles: Vec<Role>,
    /// Read default.toml and one file a role from this folder [default: ./config where it exists]
    #[arg(long, value_name = "DIR", env = "APP_CONFIG", global = true)]
    pub config: Option<PathBuf>,
    /// Override a setting, as in server.workers=4; repeatable
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = assignment, global = true)]
    pub overrides: Vec<(String, String)>,
}

impl Global {
    /// The roles of this process, each once, the gateway first.
    pub fn roles(&self) -> Vec<Role> {
        let every = Role::ALL.iter().copied();
        every.filter(|role| self.roles.is_empty() || self.roles.contains(role)).collect()
    }
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the roles and serve until SIGTERM or Ctrl-C (the default)
    Run,
    /// Bring the roles' tables up to date and stop
    Migrate,
    /// Fill the catalogue with products, the same ones every time
    Seed {
        /// How many products the catalogue has afterwards, at least
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
        products: u32,
    },
    /// Copy accounts or products from one store to another; what is there already stays as it is
    ///
    /// Accounts are at sqlite://PATH or postgres://…, products at sqlite://PATH or mongodb://…. Sessions are
    /// not copied: users log in again; tokens that have ended have ended in the copy, too. Stop the
    /// shop, or copy again after stopping it: what is written during a copy may be missed. Counts and
    /// checksums of both sides are printed at the end; exit 1 when they differ.
    Copy {
        /// Where to read
        #[arg(long, value_name = "URL")]
        from: String,
        /// Where to write
        #[arg(long, value_name = "URL")]
        to: String,
        /// Replace what the target has under the same id and differs, as a password that was changed there
        #[arg(long)]
        overwrite: bool,
    },
    /// Make accounts and admins, as the first one
    User {
        /// What to do
        #[command(subcommand)]
        action: UserAction,
    },
    /// Care for the keys that sign access tokens
    Keys {
        /// What to do
        #[command(subcommand)]
        action: KeysAction,
    },
    /// Make certificates
    Certs {
        /// What to do
        #[command(subcommand)]
        action: CertsAction,
    },
    /// Ask the process on this machine whether it is ready; exit 1 when it is not
    Healthcheck {
        /// The management address to ask [default: that of the first role]
        #[arg(long, value_name = "HOST:PORT")]
        address: Option<std::net::SocketAddr>,
    },
    /// Print every setting, its value and where it comes from; passwords are hidden
    CheckConfig,
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// What can be done to accounts.
#[derive(Debug, Subcommand)]
pub enum UserAction {
    /// Make an account; without --password-stdin its password is a random one, and printed
    Create {
        /// What the user is called
        #[arg(long)]
        username: String,
        /// The address to log in with
        #[arg(long)]
        email: String,
        /// Make it an admin's
        #[arg(long)]
        admin: bool,
        /// Read the password from the first line of standard input
        #[arg(long)]
        password_stdin: bool,
    },
    /// Give an account another password, which ends its sessions; without --password-stdin a random one
    Password {
        /// Its e-mail address
        email: String,
        /// Read the password from the first line of standard input
        #[arg(long)]
        password_stdin: bool,
    },
    /// Make an account an admin's
    Promote {
        /// Its e-mail address
        email: String,
    },
    /// Let an account in again that was disabled
    Enable {
        /// Its e-mail address
        email: String,
    },
}

/// What can be done to keys.
#[derive(Debug, Subcommand)]
pub enum KeysAction {
    /// Add a key to the file user.signing_keys_path; the old one verifies until its tokens have ended
    Rotate {
        /// When the new key begins to sign: until then every process gets to know it
        #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = delay)]
        delay: Duration,
    },
}

/// What can be done about certificates.
#[derive(Debug, Subcommand)]
pub enum CertsAction {
    /// Write certificates for each role, and an authority that signs them, for development
    ///
    /// The authority stays when it is there already; certificates are new each time, and good for a year. A role's
    /// are in a folder of its own: tls.crt, tls.key and ca.crt, as a Secret of Kubernetes has them.
    Dev {
        /// The folder to write to
        #[arg(long, value_name = "DIR", default_value = "data/certs")]
        out: PathBuf,
        /// Another name or address of the gateway; repeatable
        #[arg(long = "host", value_name = "NAME")]
        hosts: Vec<String>,
    },
}

/// Why the command line gives no command to run.
#[derive(Debug)]
pub enum CliError {
    /// The help or the version, which somebody asked for.
    Help(Box<clap::Error>),
    /// What is wrong with the command line, in one line that does not tell values: they may be secrets.
    Usage(String),
}

impl Cli {
    /// Reads `args`, the first of which is the program's own name, and the environment.
    ///
    /// # Errors
    /// What to say instead of doing something.
    pub fn read(args: &[OsString]) -> Result<Self, CliError> {
        Self::try_parse_from(args).map_err(|error| match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => CliError::Help(Box::new(error)),
            _ => CliError::Usage(usage(&error, args)),
        })
    }
}

/// What is wrong, on one line: clap's has several, and the values that it was given.
fn usage(error: &clap::Error, args: &[OsString]) -> String {
    let text = error.render().to_string();
    let head = text.split("\n\n").next().unwrap_or_default();
    let mut line = one_line(head);
    if let Some(rest) = line.strip_prefix("error: ") {
        line = rest.to_owned();
    }
    for (kind, value) in error.context() {
        let ContextValue::String(value) = value else { continue };
        if is_value(error, kind, value) {
            line = line.replace(&one_line(value), "***");
        }
    }
    // The same option, where it was not given as one.
    for (option, variable, shown) in OPTIONS {
        let is_given = args.iter().any(|arg| arg.to_string_lossy().starts_with(option));
        let found = std::env::var_os(variable).filter(|_| !is_given);
        if let Some(found) = found {
            if found.to_str().is_none() && line.contains(option) {
                return format!("{variable} is not UTF-8");
            }
            line = line.replace(shown, variable);
        }
    }
    for kind in [ContextKind::SuggestedSubcommand, ContextKind::SuggestedArg] {
        if let Some(ContextValue::String(tip)) = error.get(kind) {
            line = format!("{line}; did you mean {tip}?");
        }
    }
    format!("{line}; app --help tells more")
}

/// The options that are variables too, and how clap writes them.
const OPTIONS: [(&str, &str, &str); 2] =
    [("--role", "APP_ROLE", "--role <ROLE>"), ("--config", "APP_CONFIG", "--config <DIR>")];

/// Whether `value`, which an error names, may be a secret: a name of the program's own is none, nor what a closed list
/// does not have.
fn is_value(error: &clap::Error, kind: ContextKind, value: &str) -> bool {
    match kind {
        ContextKind::InvalidValue => {
            error.get(ContextKind::ValidValue).is_none() && !is_number(value)
                || value.contains("://")
        }
        ContextKind::InvalidArg => {
            error.kind() == ErrorKind::UnknownArgument && !value.starts_with('-')
        }
        _ => false,
    }
}

fn is_number(value: &str) -> bool {
    !value.is_empty() && value.len() < 25 && value.bytes().all(|b| b.is_ascii_digit() || b == b'-')
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// When a new key begins to sign.
fn delay(text: &str) -> Result<Duration, String> {
    let delay = humantime::parse_duration(text).ok().filter(|delay| *delay <= LONGEST_DELAY);
    delay.ok_or_else(|| "must be a duration of at most 365d, such as 2m".into())
}

/// The longest that an old key may go on signing.
const LONGEST_DELAY: Duration = Duration::from_hours(365 * 24);

fn assignment(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write it as KEY=VALUE")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn roles(args: &[&str]) -> Vec<Role> {
        Cli::try_parse_from(args).unwrap().global.roles()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn any_subset_of_roles_can_be_named() {
        assert_eq!(roles(&["app"]), [Role::Gateway, Role::User, Role::Product]);
        assert_eq!(roles(&["app", "--role", "product,user"]), [Role::User, Role::Product]);
        assert_eq!(roles(&["app", "--role", "user", "--role", "user"]), [Role::User]);
        assert_eq!(roles(&["app", "migrate", "--role", "user"]), [Role::User]);
        assert!(Cli::try_parse_from(["app", "--role", "orders"]).is_err());
    }
}
