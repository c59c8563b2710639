//! Queries on accounts and sessions, the same on SQLite and PostgreSQL.

mod accounts;
mod actor;
mod copies;
mod locks;
mod recent_orders;
mod schema;
mod sessions;

use chrono::NaiveDateTime;
use diesel::prelude::*;
use diesel_migrations::embed_migrations;
use uuid::Uuid;

use super::email::email_key;
use super::model::{roles_from_text, roles_to_text};
use crate::config::{SqlUrl, User as Options};
use crate::contract::{Account, Revocation, User, UserRole};
use crate::error::Cause;
use crate::events::{Log, News};
use crate::storage::sql::{Migrations, Pool};
use crate::storage::{Limits, SetupError, StoreError, StoreName, StoreState};

pub(super) use accounts::{Changes, Revoke, Write};
pub(super) use actor::{Actor, Refusal, WriteError};
pub(super) use copies::Revocations;
use schema::users;
pub(super) use sessions::{Session, TokenHash, TokenUse};

const MIGRATIONS: Migrations = Migrations {
    sqlite: embed_migrations!("migrations/sqlite/user"),
    postgres: embed_migrations!("migrations/postgres/user"),
};

/// Everything that is stored about an account.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    pub(super) account: Account,
    /// In PHC format.
    pub(super) password_hash: Option<String>,
    /// Tokens of an earlier generation have ended.
    pub(super) generation: i64,
}

impl Record {
    /// A customer's account.
    pub(super) fn new(user: User, password_hash: Option<String>) -> Self {
        let account = Account { user, roles: vec![UserRole::Customer], disabled: false };
        Self { account, password_hash, generation: 0 }
    }

    pub(super) fn id(&self) -> Uuid {
        self.account.user.id
    }
}

/// A row of the table of accounts.
#[derive(Clone, Queryable, Insertable, AsChangeset)]
#[diesel(table_name = users, treat_none_as_null = true, treat_none_as_default_value = false)]
struct Row {
    id: String,
    username: String,
    email: String,
    email_key: String,
    created_at: NaiveDateTime,
    password_hash: Option<String>,
    roles: String,
    disabled: bool,
    generation: i64,
}

impl From<&Record> for Row {
    fn from(record: &Record) -> Self {
        let Account { user, roles, disabled } = &record.account;
        Self {
            id: user.id.to_string(),
            username: user.username.clone(),
            email: user.email.clone(),
            email_key: email_key(&user.email),
            created_at: user.created_at.naive_utc(),
            password_hash: record.password_hash.clone(),
            roles: roles_to_text(roles),
            disabled: *disabled,
            generation: record.generation,
        }
    }
}

impl TryFrom<Row> for Record {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let user = User {
            id: uuid(&row.id)?,
            username: row.username,
            email: row.email,
            created_at: row.created_at.and_utc(),
        };
        let roles = roles_from_text(&row.roles).ok_or_else(|| StoreError::corrupt("roles"))?;
        let account = Account { user, roles, disabled: row.disabled };
        Ok(Self { account, password_hash: row.password_hash, generation: row.generation })
    }
}

/// The revocation in a row of the table.
fn revocation(
    (user, generation, at): (String, i64, NaiveDateTime),
) -> Result<Revocation, StoreError> {
    Ok(Revocation { user: uuid(&user)?, generation, at: at.and_utc() })
}

fn uuid(text: &str) -> Result<Uuid, StoreError> {
    Uuid::try_parse(text).map_err(StoreError::corrupt)
}

/// The accounts, for one worker thread.
#[derive(Clone, Debug)]
pub(super) struct Store {
    pool: Pool,
    limits: Limits,
}

impl Store {
    /// The store that `options` name, which shares `state` with other threads. Opens no connection yet.
    pub(super) fn open(options: &Options, state: StoreState) -> Self {
        let limits = limits(options, state);
        Self { pool: Pool::new(&options.database_url, &limits), limits }
    }

    /// The events of accounts.
    pub(super) fn log(&self) -> Log {
        // They are few: the relay looks for them every second.
        Log::new("user", self.pool.clone(), self.limits.clone(), News::default())
    }

    /// Checks that the store answers, and takes writes.
    ///
    /// # Errors
    /// What is wrong with it, for the log.
    pub(super) async fn check(&self) -> Result<(), Cause> {
        self.pool.check(&self.limits).await
    }
}

/// Migrates the database; returns the names of the migrations that were applied. Blocks on SQLite.
pub(super) async fn migrate(options: &Options) -> Result<Vec<String>, SetupError> {
    MIGRATIONS.apply(&options.database_url, &limits(options, StoreState::default())).await
}

/// Asserts that the database has all migrations. Blocks on SQLite.
pub(super) async fn expect_migrated(options: &Options) -> Result<(), SetupError> {
    let limits = limits(options, StoreState::default());
    MIGRATIONS.expect_applied(&options.database_url, &limits).await
}

fn limits(options: &Options, state: StoreState) -> Limits {
    Limits {
        name: StoreName::of_sql("user.database", &options.database_url),
        size: options.pool_size,
        acquire: options.acquire_timeout,
        statement: options.statement_timeout,
        ends_calls: matches!(options.database_url, SqlUrl::Postgres(_)),
        state,
    }
}
