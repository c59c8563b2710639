//! The file that keys stand in: how it is read, made, and changed.

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

/// Puts a new key before those of the file that `options` name, and takes out those that verify nothing any
/// more. It signs after `delay`: by then all who verify have it. Returns its name, which `tell` is told before it is
/// there.
///
/// # Errors
/// The setting that does not work, and what is wrong with it; nothing has changed then.
pub fn rotate(
    options: &Options,
    access_ttl: Duration,
    delay: Duration,
    tell: impl FnOnce(&str) -> io::Result<()>,
) -> Result<String, SettingError> {
    if !options.signing_keys.expose_secret().is_empty() {
        let problem = "the keys are given in a setting, where only you can add one: put before them 64 \
                       hexadecimal digits (openssl rand -hex 32) and, behind a space, the time when the \
                       new key begins to sign, as in 2026-01-31T12:00:00Z; by then every process has to \
                       be started again";
        return Err(("user.signing_keys", problem).into());
    }
    let path = &options.signing_keys_path;
    if is_missing(path) {
        make(path).map_err(|error| (PATH, format!("cannot make {}: {error}", path.display())))?;
        let first = read(path).map_err(|error| (PATH, error))?.remove(0);
        let name = first.key.public().kid.clone();
        // A first key is the one to have, whoever gets to know its name.
        tell(&name)
            .map_err(|error| (PATH, format!("made key {name}, and cannot say so: {error}")))?;
        return Ok(name);
    }
    let folder = folder_of(path);
    let folder = File::open(folder)
        .map_err(|error| (PATH, format!("cannot open {}: {error}", folder.display())))?;
    // Goes with the process, however that ends.
    match folder.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err((PATH, "another rotation is at work; try again when it is done").into());
        }
        Err(TryLockError::Error(error)) => {
            let problem = format!("cannot lock the folder of {}: {error}", path.display());
            return Err((PATH, problem).into());
        }
    }
    let name = add(path, access_ttl, delay, tell)?;
    // It is there already; after a power cut, too, once the folder has been written.
    let _ = folder.sync_all();
    log::info!(target: AUDIT, event = "keys_rotated"; "keys_rotated: {name}");
    Ok(name)
}

/// Puts a new key before those of `path` that are in use, at once and whole; gives its name.
fn add(
    path: &Path,
    access_ttl: Duration,
    delay: Duration,
    tell: impl FnOnce(&str) -> io::Result<()>,
) -> Result<String, SettingError> {
    let old = read(path).map_err(|error| (PATH, error))?;
    let since = Utc::now().checked_add_signed(delta(delay));
    let since = since.ok_or((PATH, "no key can begin to sign that late"))?;
    let seed = hex::encode(random().map_err(|error| (PATH, error))?);
    let line = format!("{} {}", seed, since.to_rfc3339_opts(SecondsFormat::Secs, true));
    let mut keys = parse(&line).map_err(|error| (PATH, error))?;
    keys.extend(old);
    let lines = in_use(&keys, access_ttl).map(|key| key.line.as_str()).collect::<Vec<_>>();
    let text = format!("{HEADER}{}\n", lines.join("\n"));
    let name = keys.remove(0).key.public().kid.clone();
    let cannot = |error: io::Error| (PATH, format!("cannot write {}: {error}", path.display()));
    // Whatever happens before it has its name, it is removed.
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

/// Makes a file of one key, unless somebody else has just done so. What is left of one that was cut off
/// is in nobody's way.
pub(super) fn make(path: &Path) -> io::Result<()> {
    let folder = folder_of(path);
    fs::create_dir_all(folder)?;
    let mut whole = NamedTempFile::new_in(folder)?;
    write(whole.as_file_mut(), &format!("{HEADER}{}\n", hex::encode(random()?)))?;
    // It appears at once and whole, and not over another.
    match whole.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(failed) if failed.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // On a volume that cannot tell: should two come at once, both read the later one in a moment.
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
    #[error("behind a key stands a time, as in 2026-01-31T12:00:00Z")]
    Time,
}

pub(super) fn read(path: &Path) -> Result<Vec<Key>, KeysError> {
    let (path, text) = (path.to_owned(), fs::read_to_string(path));
    match text.map(|text| parse(&text)) {
        Ok(Ok(keys)) => Ok(keys),
        Ok(Err(error)) => Err(KeysError::InFile { path, error: Box::new(error) }),
        Err(error) => Err(KeysError::Unreadable { path, why: error.to_string() }),
    }
}

/// Reads keys, one a line or by comma; a line that a `#` begins is a remark.
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
