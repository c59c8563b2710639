//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::config::hide;
use crate::node::{Kind, Role};

/// The shop back end: every role in one process, or each in its own.
///
/// Without arguments, all roles run in this process on http://127.0.0.1:8000, with embedded storage in ./data. With --role,
/// only the named roles run, and reach the others by URL.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    /// The options of every command.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Option<Command>,
}

const EXAMPLES: &str = "\
Examples:
  app                                                    the whole shop on http://127.0.0.1:8000
  app demo                                               a shop with products and orders, to look around
  app --role product                                     the product role alone, on port 3002
  PRODUCT_URL=http://127.0.0.1:3002 app --role user      the user role, which calls it
  app --set gateway.listen=0.0.0.0:80                    any setting, for this run
  app seed --products 1000                               a sample catalogue
  app import products.csv                                products from a file
  app check-config                                       every setting, and where it comes from";

/// Options of every command.
#[derive(Args, Debug)]
pub struct Global {
    /// The roles of this process, separated by commas or repeated [default: all]
    #[arg(
        long = "role",
        value_name = "ROLE",
        value_delimiter = ',',
        env = "APP_ROLE",
        global = true
    )]
    pub roles: Vec<Role>,
    /// Read default.toml and one file per role from this folder [default: ./config if it exists]
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
    /// Show the whole shop, with products, accounts, orders and visitors, on data of its own
    ///
    /// All roles run in this process, as they do anywhere, on files in the temporary directory, which are removed at the
    /// end; payments are played. Prints the addresses of the shop, its administration and its operation, and the
    /// passwords of an admin and two customers. Ports and other settings can be set as ever.
    Demo(DemoOptions),
    /// Migrate the roles' databases and stop
    Migrate,
    /// Add sample products to the catalogue, the same ones every time
    Seed {
        /// The least number of products that the catalogue has afterwards
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
        products: u32,
    },
    /// Copy accounts, orders or products from one store to another, keeping what the target has already
    ///
    /// Accounts and orders are at sqlite://PATH or postgres://…, products at sqlite://PATH or mongodb://….
    /// What a file has says its tables. Revocations of tokens are copied, sessions and events are not: users
    /// log in again. Stop the shop, or copy again after
    /// stopping it: writes during a copy may be missed. The command prints counts and checksums of
    /// both sides, and exits with 1 if they differ.
    Copy {
        /// The store to read
        #[arg(long, value_name = "URL")]
        from: String,
        /// The store to write
        #[arg(long, value_name = "URL")]
        to: String,
        /// What to copy, from PostgreSQL, where accounts and orders may be together [default: accounts]
        #[arg(long, value_name = "WHAT")]
        what: Option<Kind>,
        /// Replace different records of the target, such as a password that was changed there
        #[arg(long)]
        overwrite: bool,
    },
    /// Back up all files of a shop on embedded storage, also while it runs
    ///
    /// The archive (tar) has the accounts, the catalogue, the orders and the keys that sign tokens: keep it as
    /// secret as those. It is read back and checked before it replaces an older one.
    Backup {
        /// The archive
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Restore the files of a backup to where the settings have them; the shop must not run
    Restore {
        /// The archive
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Replace files that are there
        #[arg(long)]
        overwrite: bool,
    },
    /// Import products from a file, as NDJSON or CSV
    ///
    /// A product whose SKU is there already is replaced, any other is added. Lines that are not valid
    /// are named on standard error; the others are imported, and the command exits with 1. A shop that
    /// runs on these stores with a cache of its own (memory://) shows its old answers until they expire:
    /// import with --url there.
    Import {
        /// The file; - reads standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Where and how
        #[command(flatten)]
        options: TransferOptions,
    },
    /// Export all products to a file, the oldest first
    ///
    /// A file that is there is replaced when the export is complete; a device or a pipe is written to.
    Export {
        /// The file; - writes to standard output
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Where and how
        #[command(flatten)]
        options: TransferOptions,
    },
    /// Decide on events that a consumer could not take
    #[command(arg_required_else_help = false)]
    Events {
        /// The command
        #[command(subcommand)]
        action: EventsAction,
    },
    /// Compare orders with stock, as after a restore; exit with 1 if they differ
    ///
    /// Names orders that are paid and whose pieces are not taken, placed ones for which none are kept, pieces
    /// of orders that are over, pieces that are sold to no order, and products with other numbers of reserved
    /// pieces than are kept. It changes nothing. While the shop runs, orders that somebody is
    /// changing are left out, and what differs counts when it still does so seconds later.
    CheckStock,
    /// Manage accounts, and create the first admin
    #[command(arg_required_else_help = false)]
    User {
        /// The command
        #[command(subcommand)]
        action: UserAction,
    },
    /// Manage the keys that sign access tokens
    #[command(arg_required_else_help = false)]
    Keys {
        /// The command
        #[command(subcommand)]
        action: KeysAction,
    },
    /// Create certificates
    #[command(arg_required_else_help = false)]
    Certs {
        /// The command
        #[command(subcommand)]
        action: CertsAction,
    },
    /// Ask the process on this machine whether it is ready; exit with 1 if it is not
    Healthcheck {
        /// The management address to ask [default: the first role's]
        #[arg(long, value_name = "HOST:PORT")]
        address: Option<std::net::SocketAddr>,
    },
    /// Print every setting with its value and origin; passwords are hidden
    CheckConfig,
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// The options of a demo.
#[derive(Args, Debug)]
pub struct DemoOptions {
    /// Leave the data where it is at the end, and print where
    #[arg(long)]
    pub keep: bool,
    /// Keep the data in this folder, and go on with what is there from an earlier demo
    #[arg(long, value_name = "DIR")]
    pub folder: Option<PathBuf>,
    /// No visitors: nothing happens but what you do
    #[arg(long)]
    pub no_load: bool,
}

/// The options of an import and an export.
#[derive(Args, Debug)]
pub struct TransferOptions {
    /// The format: ndjson or csv [default: as the file's name ends, else ndjson]
    #[arg(long, value_name = "FORMAT", value_parser = ["ndjson", "csv"])]
    pub format: Option<String>,
    /// The shop to ask, as in http://127.0.0.1:8000 [default: the store that the settings name]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// The file with an admin's access token for the shop [default: the variable APP_TOKEN]
    #[arg(long, value_name = "FILE", requires = "url")]
    pub token_file: Option<PathBuf>,
}

/// The commands on events.
#[derive(Debug, Subcommand)]
pub enum EventsAction {
    /// Dead letters: events that a consumer could not take
    ///
    /// With AMQP_URL they are in queues of RabbitMQ, otherwise in the stores of the roles, whether the shop
    /// runs or not; --role names those whose are meant. They stay until somebody decides on them.
    #[command(arg_required_else_help = false)]
    Dlq {
        /// The command
        #[command(subcommand)]
        action: DlqAction,
    },
}

/// The commands on dead letters.
#[derive(Debug, Subcommand)]
pub enum DlqAction {
    /// List them, by consumer
    List,
    /// Give some to their consumers again, which ignore what they have taken before
    ///
    /// One that its consumer still cannot take is a dead letter again. An event is ignored, too, if
    /// the consumer has taken a later one of the same subject. A shop that is stopped takes them when it starts.
    Redrive {
        /// Which
        #[command(flatten)]
        which: Which,
    },
    /// Forget some
    Drop {
        /// Which
        #[command(flatten)]
        which: Which,
    },
}

/// Some dead letters.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub struct Which {
    /// Their ids, as in the list
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// All of them
    #[arg(long)]
    pub all: bool,
}

