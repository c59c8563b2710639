//! What is done to accounts by those who run the shop, beside serving them.

use std::io;

use uuid::Uuid;

use super::hashing::{Hashing, NewPassword};
use super::model::{NewUser, about, roles_to_text};
use super::prepared;
use super::store::{Actor, Changes, Record, Refusal, Revoke, Store, Write, WriteError};
use crate::auth::Audit;
use crate::config;
use crate::contract::{Account, Timestamp, User, UserRole};
use crate::storage::StoreError;

/// Makes an account with `role` beside that of a customer; gives its id. What is left to be done before it is there is
/// to `tell` its password.
///
/// # Errors
/// What of it is not valid, that the address is taken, that the password cannot be told, or why the store cannot be used.
pub async fn create(
    options: &config::User,
    (username, email, password): (String, String, String),
    role: UserRole,
    tell: impl FnOnce() -> io::Result<()>,
) -> Result<String, String> {
    let mut new = NewUser::parse(username, email, password)?;
    let password = new.password.take().ok_or("the account needs a password")?;
    let hash = hash(options, password, new.about()).await?;
    let mut record = Record::new(new.into_user(), Some(hash));
    record.account.roles.insert(0, role);
    record.account.roles.dedup();
    let users = prepared(options).await?;
    let words = |error: StoreError| match error {
        StoreError::Duplicate => TAKEN.to_owned(),
        error => error.to_string(),
    };
    if users.find_by_email(&record.account.user.email).await.map_err(words)?.is_some() {
        return Err(TAKEN.into());
    }
    tell().map_err(|error| untold(&error))?;
    users.insert(&record).await.map_err(words)?;
    let (id, roles) = (record.id(), roles_to_text(&record.account.roles));
    Audit::of_command().note("created", Some(id), &roles);
    Ok(id.to_string())
}

const TAKEN: &str = "an account with this e-mail address exists";

fn untold(error: &io::Error) -> String {
    format!("nothing has changed, for the password cannot be written to standard output: {error}")
}

/// Makes the account with the address `email` an admin's; its tokens are replaced by those of an admin. Gives
/// whether it was none before.
///
/// # Errors
/// That there is no such account, or why the store cannot be used.
pub async fn promote(options: &config::User, email: &str) -> Result<bool, String> {
    let users = prepared(options).await?;
    let account = account(&users, email).await?;
    if account.roles.contains(&UserRole::Admin) {
        return Ok(false);
    }
    let roles = [vec![UserRole::Admin], account.roles].concat();
    let changes = Changes::rights(Some(&roles), None);
    change(&users, account.user.id, changes, Revoke::Tokens).await?;
    Audit::of_command().note("rights_changed", Some(account.user.id), &roles_to_text(&roles));
    Ok(true)
}

/// Lets in again whoever has the account with the address `email`. Gives whether it was disabled before.
///
/// # Errors
/// That there is no such account, or why the store cannot be used.
pub async fn enable(options: &config::User, email: &str) -> Result<bool, String> {
    let users = prepared(options).await?;
    let account = account(&users, email).await?;
    if !account.disabled {
        return Ok(false);
    }
    let changes = Changes::rights(None, Some(false));
    change(&users, account.user.id, changes, Revoke::Nothing).await?;
    let told = format!("{}; enabled", roles_to_text(&account.roles));
    Audit::of_command().note("rights_changed", Some(account.user.id), &told);
    Ok(true)
}

/// Gives the account with the address `email` another password; its sessions are over. What is left to be done before
/// that is to `tell` it.
///
/// # Errors
/// That there is no such account, what is wrong with the password or that it cannot be told, or why the store cannot be
/// used.
pub async fn set_password(
    options: &config::User,
    email: &str,
    password: String,
    tell: impl FnOnce() -> io::Result<()>,
) -> Result<(), String> {
    let users = prepared(options).await?;
    let User { id, username, email, .. } = account(&users, email).await?.user;
    let password = password.try_into().map_err(|problem| format!("the password {problem}"))?;
    let hash = hash(options, password, about(&username, &email)).await?;
    tell().map_err(|error| untold(&error))?;
    change(&users, id, Changes::password(hash), Revoke::Sessions { except: None }).await?;
    Audit::of_command().note("password_changed", Some(id), "all sessions are over");
    Ok(())
}

async fn account(users: &Store, email: &str) -> Result<Account, String> {
    let found = users.find_by_email(email).await.map_err(|error| error.to_string())?;
    Ok(found.ok_or("no account has this e-mail address")?.account)
}

async fn change(users: &Store, id: Uuid, changes: Changes, revoke: Revoke) -> Result<(), String> {
    let write = Write::Change(changes);
    let written = users.write(id, Actor::Operator, write, revoke, Timestamp::UNIX_EPOCH).await;
    written.map(drop).map_err(|error| match error {
        WriteError::Refused(Refusal::Unknown) => "the account has just been erased".into(),
        error => error.to_string(),
    })
}

async fn hash(
    options: &config::User,
    password: NewPassword,
    about: Vec<String>,
) -> Result<String, String> {
    let hashed = Hashing::new(options).hash("password", password, about).await;
    hashed.map_err(|error| match error.fields() {
        [weak, ..] => format!("the password {}", weak.detail),
        [] => error.chain(),
    })
}
