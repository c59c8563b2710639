//! PostgreSQL behind a pool, over TLS where the URL or the server asks for it, without libpq.

use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use diesel::ConnectionError;
use diesel::sql_types::{BigInt, Text};
use diesel_async::async_connection_wrapper::AsyncConnectionWrapper;
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection as _};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness as _};
use futures_util::FutureExt as _;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{Access, Lease, Limits, StoreError, call, pool};

/// A connection.
pub type Connection = AsyncPgConnection;

/// How long a connection may wait for the other side to acknowledge what was sent.
const UNACKNOWLEDGED: Duration = Duration::from_secs(10);
/// How old a connection may grow, so that a failover or a new password is noticed.
const LIFETIME: Duration = Duration::from_secs(30 * 60);
/// A few pages that are written, and nobody sees.
const TRIAL: &str =
    "CREATE TEMPORARY TABLE app_trial ON COMMIT DROP AS SELECT * FROM generate_series(1, 1000)";
/// Names the lock that migrations take: the bytes of "app migr".
const MIGRATION_LOCK: i64 = 0x6170_7020_6d69_6772;

/// Connections to one database, for one worker thread.
#[derive(Clone, Debug)]
pub struct Pool(pool::Pool<Connection>);

impl Pool {
    /// A pool of connections to the database at `url`. Opens none yet.
    pub fn new(url: &SecretString, limits: &Limits) -> Self {
        let (url, known) = (url.clone(), limits.clone());
        let opening = move || connect(url.expose_secret().to_owned(), known.clone()).boxed();
        Self(pool::Pool::new(Box::new(opening), limits, Some(LIFETIME)))
    }

    /// A connection for `access`, once one is free. To be used within [`super::to_the_end`].
    ///
    /// # Errors
    /// When none was free in time, or none can be opened.
    pub async fn get(&self, access: Access) -> Result<Lease<'_, Connection>, StoreError> {
        self.0.get(access).await
    }

    /// Asks whether the database answers, and takes writes.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let mode = diesel::dsl::sql::<Text>("current_setting('transaction_read_only')");
        let mut lease = self.get(Access::Read).await?;
        let mode = diesel::select(mode).get_result::<String>(&mut *lease).await?;
        if mode == "on" {
            lease.end();
            // It is what a write would be told.
            call::writes();
            return Err(StoreError::ReadOnly("the server's transactions are read-only".into()));
        }
        Ok(())
    }

    /// Tries to write, in a table of its own that goes with the transaction; whether it could be tried.
    ///
    /// # Errors
    /// Why it cannot be written.
    pub async fn try_write(&self) -> Result<bool, StoreError> {
        let mut lease = self.get(Access::Write).await?;
        match lease.batch_execute(TRIAL).await.map_err(StoreError::from) {
            Ok(()) => Ok(true),
            // Not everybody may make such tables.
            Err(StoreError::Failed(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Opens a connection within the limits.
async fn connect(url: String, limits: Limits) -> Result<Connection, ConnectionError> {
    let late = |_| Err(ConnectionError::BadConnection("no answer in time".into()));
    timeout(limits.acquire, open(url, limits.statement)).await.unwrap_or_else(late)
}

/// Opens a connection whose statements are ended by the server after `statement`.
async fn open(url: String, statement: Duration) -> Result<Connection, ConnectionError> {
    let bad = |error: &dyn std::fmt::Display| ConnectionError::BadConnection(error.to_string());
    let mut config = Config::from_str(&url)
        .map_err(|error| ConnectionError::InvalidConnectionUrl(error.to_string()))?;
    config.application_name("app").tcp_user_timeout(UNACKNOWLEDGED).keepalives_idle(UNACKNOWLEDGED);
    let mut connection = if config.get_ssl_mode() == SslMode::Disable {
        let (client, connection) =
            config.connect(NoTls).await.map_err(|error| bad(&chain(&error)))?;
        Connection::try_from_client_and_connection(client, connection).await?
    } else {
        let (client, connection) =
            config.connect(tls()?).await.map_err(|error| bad(&chain(&error)))?;
        Connection::try_from_client_and_connection(client, connection).await?
    };
    let timeout = format!("SET statement_timeout = {}; SET TIME ZONE 'UTC'", statement.as_millis());
    connection.batch_execute(&timeout).await.map_err(ConnectionError::CouldntSetupConfiguration)?;
    Ok(connection)
}

/// The driver's own text names only the step that failed.
fn chain(error: &tokio_postgres::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// Trusts the certificates that this machine trusts; SSL_CERT_FILE names others.
fn tls() -> Result<MakeRustlsConnect, ConnectionError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ConnectionError::BadConnection(error.to_string()))?;
    Ok(MakeRustlsConnect::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// Brings the tables of the database at `url` up to date, under a lock, so that any number of processes
/// may do so at once. Returns the names of the migrations that were applied.
///
/// # Errors
/// When the database does not answer, or a migration fails.
pub async fn migrate(
    url: &str,
    limits: &Limits,
    migrations: EmbeddedMigrations,
) -> Result<Vec<String>, String> {
    // A migration may take longer than any statement of a request.
    let connecting = connect(url.to_owned(), limits.clone());
    let mut connection = connecting.await.map_err(|error| error.to_string())?;
    connection
        .batch_execute("SET statement_timeout = 0")
        .await
        .map_err(|error| error.to_string())?;
    // The lock goes with the connection, however this ends.
    let lock = diesel::sql_query("SELECT pg_advisory_lock($1)").bind::<BigInt, _>(MIGRATION_LOCK);
    lock.execute(&mut connection).await.map_err(|error| error.to_string())?;
    let mut connection = AsyncConnectionWrapper::<Connection>::from(connection);
    let migrating = actix_rt::task::spawn_blocking(move || {
        let applied =
            connection.run_pending_migrations(migrations).map_err(|error| error.to_string())?;
        Ok(applied.iter().map(ToString::to_string).collect())
    });
    migrating.await.map_err(|error| error.to_string())?
}
