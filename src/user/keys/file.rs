//! The file with the signing keys: how it is read, created, and changed.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use secrecy::ExposeSecret as _;
use tempfile::NamedTempFile;

use super::{Key, PATH, delta, in_use, is_missing, random};
use crate::auth::{AUDIT, SigningKey};
use crate::config::{SettingError, User as Options};
use crate::files::expect_plain;

/// Adds a new key to the file that `options` name, and removes keys that no valid token needs. The new key signs after
/// `delay`, by which time all verifiers have it. Returns its name, after passing it to `tell` before the file changes.
///
/// # Errors
/// The setting that does not work; nothing has changed then.
pub fn rotate(
    options: &Options,
    access_ttl: Duration,
    delay: Duration,
    tell: impl FnOnce(&str) -> io::Result<()>,
) -> Result<String, SettingError> {
    if !options.signing_keys.expose_secret().is_empty() {
        let problem = "the keys are in a setting, where only you can add one: put in front of them 64 \
                       hexadecimal digits (openssl rand -hex 32), a space, and the time from which the \
                       new key signs, as in 2026-01-31T12:00:00Z; restart every process before that time";
        return Err(("user.signing_keys", problem).into());
    }
    let path = &options.signing_keys_path;
    if is_missing(path) {
        make(path).map_err(|error| (PATH, format!("cannot make {}: {error}", path.display())))?;
        let first = read(path).map_err(|error| (PATH, error))?.remove(0);
        let name = first.key.public().kid.clone();
        // The first key stays even if its name cannot be shown.
        tell(&name)
            .map_err(|error| (PATH, format!("added key {name}, but cannot print it: {error}")))?;
        return Ok(name);
    }
    let folder = folder_of(path);
    let folder = File::open(folder)
        .map_err(|error| (PATH, format!("cannot open {}: {error}", folder.display())))?;
    // The system releases the lock when the process ends.
    match folder.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err((PATH, "another rotation is running; try again when it is done").into());
        }
        Err(TryLockError::Error(error)) => {
            let problem = format!("cannot lock the folder of {}: {error}", path.display());
            return Err((PATH, problem).into());
        }
    }
    let name = add(path, access_ttl, delay, tell)?;
    // The key is there already; this keeps it there after a power cut.
    let _ = folder.sync_all();
    log::info!(target: AUDIT, event = "keys_rotated"; "keys_rotated: {name}");
    Ok(name)
}

/// Puts a new key in front of the keys of `path` that are in use, replacing the file atomically; returns its name.
fn add(
    path: &Path,
    access_ttl: Duration,
    delay: Duration,
    tell: impl FnOnce(&str) -> io::Result<()>,
) -> Result<String, SettingError> {
    let old = read_plain(path).map_err(|error| (PATH, error))?;
    let since = Utc::now().checked_add_signed(delta(delay));
    let since = since.ok_or((PATH, "the delay is too long"))?;
    let seed = hex::encode(random().map_err(|error| (PATH, error))?);
    let line = format!("{} {}", seed, since.to_rfc3339_opts(SecondsFormat::Secs, true));
    let mut keys = parse(&line).map_err(|error| (PATH, error))?;
    keys.extend(old);
    let lines = in_use(&keys, access_ttl).map(|key| key.line.as_str()).collect::<Vec<_>>();
    let text = format!("{HEADER}{}\n", lines.join("\n"));
    let name = keys.remove(0).key.public().kid.clone();
    let cannot = |error: io::Error| (PATH, format!("cannot write {}: {error}", path.display()));
    // Removed by itself if anything fails before it is renamed.
    let mut whole = NamedTempFile::new_in(folder_of(path)).map_err(cannot)?;
    write(whole.as_file_mut(), &text).map_err(cannot)?;
    tell(&name).map_err(|error| (PATH, format!("cannot say which key it is: {error}")))?;
    whole.persist(path).map_err(|failed| cannot(failed.error))?;
    Ok(name)
}

fn folder_of(path: &Path) -> &Path {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

const HEADER: &str =
    "# Keys that sign access tokens, the newest first, and when each begins to sign.\n";

/// Creates a file with one key, unless another process has just done so.
pub(super) fn make(path: &Path) -> io::Result<()> {
    let folder = folder_of(path);
    fs::create_dir_all(folder)?;
    let mut whole = NamedTempFile::new_in(folder)?;
    write(whole.as_file_mut(), &format!("{HEADER}{}\n", hex::encode(random()?)))?;
    // It appears atomically, and does not replace another file.
    match whole.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(failed) if failed.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // On a volume without that feature. If two processes race, both read the later file in a moment.
        Err(failed) => Ok(failed.file.persist(path).map(drop)?),
    }
}

fn write(file: &mut File, text: &str) -> io::Result<()> {
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Why keys cannot be read. It quotes no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeysError {
    #[error("cannot read {}: {why}", path.display())]
    Unreadable { path: PathBuf, why: String },
    #[error("{}: {error}", path.display())]
    InFile { path: PathBuf, error: Box<Self> },
    #[error("there is no key")]
    Empty,
    #[error("a key has 64 hexadecimal digits")]
    Key,
    #[error("invalid time after a key; write it as 2026-01-31T12:00:00Z")]
    Time,
}

impl KeysError {
    /// The file at `path` cannot be read.
    fn of(path: &Path, error: &io::Error) -> Self {
        Self::Unreadable { path: path.to_owned(), why: error.to_string() }
    }
}

/// As [`read`], of a regular file.
pub(super) fn read_plain(path: &Path) -> Result<Vec<Key>, KeysError> {
    expect_plain(path).map_err(|error| KeysError::of(path, &error))?;
    read(path)
}

pub(super) fn read(path: &Path) -> Result<Vec<Key>, KeysError> {
    let (path, text) = (path.to_owned(), fs::read_to_string(path));
    match text.map(|text| parse(&text)) {
        Ok(Ok(keys)) => Ok(keys),
        Ok(Err(error)) => Err(KeysError::InFile { path, error: Box::new(error) }),
        Err(error) => Err(KeysError::of(&path, &error)),
    }
}

/// Reads keys, one per line or separated by commas; lines that begin with `#` are comments.
pub(super) fn parse(text: &str) -> Result<Vec<Key>, KeysError> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let entries = lines.flat_map(|line| line.split(',')).map(str::trim);
    let keys = entries.filter(|entry| !entry.is_empty()).map(parse_key);
    let keys = keys.collect::<Result<Vec<_>, _>>()?;
    if keys.is_empty() { Err(KeysError::Empty) } else { Ok(keys) }
}

fn parse_key(line: &str) -> Result<Key, KeysError> {
    let (digits, since) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let since = Some(since.trim()).filter(|since| !since.is_empty());
    let since = since.map(|since| {
        let time = DateTime::parse_from_rfc3339(since).map(|time| time.to_utc());
        time.map_err(|_| KeysError::Time)
    });
    let seed = hex::decode(digits).map_err(|_| KeysError::Key)?;
    let key = SigningKey::from_seed(&seed).ok_or(KeysError::Key)?;
    Ok(Key { line: line.to_owned(), key, since: since.transpose()? })
}
