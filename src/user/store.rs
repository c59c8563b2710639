//! The accounts, and the queries on them: the same on SQLite and on PostgreSQL.

use diesel::prelude::*;
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use diesel_migrations::{EmbeddedMigrations, embed_migrations};
use secrecy::ExposeSecret as _;
use uuid::Uuid;

use super::model::email_key;
use crate::config::{SqlUrl, User as Options};
use crate::contract::User;
use crate::storage::copy::{BATCH, Rows};
use crate::storage::sql::{Pool, on_either};
use crate::storage::{Limits, Prepared, StoreError, postgres, sqlite, to_the_end};

const ON_SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite/user");
const ON_POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres/user");

diesel::table! {
    users (id) {
        id -> Text,
        username -> Text,
        email -> Text,
        email_key -> Text,
        created_at -> Timestamp,
    }
}

type Row = (String, String, String, chrono::NaiveDateTime);

/// The accounts, for one worker thread.
#[derive(Clone, Debug)]
pub(super) struct Store {
    pool: Pool,
    limits: Limits,
    prepared: Prepared,
}

impl Store {
    /// The store that `options` name, whose tables are as up to date as `prepared` says. Opens no
    /// connection yet.
    pub(super) fn open(options: &Options, prepared: Prepared) -> Self {
        let limits = limits(options);
        Self { pool: Pool::new(&options.database_url, &limits), limits, prepared }
    }

    /// Adds `user`; [`StoreError::Duplicate`] when an account has its e-mail address.
    pub(super) async fn insert(&self, user: &User) -> Result<(), StoreError> {
        let row = values(user);
        let pool = self.pool()?;
        to_the_end(&self.limits, async move {
            let insert = diesel::insert_into(users::table).values(row);
            on_either!(&mut pool.get().await?, connection => insert.execute(connection).await)?;
            Ok(())
        })
        .await
    }

    /// The account with `id`, where there is one.
    pub(super) async fn find(&self, id: Uuid) -> Result<Option<User>, StoreError> {
        let pool = self.pool()?;
        to_the_end(&self.limits, async move {
            let columns = (users::id, users::username, users::email, users::created_at);
            let found = users::table.find(id.to_string()).select(columns);
            let row = on_either!(&mut pool.get().await?, connection => {
                found.first::<Row>(connection).await
            });
            row.optional()?.map(user).transpose()
        })
        .await
    }

    /// Asks whether the store answers.
    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        let pool = self.pool()?;
        to_the_end(&self.limits, async move { pool.get().await?.ping().await }).await
    }

    fn pool(&self) -> Result<Pool, StoreError> {
        let ready = self.prepared.is_set().then(|| self.pool.clone());
        ready.ok_or_else(|| StoreError::Connection("its tables are not up to date yet".into()))
    }
}

/// For `app copy`.
impl Rows for Store {
    type Row = User;

    async fn count(&self) -> Result<u64, StoreError> {
        let pool = self.pool()?;
        to_the_end(&self.limits, async move {
            let count = users::table.count();
            let count = on_either!(&mut pool.get().await?, connection => {
                count.get_result::<i64>(connection).await
            })?;
            Ok(count.unsigned_abs())
        })
        .await
    }

    async fn behind(&self, last: Option<&User>) -> Result<Vec<User>, StoreError> {
        let pool = self.pool()?;
        let last = last.map_or_else(String::new, |user| user.id.to_string());
        to_the_end(&self.limits, async move {
            let columns = (users::id, users::username, users::email, users::created_at);
            let rows = users::table.filter(users::id.gt(last)).order_by(users::id);
            let rows = rows.limit(BATCH as i64).select(columns);
            let rows = on_either!(&mut pool.get().await?, connection => {
                rows.load::<Row>(connection).await
            })?;
            rows.into_iter().map(user).collect()
        })
        .await
    }

    async fn counterparts(&self, rows: &[User]) -> Result<Vec<User>, StoreError> {
        let pool = self.pool()?;
        let ids = rows.iter().map(|user| user.id.to_string()).collect::<Vec<_>>();
        to_the_end(&self.limits, async move {
            let columns = (users::id, users::username, users::email, users::created_at);
            let rows = users::table.filter(users::id.eq_any(ids)).select(columns);
            let rows = on_either!(&mut pool.get().await?, connection => {
                rows.load::<Row>(connection).await
            })?;
            rows.into_iter().map(user).collect()
        })
        .await
    }

    async fn put(&self, rows: Vec<User>) -> Result<(), StoreError> {
        let pool = self.pool()?;
        to_the_end(&self.limits, async move {
            on_either!(&mut pool.get().await?, connection => {
                connection.transaction::<(), diesel::result::Error, _>(async |connection| {
                    for user in &rows {
                        let row = values(user);
                        let put = diesel::insert_into(users::table).values(row.clone());
                        put.on_conflict(users::id).do_update().set(row).execute(connection).await?;
                    }
                    Ok(())
                })
                .await
            })?;
            Ok(())
        })
        .await
    }
}

/// Brings the tables up to date; returns the migrations that were applied. On SQLite it blocks.
pub(super) async fn migrate(options: &Options) -> Result<Vec<String>, String> {
    match &options.database_url {
        SqlUrl::Sqlite(path) => sqlite::migrate(path, ON_SQLITE),
        SqlUrl::Postgres(url) => {
            postgres::migrate(url.expose_secret(), &limits(options), ON_POSTGRES).await
        }
    }
}

type Values = (
    diesel::dsl::Eq<users::id, String>,
    diesel::dsl::Eq<users::username, String>,
    diesel::dsl::Eq<users::email, String>,
    diesel::dsl::Eq<users::email_key, String>,
    diesel::dsl::Eq<users::created_at, chrono::NaiveDateTime>,
);

fn values(user: &User) -> Values {
    (
        users::id.eq(user.id.to_string()),
        users::username.eq(user.username.clone()),
        users::email.eq(user.email.clone()),
        users::email_key.eq(email_key(&user.email)),
        users::created_at.eq(user.created_at.naive_utc()),
    )
}

fn limits(options: &Options) -> Limits {
    Limits {
        size: options.pool_size,
        acquire: options.acquire_timeout,
        statement: options.statement_timeout,
    }
}

fn user((id, username, email, created_at): Row) -> Result<User, StoreError> {
    let id = Uuid::try_parse(&id).map_err(StoreError::corrupt)?;
    Ok(User { id, username, email, created_at: created_at.and_utc() })
}
