//! PostgreSQL behind a pool, over TLS where the URL or the server requires it, without libpq.

use std::ops::{Deref, DerefMut};
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use diesel::connection::{CacheSize, SimpleConnection};
use diesel::sql_types::Text;
use diesel::{ConnectionError, QueryResult};
use diesel_async::async_connection_wrapper::AsyncConnectionWrapper;
use diesel_async::{
    AnsiTransactionManager, AsyncConnection as _, AsyncPgConnection, RunQueryDsl,
    SimpleAsyncConnection as _, TransactionManager as _,
};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness as _};
use futures_util::FutureExt as _;
use futures_util::future::join;
use secrecy::ExposeSecret as _;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::TlsStream;
use tokio_postgres::{Client, Config, NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{Access, Limits, Permits, SetupError, StoreError, call, pool};
use crate::config::PostgresUrl;

/// A connection.
pub type Connection = AsyncPgConnection;

/// How long the server may take to acknowledge TCP segments.
const UNACKNOWLEDGED: Duration = Duration::from_secs(10);
/// The maximum age of a connection, so that a failover or a new password takes effect.
const LIFETIME: Duration = Duration::from_secs(30 * 60);
/// Writes a few pages that other sessions do not see.
const TRIAL: &str =
    "CREATE TEMPORARY TABLE app_trial ON COMMIT DROP AS SELECT * FROM generate_series(1, 1000)";
/// The advisory lock of migrations: the bytes of "app migr".
const MIGRATION_LOCK: i64 = 0x6170_7020_6d69_6772;

/// How long a process waits for another one's migration.
const MIGRATION_PATIENCE: &str = "15s";

/// Connections to one database, for one worker thread.
#[derive(Clone, Debug)]
pub struct Pool {
    connections: pool::Pool<Connection>,
    /// The SQL that begins each call, if each must be a transaction.
    begin: Option<Arc<str>>,
}

/// A connection for one call.
pub struct Lease<'a> {
    lease: pool::Lease<'a, Connection>,
    /// Whether the call is in a transaction that must be committed.
    is_begun: bool,
}

impl Pool {
    /// A pool of connections to the database at `url`. Opens none yet.
    pub fn new(url: &PostgresUrl, limits: &Limits) -> Self {
        let (known, own) = (limits.clone(), url.clone());
        let opening = move || connect(own.clone(), known.clone()).boxed();
        let permits = Permits::new(limits);
        let connections = pool::Pool::new(Box::new(opening), permits, Some(LIFETIME));
        let begin = (!url.prepared_statements).then(|| begin(limits.statement).into());
        Self { connections, begin }
    }

