//! The same queries on two back ends: a pool and a connection of either back end, and macros that expand a query for both.

use diesel_migrations::EmbeddedMigrations;

use super::{
    Access, Lease, Limits, SetupError, StoreError, StoreName, postgres, run_to_completion, sqlite,
};
use crate::config::SqlUrl;
use crate::error::Cause;

/// The migrations of a database, for either back end.
pub struct Migrations {
    /// Those of a file.
    pub sqlite: EmbeddedMigrations,
    /// Those of a server.
    pub postgres: EmbeddedMigrations,
}

impl Migrations {
    /// Applies those that the database at `url` lacks, and returns their names. Blocks on SQLite.
    ///
    /// # Errors
    /// Why the database cannot be migrated.
    pub async fn apply(self, url: &SqlUrl, limits: &Limits) -> Result<Vec<String>, SetupError> {
        match url {
            SqlUrl::Sqlite(path) => sqlite::migrate(path, self.sqlite, |_| Ok(())),
            SqlUrl::Postgres(url) => postgres::migrate(url, limits, self.postgres).await,
        }
    }

    /// Asserts that the database at `url` has all of them. Blocks on SQLite.
    ///
    /// # Errors
    /// When it lacks some, or cannot be read.
    pub async fn expect_applied(&self, url: &SqlUrl, limits: &Limits) -> Result<(), SetupError> {
        match url {
            SqlUrl::Sqlite(path) => sqlite::expect_migrated(path, &self.sqlite),
            SqlUrl::Postgres(url) => postgres::expect_migrated(url, limits, &self.postgres).await,
        }
    }
}

impl StoreName {
    /// The name of the database at `url`, which `/readyz` calls `setting`.
    pub fn of_sql(setting: &'static str, url: &SqlUrl) -> Self {
        let system = match url {
            SqlUrl::Sqlite(_) => "sqlite",
            SqlUrl::Postgres(_) => "postgresql",
        };
        Self { setting, system }
    }
}

/// Connections to one database, for one worker thread.
#[derive(Clone, Debug)]
pub enum Pool {
    /// A file of this machine.
    Sqlite(sqlite::Pool),
    /// A server.
    Postgres(postgres::Pool),
}

