//! The commands on the stores of the roles.

use std::io;
use std::time::Duration;

use clap::ValueEnum;

use super::{Failure, Role};
use crate::config::{self, Effective, Settings, SqlUrl, ValueError, hide};
use crate::contract::UserRole;
pub use crate::storage::copy::Existing;
use crate::storage::copy::{Copied, Progress, of_source, of_target};
use crate::storage::sqlite;
use crate::{order, product, user};

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
    let seeded = product::seed(&settings.product, settings.shop.currency, count, progress).await;
    seeded.map_err(|error| effective.blame(key, error).into())
}

/// What [`copy`] copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Accounts, with revocations of their tokens.
    Accounts,
    /// Orders, with their idempotency keys.
    Orders,
    /// Products, with their reservations.
    Products,
}

/// The kinds, their names, a table that a file with them has, and the scheme of a server that has them.
const KINDS: [(Kind, &str, &str, &str); 3] = [
    (Kind::Accounts, "accounts", "users", "postgres"),
    (Kind::Orders, "orders", "order_orders", "postgres"),
    (Kind::Products, "products", "products", "mongodb"),
];

/// Copies the accounts, orders or products at one URL to another: a file's tables decide which, otherwise the schemes, and
/// between accounts and orders `what`. Returns what was copied, in a word, and how.
///
/// # Errors
/// When a URL is invalid, the stores are of different kinds, or one fails.
pub async fn copy(
    settings: &Settings,
    (from, to): (&str, &str),
    what: Option<Kind>,
    existing: Existing,
    progress: impl Progress,
) -> Result<Vec<(&'static str, Copied)>, Failure> {
    let kind = kind_of(from, to, what)?;
    check_target(to, kind)?;
    let statement_timeout = BATCH_TIMEOUT;
    match kind {
        Kind::Accounts => {
            let at = |side: &str, url: &str| {
                let (database_url, rest) = (parse(side, url)?, settings.user.clone());
                Ok::<_, Failure>(config::User { database_url, statement_timeout, ..rest })
            };
            let (from, to) = (at("--from", from)?, at("--to", to)?);
            Ok(vec![("accounts", user::copy(&from, &to, existing, progress).await?)])
        }
        Kind::Orders => {
            let at = |side: &str, url: &str| {
                let (database_url, rest) = (parse(side, url)?, settings.order.clone());
                Ok::<_, Failure>(config::Order { database_url, statement_timeout, ..rest })
            };
            let (from, to) = (at("--from", from)?, at("--to", to)?);
            Ok(order::copy(&from, &to, existing, progress).await?)
        }
        Kind::Products => {
            let at = |side: &str, url: &str| {
                let (database_url, rest) = (parse(side, url)?, settings.product.clone());
                Ok::<_, Failure>(config::Product { database_url, statement_timeout, ..rest })
            };
            let (from, to) = (at("--from", from)?, at("--to", to)?);
            Ok(product::copy(&from, &to, existing, progress).await?)
        }
    }
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

/// What there is to copy from one URL to another.
fn kind_of(from: &str, to: &str, what: Option<Kind>) -> Result<Kind, Failure> {
    let is = |scheme: &str| [from, to].iter().any(|url| url.starts_with(scheme));
    if is("postgres") && is("mongodb") {
        let why = "accounts and orders are in PostgreSQL, products in MongoDB: neither can be copied to the other";
        return Err(Failure::Other(why.into()));
    }
    let tables = match from.starts_with("sqlite://").then(|| parse("--from", from)).transpose()? {
        Some(SqlUrl::Sqlite(path)) => Some(sqlite::tables(&path).map_err(of_source)?),
        _ => None,
    };
    let mut found = KINDS.iter().filter(|(kind, _, table, server)| {
        let is_served = is(server) || !(is("postgres") || is("mongodb"));
        let is_there = tables.as_ref().is_none_or(|tables| tables.iter().any(|has| has == table));
        is_served && is_there && what.is_none_or(|what| what == *kind)
    });
    match (found.next(), found.next()) {
        (Some((kind, ..)), None) => Ok(*kind),
        (Some((kind, ..)), _) if tables.is_none() => Ok(*kind),
        _ => {
            let (from, to) = (hide(from), hide(to));
            Err(Failure::Other(format!("{from} has no tables that can be copied to {to}")))
        }
    }
}

/// Refuses a target file that has the tables of another kind.
fn check_target(to: &str, kind: Kind) -> Result<(), Failure> {
    if !to.starts_with("sqlite://") {
        return Ok(());
    }
    match parse::<SqlUrl>("--to", to)? {
        SqlUrl::Sqlite(path) if path.exists() => {
            let tables = sqlite::tables(&path).map_err(of_target)?;
            let has = |table: &str| tables.iter().any(|has| has == table);
            let is_other = KINDS.iter().any(|(other, _, table, _)| *other != kind && has(table));
            let what = KINDS.iter().find(|(known, ..)| *known == kind).map_or("", |known| known.1);
            let why = || Failure::Other(format!("--to: {} is no store of {what}", path.display()));
            if is_other { Err(why()) } else { Ok(()) }
        }
        _ => Ok(()),
    }
}

/// The `url` of the option `side`.
fn parse<U: TryFrom<String, Error = ValueError>>(side: &str, url: &str) -> Result<U, Failure> {
    let parsed = url.to_owned().try_into();
    parsed.map_err(|problem| Failure::Other(format!("{side}: {problem}")))
}
