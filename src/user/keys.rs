//! The keys that sign access tokens: which there are, and which one signs now.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};
use ring::rand::{SecureRandom as _, SystemRandom};
use secrecy::ExposeSecret as _;

use crate::auth::{AUDIT, MARGIN, SigningKey};
use crate::config::User as Options;
use crate::contract::JwkSet;
use crate::error::Error;

/// The bytes of a key.
const SEED: usize = 32;
/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What a process knows of its keys.
#[derive(Debug)]
pub(super) struct Keyring {
    /// The file that the keys come from, where they may change.
    file: Option<PathBuf>,
    access_ttl: Duration,
    read: Mutex<Read>,
}

/// The keys as they were read, the newest first; never empty.
#[derive(Debug)]
struct Read {
    keys: Vec<Key>,
    modified: Option<SystemTime>,
    looked: Instant,
}

#[derive(Clone, Debug)]
struct Key {
    line: String,
    key: SigningKey,
    /// When it begins to sign; until then others get to know it.
    since: Option<DateTime<Utc>>,
}

impl Keyring {
    /// The keys that `options` name. Where there is no file, and `may_make` says so, one is made.
    ///
    /// # Errors
    /// The setting that does not work, and why.
    pub(super) fn open(
        options: &Options,
        access_ttl: Duration,
        may_make: bool,
    ) -> Result<Self, (&'static str, String)> {
        let given = options.signing_keys.expose_secret();
        if !given.is_empty() {
            let keys = parse(given).map_err(|problem| ("user.signing_keys", problem))?;
            let read = Mutex::new(Read { keys, modified: None, looked: Instant::now() });
            return Ok(Self { file: None, access_ttl, read });
        }
        let path = &options.signing_keys_path;
        if may_make && !path.exists() {
            make(path)
                .map_err(|error| (PATH, format!("cannot make {}: {error}", path.display())))?;
        }
        let read = read(path).map_err(|problem| {
            let missing = !path.exists();
            let hint = "; `app keys rotate` makes it, or set user.signing_keys";
            (PATH, format!("{problem}{}", if missing { hint } else { "" }))
        })?;
        Ok(Self { file: Some(path.clone()), access_ttl, read: Mutex::new(read) })
    }

    /// The key that signs now: the newest that others have had time to get to know.
    ///
    /// # Errors
    /// Never, as long as there is a key.
    pub(super) fn signing(&self) -> Result<SigningKey, Error> {
        let read = self.current();
        let now = Utc::now();
        let begun = read.keys.iter().find(|key| key.since.is_none_or(|since| since <= now));
        let key = begun.or(read.keys.last()).map(|key| key.key.clone());
        key.ok_or_else(|| Error::internal("there is no key to sign with"))
    }

    /// The keys that verify tokens that may still be good, and those that will sign next.
    pub(super) fn published(&self) -> JwkSet {
        let current = self.current();
        let keys = in_use(&current.keys, self.access_ttl);
        JwkSet { keys: keys.map(|key| key.key.public().clone()).collect() }
    }

    /// The keys, read again when their file has changed.
    fn current(&self) -> MutexGuard<'_, Read> {
        let mut current = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(path) = &self.file else { return current };
        if current.looked.elapsed() < LOOK {
            return current;
        }
        current.looked = Instant::now();
        let modified = modified(path);
        if modified.is_some() && modified != current.modified {
            match read(path) {
                Ok(new) => {
                    log::info!(target: AUDIT, event = "keys_changed"; "keys_changed: read again");
                    *current = new;
                }
                Err(problem) => {
                    log::error!("the keys stay as they are: {problem}");
                    current.modified = modified;
                }
            }
        }
        current
    }
}

const PATH: &str = "user.signing_keys_path";

/// Those of `keys` whose tokens may still be good. A key signs no more once the next one does.
fn in_use(keys: &[Key], access_ttl: Duration) -> impl Iterator<Item = &Key> {
    let over = move |next: &Key| {
        let end = next.since.and_then(|since| since.checked_add_signed(delta(access_ttl + MARGIN)));
        end.is_some_and(|end| end < Utc::now())
    };
    let old = keys.iter().position(over).map_or(keys.len(), |next| next + 1);
    keys.iter().take(old)
}

fn delta(duration: Duration) -> chrono::TimeDelta {
    chrono::TimeDelta::from_std(duration).unwrap_or(chrono::TimeDelta::MAX)
}

