//! The embedded store: a SQLite file behind a pool, with a write-ahead log that survives `kill -9`.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection as _;
use diesel::expression::SqlLiteral;
use diesel::result::Error as QueryError;
use diesel::sql_types::Text;
use diesel::{Connection as _, ConnectionError, SqliteConnection};
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
use diesel_async::{AsyncConnection as _, SimpleAsyncConnection as _};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness as _};
use futures_util::FutureExt as _;

use super::{Access, InTime, Lease, Limits, StoreError, pool};

/// A connection whose statements run on the blocking pool.
pub type Connection = SyncConnectionWrapper<SqliteConnection>;

/// What every connection says first. `FULL` makes a commit wait for the disk, so that not even a power
/// cut takes back what was acknowledged; `secure_delete` leaves nothing in the file of what was erased.
const PRAGMAS: &str = "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
                       PRAGMA secure_delete = ON;";

/// How long a migration waits for others who have locked the file.
const MIGRATION_PATIENCE: Duration = Duration::from_secs(5);

/// [`PRAGMAS`], and how long a statement waits for others who have locked the file.
fn pragmas(patience: Duration) -> String {
    format!("PRAGMA busy_timeout = {}; {PRAGMAS}", patience.as_millis())
}

/// The file remembers that it has a write-ahead log. Switching does not wait for others, unlike the rest.
const WRITE_AHEAD_LOG: &str = "PRAGMA journal_mode = WAL;";
const SWITCH_PATIENCE: Duration = Duration::from_secs(5);

/// Connections to one file, for one worker thread.
#[derive(Clone, Debug)]
pub struct Pool(pool::Pool<Connection>);

impl Pool {
    /// A pool of connections to the file at `path`. Opens none yet.
    pub fn new(path: &Path, limits: &Limits) -> Self {
        let (url, patience) = (existing(path), limits.statement);
        let opening = move || open(url.clone(), patience).boxed();
        // A file does not hang up: no connection grows stale.
        Self(pool::Pool::new(Box::new(opening), limits, None))
    }

    /// A connection for `access`, once one is free. To be used within [`super::to_the_end`].
    ///
    /// # Errors
    /// When none was free in time or the file cannot be opened.
    pub async fn get(&self, access: Access) -> Result<Lease<'_, Connection>, StoreError> {
        self.0.get(access).await
    }

    /// Does `work` in a transaction that has the file to itself from its beginning, on a thread where it may block;
    /// it is taken back where it comes too late. One visit to the blocking pool instead of one a statement.
    ///
    /// # Errors
    /// As [`Pool::get`], and that of `work`.
    pub async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut SqliteConnection) -> Result<T, QueryError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let mut lease = self.get(Access::Write).await?;
        let in_time = InTime::of_call();
        let written = lease.spawn_blocking(move |connection| {
            connection.immediate_transaction(|connection| {
                // Whoever had the file may have had it for long.
                in_time.check()?;
                let done = work(connection)?;
                in_time.check()?;
                Ok(done)
            })
        });
        Ok(written.await?)
    }

    /// Asks whether the file can be read; and whether it can be written, where writes have failed.
    ///
    /// # Errors
    /// Why not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        Ok(self.get(Access::Read).await?.batch_execute("SELECT 1").await?)
    }

    /// Writes what is there already, the version that the file has room for and that nobody uses; whether it could be
    /// tried, which it always can.
    ///
    /// # Errors
    /// Why that cannot be written.
    pub async fn try_write(&self) -> Result<bool, StoreError> {
        self.get(Access::Write).await?.batch_execute("PRAGMA user_version = 0").await?;
        Ok(true)
    }
}

/// The file at `path` as a URI that says not to make it where it is missing: an empty one would be taken for the
/// store (SQLite, "Uniform Resource Identifiers", section 3).
fn existing(path: &Path) -> String {
    let path = path.display().to_string();
    let path = path.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    format!("file:{path}?mode=rw")
}

async fn open(url: String, patience: Duration) -> Result<Connection, ConnectionError> {
    let mut connection = Connection::establish(&url).await?;
    let pragmas = pragmas(patience);
    connection.batch_execute(&pragmas).await.map_err(ConnectionError::CouldntSetupConfiguration)?;
    Ok(connection)
}