/// The commands on accounts.
#[derive(Debug, Subcommand)]
pub enum UserAction {
    /// Create an account; without --password-stdin, print a random password for it
    Create {
        /// The user's name
        #[arg(long)]
        username: String,
        /// The address to log in with
        #[arg(long)]
        email: String,
        /// Make the account an admin
        #[arg(long)]
        admin: bool,
        /// Read the password from the first line of standard input
        #[arg(long)]
        password_stdin: bool,
    },
    /// Set an account's password and end its sessions; without --password-stdin, print a random password
    Password {
        /// The account's e-mail address
        email: String,
        /// Read the password from the first line of standard input
        #[arg(long)]
        password_stdin: bool,
    },
    /// Make an account an admin
    Promote {
        /// The account's e-mail address
        email: String,
    },
    /// Enable an account that was disabled
    Enable {
        /// The account's e-mail address
        email: String,
    },
}

/// The commands on keys.
#[derive(Debug, Subcommand)]
pub enum KeysAction {
    /// Add a key to the file user.signing_keys_path; the old one verifies tokens until they have expired
    Rotate {
        /// When the new key begins to sign; every process learns it before
        #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = delay)]
        delay: Duration,
    },
}

/// The commands on certificates.
#[derive(Debug, Subcommand)]
pub enum CertsAction {
    /// Write certificates for all roles, and an authority that signs them, for development
    ///
    /// An existing authority is kept; certificates are new each time, and valid for a year. Each role has a folder with
    /// tls.crt, tls.key and ca.crt, as in a Kubernetes Secret.
    Dev {
        /// The folder to write to
        #[arg(long, value_name = "DIR", default_value = "data/certs")]
        out: PathBuf,
        /// A further name or address of the gateway; repeatable
        #[arg(long = "host", value_name = "NAME")]
        hosts: Vec<String>,
    },
}