/// A connection that returns to its pool.
#[expect(clippy::large_enum_variant, reason = "it lives as long as a query, and is never moved")]
pub enum Connection<'a> {
    /// To a file.
    Sqlite(Lease<'a, sqlite::Connection>),
    /// To a server.
    Postgres(postgres::Lease<'a>),
}

/// Evaluates `body` with `name` bound to the connection. The body is expanded once per back end, because diesel's queries
/// have the back end in their type.
macro_rules! on_either {
    ($connection:expr, $name:ident => $body:expr) => {
        match $connection {
            $crate::storage::sql::Connection::Sqlite(inner) => {
                let $name = &mut **inner;
                $body
            }
            $crate::storage::sql::Connection::Postgres(inner) => {
                let done = {
                    let $name = &mut **inner;
                    $body
                };
                inner.finish().await?;
                done
            }
        }
    };
}
pub(crate) use on_either;

/// Runs `query` by `method`, which is one of diesel's, for rows of the type `row`.
macro_rules! read {
    ($pool:expr, $query:expr, $method:ident::<$row:ty>$(, $then:ident)?) => {
        match $pool {
            $crate::storage::sql::Pool::Sqlite(pool) => {
                let query = $query;
                pool.read(move |file| diesel::RunQueryDsl::$method::<$row>(query, file)$(.$then())?).await
            }
            $crate::storage::sql::Pool::Postgres(pool) => {
                let mut lease = pool.get($crate::storage::Access::Read).await?;
                let read = diesel_async::RunQueryDsl::$method::<$row>($query, &mut *lease).await;
                let done = read$(.$then())??;
                lease.finish().await?;
                Ok::<_, $crate::storage::StoreError>(done)
            }
        }
    };
}
pub(crate) use read;

/// Evaluates `body`, as [`on_either`], in a transaction that may write. It is committed unless `body` returns an `error` or
/// the call's deadline has passed. On SQLite, `body` moves to the writer's thread with the values that it uses.
macro_rules! in_transaction {
    ($pool:expr, $error:ty, $name:ident => $body:expr) => {
        match $pool {
            $crate::storage::sql::Pool::Sqlite(pool) => {
                pool.write(
                    async move |$name: &mut $crate::storage::WriteConnection| -> Result<_, $error> {
                        Ok($body)
                    },
                )
                .await
            }
            $crate::storage::sql::Pool::Postgres(pool) => {
                let mut lease = pool.get($crate::storage::Access::Write).await?;
                let write = lease.transaction::<_, $error, _>(async |$name| {
                    let done: Result<_, $error> = async { Ok($body) }.await;
                    $crate::storage::in_time()?;
                    done
                });
                let outcome = write.await;
                lease.finish().await?;
                outcome
            }
        }
    };
}
pub(crate) use in_transaction;

/// Runs `query`, the only statement of a transaction, as [`in_transaction`] would: by `method`, which is one of diesel's, for
/// a row of the type `row`. On SQLite, it moves to the writer's thread with the values that it uses. Its text is one of few:
/// see [`Prepared`](crate::storage::Prepared).
macro_rules! write_one {
    ($pool:expr, $query:expr, execute) => {
        $crate::storage::sql::write_one!(@ $pool, $query, execute)
    };
    ($pool:expr, $query:expr, $method:ident::<$row:ty>$(, $then:ident)?) => {
        $crate::storage::sql::write_one!(
            @ $pool, diesel::query_builder::AsQuery::as_query($query), $method::<$row>$(, $then)?
        )
    };
    (@ $pool:expr, $query:expr, $method:ident$(::<$row:ty>)?$(, $then:ident)?) => {
        match $pool {
            $crate::storage::sql::Pool::Sqlite(pool) => {
                pool.write(
                    async move |file: &mut $crate::storage::WriteConnection| -> Result<_, $crate::storage::StoreError> {
                        let query = $crate::storage::Prepared($query);
                        let written = diesel_async::RunQueryDsl::$method$(::<$row>)?(query, file).await;
                        Ok(written$(.$then())??)
                    },
                )
                .await
            }
            $crate::storage::sql::Pool::Postgres(pool) => {
                let mut lease = pool.get($crate::storage::Access::Write).await?;
                let write = lease.write(async |connection| {
                    let query = $crate::storage::Prepared($query);
                    let written = diesel_async::RunQueryDsl::$method$(::<$row>)?(query, connection).await;
                    written$(.$then())?
                });
                write.await
            }
        }
    };
}
pub(crate) use write_one;

impl Pool {
    /// The pool of the database at `url`. Opens no connection yet.
    pub fn new(url: &SqlUrl, limits: &Limits) -> Self {
        match url {
            SqlUrl::Sqlite(path) => Self::Sqlite(sqlite::Pool::new(path, limits)),
            SqlUrl::Postgres(url) => Self::Postgres(postgres::Pool::new(url, limits)),
        }
    }

    /// Waits for a connection that only reads.
    ///
    /// # Errors
    /// When none was free in time, or none can be opened.
    pub async fn get(&self) -> Result<Connection<'_>, StoreError> {
        Ok(match self {
            Self::Sqlite(pool) => Connection::Sqlite(pool.get().await?),
            Self::Postgres(pool) => Connection::Postgres(pool.get(Access::Read).await?),
        })
    }

    /// Checks that the database answers, and takes writes, within `limits`.
    ///
    /// # Errors
    /// What is wrong with it, for the log.
    pub async fn check(&self, limits: &Limits) -> Result<(), Cause> {
        let pool = self.clone();
        let ping = run_to_completion(limits, async move { pool.ping().await });
        let pool = self.clone();
        let try_write = run_to_completion(limits, async move { pool.try_write().await });
        limits.state.report(ping, try_write).await
    }

    /// Checks that the database answers and, on PostgreSQL, takes writes.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(pool) => pool.ping().await,
            Self::Postgres(pool) => pool.ping().await,
        }
    }

    /// Tries to write without leaving a trace; returns whether that was possible.
    ///
    /// # Errors
    /// Why it cannot be written.
    pub async fn try_write(&self) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(pool) => pool.try_write().await,
            Self::Postgres(pool) => pool.try_write().await,
        }
    }
}
