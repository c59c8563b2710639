//! The embedded store: a SQLite file behind a pool, with a write-ahead log that survives `kill -9`.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection as _;
use diesel::expression::SqlLiteral;
use diesel::migration::{self, MigrationSource};
use diesel::result::Error as QueryError;
use diesel::sql_types::Text;
use diesel::sqlite::Sqlite;
use diesel::{Connection as _, ConnectionError, QueryResult, SqliteConnection};
use diesel_async::sync_connection_wrapper::{SpawnBlocking, SyncConnectionWrapper};
use diesel_async::{AsyncConnection as _, SimpleAsyncConnection as _};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness as _};
use futures_util::FutureExt as _;

use super::connection_thread::ConnectionThread;
use super::reader::Reads;
use super::writer::{WriteConnection, Writer};
use super::{Access, Lease, Limits, Permits, SetupError, StoreError, call, pool};
use crate::files::expect_file;

/// A connection that reads. Its statements run on a thread of its own.
pub type Connection = SyncConnectionWrapper<SqliteConnection, ConnectionThread>;

/// The settings of every connection. With `FULL`, a commit waits for the disk, so that a power cut loses no acknowledged
/// write; `secure_delete` overwrites deleted data in the file.
const PRAGMAS: &str = "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
                       PRAGMA secure_delete = ON;";

/// How long a migration waits for a lock on the file.
const MIGRATION_PATIENCE: Duration = Duration::from_secs(5);

/// [`PRAGMAS`], and how long a statement waits for a lock on the file.
fn pragmas(patience: Duration) -> String {
    format!("PRAGMA busy_timeout = {}; {PRAGMAS}", patience.as_millis())
}

/// The file keeps this mode. Unlike other statements, this one does not wait for locks.
const WRITE_AHEAD_LOG: &str = "PRAGMA journal_mode = WAL;";
const SWITCH_PATIENCE: Duration = Duration::from_secs(5);
const SWITCH_PAUSE: Duration = Duration::from_millis(10);

/// Writes a value that is there already: the unused version number in the file's header.
pub(super) const TRIAL: &str = "PRAGMA user_version = 0";

/// Connections that read one file, for one thread, and access to the thread that writes to it.
#[derive(Clone, Debug)]
pub struct Pool {
    readers: Arc<Readers>,
    url: String,
    limits: Limits,
}

/// The connections of one thread that read a file, and the reads that wait for one. All [`Pool`]s of the thread share them.
#[derive(Debug)]
pub(super) struct Readers {
    connections: pool::Pool<Connection>,
    reads: Reads,
}

impl Pool {
    /// A pool of connections to the file at `path`. Opens none yet.
    pub fn new(path: &Path, limits: &Limits) -> Self {
        let (url, patience) = (existing(path), limits.statement);
        let opened = url.clone();
        let opening = move || open(opened.clone(), patience).boxed();
        let readers = || {
            // Connections to a file do not break, so they have no maximum age.
            let connections = pool::Pool::new(Box::new(opening), Permits::growing(limits), None);
            Readers { connections, reads: Reads::default() }
        };
        Self { readers: limits.state.readers(readers), url, limits: limits.clone() }
    }

