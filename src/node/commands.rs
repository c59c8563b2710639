//! The commands on the stores of the roles.

use std::io;
use std::time::Duration;

use super::{Failure, Role};
use crate::config::{self, Effective, Settings, SqlUrl, ValueError, hide};
use crate::contract::UserRole;
pub use crate::storage::copy::Existing;
use crate::storage::copy::{Copied, Progress, of_source, of_target};
use crate::storage::sqlite;
use crate::{product, user};

/// Migrates the databases of `roles`; returns the migrations that were applied.
///
/// # Errors
/// Names the setting of the store that failed.
pub async fn migrate(
    settings: &Settings,
    effective: &Effective,
    roles: &[Role],
) -> Result<Vec<String>, config::Error> {
    let mut applied = Vec::new();
    for role in roles {
        applied.extend(role.migrate(settings).await.map_err(|error| effective.explain(error))?);
    }
    Ok(applied)
}

/// Fills the catalogue with its first `count` products; see [`product::seed`].
///
/// # Errors
/// When the store cannot be opened or fails.
pub async fn seed(
    settings: &Settings,
    effective: &Effective,
    count: u32,
    progress: impl Fn(u32),
) -> Result<usize, Failure> {
    let key = Role::Product.store();
    let seeded = product::seed(&settings.product, count, progress).await;
    seeded.map_err(|error| effective.blame(key, error).into())
}

/// Copies the accounts or the products at one URL to another: the schemes decide which, or between two files the tables
/// of the first. Products bring their reservations along. Returns what was copied, in a word, and how.
///
/// # Errors
/// When a URL is invalid, the stores are of different kinds, or one fails.
pub async fn copy(
    settings: &Settings,
    (from, to): (&str, &str),
    existing: Existing,
    progress: impl Progress,
) -> Result<Vec<(&'static str, Copied)>, Failure> {
    let products = copies_products(from, to)?;
    check_target(to, products)?;
    if products {
        let at = |side: &str, url: &str| {
            let database_url = parse(side, url)?;
            let statement_timeout = BATCH_TIMEOUT;
            let rest = settings.product.clone();
            Ok::<_, Failure>(config::Product { database_url, statement_timeout, ..rest })
        };
        let (from, to) = (at("--from", from)?, at("--to", to)?);
        return Ok(product::copy(&from, &to, existing, progress).await?);
    }
    let at = |side: &str, url: &str| {
        let database_url = parse(side, url)?;
        let statement_timeout = BATCH_TIMEOUT;
        let rest = settings.user.clone();
        Ok::<_, Failure>(config::User { database_url, statement_timeout, ..rest })
    };
    let copied = user::copy(&at("--from", from)?, &at("--to", to)?, existing, progress).await?;
    Ok(vec![("accounts", copied)])
}

/// Creates an account with `role`; returns its id. Calls `tell`, which shows the password, first. See [`user::create`].
///
/// # Errors
/// When a field is invalid, `tell` fails, or the store cannot be used.
pub async fn create_user(
    settings: &Settings,
    account: (String, String, String),
    role: UserRole,
    tell: impl FnOnce() -> io::Result<()>,
) -> Result<String, Failure> {
    Ok(user::create(&settings.user, account, role, tell).await?)
}

/// Sets the password of an account. Calls `tell`, which shows the password, first. See [`user::set_password`].
///
/// # Errors
/// When there is no such account, the password is too weak, `tell` fails, or the store cannot be used.
pub async fn set_password(
    settings: &Settings,
    email: &str,
    password: String,
    tell: impl FnOnce() -> io::Result<()>,
) -> Result<(), Failure> {
    Ok(user::set_password(&settings.user, email, password, tell).await?)
}

/// Makes an account an admin; returns whether that changed anything. See [`user::promote`].
///
/// # Errors
/// When there is no such account, or the store cannot be used.
pub async fn promote_user(settings: &Settings, email: &str) -> Result<bool, Failure> {
    Ok(user::promote(&settings.user, email).await?)
}

/// Enables an account; returns whether it was disabled before. See [`user::enable`].
///
/// # Errors
/// When there is no such account, or the store cannot be used.
pub async fn enable_user(settings: &Settings, email: &str) -> Result<bool, Failure> {
    Ok(user::enable(&settings.user, email).await?)
}

/// Adds a key that signs access tokens. Calls `tell` with its name first. See [`user::rotate_keys`].
///
/// # Errors
/// Names the setting that does not work.
pub fn rotate_keys(
    settings: &Settings,
    effective: &Effective,
    delay: Duration,
    tell: impl FnOnce(&str) -> io::Result<()>,
) -> Result<(), config::Error> {
    let rotated = user::rotate_keys(&settings.user, settings.auth.access_ttl, delay, tell);
    rotated.map(drop).map_err(|error| effective.explain(error))
}

/// How long a batch of a copy may take: no request waits for it.
pub(super) const BATCH_TIMEOUT: Duration = Duration::from_secs(60);

fn copies_products(from: &str, to: &str) -> Result<bool, Failure> {
    let is = |scheme: &str| [from, to].iter().any(|url| url.starts_with(scheme));
    let (accounts, products) = (is("postgres"), is("mongodb"));
    if accounts && products {
        let why =
            "accounts are in PostgreSQL, products in MongoDB: neither can be copied to the other";
        return Err(Failure::Other(why.into()));
    }
    if !from.starts_with("sqlite://") {
        return Ok(products);
    }
    let SqlUrl::Sqlite(path) = parse::<SqlUrl>("--from", from)? else { return Ok(false) };
    let tables = sqlite::tables(&path).map_err(of_source)?;
    let has = |name: &str| tables.iter().any(|table| table == name);
    match (has("users") && !products, has("products") && !accounts) {
        (false, true) => Ok(true),
        (true, false) => Ok(false),
        _ => Err(Failure::Other(format!(
            "{} has no tables that can be copied to {}",
            path.display(),
            hide(to)
        ))),
    }
}

/// Refuses a target file that has the tables of the other kind.
fn check_target(to: &str, products: bool) -> Result<(), Failure> {
    if !to.starts_with("sqlite://") {
        return Ok(());
    }
    let (what, other) = if products { ("products", "users") } else { ("accounts", "products") };
    match parse::<SqlUrl>("--to", to)? {
        SqlUrl::Sqlite(path) if path.exists() => {
            let tables = sqlite::tables(&path).map_err(of_target)?;
            let why = || Failure::Other(format!("--to: {} is no store of {what}", path.display()));
            if tables.iter().any(|table| table == other) { Err(why()) } else { Ok(()) }
        }
        _ => Ok(()),
    }
}

/// The `url` of the option `side`.
fn parse<U: TryFrom<String, Error = ValueError>>(side: &str, url: &str) -> Result<U, Failure> {
    let parsed = url.to_owned().try_into();
    parsed.map_err(|problem| Failure::Other(format!("{side}: {problem}")))
}