/// Puts a new key before those of the file that `options` name, and takes out those that verify nothing any
/// more. It signs after `delay`: by then all who verify have it. Returns its name.
///
/// # Errors
/// The setting that does not work, and what is wrong with it; nothing has changed then.
pub fn rotate(
    options: &Options,
    access_ttl: Duration,
    delay: Duration,
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
    if !path.exists() {
        make(path).map_err(|error| fail(format!("cannot make {}: {error}", path.display())))?;
        let first = read(path).map_err(fail)?.keys.remove(0);
        return Ok(first.key.public().kid.clone());
    }
    // Also the sign to others that the file is about to be replaced.
    let new = path.with_extension("new");
    let mut file = create(&new).map_err(|error| {
        fail(format!(
            "cannot make {} ({error}): another rotation is at work, or was cut off",
            new.display()
        ))
    })?;
    let outcome = add(&mut file, path, access_ttl, delay);
    let outcome = outcome.and_then(|name| match fs::rename(&new, path) {
        Ok(()) => Ok(name),
        Err(error) => Err(format!("cannot write {}: {error}", path.display())),
    });
    if outcome.is_err() {
        // What went wrong is told; a file that cannot be removed is told next time.
        let _ = fs::remove_file(&new);
    }
    if let Ok(name) = &outcome {
        log::info!(target: AUDIT, event = "keys_rotated"; "keys_rotated: {name}");
    }
    outcome.map_err(fail)
}

/// Writes the keys of `path` that are in use to `file`, behind a new one; gives its name.
fn add(
    file: &mut File,
    path: &Path,
    access_ttl: Duration,
    delay: Duration,
) -> Result<String, String> {
    let old = read(path)?.keys;
    let since = Utc::now() + delta(delay);
    let line = format!("{} {}", seed(), since.to_rfc3339_opts(SecondsFormat::Secs, true));
    let mut keys = parse(&line)?;
    keys.extend(old);
    let lines = in_use(&keys, access_ttl).map(|key| key.line.as_str()).collect::<Vec<_>>();
    let text = format!("{HEADER}{}\n", lines.join("\n"));
    write(file, &text).map_err(|error| format!("cannot write the new keys: {error}"))?;
    Ok(keys.remove(0).key.public().kid.clone())
}

const HEADER: &str =
    "# Keys that sign access tokens, the newest first, and when each begins to sign.\n";

/// 32 random bytes in hexadecimal digits.
fn seed() -> String {
    let mut seed = [0; SEED];
    // The system's generator fails only where there is none; a key of zeros must not come of it.
    match SystemRandom::new().fill(&mut seed) {
        Ok(()) => hex::encode(seed),
        Err(_) => unreachable!("the system has a random number generator"),
    }
}

/// Makes a file of one key, unless somebody else has just done so.
fn make(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let text = format!("{HEADER}{}\n", seed());
    let whole = path.with_extension(format!("{}.first", std::process::id()));
    write(&mut create(&whole)?, &text)?;
    // A link appears at once and whole, and not over another.
    let made = fs::hard_link(&whole, path);
    fs::remove_file(&whole)?;
    match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn write(file: &mut File, text: &str) -> io::Result<()> {
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|about| about.modified()).ok()
}

fn read(path: &Path) -> Result<Read, String> {
    let modified = modified(path);
    let text = fs::read_to_string(path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let keys = parse(&text).map_err(|problem| format!("{}: {problem}", path.display()))?;
    Ok(Read { keys, modified, looked: Instant::now() })
}

/// Reads keys, one a line or by comma; a line that a `#` begins is a remark. No error tells a key.
fn parse(text: &str) -> Result<Vec<Key>, String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(900);

    fn line(digit: &str, minutes_ago: Option<i64>) -> String {
        let since = minutes_ago
            .map(|minutes| (Utc::now() - chrono::TimeDelta::minutes(minutes)).to_rfc3339());
        format!("{} {}", digit.repeat(64), since.unwrap_or_default())
    }

    fn ring(lines: &[String]) -> Keyring {
        let keys = parse(&lines.join("\n")).unwrap();
        let read = Mutex::new(Read { keys, modified: None, looked: Instant::now() });
        Keyring { file: None, access_ttl: TTL, read }
    }

    #[test]
    fn a_new_key_is_known_before_it_signs_and_an_old_one_until_its_tokens_have_ended() {
        for (lines, signing, published) in [
            (vec![line("a", None)], 0, 1),
            (vec![line("a", Some(-1)), line("b", None)], 1, 2),
            (vec![line("a", Some(1)), line("b", None)], 0, 2),
            (vec![line("a", Some(17)), line("b", None)], 0, 1),
            (vec![line("a", Some(1)), line("b", Some(17)), line("c", None)], 0, 2),
            (vec![line("a", Some(-1))], 0, 1),
        ] {
            let ring = ring(&lines);
            let known = ring.published().keys;
            assert_eq!(known.len(), published, "{lines:?}");
            assert_eq!(ring.signing().unwrap().public(), &known[signing], "{lines:?}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_told() {
        for bad in ["", "# none", "abc", &"a".repeat(63), &"g".repeat(64), &line("a", None)[..60]] {
            let problem = parse(bad).unwrap_err();
            assert!(!problem.contains("aaa") && !problem.contains("ggg"), "{problem}");
        }
        let late = format!("{} soon", "a".repeat(64));
        assert!(parse(&late).unwrap_err().contains("a time"));
    }
}
