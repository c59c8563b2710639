//! Copies of SQLite files, also while a shop uses them.

use std::path::Path;
use std::time::Duration;

use rusqlite::backup::Backup;
use rusqlite::{Connection, OpenFlags};

use super::SetupError;

/// How many pages are copied before writers get their turn, and how long they get it.
const PAGES: i32 = 1024;
const PAUSE: Duration = Duration::from_millis(1);
/// How long to wait for a lock on a file.
const PATIENCE: Duration = Duration::from_secs(5);

/// Copies the SQLite file `from`, as it is at one moment, to the new file `to` (SQLite's online backup API).
///
/// # Errors
/// When either file cannot be used.
pub fn snapshot(from: &Path, to: &Path) -> Result<(), SetupError> {
    let failed = SetupError::of_file::<rusqlite::Error>;
    let source = Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_WRITE);
    let source = source.map_err(failed("open", from))?;
    source.busy_timeout(PATIENCE).map_err(failed("open", from))?;
    // A read transaction: each write of another process would begin the copy anew.
    source
        .execute_batch("BEGIN; SELECT * FROM sqlite_schema LIMIT 1;")
        .map_err(failed("read", from))?;
    let mut target = Connection::open(to).map_err(failed("make", to))?;
    let backup = Backup::new(&source, &mut target).map_err(failed("read", from))?;
    backup.run_to_completion(PAGES, PAUSE, None).map_err(failed("copy", from))?;
    drop(backup);
    // One file, without a log beside it.
    let plain = target.pragma_update(None, "journal_mode", "DELETE");
    plain.map_err(failed("write", to))
}

/// Checks every page and every key of the SQLite file at `path`.
///
/// # Errors
/// What is wrong with it.
pub fn verify(path: &Path) -> Result<(), SetupError> {
    let failed = SetupError::of_file::<rusqlite::Error>;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let file = Connection::open_with_flags(path, flags).map_err(failed("open", path))?;
    let ask = |pragma: &str| {
        file.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, String>(0))
    };
    let found = ask("integrity_check").map_err(failed("check", path))?;
    match found.as_str() {
        "ok" => Ok(()),
        wrong => {
            let why = wrong.lines().next().unwrap_or_default().to_owned();
            Err(SetupError::of_file("use", path)(why))
        }
    }
}

/// Asserts that no process uses the SQLite file at `path`, if it is there.
///
/// # Errors
/// When one does.
pub fn expect_unused(path: &Path) -> Result<(), SetupError> {
    if !path.exists() {
        return Ok(());
    }
    let failed = SetupError::of_file::<rusqlite::Error>;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
    let file = Connection::open_with_flags(path, flags).map_err(failed("open", path))?;
    file.busy_timeout(Duration::ZERO).map_err(failed("open", path))?;
    let alone = "PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT;";
    file.execute_batch(alone)
        .map_err(|_| SetupError::of_file("replace", path)("a process uses it; stop the shop first"))
}