/// Creates the file at `path` where it is missing and brings its tables up to date. Several processes
/// may do so at once. Returns the names of the migrations that were applied. Blocks.
///
/// # Errors
/// When the file cannot be created or opened, or a migration fails.
pub fn migrate(path: &Path, migrations: EmbeddedMigrations) -> Result<Vec<String>, String> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)
            .map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
    }
    let cannot_open =
        |error: &dyn std::fmt::Display| format!("cannot open {}: {error}", path.display());
    // Nobody else's to read; what SQLite puts beside it is as the file is.
    let mut file = OpenOptions::new();
    let file = file.write(true).create(true).truncate(false).mode(0o600).open(path);
    drop(file.map_err(|error| cannot_open(&error))?);
    let mut connection = SqliteConnection::establish(&path.display().to_string())
        .map_err(|error| cannot_open(&error))?;
    let pragmas = pragmas(MIGRATION_PATIENCE);
    connection.batch_execute(&pragmas).map_err(|error| cannot_open(&error))?;
    switch_to_log(&mut connection).map_err(|error| cannot_open(&error))?;
    let applied = connection.exclusive_transaction(|connection| {
        let applied = connection.run_pending_migrations(migrations).map_err(Failure::Migration)?;
        Ok::<_, Failure>(applied.iter().map(ToString::to_string).collect())
    });
    applied.map_err(|error| format!("cannot migrate {}: {error}", path.display()))
}

/// Looks whether the file at `path` could be opened, or made where it is missing, and leaves it as it is. Blocks.
///
/// # Errors
/// Why it could not be.
pub fn check(path: &Path) -> Result<(), String> {
    let cannot_open = |error: std::io::Error| format!("cannot open {}: {error}", path.display());
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => {
            let mut begin = Vec::new();
            file.take(MAGIC.len() as u64).read_to_end(&mut begin).map_err(cannot_open)?;
            match begin.is_empty() || begin == MAGIC {
                true => Ok(()),
                false => Err(format!("cannot open {}: file is not a database", path.display())),
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => check_folder(path),
        Err(error) => Err(cannot_open(error)),
    }
}

/// How a file of SQLite's begins.
const MAGIC: &[u8] = b"SQLite format 3\0";

/// Looks whether a file could be made at `path`, with the folders that are missing, and makes nothing.
///
/// # Errors
/// Why it could not be.
pub fn check_folder(path: &Path) -> Result<(), String> {
    let there = path.ancestors().skip(1).find(|folder| folder.symlink_metadata().is_ok());
    let there = there.unwrap_or(Path::new("."));
    // It has no name at any time.
    let made = tempfile::tempfile_in(there).map(drop);
    made.map_err(|error| format!("cannot create {}: {error}", path.display()))
}

/// The names of the tables in the file at `path`, which must be there. Blocks.
///
/// # Errors
/// When it is not, or cannot be read.
pub fn tables(path: &Path) -> Result<Vec<String>, String> {
    names(path, diesel::dsl::sql("SELECT name FROM sqlite_master WHERE type = 'table'"))
}

/// What `query` finds in the file at `path`, which is not made where it is missing.
fn names(path: &Path, query: SqlLiteral<Text>) -> Result<Vec<String>, String> {
    let cannot_read =
        |error: &dyn std::fmt::Display| format!("cannot read {}: {error}", path.display());
    std::fs::metadata(path).map_err(|error| cannot_read(&error))?;
    let mut connection = SqliteConnection::establish(&path.display().to_string())
        .map_err(|error| cannot_read(&error))?;
    diesel::RunQueryDsl::load(query, &mut connection).map_err(|error| cannot_read(&error))
}

/// Asserts that all of `migrations` were applied to the file at `path`. Blocks, and changes nothing.
///
/// # Errors
/// Those that were not, or why that can not be told.
pub fn expect_migrated(path: &Path, migrations: &EmbeddedMigrations) -> Result<(), String> {
    let applied = names(path, super::applied_migrations())?;
    super::expect_all::<diesel::sqlite::Sqlite>(migrations, &applied)
        .map_err(|missing| format!("{} needs migrations first: {missing}", path.display()))
}

/// Tries again while another process has the file to itself.
fn switch_to_log(connection: &mut SqliteConnection) -> Result<(), diesel::result::Error> {
    let start = Instant::now();
    loop {
        match connection.batch_execute(WRITE_AHEAD_LOG) {
            Err(error) if is_locked(&error) && start.elapsed() < SWITCH_PATIENCE => {
                std::thread::sleep(Duration::from_millis(10));
            }
            outcome => return outcome,
        }
    }
}

fn is_locked(error: &diesel::result::Error) -> bool {
    matches!(error, diesel::result::Error::DatabaseError(_, info) if info.message().contains("locked"))
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Query(#[from] diesel::result::Error),
    #[error("{0}")]
    Migration(Box<dyn std::error::Error + Send + Sync>),
}
