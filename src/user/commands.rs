//! What operators do to accounts on the command line.

use std::io;

use uuid::Uuid;

use super::hashing::{Hashing, NewPassword};
use super::model::{NewUser, about, roles_to_text};
use super::prepared;
use super::store::{Actor, Changes, Record, Refusal, Revoke, Store, Write, WriteError};
use crate::auth::Audit;
use crate::config;
use crate::contract::{Account, User, UserRole};
use crate::error::Error;
use crate::storage::copy::CopyError;
use crate::storage::{SetupError, StoreError};

/// Why a command on accounts failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// A value that was given is not valid: its name, and the rule that it breaks.
    #[error("the {0} {1}")]
    Invalid(&'static str, String),
    /// The e-mail address belongs to another account.
    #[error("an account with this e-mail address exists")]
    Taken,
    /// The target of a copy has the address of one of the source's accounts.
    #[error("the target has an e-mail address of the source under another id")]
    TakenInTarget,
    /// There is no such account.
    #[error("no account has this e-mail address")]
    Unknown,
    /// The account was deleted in the meantime.
    #[error("the account has just been erased")]
    Erased,
    /// The password cannot be shown.
    #[error("nothing has changed, because the password cannot be written to standard output: {0}")]
    Untold(io::Error),
    /// The password cannot be hashed.
    #[error("{}", .0.chain())]
    Hashing(Error),
    /// The source or the target of a copy failed.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The store cannot be opened.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Creates an account of a customer who also has `role`; returns its id. Calls `tell`, which shows the password to
/// the operator, as the last step before the account exists.
///
/// # Errors
/// When a value is not valid, the address is taken, `tell` fails, or the store cannot be used.
pub async fn create(
    options: &config::User,
    (username, email, password): (String, String, String),
    role: UserRole,
    tell: impl FnOnce() -> io::Result<()>,
) -> Result<String, CommandError> {
    let password = new_password(password)?;
    let new = NewUser::parse(username, email)
        .map_err(|(name, rule)| CommandError::Invalid(name, rule))?;
    let hash = hash(options, password, new.about()).await?;
    let mut record = Record::new(new.into_user(), Some(hash));
    record.account.roles.insert(0, role);
    record.account.roles.dedup();
    let users = prepared(options).await?;
    if users.find_by_email(&record.account.user.email).await?.is_some() {
        return Err(CommandError::Taken);
    }
    tell().map_err(CommandError::Untold)?;
    users.insert(&record).await.map_err(|error| match error {
        StoreError::Duplicate => CommandError::Taken,
        error => error.into(),
    })?;
    let (id, roles) = (record.id(), roles_to_text(&record.account.roles));
    Audit::for_command().note("created", Some(id), &roles);
    Ok(id.to_string())
}

/// Makes the account with the address `email` an admin's; its tokens are replaced by an admin's. Returns whether that
/// changed anything.
///
/// # Errors
/// When there is no such account, or the store cannot be used.
pub async fn promote(options: &config::User, email: &str) -> Result<bool, CommandError> {
    let users = prepared(options).await?;
    let account = account(&users, email).await?;
    if account.roles.contains(&UserRole::Admin) {
        return Ok(false);
    }
    let roles = [vec![UserRole::Admin], account.roles].concat();
    let changes = Changes::rights(Some(&roles), None);
    change(&users, account.user.id, changes, Revoke::Tokens).await?;
    Audit::for_command().note("rights_changed", Some(account.user.id), &roles_to_text(&roles));
    Ok(true)
}

/// Enables the account with the address `email`. Returns whether it was disabled before.
///
/// # Errors
/// When there is no such account, or the store cannot be used.
pub async fn enable(options: &config::User, email: &str) -> Result<bool, CommandError> {
    let users = prepared(options).await?;
    let account = account(&users, email).await?;
    if !account.disabled {
        return Ok(false);
    }
    let changes = Changes::rights(None, Some(false));
    change(&users, account.user.id, changes, Revoke::Nothing).await?;
    let detail = format!("{}; enabled", roles_to_text(&account.roles));
    Audit::for_command().note("rights_changed", Some(account.user.id), &detail);
    Ok(true)
}

/// Gives the account with the address `email` another password and ends its sessions. Calls `tell`, which shows the
/// password to the operator, as the last step before that.
///
/// # Errors
/// When there is no such account, the password is not valid, `tell` fails, or the store cannot be used.
pub async fn set_password(
    options: &config::User,
    email: &str,
    password: String,
    tell: impl FnOnce() -> io::Result<()>,
) -> Result<(), CommandError> {
    let users = prepared(options).await?;
    let User { id, username, email, .. } = account(&users, email).await?.user;
    let hash = hash(options, new_password(password)?, about(&username, &email)).await?;
    tell().map_err(CommandError::Untold)?;
    change(&users, id, Changes::password(hash), Revoke::Sessions { except: None }).await?;
    Audit::for_command().note("password_changed", Some(id), "all sessions are over");
    Ok(())
}

async fn account(users: &Store, email: &str) -> Result<Account, CommandError> {
    let found = users.find_by_email(email).await?;
    found.map(|record| record.account).ok_or(CommandError::Unknown)
}

async fn change(
    users: &Store,
    id: Uuid,
    changes: Changes,
    revoke: Revoke,
) -> Result<(), CommandError> {
    let write = Write::Change(changes);
    let written = users.write(id, Actor::Operator, write, revoke).await;
    written.map(drop).map_err(|error| match error {
        WriteError::Refused(Refusal::Unknown) => CommandError::Erased,
        error => StoreError::from(error).into(),
    })
}

fn new_password(text: String) -> Result<NewPassword, CommandError> {
    text.try_into().map_err(|rule: &str| CommandError::Invalid("password", rule.to_owned()))
}

async fn hash(
    options: &config::User,
    password: NewPassword,
    about: Vec<String>,
) -> Result<String, CommandError> {
    let hashed = Hashing::new(options).hash("password", password, about).await;
    hashed.map_err(|error| match error.fields() {
        [weak, ..] => CommandError::Invalid("password", weak.detail.to_string()),
        [] => CommandError::Hashing(error),
    })
}