/// Why the command line gives no command to run.
#[derive(Debug)]
pub enum CliError {
    /// The help or the version was requested.
    Help(Box<clap::Error>),
    /// What is wrong with the command line, on one line without values, which may be secrets.
    Usage(String),
}

impl Cli {
    /// Parses `args`, the first of which is the program's name, and the environment.
    ///
    /// # Errors
    /// See [`CliError`].
    pub fn read(args: &[OsString]) -> Result<Self, CliError> {
        Self::try_parse_from(args).map_err(|error| match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => CliError::Help(Box::new(error)),
            _ => CliError::Usage(usage(&error, args)),
        })
    }
}

/// What is wrong, on one line: clap's own text has several lines, and values.
fn usage(error: &clap::Error, args: &[OsString]) -> String {
    let mut text = error.render().to_string();
    for (kind, value) in error.context() {
        let ContextValue::String(value) = value else { continue };
        if !value.is_empty() && is_value(error, kind, value) {
            // Only where it is quoted: a short value is a part of words, too.
            text = text.replace(&format!("'{value}'"), "'***'");
        }
    }
    let mut line = one_line(text.split("\n\n").next().unwrap_or_default());
    if let Some(rest) = line.strip_prefix("error: ") {
        line = rest.to_owned();
    }
    // Names the environment variable if the value came from one.
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
    format!("{line}; see app --help")
}

/// The options that are also environment variables, and how clap shows them.
const OPTIONS: [(&str, &str, &str); 2] =
    [("--role", "APP_ROLE", "--role <ROLE>"), ("--config", "APP_CONFIG", "--config <DIR>")];

/// Whether a `value` in an error may be a secret. Names of the program's own options are not, nor a wrong value of an
/// option with a fixed list of values.
fn is_value(error: &clap::Error, kind: ContextKind, value: &str) -> bool {
    match kind {
        ContextKind::InvalidSubcommand => hide(value) != value,
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

/// The longest delay before a new key signs.
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
    fn a_value_is_not_told_and_leaves_the_words_as_they_are() {
        let told = |args: &[&str]| {
            let args = ["app"].iter().chain(args).map(OsString::from).collect::<Vec<_>>();
            match Cli::read(&args).unwrap_err() {
                CliError::Usage(line) => line,
                CliError::Help(_) => panic!("no help was asked for"),
            }
        };
        let wanted = "for '--delay <DURATION>': must be a duration of at most 365d, such as 2m; \
                      see app --help";
        for value in ["a", "i", "*", "invalid", "'", "s3\n\ncret", "s3 cret", "s3'cret"] {
            let line = told(&["keys", "rotate", "--delay", value]);
            assert_eq!(line, format!("invalid value '***' {wanted}"));
        }
        let line = told(&["keys", "rotate", "--delay", ""]);
        assert!(line.ends_with(wanted) && line.contains("invalid value ''"), "{line}");
        let line = told(&["user", "promote", "neo@example.com", "e"]);
        assert!(line.starts_with("unexpected argument '***' found"), "{line}");
        let line = told(&["postgres://u:s3cret@h/d"]);
        assert!(line.starts_with("unrecognized subcommand '***'"), "{line}");
    }

    #[test]
    fn any_subset_of_roles_can_be_named() {
        assert_eq!(roles(&["app"]), [Role::Gateway, Role::User, Role::Product, Role::Order]);
        assert_eq!(roles(&["app", "--role", "product,user"]), [Role::User, Role::Product]);
        assert_eq!(roles(&["app", "--role", "user", "--role", "user"]), [Role::User]);
        assert_eq!(roles(&["app", "migrate", "--role", "user"]), [Role::User]);
        assert!(Cli::try_parse_from(["app", "--role", "orders"]).is_err());
    }
}