    /// Waits for a connection that reads. To be called within [`super::run_to_completion`].
    ///
    /// # Errors
    /// When none was free in time or the file cannot be opened.
    pub async fn get(&self) -> Result<Lease<'_, Connection>, StoreError> {
        self.readers.connections.get(Access::Read).await
    }

    /// Runs `query` once a connection is free, on the connection's thread. To be called within [`super::run_to_completion`].
    ///
    /// # Errors
    /// As [`Self::get`], and the query's.
    pub async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&mut SqliteConnection) -> QueryResult<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let ended = |_| StoreError::Failed("the read ended without an answer".into());
        let mut answer = self.readers.reads.push(query);
        let mut connection = tokio::select! {
            biased;
            outcome = &mut answer => return Ok(outcome.map_err(ended)??),
            connection = self.get() => connection?,
        };
        loop {
            let reads = self.readers.reads.clone();
            let work_off = move |file: &mut SqliteConnection| Ok(reads.work_off(file));
            let is_over = connection.spawn_blocking(work_off).await?;
            if let Ok(outcome) = answer.try_recv() {
                return Ok(outcome?);
            }
            if is_over {
                break;
            }
        }
        drop(connection);
        // Another caller runs them.
        Ok(answer.await.map_err(ended)??)
    }

    /// Runs `work` on the writer's thread of this process, in a transaction that is committed when this returns. It is
    /// rolled back if `work` fails or the call's deadline has passed. To be called within [`super::run_to_completion`].
    ///
    /// # Errors
    /// The error of `work`, or why it did not start or could not be committed.
    pub async fn write<T, E>(
        &self,
        work: impl AsyncFnOnce(&mut WriteConnection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<QueryError> + From<StoreError> + Into<StoreError> + Send + 'static,
    {
        let Limits { acquire, statement, state, .. } = &self.limits;
        call::writes();
        let until = call::within(*acquire);
        state.prepared(until).await?;
        let _waiting = self.readers.connections.meter().wait();
        state.writer(|| Writer::start(self.url.clone(), *statement))?.write(until, work).await
    }

    /// As [`Self::write`], for `work` whose statements block.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn write_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut SqliteConnection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let write = async move |connection: &mut WriteConnection| {
            connection.spawn_blocking(move |file| Ok(work(file))).await?
        };
        self.write(write).await
    }

    /// Checks that the file can be read.
    ///
    /// # Errors
    /// Why it cannot.
    pub async fn ping(&self) -> Result<(), StoreError> {
        Ok(self.get().await?.batch_execute("SELECT 1").await?)
    }

    /// Writes a value that is there already; returns true.
    ///
    /// # Errors
    /// Why it cannot be written.
    pub async fn try_write(&self) -> Result<bool, StoreError> {
        let write =
            async |connection: &mut WriteConnection| Ok(connection.batch_execute(TRIAL).await?);
        self.write::<(), StoreError>(write).await.map(|()| true)
    }
}

/// A URI of the file at `path` that does not create a missing file, which would look like an empty store (SQLite, "Uniform
/// Resource Identifiers", section 3).
fn existing(path: &Path) -> String {
    let path = path.display().to_string();
    let path = path.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    format!("file:{path}?mode=rw")
}

/// Opens a connection to the file at `url`, whose statements wait at most `patience` for locks.
pub(super) async fn open<S: SpawnBlocking + Send>(
    url: String,
    patience: Duration,
) -> Result<SyncConnectionWrapper<SqliteConnection, S>, ConnectionError> {
    let mut connection = SyncConnectionWrapper::establish(&url).await?;
    let pragmas = pragmas(patience);
    connection.batch_execute(&pragmas).await.map_err(ConnectionError::CouldntSetupConfiguration)?;
    Ok(connection)
}

/// Creates a missing file at `path` and migrates it, and then has `complete` do what a migration in SQL cannot. Several
/// processes may do so at once. Returns the names of the migrations that were applied. Blocks.
///
/// # Errors
/// When the file cannot be created or opened, or a migration fails.
pub fn migrate(
    path: &Path,
    migrations: EmbeddedMigrations,
    complete: impl FnOnce(&mut SqliteConnection) -> Result<(), StoreError>,
) -> Result<Vec<String>, SetupError> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(SetupError::of_file("create", folder))?;
    }
    expect_file_or_nothing(path)?;
    // Only for this user; SQLite's files beside it get the same mode.
    let mut file = OpenOptions::new();
    let file = file.write(true).create(true).truncate(false).mode(0o600).open(path);
    drop(file.map_err(SetupError::of_file("open", path))?);
    let mut connection = SqliteConnection::establish(&path.display().to_string())
        .map_err(SetupError::of_file("open", path))?;
    let pragmas = pragmas(MIGRATION_PATIENCE);
    connection.batch_execute(&pragmas).map_err(SetupError::of_file("open", path))?;
    while_locked(SWITCH_PATIENCE, SWITCH_PAUSE, || connection.batch_execute(WRITE_AHEAD_LOG))
        .map_err(SetupError::of_file("open", path))?;
    let mut applied = Vec::new();
    // Most starts have nothing to do, and wait for no process that writes.
    if !is_current(&mut connection, &migrations).unwrap_or(false) {
        let migrated = connection.exclusive_transaction(|connection| {
            let applied =
                connection.run_pending_migrations(migrations).map_err(Failure::Migration)?;
            Ok::<_, Failure>(applied.iter().map(ToString::to_string).collect())
        });
        applied = migrated.map_err(SetupError::of_file("migrate", path))?;
    }
    complete(&mut connection).map_err(SetupError::of_file("migrate", path))?;
    Ok(applied)
}

/// Whether all of `migrations` were applied. Takes no lock but in a new file.
fn is_current(
    connection: &mut SqliteConnection,
    migrations: &EmbeddedMigrations,
) -> migration::Result<bool> {
    let applied = connection.applied_migrations()?;
    let known = MigrationSource::<Sqlite>::migrations(migrations)?;
    Ok(known.iter().all(|known| applied.contains(&known.name().version())))
}

