//! The file that keys stand in: how it is read, made, and changed.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use secrecy::ExposeSecret as _;
use tempfile::NamedTempFile;

use super::{Key, PATH, delta, in_use, is_missing, random};
use crate::auth::{AUDIT, SigningKey};
use crate::config::User as Options;

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
) -> Result<String, (&'static str, String)> {
    if !options.signing_keys.expose_secret().is_empty() {
        let problem = "the keys are given in a setting, where only you can add one: put before them 64 \
                       hexadecimal digits (openssl rand -hex 32) and, behind a space, the time when the \
                       new key begins to sign, as in 2026-01-31T12:00:00Z; by then every process has to \
                       be started again";
        return Err(("user.signing_keys", problem.into()));
    }
    let path = &options.signing_keys_path;
    let fail = |problem: String| (PATH, problem);
    if is_missing(path) {
        make(path).map_err(|error| fail(format!("cannot make {}: {error}", path.display())))?;
        let first = read(path).map_err(fail)?.remove(0);
        let name = first.key.public().kid.clone();
        // A first key is the one to have, whoever gets to know its name.
        tell(&name)
            .map_err(|error| fail(format!("made key {name}, and cannot say so: {error}")))?;
        return Ok(name);
    }
    let folder = folder_of(path);
    let folder = File::open(folder)
        .map_err(|error| fail(format!("cannot open {}: {error}", folder.display())))?;
    // Goes with the process, however that ends.
    match folder.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(fail("another rotation is at work; try again when it is done".into()));
        }
        Err(TryLockError::Error(error)) => {
            return Err(fail(format!("cannot lock the folder of {}: {error}", path.display())));
        }
    }
    let name = add(path, access_ttl, delay, tell).map_err(fail)?;
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
) -> Result<String, String> {
    let old = read(path)?;
    let since = Utc::now().checked_add_signed(delta(delay));
    let since = since.ok_or("no key can begin to sign that late")?;
    let seed = hex::encode(random().map_err(|error| error.to_string())?);
    let line = format!("{} {}", seed, since.to_rfc3339_opts(SecondsFormat::Secs, true));
    let mut keys = parse(&line)?;
    keys.extend(old);
    let lines = in_use(&keys, access_ttl).map(|key| key.line.as_str()).collect::<Vec<_>>();
    let text = format!("{HEADER}{}\n", lines.join("\n"));
    let name = keys.remove(0).key.public().kid.clone();
    let cannot = |error: io::Error| format!("cannot write {}: {error}", path.display());
    // Whatever happens before it has its name, it is removed.
    let mut whole = NamedTempFile::new_in(folder_of(path)).map_err(cannot)?;
    write(whole.as_file_mut(), &text).map_err(cannot)?;
    tell(&name).map_err(|error| format!("cannot say which key it is: {error}"))?;
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

pub(super) fn read(path: &Path) -> Result<Vec<Key>, String> {
    let text = fs::read_to_string(path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    parse(&text).map_err(|problem| format!("{}: {problem}", path.display()))
}

/// Reads keys, one a line or by comma; a line that a `#` begins is a remark. No error tells a key.
pub(super) fn parse(text: &str) -> Result<Vec<Key>, String> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let entries = lines.flat_map(|line| line.split(',')).map(str::trim);
    let keys = entries.filter(|entry| !entry.is_empty()).map(parse_key);
    let keys = keys.collect::<Result<Vec<_>, _>>()?;
    if keys.is_empty() { Err("there is no key".into()) } else { Ok(keys) }
}

fn parse_key(line: &str) -> Result<Key, String> {
    let (digits, since) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let since = Some(since.trim()).filter(|since| !since.is_empty());
    let since = since.map(|since| {
        let time = DateTime::parse_from_rfc3339(since).map(|time| time.to_utc());
        time.map_err(|_| "behind a key stands a time, as in 2026-01-31T12:00:00Z".to_owned())
    });
    let seed = hex::decode(digits).map_err(|_| "a key has 64 hexadecimal digits")?;
    let key = SigningKey::from_seed(&seed)?;
    Ok(Key { line: line.to_owned(), key, since: since.transpose()? })
}