    /// Waits for a connection for `access`. To be called within [`super::run_to_completion`], and to be finished.
    ///
    /// # Errors
    /// When none was free in time, or none can be opened.
    pub async fn get(&self, access: Access) -> Result<Lease<'_>, StoreError> {
        let mut lease = self.connections.get(access).await?;
        if let Some(begin) = &self.begin {
            AnsiTransactionManager::begin_transaction_sql(&mut *lease, begin).await?;
        }
        Ok(Lease { lease, is_begun: self.begin.is_some() })
    }

    /// Checks that the database answers and takes writes.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let mode = diesel::dsl::sql::<Text>("current_setting('transaction_read_only')");
        let mut lease = self.get(Access::Read).await?;
        let mode = diesel::select(mode).get_result::<String>(&mut *lease).await?;
        lease.finish().await?;
        if mode == "on" {
            lease.lease.end();
            // A write would get the same error.
            call::writes();
            return Err(StoreError::ReadOnly("the server's transactions are read-only".into()));
        }
        Ok(())
    }

    /// Tries to write to a temporary table; returns whether the user may do that.
    ///
    /// # Errors
    /// Why it cannot be written.
    pub async fn try_write(&self) -> Result<bool, StoreError> {
        let mut lease = self.get(Access::Write).await?;
        match lease.batch_execute(TRIAL).await.map_err(StoreError::from) {
            Ok(()) => lease.finish().await.map(|()| true).map_err(StoreError::from),
            // The user may lack the right to create temporary tables.
            Err(StoreError::Failed(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Lease<'_> {
    /// Runs `statement` in a transaction of its own, which is committed unless it fails or the call's deadline has passed. It
    /// goes out right behind BEGIN, which saves a round trip: should BEGIN fail, it is committed by itself, and nothing is
    /// done by half.
    ///
    /// # Errors
    /// The error of the statement or of the commit, [`StoreError::Unreachable`] when it was rolled back because of the
    /// deadline, or [`StoreError::Connection`] when it is not known whether it was done.
    pub async fn write<T>(
        &mut self,
        statement: impl AsyncFnOnce(&mut &Connection) -> QueryResult<T>,
    ) -> Result<T, StoreError> {
        if self.is_begun {
            let done = statement(&mut &*self.lease).await;
            let done = done.and_then(|done| call::in_time().map(|()| done));
            match &done {
                Ok(_) => self.finish().await?,
                Err(_) => self.undo().await,
            }
            return Ok(done?);
        }
        // It cannot be used again while the transaction is open.
        self.lease.end();
        let connection = &*self.lease;
        let begin = async { (&mut { connection }).batch_execute("BEGIN").await };
        let (begun, done) = join(begin, statement(&mut { connection })).await;
        begun.map_err(|error| StoreError::Connection(error.to_string()))?;
        let done = done.and_then(|done| call::in_time().map(|()| done));
        let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
        let ended = (&mut { connection }).batch_execute(end).await;
        if ended.is_ok() {
            self.lease.keep();
        }
        let done = done?;
        Ok(ended.map(|()| done)?)
    }

    /// Ends the call, and commits its transaction.
    ///
    /// # Errors
    /// When it could not be committed.
    pub async fn finish(&mut self) -> QueryResult<()> {
        match std::mem::take(&mut self.is_begun) {
            true => AnsiTransactionManager::commit_transaction(&mut *self.lease).await,
            false => Ok(()),
        }
    }

    /// Ends the call, and rolls its transaction back. A connection that cannot is closed when it returns to the pool.
    async fn undo(&mut self) {
        self.is_begun = false;
        let _ = AnsiTransactionManager::rollback_transaction(&mut *self.lease).await;
    }
}

impl Deref for Lease<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.lease
    }
}

impl DerefMut for Lease<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.lease
    }
}

/// Begins a transaction that assumes nothing about its session: a pooler gives each transaction another session, which may
/// have prepared statements of other clients.
fn begin(statement: Duration) -> String {
    let millis = statement.as_millis();
    format!(
        "BEGIN; DEALLOCATE ALL; SET LOCAL statement_timeout = {millis}; SET LOCAL TIME ZONE 'UTC'"
    )
}

/// Opens a connection within the limits.
async fn connect(url: PostgresUrl, limits: Limits) -> Result<Connection, ConnectionError> {
    let late = |_| Err(ConnectionError::BadConnection("no answer in time".into()));
    timeout(limits.acquire, open(url, limits.statement)).await.unwrap_or_else(late)
}

/// Opens a connection on which the server ends statements after `statement`.
async fn open(url: PostgresUrl, statement: Duration) -> Result<Connection, ConnectionError> {
    let bad = |error: &dyn std::fmt::Display| ConnectionError::BadConnection(error.to_string());
    let mut config = Config::from_str(url.url.expose_secret())
        .map_err(|error| ConnectionError::InvalidConnectionUrl(error.to_string()))?;
    config.application_name("app").tcp_user_timeout(UNACKNOWLEDGED).keepalives_idle(UNACKNOWLEDGED);
    let mut connection = if config.get_ssl_mode() == SslMode::Disable {
        let opened = config.connect(NoTls).await.map_err(|error| bad(&chain(&error)))?;
        set_up(opened, !url.prepared_statements).await?
    } else {
        let opened = config.connect(tls()?).await.map_err(|error| bad(&chain(&error)))?;
        set_up(opened, !url.prepared_statements).await?
    };
    if !url.prepared_statements {
        connection.set_prepared_statement_cache_size(CacheSize::Disabled);
        return Ok(connection);
    }
    // A plan that was made when a table was small would be kept for as long as the connection.
    let settings = format!(
        "SET statement_timeout = {}; SET TIME ZONE 'UTC'; SET plan_cache_mode = force_custom_plan",
        statement.as_millis()
    );
    connection
        .batch_execute(&settings)
        .await
        .map_err(ConnectionError::CouldntSetupConfiguration)?;
    Ok(connection)
}

