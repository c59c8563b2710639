//! Parses the command line and runs the command.

use std::process::ExitCode;

use app::cli::{CertsAction, Cli, CliError, Command, EventsAction, KeysAction};
use app::commands;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The default provider for all TLS; installing it twice is harmless.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let args = std::env::args_os().collect::<Vec<_>>();
    let Cli { global, command } = match Cli::read(&args) {
        Ok(cli) => cli,
        Err(CliError::Help(help)) => return commands::conclude(commands::help(&help)),
        Err(CliError::Usage(line)) => {
            commands::say_last(&line);
            return ExitCode::from(2);
        }
    };
    let outcome = match command.unwrap_or(Command::Run) {
        Command::Run => commands::run(&global),
        Command::Demo(options) => commands::demo(&global, &options),
        Command::Migrate => commands::migrate(&global),
        Command::Seed { products } => commands::seed(&global, products),
        Command::Copy { from, to, what, overwrite } => {
            commands::copy(&global, (&from, &to), what, overwrite)
        }
        Command::Backup { file } => commands::backup(&global, &file),
        Command::Restore { file, overwrite } => commands::restore(&global, &file, overwrite),
        Command::CheckStock => commands::check_stock(&global),
        Command::Import { file, options } => commands::import(&global, &file, &options),
        Command::Export { file, options } => commands::export(&global, &file, &options),
        Command::Events { action: EventsAction::Dlq { action } } => {
            commands::dead_letters(&global, action)
        }
        Command::User { action } => commands::user(&global, action),
        Command::Keys { action: KeysAction::Rotate { delay } } => {
            commands::rotate_keys(&global, delay)
        }
        Command::Certs { action: CertsAction::Dev { out, hosts } } => {
            commands::make_certificates(&out, &hosts)
        }
        Command::Healthcheck { address } => commands::healthcheck(&global, address),
        Command::CheckConfig => commands::check_config(&global),
        Command::Completions { shell } => commands::completions(shell),
    };
    commands::conclude(outcome)
}