/// Checks that the file at `path` can be opened, or created if it is missing, without changing anything. Blocks.
///
/// # Errors
/// Why it cannot.
pub fn check(path: &Path) -> Result<(), SetupError> {
    expect_file_or_nothing(path)?;
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => {
            let mut begin = Vec::new();
            file.take(MAGIC.len() as u64)
                .read_to_end(&mut begin)
                .map_err(SetupError::of_file("open", path))?;
            match begin.is_empty() || begin == MAGIC {
                true => Ok(()),
                false => Err(SetupError::of_file("open", path)("file is not a database")),
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => check_folder(path),
        Err(error) => Err(SetupError::of_file("open", path)(error)),
    }
}

/// To be called before a file is opened: opening a pipe would wait.
fn expect_file_or_nothing(path: &Path) -> Result<(), SetupError> {
    match expect_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(SetupError::of_file("open", path)(error))
        }
        _ => Ok(()),
    }
}

/// The first bytes of a SQLite file.
const MAGIC: &[u8] = b"SQLite format 3\0";

/// Checks that a file can be created at `path`, with missing folders, without creating any.
///
/// # Errors
/// Why it cannot.
pub fn check_folder(path: &Path) -> Result<(), SetupError> {
    let there = path.ancestors().skip(1).find(|folder| folder.symlink_metadata().is_ok());
    let there = there.unwrap_or(Path::new("."));
    // An unnamed file.
    let made = tempfile::tempfile_in(there).map(drop);
    made.map_err(SetupError::of_file("create", path))
}

/// The names of the tables in the file at `path`. Blocks.
///
/// # Errors
/// When the file is missing or cannot be read.
pub fn tables(path: &Path) -> Result<Vec<String>, SetupError> {
    names(path, diesel::dsl::sql("SELECT name FROM sqlite_master WHERE type = 'table'"))
}

/// The result of `query` on the file at `path`, which must exist.
fn names(path: &Path, query: SqlLiteral<Text>) -> Result<Vec<String>, SetupError> {
    expect_file(path).map_err(SetupError::of_file("read", path))?;
    let mut connection = SqliteConnection::establish(&path.display().to_string())
        .map_err(SetupError::of_file("read", path))?;
    diesel::RunQueryDsl::load(query, &mut connection).map_err(SetupError::of_file("read", path))
}

/// Asserts that the file at `path` has all `migrations`. Blocks, and changes nothing.
///
/// # Errors
/// [`SetupError::NotMigrated`], or why the file cannot be read.
pub fn expect_migrated(path: &Path, migrations: &EmbeddedMigrations) -> Result<(), SetupError> {
    let applied = names(path, super::applied_migrations())?;
    let store = path.display().to_string();
    super::expect_all::<diesel::sqlite::Sqlite>(store, migrations, &applied)
}

/// Repeats `attempt` after each `pause` while another process has locked the file, for at most `patience`.
pub(super) fn while_locked(
    patience: Duration,
    pause: Duration,
    mut attempt: impl FnMut() -> QueryResult<()>,
) -> QueryResult<()> {
    let start = Instant::now();
    loop {
        match attempt() {
            Err(error) if is_locked(&error) && start.elapsed() < patience => {
                std::thread::sleep(pause);
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

#[cfg(test)]
mod tests {
    use diesel::sql_types::Text;
    use diesel::{Connection as _, QueryableByName, RunQueryDsl as _, SqliteConnection};

    #[derive(QueryableByName)]
    struct CompileOption {
        #[diesel(sql_type = Text)]
        compile_options: String,
    }

    /// The plan of a query with `LIMIT ?` would be made anew with each execution, and more (`.cargo/config.toml`).
    #[test]
    fn it_is_compiled_as_the_build_says() {
        let mut connection = SqliteConnection::establish(":memory:").unwrap();
        let options = diesel::sql_query("PRAGMA compile_options");
        let options = options.load::<CompileOption>(&mut connection).unwrap();
        let has = |name: &str| options.iter().any(|option| option.compile_options == name);
        assert!(has("ENABLE_QPSG"));
        assert!(has("DEFAULT_MEMSTATUS=0"));
        assert!(has("DEFAULT_PCACHE_INITSZ=0") && has("DISABLE_PAGECACHE_OVERFLOW_STATS"));
        assert!(has("DEFAULT_LOOKASIDE=1200,10"));
        assert!(has("OMIT_LOAD_EXTENSION"));
        assert!(!has("ENABLE_MEMORY_MANAGEMENT") && !has("ENABLE_FTS3") && !has("ENABLE_STAT4"));
    }
}