/// Lets diesel set up what was `opened`. It sends two statements at once, and a pooler that gives each transaction
/// another session may take the session away between them, and lose the second response: PgBouncer 1.18 does. So where
/// a connection is `pooled`, both are in one transaction.
async fn set_up<S>(
    (client, mut connection): (Client, tokio_postgres::Connection<Socket, S>),
    pooled: bool,
) -> Result<Connection, ConnectionError>
where
    S: TlsStream + Unpin + Send + 'static,
{
    if !pooled {
        return Connection::try_from_client_and_connection(client, connection).await;
    }
    let bad = |error| ConnectionError::BadConnection(chain(&error));
    tokio::select! {
        begun = client.batch_execute("BEGIN") => begun.map_err(bad)?,
        ended = &mut connection => {
            ended.map_err(bad)?;
            return Err(ConnectionError::BadConnection("the connection was closed".into()));
        }
    }
    let mut connection = Connection::try_from_client_and_connection(client, connection).await?;
    let commit = connection.batch_execute("COMMIT").await;
    commit.map_err(ConnectionError::CouldntSetupConfiguration)?;
    Ok(connection)
}

/// The error with its cause: the driver's own text names only the step that failed.
fn chain(error: &tokio_postgres::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// Trusts the certificates that this machine trusts, or those in SSL_CERT_FILE.
fn tls() -> Result<MakeRustlsConnect, ConnectionError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ConnectionError::BadConnection(error.to_string()))?;
    Ok(MakeRustlsConnect::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// Asserts that all of `migrations` were applied to the database at `url`. Changes nothing.
///
/// # Errors
/// [`SetupError::NotMigrated`], or why the database cannot be read.
pub async fn expect_migrated(
    url: &PostgresUrl,
    limits: &Limits,
    migrations: &EmbeddedMigrations,
) -> Result<(), SetupError> {
    let connecting = connect(url.clone(), limits.clone());
    let mut connection = connecting.await.map_err(SetupError::of_server)?;
    let unread = |error| SetupError::Server(format!("cannot read the database: {error}"));
    if !url.prepared_statements {
        let begin = begin(limits.statement);
        let begun = AnsiTransactionManager::begin_transaction_sql(&mut connection, &begin);
        begun.await.map_err(unread)?;
    }
    let applied = super::applied_migrations().load(&mut connection).await.map_err(unread)?;
    super::expect_all::<diesel::pg::Pg>("the database".to_owned(), migrations, &applied)
}

/// Migrates the database at `url`, under a lock, so that several processes may do so at once. Returns the names of the
/// migrations that were applied.
///
/// # Errors
/// When the database does not answer, or a migration fails.
pub async fn migrate(
    url: &PostgresUrl,
    limits: &Limits,
    migrations: EmbeddedMigrations,
) -> Result<Vec<String>, SetupError> {
    let connecting = connect(url.clone(), limits.clone());
    let connection = connecting.await.map_err(SetupError::of_server)?;
    let mut connection = AsyncConnectionWrapper::<Connection>::from(connection);
    let migrating = actix_rt::task::spawn_blocking(move || {
        diesel::Connection::transaction(&mut connection, |connection| {
            migrate_within(connection, migrations)
        })
    });
    migrating.await.map_err(SetupError::of_server)?
}

/// Migrates within a transaction, which releases the lock when it ends.
fn migrate_within(
    connection: &mut AsyncConnectionWrapper<Connection>,
    migrations: EmbeddedMigrations,
) -> Result<Vec<String>, SetupError> {
    // A migration may take longer than any statement of a request.
    let own = format!(
        "DEALLOCATE ALL; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '{MIGRATION_PATIENCE}'"
    );
    SimpleConnection::batch_execute(connection, &own)?;
    let lock = format!("SELECT pg_advisory_xact_lock({MIGRATION_LOCK})");
    SimpleConnection::batch_execute(connection, &lock).map_err(|error| {
        let why = "another process has been migrating the database for";
        SetupError::Server(format!("{why} {MIGRATION_PATIENCE}: {error}"))
    })?;
    SimpleConnection::batch_execute(connection, "SET LOCAL lock_timeout = 0")?;
    let applied = connection.run_pending_migrations(migrations);
    let applied = applied.map_err(SetupError::of_server)?;
    Ok(applied.iter().map(ToString::to_string).collect())
}
